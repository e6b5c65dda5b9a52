"""Many questions at once, each answered greedily as if it were asked alone.

A picture goes through the tower once. What the questions about it begin with, the system prompt and the picture, goes
through the language model once, and all of them from there side by side, a token of each at a step. The same question
about the same picture is answered once. No padding, no copy of a prefix, no logits that choose no token.

The tokens are those that `generate` would choose. Sums are taken in another order, so in half precision a close call
may fall otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.answer_room import AnswerRoom, answer_room
from llavamed_cli.model.answer_text import stop_at
from llavamed_cli.model.branch_cache import BranchCache, Reading, attending_by_branches
from llavamed_cli.model.generate import Generated, Prompt, answer_batch, end_ids, prompt_ids, read_answer
from llavamed_cli.model.last_layer import spare_last_layer
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import choose_segments
from llavamed_cli.model.segments import Segments, Span
from llavamed_cli.model.shareable import why_not_shared
from llavamed_cli.model.stems import AskedRow, Stem, fill, grow_stems, rows_of

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PADDED_AT_ONCE = 16
"""Prompts in a padded batch, where nothing can be shared."""
LOOKED_AT_ONCE = 8
"""Pictures that go through the tower together. On a CPU each goes alone, which is as fast."""


def answer_many(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int, room: AnswerRoom | None = None
) -> list[Generated]:
    """Answer prompts; those about one picture are those that hold the same object.

    Args:
        room: how much fits at once; what is free now where it is not said.

    Raises:
        DataError: a prompt cannot be written in the model's chat format. ModelError: a single question does not fit.
    """
    if why_not_shared(loaded.model) is not None:
        return _answer_padded(loaded, prompts, max_new_tokens)
    pictures = {id(picture): picture for prompt in prompts for picture in prompt.pictures}
    numbers = {known: number for number, known in enumerate(pictures)}
    asked: dict[AskedRow, list[int]] = {}
    for number, prompt in enumerate(prompts):
        seen = tuple(numbers[id(picture)] for picture in prompt.pictures)
        asked.setdefault(AskedRow(prompt_ids(loaded, prompt), seen), []).append(number)
    work = _Work(loaded, list(asked), list(pictures.values()), max_new_tokens, room or answer_room(loaded))
    made: list[Generated | None] = [None] * len(prompts)
    for members, generated in zip(asked.values(), work.answers(), strict=True):
        for number in members:
            made[number] = generated
    return [generated for generated in made if generated is not None]


def _answer_padded(loaded: LoadedModel, prompts: Sequence[Prompt], new_tokens: int) -> list[Generated]:
    """In batches of similar length, as transformers does it."""
    order = sorted(range(len(prompts)), key=lambda number: sum(len(turn.text) for turn in prompts[number].turns))
    made: dict[int, Generated] = {}
    for start in range(0, len(order), PADDED_AT_ONCE):
        members = order[start : start + PADDED_AT_ONCE]
        answers = answer_batch(loaded, [prompts[number] for number in members], max_new_tokens=new_tokens)
        made |= dict(zip(members, answers, strict=True))
    return [made[number] for number in range(len(prompts))]


@dataclass(frozen=True)
class _Work:
    """Distinct prompts to be answered. pictures: those that the rows number."""

    loaded: LoadedModel
    rows: Sequence[AskedRow]
    pictures: Sequence[Image]
    new_tokens: int
    room: AnswerRoom

    def answers(self) -> list[Generated]:
        """By row."""
        import torch

        stems = grow_stems(self.rows, most=self.room.kept, new_tokens=self.new_tokens)
        kernel = choose_segments(self.loaded.device, self.loaded.choices["precision"].value).value
        made: dict[int, Generated] = {}
        with torch.inference_mode(), attending_by_branches(self.loaded.model, kernel):
            for together in fill(stems, most=self.room.kept, new_tokens=self.new_tokens):
                for branch in self._fitted(together, kernel):
                    said = torch.tensor(branch.said), torch.tensor(branch.log_probabilities)
                    made[branch.member] = read_answer(self.loaded, *said)
        return [made[number] for number in range(len(self.rows))]

    def _fitted(self, stems: Sequence[Stem], kernel: str) -> Iterator[_Branch]:
        """Answer stems together; in two halves where a GPU's memory runs out after all."""
        import torch

        try:
            yield from _answered(self, stems, kernel)
            return
        except torch.OutOfMemoryError as error:
            if len(stems) == 1 and len(stems[0].members) == 1:
                raise ModelError(
                    f"{self.loaded.device} memory ran out on a question of {stems[0].tokens:,} tokens",
                    hint="Ask with a narrower --precision, or with fewer --max-new-tokens.",
                ) from error
        torch.cuda.empty_cache()
        half = len(stems) // 2
        parts = (stems[:half], stems[half:]) if half else [[stem] for stem in stems[0].halves()]
        for part in parts:
            yield from self._fitted(part, kernel)


