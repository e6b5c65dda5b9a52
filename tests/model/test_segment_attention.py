"""The kernels for packed rows against plain softmax under a mask that says, token by token, who sees whom."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from llavamed_cli.model import segment_attention
from llavamed_cli.model.segment_attention import (
    FLEX,
    FLEX_BLOCK,
    LOOP,
    QUERIES_A_CALL,
    VARLEN,
    choose_segments,
    flex_blocks,
    flex_rule,
    use_segments,
)
from llavamed_cli.model.segments import Segments, Span

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def row(*groups: list[int]) -> Segments:
    """Segments from groups: [length] alone, [prefix, branch, branch, ...]."""
    spans: list[Span] = []
    prefixes: list[Span | None] = []
    end = 0
    for first, *branches in groups:
        prefix = end, end + first
        for number, length in enumerate([first, *branches]):
            spans.append((end, end + length))
            prefixes.append(prefix if number else None)
            end += length
    return Segments(tuple(spans), tuple(prefixes))


ROWS = {
    "one sample": row([9]),
    "samples apart": row([5], [1], [8]),
    "one picture": row([6, 3, 1, 4]),
    "mixed": row([4], [6, 3, 2], [1, 1, 1], [7]),
    "long branches": row([20, QUERIES_A_CALL, 5, 9, QUERIES_A_CALL - 8, 3], [5]),
}
segments_of = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4).map(
    lambda groups: row(*groups)
)
windows = st.one_of(st.none(), st.integers(1, 12))


def visible(segments: Segments, window: int | None) -> torch.Tensor:
    """Who sees whom, from the words of `Segments`, token by token: bool [T, T]."""
    mask = torch.zeros(segments.length, segments.length, dtype=torch.bool)
    for (start, end), prefix in zip(segments.spans, segments.prefixes, strict=True):
        before = list(range(*prefix)) if prefix else []
        for token in range(start, end):
            sees = [*before, *range(start, token + 1)]
            mask[token, sees[-window:] if window else sees] = True
    return mask


def states(length: int) -> list[torch.Tensor]:
    """Queries, keys, values, and a gradient of the output; keys and values have half the heads."""
    draw = torch.Generator().manual_seed(length)
    heads = HEADS, KEY_HEADS, KEY_HEADS
    found = [torch.randn(1, count, length, WIDTH, generator=draw).requires_grad_() for count in heads]
    return [*found, torch.randn(1, length, HEADS, WIDTH, generator=draw)]


def plainly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    key, value = (one.repeat_interleave(HEADS // KEY_HEADS, dim=1) for one in (key, value))
    scores = (query @ key.transpose(2, 3)) / math.sqrt(WIDTH)
    return (scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ value).transpose(1, 2)


def attend(kernel: str, query: Any, key: Any, value: Any, segments: Segments | None, **options: Any) -> torch.Tensor:
    """As a layer of transformers calls it."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    use_segments(SimpleNamespace(set_attn_implementation=lambda kernels: None))  # puts the kernels in the table
    module: Any = SimpleNamespace(num_key_value_groups=HEADS // KEY_HEADS, is_causal=True)
    output, _ = ALL_ATTENTION_FUNCTIONS[kernel](
        module, query, key, value, None, segments=segments, scaling=WIDTH**-0.5, **options
    )
    return output


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for flash-attn by its documented rules; what it was called with.

    A causal mask is aligned to the lower right; a window (left, right) lets query i see keys from
    i + keys - queries - left to i + keys - queries + right.
    """
    calls: list[dict[str, Any]] = []

    def flash_attn_varlen_func(q: Any, k: Any, v: Any, **options: Any) -> torch.Tensor:
        calls.append(options)
        outputs = []
        for (start, end), (first, last) in zip(
            pairwise(options["cu_seqlens_q"].tolist()), pairwise(options["cu_seqlens_k"].tolist()), strict=True
        ):
            place = torch.arange(end - start)[:, None] + (last - first) - (end - start)
            keys = torch.arange(last - first)[None]
            mask = keys <= place
            if options["window_size"] != (-1, -1):
                mask &= keys >= place - options["window_size"][0]
            mine = q[start:end], k[first:last], v[first:last]
            outputs.append(plainly(*(one.transpose(0, 1)[None] for one in mine), mask)[0])
        return torch.cat(outputs)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func))
    return calls


@pytest.mark.parametrize("kernel", [LOOP, VARLEN])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", ROWS)
def test_a_kernel_gives_the_numbers_and_gradients_of_the_whole_mask(
    name: str, window: int | None, kernel: str, flash_attn: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = ROWS[name]
    query, key, value, gradient = states(segments.length)
    given_ = query, key, value
    expected = plainly(*given_, visible(segments, window))
    wanted = torch.autograd.grad(expected, given_, gradient)
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # flash-attn takes halves; its stand-in keeps all digits
    output = attend(kernel, *given_, segments, sliding_window=window)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)
    for found, one in zip(torch.autograd.grad(output, given_, gradient), wanted, strict=True):
        torch.testing.assert_close(found, one, atol=1e-5, rtol=1e-5)
    assert len(flash_attn) == (kernel == VARLEN)


@given(segments_of, windows)
def test_any_row_in_the_loop(segments: Segments, window: int | None) -> None:
    query, key, value, _ = states(segments.length)
    output = attend(LOOP, query, key, value, segments, sliding_window=window)
    torch.testing.assert_close(output, plainly(query, key, value, visible(segments, window)), atol=1e-5, rtol=1e-5)


@given(segments_of, windows)
def test_flex_attentions_rule_is_that_mask(segments: Segments, window: int | None) -> None:
    tokens = torch.arange(segments.length)
    found = flex_rule(segments, window, "cpu")(None, None, tokens[:, None], tokens[None])
    assert torch.equal(found, visible(segments, window))


@given(segments_of, st.integers(1, 5))
def test_the_blocks_that_flex_attention_looks_into_hold_all_that_is_seen(segments: Segments, size: int) -> None:
    blocks = flex_blocks(segments, size)
    looked_into = blocks.repeat_interleave(size, 0).repeat_interleave(size, 1)
    seen = visible(segments, None)
    assert bool((looked_into[: segments.length, : segments.length] | ~seen).all())


def test_flex_attention_looks_into_few_blocks_more_than_it_must() -> None:
    segments = row([300], [600, *[40] * 30], *[[200]] * 20)
    size = FLEX_BLOCK
    padded = -(-segments.length // size) * size
    seen = torch.zeros(padded, padded, dtype=torch.bool)
    seen[: segments.length, : segments.length] = visible(segments, None)
    needed = seen.reshape(padded // size, size, padded // size, size).any(3).any(1)
    assert int(needed.sum()) <= int(flex_blocks(segments, size).sum()) <= 1.1 * int(needed.sum())


@pytest.mark.parametrize("name", ["one sample", "mixed", "long branches"])
def test_flex_attention_gives_the_same_numbers(name: str) -> None:
    segments = replace(ROWS[name])
    query, key, value = (one.detach() for one in states(segments.length)[:3])  # on a CPU it has no backward
    for window in (None, 5):
        output = attend(FLEX, query, key, value, segments, sliding_window=window)
        torch.testing.assert_close(output, plainly(query, key, value, visible(segments, window)), atol=1e-5, rtol=1e-5)
    for told in segments.kept.values():  # of which the kernel for CUDA alone makes use
        assert torch.equal(told.to_dense()[0, 0].bool(), flex_blocks(segments, FLEX_BLOCK))


def test_flash_attention_is_told_lengths_and_a_copy_of_the_prefix_for_each_branch(
    flash_attn: list[dict[str, Any]],
) -> None:
    segments = row([2], [4, 1, 3])
    query, key, value, _ = states(segments.length)
    attend(VARLEN, query, key, value, segments)
    (told,) = flash_attn
    assert told["cu_seqlens_q"].tolist() == [0, 2, 6, 7, 10]
    assert told["cu_seqlens_k"].tolist() == [0, 2, 6, 11, 18]
    assert (told["max_seqlen_q"], told["max_seqlen_k"], told["causal"]) == (4, 7, True)
    assert told["cu_seqlens_q"].dtype == told["cu_seqlens_k"].dtype == torch.int32


def test_masks_stay_small_and_are_made_once() -> None:
    apart, shared = row(*[[500]] * 20), row([300, *[30] * 40], [300, 2000, 30])
    for segments in (apart, shared):
        query, key, value, _ = states(segments.length)
        with torch.no_grad():
            for _ in range(2):
                attend(LOOP, query, key, value, segments)
        (calls,) = segments.kept.values()
        cells = sum(call.mask.numel() for call in calls if call.mask is not None)
        assert cells == 0 if segments is apart else 0 < cells < segments.length**2 // 2
    assert len(calls) == 1 + 10 + 1 + 2  # 4 branches of 30 share a call; the longest has its own


@pytest.mark.parametrize("kernel", [LOOP, FLEX])
def test_queries_that_autocast_left_in_fp32_are_taken_in_the_values_precision(kernel: str) -> None:
    segments = replace(ROWS["mixed"])
    query, key, value = (one.detach() for one in states(segments.length)[:3])
    output = attend(kernel, query, key, value.bfloat16(), segments)
    assert output.dtype == torch.bfloat16
    expected = plainly(query, key, value, visible(segments, None))
    torch.testing.assert_close(output.float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_what_no_kernel_does_is_refused(name: str) -> None:
    query, key, value, _ = states(4)
    with pytest.raises(ValueError, match=name):
        attend(LOOP, query, key, value, row([4]), **{name: 1.0})


def test_segments_of_another_row_are_refused() -> None:
    query, key, value, _ = states(4)
    with pytest.raises(ValueError, match="segments of 5 tokens"):
        attend(LOOP, query, key, value, row([5]))


def llava() -> Any:
    torch.manual_seed(0)
    small: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4}
    words = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=64, **small)
    tower = CLIPVisionConfig(hidden_size=24, intermediate_size=48, image_size=16, patch_size=8, **small)
    return LlavaForConditionalGeneration(LlavaConfig(text_config=words, vision_config=tower, image_token_index=59))


def test_a_model_in_training_answers_as_before() -> None:
    """Padded prompts, a cache, no segments: what validation asks of it."""
    model = llava().eval()
    ids = torch.arange(1, 13).reshape(2, 6)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    ask: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    before = model.generate(input_ids=ids, attention_mask=mask, **ask)
    logits = model(input_ids=ids, attention_mask=mask).logits
    use_segments(model)
    assert torch.equal(model.generate(input_ids=ids, attention_mask=mask, **ask), before)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, logits)


def test_a_packed_row_without_its_segments_is_refused() -> None:
    model = llava()
    use_segments(model)
    one = {"input_ids": torch.arange(1, 7)[None], "use_cache": False}
    model(**one, position_ids=torch.arange(6)[None])
    with pytest.raises(ValueError, match="without its segments"):
        model(**one, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]))


def test_only_the_language_model_is_changed_and_nothing_of_it_is_saved(tmp_path: Path) -> None:
    model = llava()
    use_segments(model)
    kernels = model.config.text_config._attn_implementation, model.config.vision_config._attn_implementation
    assert kernels == (LOOP, "sdpa")
    model.save_pretrained(tmp_path)
    assert LOOP not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert LlavaForConditionalGeneration.from_pretrained(tmp_path).config.text_config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("capability", "installed", "precision", "kernel", "reason"),
    [
        ((8, 0), True, "bf16", VARLEN, "installed"),
        ((8, 0), True, "fp32", FLEX, "no fp32"),
        ((8, 0), False, "bf16", FLEX, "not installed"),
        ((7, 5), True, "fp16", FLEX, "capability"),
    ],
)
def test_the_kernel_is_chosen_by_device_and_precision(
    capability: tuple[int, int],
    installed: bool,
    precision: str,
    kernel: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: installed)
    choice = choose_segments("cuda", precision)
    assert choice.value == kernel
    assert reason in choice.reason
    assert choose_segments("cpu", precision).value == segment_attention.LOOP
