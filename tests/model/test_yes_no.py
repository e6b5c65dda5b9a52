"""Yes and no in a vocabulary, and how a distribution divides between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.yes_no import divide, yes_no_ids


class Words:
    """A vocabulary of whole words."""

    unk_token_id = 0

    def __init__(self) -> None:
        self.ids = {"<unk>": 0, "yes": 1, "▁Yes": 2, "no": 3, "▁No": 4, "not": 5, "▁a": 6}

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [self.ids.get(token, 0) for token in tokens]

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        raise AssertionError("there are whole words")


class Letters(Words):
    """A vocabulary of letters: a word's first one stands for it."""

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [0] * len(tokens)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in text]


def test_cases_and_spaces_count_and_other_words_do_not() -> None:
    words: Any = Words()
    assert yes_no_ids(words) == ((1, 2), (3, 4))
    chances = torch.tensor([0.1, 0.2, 0.1, 0.05, 0.05, 0.4, 0.1])
    found = divide(chances.log(), words)
    assert found is not None
    assert (found.yes, found.no, found.mass) == pytest.approx((0.75, 0.25, 0.4))


def test_first_letters_stand_in_and_what_begins_both_begins_neither() -> None:
    letters: Any = Letters()
    yes, no = yes_no_ids(letters)
    assert set(yes) == {ord("y"), ord("Y")}
    assert set(no) == {ord("n"), ord("N")}, "the space begins both"


def test_a_saved_tokenizer_has_both(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    yes, no = yes_no_ids(AutoTokenizer.from_pretrained(tiny_model))
    assert yes and no and not set(yes) & set(no)
