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
        "Given i.v. CT contrast, it shone.",
        "The approx. 5 cm mass (3.5 vs. 4 cm, cf. Fig. 3) held E. coli or Staphylococcus sp. in it.",
        "It came from St. Louis.",
        "Mr. Lee and Prof. Hall saw it.",
        "It was seen by J.A. McGuire.",
        "So it is (A. Lehmann, personal communication).",
        "A strain of S. Typhimurium grew.",
        "In C.I. Direct red 80 it faded.",
        "Eq. 3, ref. 4, Suppl. Fig. 2 and Tab. 1 agree.",
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
        ("It ends in Lobe A. Figure 9B shows it.", ["It ends in Lobe A.", "Figure 9B shows it."]),
        ("It had Hepatitis B. The liver failed.", ["It had Hepatitis B.", "The liver failed."]),
        ("See (Fig. 1). mRNA was low. p53 was not.", ["See (Fig. 1).", "mRNA was low.", "p53 was not."]),
        ("It is round. (Fig. 2)", ["It is round. (Fig. 2)"]),
        ("It was 2.5. It grew at 37 °C. We saw.", ["It was 2.5.", "It grew at 37 °C.", "We saw."]),
        ("There is no. Then nothing.", ["There is no.", "Then nothing."]),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB. ?!()2gFie,"))
def test_nothing_is_lost(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text", ["e.g. " * 50_000, "." * 1_000_000 + "x", ".)" * 500_000, "A. " * 100_000, "a" * 1_000_000]
)
def test_a_hostile_text_takes_linear_time(text: str) -> None:
    started = time.process_time()
    split_sentences(text)
    assert time.process_time() - started < 5
