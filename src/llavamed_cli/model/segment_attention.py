"""Attention inside the segments of a packed row; no mask over the whole row is ever built.

Three kernels give the same numbers. A loop of PyTorch's own attention (CPU, MPS). Flash attention with cumulative
lengths, where the keys of a branch are its prefix's again and its own: a copy of a few keys for the fastest kernel
(CUDA, half precision). Flex attention with a block mask (CUDA otherwise). transformers hands `segments=` down from the
model's forward to the attention of each layer; where it is not given all of them are plain sdpa, so that a model in
training can answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.segments import Segments, Span, joined

if TYPE_CHECKING:
    import torch

LOOP, VARLEN, FLEX = "segments", "segments_varlen", "segments_flex"
"""Names in transformers' table of attentions. None holds the word "flash": transformers takes those for its own."""

FLEX_BLOCK = 128
"""Flex attention's own size of a block."""
QUERIES_A_CALL = 128
"""Short branches of one prefix share a call of the loop, up to so many tokens: measured, a call of its own costs a
branch of 8 tokens a quarter more, and sharing costs branches of 150 tokens half as much again."""


@dataclass(frozen=True)
class _Options:
    """scale: of the scores. window: how many tokens back a token sees, itself among them, where that is limited."""

    scale: float | None
    dropout: float
    window: int | None


def choose_segments(device: str, precision: str) -> Choice:
    """The kernel that packed rows are learned with, and why. precision: as `choose_attention` takes it."""
    if device != "cuda":
        return Choice(LOOP, f"PyTorch's attention sample by sample, as fits {device}")
    flash = choose_attention(device, precision)
    if flash.value == "flash_attention_2":
        return Choice(VARLEN, flash.reason)
    return Choice(FLEX, f"flex attention with a block mask: {flash.reason}")


def use_segments(model: Any, kernel: str = LOOP) -> None:
    """Let a LLaVA's language model attend by `segments=`; its vision tower stays as it is.

    It holds until it is set otherwise: gradient checkpointing attends again during the backward. A saved model knows
    nothing of it.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    for name, attend in ((LOOP, _loop), (VARLEN, _varlen), (FLEX, _flex)):
        AttentionInterface.register(name, _as_transformers_calls_it(attend))
        AttentionMaskInterface.register(name, _mask)
    model.set_attn_implementation({"text_config": kernel})


def _as_transformers_calls_it(attend: Callable[..., torch.Tensor]) -> Callable[..., tuple[torch.Tensor, None]]:
    """The signature of an attention of transformers around a kernel that takes and gives [1, heads, T, width]."""

    def attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        segments: Segments | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        if segments is None:
            return _plain(module, query, key, value, attention_mask, **others)
        if query.shape[0] != 1 or not query.shape[2] == key.shape[2] == segments.length:
            raise ValueError(f"segments of {segments.length} tokens, a row of shape {tuple(query.shape)}")
        for name in ("softcap", "s_aux", "position_bias"):
            if others.get(name) is not None:
                raise ValueError(f"packed rows have no attention with {name}")
        options = _Options(others.get("scaling"), others.get("dropout", 0.0), others.get("sliding_window"))
        query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast rotary positions made them fp32 again
        return attend(query, key, value, segments, options).transpose(1, 2).contiguous(), None

    return attention


def _plain(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **others: Any) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    places = others.get("position_ids")
    if attention_mask is None and places is not None and bool((places.diff() != 1).any()):
        raise ValueError("a row of several samples came without its segments: they would see each other")
    return sdpa_attention_forward(module, query, key, value, attention_mask, **others)


def _mask(*sizes: Any, attention_mask: Any = None, allow_is_causal_skip: bool = True, **others: Any) -> Any:
    """No mask for a packed row, whose positions forbid the causal skip; sdpa's own otherwise."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and not allow_is_causal_skip:
        return None
    return sdpa_mask(*sizes, attention_mask=attention_mask, allow_is_causal_skip=allow_is_causal_skip, **others)


@dataclass(frozen=True)
class _Call:
    """What the loop computes at a time: neighbouring queries of one or more segments, and the keys they see.

    mask: bool [queries, keys], or None where it is plainly causal.
    """

    queries: Span
    keys: tuple[Span, ...]
    mask: torch.Tensor | None


