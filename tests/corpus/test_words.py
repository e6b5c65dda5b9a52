from __future__ import annotations

import pytest

from llavamed_cli.corpus.words import WordGroups, Words


@pytest.mark.parametrize(
    ("entries", "text", "found"),
    [
        (("CT",), "CT and ct of the CTs; ACT", ["CT", "CTs"]),
        (("mass",), "Mass, MASSES, masss, amass", ["Mass", "masss"]),
        (("dilat*",), "Dilated ducts, no dilatation, undilated", ["Dilated", "dilatation"]),
        (("PET", "PET/CT"), "PET/CT then PET", ["PET/CT", "PET"]),
        (("bar graph",), "A bar\ngraph", ["bar\ngraph"]),
        (("P<",), "P<0.05, p<0.05", ["P<"]),
        (("ir",), "İR İ ir", ["ir"]),
        (("T2-weight*",), "T2\u2011weighted, T2\u2010weighting, T2 weights", ["T2\u2011weighted", "T2\u2010weighting"]),
        (("Student's", "Begg’s"), "Student’s and Begg's", ["Student’s", "Begg's"]),
        (("spin-echo", "gradient echo"), "Spin echo, gradient-echo, gradientecho", ["Spin echo", "gradient-echo"]),
        (("11C-*", "t-test"), "Figure 11C shows a t test; 11C\u2013raclopride", ["11C\u2013raclopride"]),
        ((), "anything", []),
    ],
)
def test_words_are_found_whole_and_as_written(entries: tuple[str, ...], text: str, found: list[str]) -> None:
    words = Words(entries)
    assert words.found(text) == found
    assert words.count(text) == len(found)


def test_words_can_be_cut_out() -> None:
    assert Words(("x-ray film",)).cut_from("an X-ray film of x-ray") == "an   of x-ray"


def test_a_beginning_can_be_cut_off() -> None:
    words = Words(("by the caption", "the caption"))
    assert words.cut_from_start("By the caption, it is") == ", it is"
    assert words.cut_from_start("It is by the caption") == "It is by the caption"
    assert words.cut_from_start("") == ""


def test_groups_name_every_list_with_a_word_in_the_match() -> None:
    groups = WordGroups({"thick": Words(("thicken*",)), "pleura": Words(("pleural thicken*",)), "CT": Words(("CT",))})
    text = "Pleural thickening, a thickened wall, CT, ct"
    assert [(text[start:end], names) for start, end, names in groups.named(text)] == [
        ("Pleural thickening", ("thick", "pleura")),
        ("thickened", ("thick",)),
        ("CT", ("CT",)),
    ]
    assert list(WordGroups({}).named(text)) == []
