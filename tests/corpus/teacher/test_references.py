from __future__ import annotations

import pytest

from llavamed_cli.corpus.teacher.references import capitalised, clean_sentence, without_references


@pytest.mark.parametrize(
    ("sentence", "cleaned"),
    [
        ("(A) Axial view of the lung (arrow).", "Axial view of the lung (arrow)."),
        ("Figure 2A shows a nodule.", "The image shows a nodule."),
        ("A nodule is seen (Fig. 2, arrow).", "A nodule is seen."),
        ("A nodule is seen (see Figures 2A and 3) [4,5].", "A nodule is seen."),
        ("Figure 2 is a CT of the lung.", "The image is a CT of the lung."),
        ("Figs. 2-4, 6a and b and 7 show it.", "The image show it."),
        ("In Figure 3, a mass of 5 cm is seen.", "In the image, a mass of 5 cm is seen."),
        ("Figure 3 and a 5 mm nodule", "The image and a 5 mm nodule."),
        ("b) the heart is large", "The heart is large."),
        ("mRNA is seen in the wall", "mRNA is seen in the wall."),
        ("(Fig. 1)", ""),
    ],
)
def test_references_are_cleaned_away(sentence: str, cleaned: str) -> None:
    assert clean_sentence(sentence) == cleaned


def test_only_the_numbers_of_figures_and_citations_are_cut() -> None:
    text = "(Fig. 2; 5 mm on the left) a mass [12, 13] of 3 cm, as in Figures 4-6."
    assert without_references(text) == "(the image; 5 mm on the left) a mass of 3 cm, as in the image."


@pytest.mark.parametrize("word", ["mRNA", "p53", "pH", "CT", "x2", "α", "", "3D", "T2-weighted", "c-Met"])
def test_acronyms_and_names_keep_their_case(word: str) -> None:
    assert capitalised(f"{word} is seen") == (f"{word} is seen" if word else " is seen")
    assert capitalised("x-ray film") == "X-ray film"
    assert capitalised("the CT shows mRNA") == "The CT shows mRNA"