def _loop(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, options: _Options
) -> torch.Tensor:
    import torch

    known = "calls", options.window, query.device
    if known not in segments.kept:
        segments.kept[known] = _calls(segments, options.window, query.device)
    outputs = [
        torch.nn.functional.scaled_dot_product_attention(
            query[:, :, call.queries[0] : call.queries[1]],
            _tokens(key, call.keys),
            _tokens(value, call.keys),
            attn_mask=call.mask,
            dropout_p=options.dropout,
            is_causal=call.mask is None,
            scale=options.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        for call in segments.kept[known]
    ]
    return torch.cat(outputs, dim=2)


def _calls(segments: Segments, window: int | None, device: Any) -> list[_Call]:
    """Divide a row into calls: a segment each, short branches of one prefix together."""
    found: list[tuple[Span, Span | None, list[int]]] = []
    for (start, end), prefix in zip(segments.spans, segments.prefixes, strict=True):
        if found and prefix is not None:
            (first, _), before, lengths = found[-1]
            if prefix == before and end - first <= QUERIES_A_CALL:
                found[-1] = (first, end), prefix, [*lengths, end - start]
                continue
        found.append(((start, end), prefix, [end - start]))
    calls = []
    for queries, prefix, lengths in found:
        causal = prefix is None and (window is None or lengths[0] <= window)
        mask = None if causal else _call_mask(prefix[1] - prefix[0] if prefix else 0, lengths, window).to(device)
        calls.append(_Call(queries, joined(prefix, queries), mask))
    return calls


def _call_mask(prefix: int, lengths: Sequence[int], window: int | None) -> torch.Tensor:
    """What queries of segments of these lengths see of a prefix and of each other: bool [queries, prefix + queries]."""
    import torch

    segment = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.cat([torch.arange(length) for length in lengths]) + prefix
    own = (segment[:, None] == segment[None]) & (place[:, None] >= place[None])
    mask = torch.cat([torch.ones(len(place), prefix, dtype=torch.bool), own], dim=1)
    if window is not None:
        mask &= place[:, None] - torch.cat([torch.arange(prefix), place])[None] < window
    return mask


def _tokens(states: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """The states of some spans' tokens: a view where they are one span."""
    import torch

    pieces = [states[:, :, start:end] for start, end in spans]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, options: _Options
) -> torch.Tensor:
    """flash-attn aligns a causal mask to the lower right where keys outnumber queries (its README, version 2.1)."""
    import torch
    from flash_attn import flash_attn_varlen_func

    known = "lengths", query.device
    if known not in segments.kept:
        places = [torch.arange(*span) for spans in segments.seen for span in spans]
        queries = [end - start for start, end in segments.spans]
        keys = [sum(end - start for start, end in spans) for spans in segments.seen]
        segments.kept[known] = (
            torch.cat(places).to(query.device) if segments.shared else None,
            {
                "cu_seqlens_q": _cumulative(queries).to(query.device),
                "cu_seqlens_k": _cumulative(keys).to(query.device),
                "max_seqlen_q": max(queries),
                "max_seqlen_k": max(keys),
            },
        )
    places, lengths = segments.kept[known]
    if places is not None:
        key, value = key.index_select(2, places), value.index_select(2, places)
    half = query.dtype
    if half == torch.float32:  # low-rank layers in fp32 around quantised weights
        half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else torch.bfloat16
    output: torch.Tensor = flash_attn_varlen_func(
        *(states[0].transpose(0, 1).to(half) for states in (query, key, value)),
        **lengths,
        dropout_p=options.dropout,
        softmax_scale=options.scale,
        causal=True,
        window_size=(-1, -1) if options.window is None else (options.window - 1, 0),
    )
    return output.to(query.dtype).transpose(0, 1)[None]


def _cumulative(lengths: Sequence[int]) -> torch.Tensor:
    import torch

    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, options: _Options
) -> torch.Tensor:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    if options.dropout:
        raise ValueError("flex attention has no dropout; set the language model's attention_dropout to 0")
    known = "blocks", options.window, query.device
    if known not in segments.kept:
        blocks = flex_blocks(segments, FLEX_BLOCK).to(query.device)
        segments.kept[known] = BlockMask.from_kv_blocks(
            blocks.sum(dim=-1, dtype=torch.int32)[None, None],
            blocks.int().argsort(dim=-1, descending=True, stable=True).int()[None, None],
            BLOCK_SIZE=FLEX_BLOCK,
            mask_mod=flex_rule(segments, options.window, query.device),
            seq_lengths=(segments.length, segments.length),
        )
    output: torch.Tensor = _flex_kernel(query.device.type)(
        query,
        key,
        value,
        block_mask=segments.kept[known],
        scale=options.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output


def flex_blocks(segments: Segments, size: int) -> torch.Tensor:
    """Which blocks of size x size flex attention has to look into: bool [query blocks, key blocks]. Found from the
    segments' borders, where PyTorch's own `create_block_mask` would fill a mask of all tokens by all tokens."""
    import torch

    count = -(-segments.length // size)
    blocks = torch.zeros(count, count, dtype=torch.bool)
    for (start, end), spans in zip(segments.spans, segments.seen, strict=True):
        queries = slice(start // size, (end - 1) // size + 1)
        for first, last in spans:
            blocks[queries, first // size : (last - 1) // size + 1] = True
    return blocks.tril_()


def flex_rule(segments: Segments, window: int | None, device: Any) -> Callable[..., torch.Tensor]:
    """Whether a query token sees a key token, as flex attention asks: rule(batch, head, query, key) -> bool."""
    import torch

    own, before = (torch.tensor(numbers, device=device) for numbers in segments.numbers)
    place = torch.tensor(segments.positions, device=device)

    def rule(batch: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        seen = (key <= query) & ((own[key] == own[query]) | (own[key] == before[query]))
        return seen if window is None else seen & (place[query] - place[key] < window)

    return rule


@cache
def _flex_kernel(device: str) -> Callable[..., Any]:
    """Compiled for rows of any length on CUDA; as it is elsewhere, where only its numbers are of interest."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=True)
    return compiled if device == "cuda" else flex_attention
