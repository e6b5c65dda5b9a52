from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from llavamed_cli.corpus.domain import Domain, Words, known_domains, load_domain
from llavamed_cli.errors import DataError, UsageError

SHIPPED = resources.files("llavamed_cli.domains").joinpath("biomedical.toml")


def test_the_alignment_questions_are_as_many_as_published(domain: Domain) -> None:
    assert (len(domain.align["detailed"]), len(domain.align["brief"])) == (16, 11)
    assert len({*domain.align["detailed"], *domain.align["brief"]}) == 27


def test_the_domain_covers_the_modalities_of_medicine(domain: Domain) -> None:
    names = {modality.name for modality in domain.modalities}
    assert {"CXR", "CT", "MRI", "histopathology", "gross pathology", "ultrasound", "endoscopy"} <= names
    assert {"dermoscopy", "fundus", "OCT", "PET", "microscopy"} <= names


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
        ((), "anything", []),
    ],
)
def test_words_are_found_whole_and_as_written(entries: tuple[str, ...], text: str, found: list[str]) -> None:
    words = Words(entries)
    assert words.found(text) == found
    assert words.count(text) == len(found)


def test_words_can_be_cut_out() -> None:
    assert Words(("x-ray film",)).cut_from("an X-ray film of x-ray") == "an   of x-ray"


def test_a_file_serves_as_a_domain(tmp_path: Path, domain: Domain) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(SHIPPED.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_domain(str(copy)) == domain
    assert known_domains() == ("biomedical",)


def test_every_fault_of_a_file_is_told_together(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8").replace("[questions]", "[question]").replace("{modality}", "it")
    (tmp_path / "bad.toml").write_text(text + "\n[word]\nx = 1\n[regions2]\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_domain(str(tmp_path / "bad.toml"))
    assert "unknown key question, did you mean questions?" in caught.value.what
    assert "unknown key word, did you mean words?" in caught.value.what
    assert "[questions] must be a table" in caught.value.what
    assert "answers.modality must hold {modality}" in caught.value.what


@pytest.mark.parametrize("text", ["answers = 3", "modality = 'x'", "planes = []", "name = 1", "modality = [1]", ""])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"fault\(s\) in this domain"):
        load_domain(str(tmp_path / "odd.toml"))


def test_what_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.toml").write_text("= =", encoding="utf-8")
    with pytest.raises(DataError, match="not TOML"):
        load_domain(str(tmp_path / "no.toml"))
    with pytest.raises(UsageError, match="biomedical"):
        load_domain("biomedicine")
