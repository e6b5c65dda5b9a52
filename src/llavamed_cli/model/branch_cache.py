"""Keys and values of stems and their branches: a prefix is kept once, however many questions go on from it.

transformers' own cache would hold a copy of the prefix for each question, and copy all of it again at each token. Here
a stem's tokens lie side by side in one buffer and new ones are written behind them; who sees what is a mask, made once
a step for all layers. All stems attend in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.model.segments import Segments, Span

if TYPE_CHECKING:
    import torch

    from llavamed_cli.model.stems import Stem

BRANCHES = "branches"
"""Name in transformers' table of attentions."""
ALL, NOBODY = -1, -2
"""Whose a kept token is: a prefix's, which all see, or not written yet."""
BLOCK = 8
"""Buffers have a multiple of this many places, as CUDA's kernels want masks."""
STEPS_AHEAD = 8
"""Room is made for so many more tokens an answer at a time: most answers need no more."""


@dataclass(eq=False)
class BranchCache:
    """What G stems keep of their tokens, in every layer.

    keys, values: for each layer [G, heads, places, width]. owners, places: int64 [G, places], whose a token is and
    where it stands in its prompt. filled: how many places each stem has written.
    """

    owners: torch.Tensor
    places: torch.Tensor
    filled: list[int]
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, stems: Sequence[Stem], *, new_tokens: int, device: Any) -> BranchCache:
        """Room for stems and the first tokens of their answers; nothing is written yet."""
        import torch

        ahead = min(new_tokens, STEPS_AHEAD)
        size = _rounded(max(stem.kept(ahead) for stem in stems))
        owners = torch.full((len(stems), size), NOBODY)
        places = torch.zeros((len(stems), size), dtype=torch.long)
        for number, stem in enumerate(stems):
            known = [(ALL, 0, len(stem.prefix))]
            known += [(slot, len(stem.prefix), len(branch)) for slot, branch in enumerate(stem.branches)]
            end = 0
            for owner, first, length in known:
                owners[number, end : end + length] = owner
                places[number, end : end + length] = torch.arange(first, first + length)
                end += length
        return cls(owners.to(device), places.to(device), [stem.tokens for stem in stems])

    def keep(self, layer: int, stem: int, span: Span, key: torch.Tensor, value: torch.Tensor) -> None:
        """Write a stem's tokens, which lie at `span` of a row. key, value: [1, heads, T, width]."""
        if layer not in self.keys:
            shape = (len(self.filled), key.shape[1], self.owners.shape[1])
            self.keys[layer] = key.new_zeros(*shape, key.shape[3])
            self.values[layer] = value.new_zeros(*shape, value.shape[3])
        start, end = span
        self.keys[layer][stem, :, : end - start] = key[0, :, start:end]
        self.values[layer][stem, :, : end - start] = value[0, :, start:end]

    def step(self, stems: Sequence[int], owners: Sequence[int], places: Sequence[int]) -> Step:
        """Make room for one more token of some branches, ordered by stem."""
        import torch

        filled, ranks = list(self.filled), []
        for stem in stems:
            ranks.append(filled[stem] - self.filled[stem])
            filled[stem] += 1
        if max(filled) > self.owners.shape[1]:
            self._grow(max(filled) + STEPS_AHEAD * (max(ranks) + 1))
        device = self.owners.device
        of = torch.tensor(stems, device=device)
        columns = torch.tensor([self.filled[s] + r for s, r in zip(stems, ranks, strict=True)], device=device)
        owner, place = torch.tensor(owners, device=device), torch.tensor(places, device=device)
        self.owners[of, columns] = owner
        self.places[of, columns] = place
        self.filled = filled
        most = max(ranks) + 1
        queries = torch.zeros(len(filled), most, dtype=torch.long)
        for number, (stem, rank) in enumerate(zip(stems, ranks, strict=True)):
            queries[stem, rank] = number
        answers = torch.tensor([stem * most + rank for stem, rank in zip(stems, ranks, strict=True)], device=device)
        return Step(self, of, columns, queries.to(device), answers, owner, place, min(_rounded(max(filled)), self.size))

    @property
    def size(self) -> int:
        """Places that each stem has."""
        return int(self.owners.shape[1])

    def select(self, stems: Sequence[int]) -> None:
        """Keep these stems alone, in this order."""
        import torch

        chosen = torch.tensor(stems, device=self.owners.device)
        self.filled = [self.filled[stem] for stem in stems]
        size = _rounded(max(self.filled) + STEPS_AHEAD)
        self.owners, self.places = (one[:, :size].index_select(0, chosen) for one in (self.owners, self.places))
        for kept in (self.keys, self.values):
            for layer, states in kept.items():
                kept[layer] = states[:, :, :size].index_select(0, chosen)

    def _grow(self, size: int) -> None:
        """More places for all, a layer at a time."""
        from torch.nn.functional import pad

        more = _rounded(size) - self.size
        self.owners, self.places = pad(self.owners, (0, more), value=NOBODY), pad(self.places, (0, more))
        for kept in (self.keys, self.values):
            for layer, states in kept.items():
                kept[layer] = pad(states, (0, 0, 0, more))


