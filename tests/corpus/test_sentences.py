from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.corpus.sentences import split_sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "The nodule (Fig. 2) is round.",
        "Signs of failure, e.g. Kerley lines, are absent.",
        "This was shown by Smith et al. 2004 in dogs.",
        "Dr. Osler described it.",
        "It measured 2.5 cm vs. 3.1 cm before.",
        "Figs. 2-4 and Fig. S1 show H. pylori.",
        "J. Smith drew it.",
        "Sample no. 5 is stained.",
    ],
)
def test_an_abbreviation_does_not_end_a_sentence(sentence: str) -> None:
    after = "The heart is large."
    assert split_sentences(f"{sentence} {after}") == [sentence, after]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Is it large? Yes! It is.", ["Is it large?", "Yes!", "It is."]),
        ("(A) Axial view. (B) Coronal view.", ["(A) Axial view.", "(B) Coronal view."]),
        ("See panel B. The lung is dark.", ["See panel B.", "The lung is dark."]),
        ("It was called “large.” Others differ.", ["It was called “large.”", "Others differ."]),
        ("There is no. Then nothing.", ["There is no.", "Then nothing."]),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB. ?!()2gFie,"))
def test_nothing_is_lost(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_a_hostile_text_takes_linear_time() -> None:
    started = time.perf_counter()
    split_sentences("e.g. " * 50_000)
    assert time.perf_counter() - started < 5
