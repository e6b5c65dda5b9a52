"""What belongs to one field stands in domain files; the code of the corpus room names none of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import llavamed_cli.corpus
from llavamed_cli.corpus.domain import Domain, known_domains, load_domain

ROOM = Path(llavamed_cli.corpus.__file__).parent
OF_A_BENCHMARK = {"composed_captions.py", "phantoms.py"}
EVERYDAY = {"bar", "bars"}


def literals(file: Path) -> Iterator[tuple[int, str]]:
    """The texts in a module's code, documentation apart."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def of_the_field(domain: Domain, text: str) -> list[str]:
    assert domain.brief is not None
    lists = [*(modality.words for modality in domain.modalities), *domain.brief.findings.groups.values()]
    return [word for words in lists for word in words.found(text) if word not in EVERYDAY]


@pytest.mark.parametrize("name", known_domains())
def test_the_code_names_nothing_of_a_field(name: str) -> None:
    domain = load_domain(name)
    files = [file for file in ROOM.rglob("*.py") if file.name not in OF_A_BENCHMARK]
    found = [
        f"{file.relative_to(ROOM)}:{line}: {word}"
        for file in files
        for line, text in literals(file)
        for word in of_the_field(domain, text)
    ]
    assert len(files) > 20 and found == []


def test_what_would_be_named_is_found() -> None:
    assert {"chest X-ray", "pneumonia"} <= {*of_the_field(load_domain("biomedical"), "a chest X-ray with pneumonia")}
    assert of_the_field(load_domain("biomedical"), "a picture with a caption") == []
