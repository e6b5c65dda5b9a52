"""A real `<image>` and pad, and new rows that never win."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.vocabulary import EMBEDDINGS, HEAD, add_rows, add_tokens, grow_vocabulary, padded


def test_the_next_free_ids(words: Callable[[], Any]) -> None:
    tokenizer = words()
    add_tokens(tokenizer)
    assert tokenizer.convert_tokens_to_ids(["<image>", "<pad>"]) == [259, 260]
    assert (tokenizer.pad_token, tokenizer.unk_token, len(tokenizer)) == ("<pad>", "<unk>", 261)
    assert tokenizer("a<image>b")["input_ids"].count(259) == 1


def test_adding_again_changes_nothing(words: Callable[[], Any]) -> None:
    tokenizer = words()
    add_tokens(tokenizer)
    add_tokens(tokenizer)
    assert len(tokenizer) == 261


@pytest.mark.parametrize("pad", [None, "<unk>", "</s>"])
def test_a_pad_that_means_something_is_replaced(words: Callable[[], Any], pad: str | None) -> None:
    tokenizer = words()
    tokenizer.pad_token = pad
    add_tokens(tokenizer)
    assert tokenizer.pad_token == "<pad>"


def test_a_real_pad_stays(words: Callable[[], Any]) -> None:
    tokenizer = words()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    add_tokens(tokenizer)
    assert (tokenizer.pad_token, tokenizer.convert_tokens_to_ids("<image>")) == ("[PAD]", 260)


@pytest.mark.parametrize(("rows", "wanted"), [(1, 64), (64, 64), (32000, 32000), (32002, 32064)])
def test_padded(rows: int, wanted: int) -> None:
    assert padded(rows) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_old_rows_stay_and_new_ones_are_their_mean(dtype: torch.dtype) -> None:
    old = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    grown = add_rows(LazyTensor.of(old), 5056)
    assert (grown.shape, grown.dtype) == ((5056, 8), dtype)
    rows = grown.read()
    assert torch.equal(rows[:5000], old)
    mean = old.double().mean(dim=0)
    assert torch.allclose(rows[5000:].double(), mean.expand(56, 8), atol=torch.finfo(dtype).eps)


def test_nothing_is_read_before_it_is_wanted() -> None:
    def never() -> torch.Tensor:
        raise AssertionError

    assert add_rows(LazyTensor((10, 4), torch.float32, never), 64).shape == (64, 4)


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 16))
def test_a_new_row_never_wins(seed: int, rows: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(rows, width, generator=generator)
    grown = add_rows(LazyTensor.of(head), padded(rows)).read()
    logits = torch.randn(20, width, generator=generator) @ grown.T
    assert (logits[:, rows:].max(dim=1).values < logits[:, :rows].max(dim=1).values).all()


def test_a_tied_head_stays_out(words: Callable[[], Any]) -> None:
    tensors = {EMBEDDINGS: LazyTensor.of(torch.ones(259, 4))}
    assert {name: table.shape for name, table in grow_vocabulary(tensors, words()).items()} == {EMBEDDINGS: (320, 4)}


def test_both_tables_grow_for_a_tokenizer_that_is_larger_than_they(words: Callable[[], Any]) -> None:
    tensors = {name: LazyTensor.of(torch.ones(200, 4)) for name in (EMBEDDINGS, HEAD, "other")}
    shapes = {name: table.shape for name, table in grow_vocabulary(tensors, words()).items()}
    assert shapes == {EMBEDDINGS: (320, 4), HEAD: (320, 4), "other": (200, 4)}