@dataclass(frozen=True)
class Reading:
    """A row of whole stems goes through the model: its tokens attend by segments, and are kept.

    spans: for each stem of the row its number in the cache and where it lies. kernel: as `use_segments` names it.
    """

    cache: BranchCache
    spans: Sequence[tuple[int, Span]]
    segments: Segments
    kernel: str

    def attend(self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **others: Any) -> Any:
        """As transformers calls an attention."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        for stem, span in self.spans:
            self.cache.keep(module.layer_idx, stem, span, key, value)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[self.kernel]
        return attend(module, query, key, value, None, segments=self.segments, **others)


@dataclass(frozen=True)
class Step:
    """One token of each of N branches goes through the model.

    stems, columns, owners, places: int64 [N], where each is kept, whose it is and where it stands in its prompt.
    queries: int64 [G, n], each stem's tokens among the N, as many for all: what is surplus is computed and left.
    answers: int64 [N], where among G * n each token is. keys: how many places are looked at.
    """

    cache: BranchCache
    stems: torch.Tensor
    columns: torch.Tensor
    queries: torch.Tensor
    answers: torch.Tensor
    owners: torch.Tensor
    places: torch.Tensor
    keys: int
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)

    def attend(self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **others: Any) -> Any:
        """As transformers calls an attention: query [1, heads, N, width] to [1, N, heads, width]."""
        from torch.nn.functional import scaled_dot_product_attention

        for name in ("softcap", "s_aux", "position_bias"):
            if others.get(name) is not None:
                raise ValueError(f"branches have no attention with {name}")
        keys, values = self.cache.keys[module.layer_idx], self.cache.values[module.layer_idx]
        keys[self.stems, :, self.columns] = key[0].transpose(0, 1)
        values[self.stems, :, self.columns] = value[0].transpose(0, 1)
        heads, kept = query.shape[1], keys.shape[1]
        stems, most = self.queries.shape
        # heads that share keys ask together: [G, kept heads, sharing * n, width]
        asked = query[0][:, self.queries].unflatten(0, (kept, heads // kept)).permute(2, 0, 1, 3, 4).flatten(2, 3)
        found = scaled_dot_product_attention(
            asked,
            keys[:, :, : self.keys],
            values[:, :, : self.keys],
            attn_mask=self._mask(others.get("sliding_window"), heads // kept, query.dtype),
            scale=others.get("scaling"),
        )
        found = found.unflatten(2, (heads // kept, most)).permute(0, 3, 1, 2, 4).reshape(stems * most, heads, -1)
        return found[self.answers][None], None

    def _mask(self, window: int | None, sharing: int, dtype: torch.dtype) -> torch.Tensor:
        """What is added to scores, [G, 1, sharing * n, keys]: 0 where a token is seen."""
        import torch

        known = window, sharing, dtype
        if known not in self.masks:
            owners, places = self.cache.owners[:, None, : self.keys], self.cache.places[:, None, : self.keys]
            seen = (owners == ALL) | (owners == self.owners[self.queries][..., None])
            if window is not None:
                seen &= self.places[self.queries][..., None] - places < window
            hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
            self.masks[known] = hidden.repeat(1, sharing, 1)[:, None]
        return self.masks[known]


@contextmanager
def attending_by_branches(model: Any, kernel: str) -> Iterator[None]:
    """A LLaVA's language model attends by `branches=`, a Reading or a Step, as long as this lasts."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, branches: Any = None, **others: Any) -> Any:
        if branches is None:
            return sdpa_attention_forward(module, query, key, value, mask, **others)
        return branches.attend(module, query, key, value, **others)

    before = model.model.language_model.config._attn_implementation
    use_segments(model, kernel)
    AttentionInterface.register(BRANCHES, attend)
    AttentionMaskInterface.register(BRANCHES, lambda *sizes, **others: None)
    model.set_attn_implementation({"text_config": BRANCHES})
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})


def _rounded(tokens: int) -> int:
    return -(-tokens // BLOCK) * BLOCK