@dataclass(eq=False)
class _Branch:
    """A question on its way. stem: its number in the cache; slot: its own among the stem's. asked: prompt's length."""

    stem: int
    slot: int
    member: int
    asked: int
    said: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)


def _answered(work: _Work, stems: Sequence[Stem], kernel: str) -> list[_Branch]:
    """Read all stems, then let each branch say a token at a time until it ends."""
    import torch

    model: Any = work.loaded.model
    words, embed = model.model.language_model, model.get_input_embeddings()
    spare_last_layer(words)
    device = work.loaded.device
    branches = [
        _Branch(number, slot, member, len(stem.prefix) + len(branch))
        for number, stem in enumerate(stems)
        for slot, (member, branch) in enumerate(zip(stem.members, stem.branches, strict=True))
    ]
    cache = BranchCache.of(stems, new_tokens=work.new_tokens, device=device)
    seen = _seen(work, stems)
    states = torch.cat([_read(work, stems, seen, row, cache, kernel) for row in rows_of(stems, most=work.room.read)])
    choose = _Chooser(work)
    live = branches
    while True:
        tokens = choose(model.lm_head(states), live)
        going = [number for number, branch in enumerate(live) if not choose.ended(branch)]
        if not going or len(live[0].said) == work.new_tokens:
            return branches
        live = [live[number] for number in going]
        held = sorted({branch.stem for branch in live})
        if 2 * len(held) <= len(cache.filled):
            cache.select(held)
            for branch in live:
                branch.stem = held.index(branch.stem)
        places = [branch.asked + len(branch.said) - 1 for branch in live]
        step = cache.step([one.stem for one in live], [one.slot for one in live], places)
        states = words(
            inputs_embeds=embed(tokens[torch.tensor(going, device=device)][None]),
            position_ids=step.places[None],
            attention_mask=None,
            use_cache=False,
            branches=step,
        ).last_hidden_state[0]


def _read(
    work: _Work, stems: Sequence[Stem], seen: Mapping[int, torch.Tensor], row: range, cache: BranchCache, kernel: str
) -> torch.Tensor:
    """Read neighbouring stems in one row; the states of each branch's last token [branches, width]."""
    import torch

    model: Any = work.loaded.model
    device = work.loaded.device
    ids: list[int] = []
    spans: list[Span] = []
    prefixes: list[Span | None] = []
    whole: list[tuple[int, Span]] = []
    ends: list[int] = []

    def lay(tokens: Sequence[int], before: Span | None) -> Span:
        span = len(ids), len(ids) + len(tokens)
        ids.extend(tokens)
        spans.append(span)
        prefixes.append(before)
        return span

    for number in row:
        stem = stems[number]
        start = len(ids)
        prefix = lay(stem.prefix, None) if stem.prefix else None
        ends += [lay(branch, prefix)[1] - 1 for branch in stem.branches]
        whole.append((number, (start, len(ids))))
    segments = Segments(tuple(spans), tuple(prefixes))
    tokens = torch.tensor(ids, device=device)[None]
    places = torch.tensor(ends, device=device)
    states = model.model.language_model(
        inputs_embeds=_embedded(work, [stems[number] for number in row], seen, tokens),
        position_ids=torch.tensor(segments.positions, device=device)[None],
        attention_mask=None,
        use_cache=False,
        graded=places,
        branches=Reading(cache, whole, segments, kernel),
    ).last_hidden_state[0]
    return states.index_select(0, places)


