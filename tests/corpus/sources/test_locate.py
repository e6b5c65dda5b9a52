from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.locate import locate
from llavamed_cli.errors import UsageError


def test_a_source_is_told_by_prefix_ending_or_content(
    tmp_path: Path, article_folder: Path, draw: Callable[..., Path]
) -> None:
    for name in ("a.jsonl", "a.csv", "a.TSV", "a.tar.gz", "a.tgz", "a.xml", "rad.json"):
        (tmp_path / name).touch()
    draw(tmp_path / "side" / "x.png")
    (tmp_path / "side" / "x.txt").touch()
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "PMC1.tar.gz").touch()
    kinds = {
        "pairs": ["a.jsonl", "a.csv", "a.TSV", "side"],
        "articles": ["a.tar.gz", "a.tgz", "a.xml", article_folder.name, "packages"],
    }
    for kind, names in kinds.items():
        assert {locate(str(tmp_path / name)).kind for name in names} == {kind}
    rad = locate(f"vqa-rad:{tmp_path / 'rad.json'}")
    assert rad.kind == "questions" and rad.questions is not None and rad.questions.kind == "vqa-rad"
    assert (locate("phantoms:12").kind, locate("phantoms:12").count) == ("phantoms", 12)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("pmcc:PMC123", "no source is named 'pmcc'"),
        ("pmc:", "neither an article"),
        ("pmc:query:", "neither an article"),
        ("hub:a/b/c", "no name of a data set"),
        ("phantoms:", "expected a number"),
        ("phantoms:0", "expected a number"),
        ("phantoms:-3", "expected a number"),
        ("phantoms:²", "expected a number"),
        ("vqa-rad:none.json", "does not exist"),
        ("none.jsonl", "no such file or folder"),
    ],
)
def test_what_is_not_known_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        locate(text)
    if "named" in what:
        assert "phantoms:N" in str(caught.value) and "vqa-rad:FILE" in str(caught.value)


def test_a_file_or_folder_of_nothing_known_is_refused(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw(tmp_path / "x.png")
    with pytest.raises(UsageError, match="no articles"):
        locate(str(tmp_path))
    with pytest.raises(UsageError, match=r"end in \.png are no source"):
        locate(str(tmp_path / "x.png"))
