from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from llavamed_cli.corpus.domain import (
    LENGTHS,
    MODALITY_KEYS,
    QUESTIONS,
    SECTIONS,
    WORD_LISTS,
    Domain,
    known_domains,
    load_domain,
)
from llavamed_cli.corpus.teacher import brief
from llavamed_cli.errors import DataError, UsageError

SHIPPED = resources.files("llavamed_cli.domains").joinpath("biomedical.toml")


@pytest.mark.parametrize("name", known_domains())
def test_the_alignment_questions_are_as_many_as_published(name: str) -> None:
    domain = load_domain(name)
    assert (len(domain.align["detailed"]), len(domain.align["brief"])) == (16, 11)
    assert len({*domain.align["detailed"], *domain.align["brief"]}) == 27


def test_the_domain_covers_the_modalities_of_medicine(domain: Domain) -> None:
    names = {modality.name for modality in domain.modalities}
    assert {"CXR", "CT", "MRI", "histopathology", "gross pathology", "ultrasound", "endoscopy"} <= names
    assert {"dermoscopy", "fundus", "OCT", "PET", "microscopy"} <= names


def test_a_file_serves_as_a_domain(tmp_path: Path, domain: Domain) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(SHIPPED.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_domain(str(copy)) == domain
    assert known_domains() == ("astronomy", "biomedical")


def test_every_fault_of_a_file_is_told_together(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8").replace("[questions]", "[question]").replace("{modality}", "it")
    (tmp_path / "bad.toml").write_text(text + "\n[word]\nx = 1\n[regions2]\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_domain(str(tmp_path / "bad.toml"))
    assert "unknown key question, did you mean questions?" in caught.value.what
    assert "unknown key word, did you mean words?" in caught.value.what
    assert "[questions] must be a table" in caught.value.what
    assert "answers.modality must hold {modality}" in caught.value.what


@pytest.mark.parametrize(
    ("found", "put", "told"),
    [
        ("chart = [", "charts = [", "unknown key words.charts, did you mean chart?"),
        ("chart = [", "xyzzy = [", "unknown key words.xyzzy; known: visual, chart"),
        ("brief = [", "breif = [", "unknown key align.breif, did you mean brief?"),
        ('noun = "CT"', 'nuon = "CT"', "unknown key modality[2].nuon, did you mean noun?"),
        ('noun = "CT"', "noun = 7", "modality[2].noun must be a text"),
        ('name = "X-ray"', 'name = "CXR"', "two [[modality]] bear the same name"),
        ("refusals = [", "refusal = [", "unknown key teacher.refusal, did you mean refusals?"),
        ("refusals = [", "alike2 = 1\nrefusals = [", "unknown key teacher.alike2, did you mean alike?"),
        ('["CXR", "X-ray"]', '["CXR", "Xray"]', "teacher.alike: Xray is no modality of this domain"),
        ('"mm" = 1,', '"mm" = 0,', "teacher.units.length.mm must be a number above 0"),
        ('"mm" = 1,', '"mm" = true,', "teacher.units.length.mm must be a number above 0"),
        ("article says of the image:\\n{mentions}", "x", "teacher.mentions must hold {mentions}"),
        (
            '  ["What looks abnormal in it?", ',
            "  [",
            "teacher.example[0].dialogue must be a list of [question, answer]",
        ),
        (
            "\n[[teacher.example]]\ncaption",
            "\n[[teacher.example]]\ncation",
            "teacher.example[0].cation, did you mean caption?",
        ),
    ],
)
def test_every_part_of_a_file_is_checked(tmp_path: Path, found: str, put: str, told: str) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert found in text
    (tmp_path / "bad.toml").write_text(text.replace(found, put, 1), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_domain(str(tmp_path / "bad.toml"))
    assert told in caught.value.what


def test_every_key_is_explained_where_the_format_is(domain: Domain) -> None:
    """The comment at the top of biomedical.toml names every section and key that a domain may have."""
    text = SHIPPED.read_text(encoding="utf-8")
    comment = text[: text.index("\nname = ")]
    keys = [*SECTIONS, *LENGTHS, *QUESTIONS, *WORD_LISTS, *MODALITY_KEYS, *brief.KEYS, *brief.EXAMPLE_KEYS]
    assert [key for key in keys if not re.search(rf"\b{key}\b", comment)] == []


def test_what_may_be_left_out_may_be(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    (tmp_path / "small.toml").write_text(text[: text.index("\n[planes]")], encoding="utf-8")
    small = load_domain(str(tmp_path / "small.toml"))
    assert small.brief is None and small.planes == {} and small.regions == {}


@pytest.mark.parametrize(
    "text", ["answers = 3", "modality = 'x'", "planes = []", "name = 1", "modality = [1]", "teacher = 1", ""]
)
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