def _embedded(
    work: _Work, stems: Sequence[Stem], seen: Mapping[int, torch.Tensor], tokens: torch.Tensor
) -> torch.Tensor:
    """A row's tokens as the language model takes them [1, T, width]: words from its table, pictures as they are seen.

    A picture that lies behind what its questions share, as where a template puts it last, stands in every branch.
    """
    import torch

    model: Any = work.loaded.model
    embedded: torch.Tensor = model.get_input_embeddings()(tokens)
    image = work.loaded.chat.image_token_id
    pieces = []
    for stem in stems:
        if stem.pictures:
            pictures = torch.cat([seen[number] for number in stem.pictures])  # [image tokens, width]
            shared = stem.prefix.count(image)
            pieces += [pictures[:shared], *[pictures[shared:]] * len(stem.branches)]
    if not pieces:
        return embedded
    where = (tokens == image)[..., None].expand_as(embedded)
    return embedded.masked_scatter(where, torch.cat(pieces).to(embedded.dtype))


def _seen(work: _Work, stems: Sequence[Stem]) -> dict[int, torch.Tensor]:
    """What the stems' pictures look like to the language model, each [tokens, width]."""
    model: Any = work.loaded.model
    numbers = sorted({number for stem in stems for number in stem.pictures})
    at_once = 1 if work.loaded.device == "cpu" else LOOKED_AT_ONCE
    found: dict[int, torch.Tensor] = {}
    for start in range(0, len(numbers), at_once):
        chosen = numbers[start : start + at_once]
        pixels = work.loaded.pixels([work.pictures[number] for number in chosen])
        seen = model.get_image_features(pixel_values=pixels.to(work.loaded.device, model.dtype), return_dict=True)
        found |= dict(zip(chosen, seen.pooler_output, strict=True))
    return found


class _Chooser:
    """Takes the likeliest token for each branch, as `generate` would, and knows when an answer ends."""

    def __init__(self, work: _Work) -> None:
        from transformers import RepetitionPenaltyLogitsProcessor

        model: Any = work.loaded.model
        processor: Any = work.loaded.processor
        penalty = model.generation_config.repetition_penalty or 1.0
        self._rows = work.rows
        self._penalise = RepetitionPenaltyLogitsProcessor(float(penalty)) if penalty != 1.0 else None
        self._ends = end_ids(work.loaded)
        stop = work.loaded.chat.shape.stop
        self._stopped: Any = None if stop is None else stop_at(processor.tokenizer, stop, 0)

    def __call__(self, logits: torch.Tensor, branches: Sequence[_Branch]) -> torch.Tensor:
        """Add a token to each branch; the tokens [branches]. logits: [branches, vocabulary]."""
        logits = logits.float()
        tokens = self._penalised(logits, branches).argmax(-1)
        chosen = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        for branch, token, log_probability in zip(branches, tokens.tolist(), chosen.tolist(), strict=True):
            branch.said.append(token)
            branch.log_probabilities.append(log_probability)
        return tokens

    def _penalised(self, logits: torch.Tensor, branches: Sequence[_Branch]) -> torch.Tensor:
        """A folder's repetition penalty looks at the whole prompt of each."""
        import torch

        if self._penalise is None:
            return logits
        return torch.cat(
            [
                self._penalise(torch.tensor([[*self._rows[one.member].ids, *one.said]], device=row.device), row[None])
                for one, row in zip(branches, logits.clone(), strict=True)
            ]
        )

    def ended(self, branch: _Branch) -> bool:
        """Whether the last token was the last."""
        import torch

        if branch.said[-1] in self._ends:
            return True
        return self._stopped is not None and bool(self._stopped(torch.tensor([branch.said]), None))
