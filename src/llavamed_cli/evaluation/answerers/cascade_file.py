"""The file that describes a cascade: who looks at which kind of picture, and who answers from the description.

    [router]                        # which expert a picture goes to
    clip = "pubmedclip"             # a CLIP folder, by the labels below; or classifier = "FOLDER"

    [experts.xray]                  # one table an expert; the name is free
    label = "a chest X-ray"         # what the router compares with the picture; for a classifier, one of its classes
    model = "llava-med"             # a LLaVA that describes
    prompt = "Describe this X-ray." # what it is asked

    [experts.other]
    label = "a photograph"
    clip = "pubmedclip"             # or a CLIP that names findings, each with its share
    findings = ["a normal picture", "a tumour", "bleeding"]

    [answerer]                      # sees no picture
    model = "llava-med"             # a LLaVA folder; or openai = "MODEL", and base_url where it is not OpenAI's
    prompt = "{label}: {description}\nQuestion: {question}\nAnswer in a few words."

Paths are relative to the file. It is Visual Med-Alpaca's shape (https://github.com/cambridgeltl/visual-med-alpaca).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from llavamed_cli.errors import DataError
from llavamed_cli.files import read_toml

FIELDS = ("label", "description", "question")
MOST_EXPERTS, MOST_FINDINGS = 64, 512


@dataclass(frozen=True, kw_only=True)
class Expert:
    """label: of the pictures it gets. model and prompt: a LLaVA that describes; or clip and findings."""

    name: str
    label: str
    model: str | None = None
    prompt: str | None = None
    clip: Path | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CascadePlan:
    """Router, experts and answerer. clip or classifier: one of them routes; a single expert needs neither."""

    file: Path
    experts: tuple[Expert, ...]
    prompt: str
    clip: Path | None = None
    classifier: Path | None = None
    answerer: str | None = None
    served: str | None = None
    base_url: str | None = None


def read_cascade(file: Path) -> CascadePlan:
    """Read a cascade's file.

    Raises:
        DataError: a key is unknown (the nearest is named), missing, or of another type; a prompt names no known field.
    """
    table = _Table(read_toml(file, "cascade file"), file.name, file)
    table.only("router", "experts", "answerer")
    experts = table.table("experts")
    if not 1 <= len(experts.values) <= MOST_EXPERTS:
        raise DataError(f"expected 1 to {MOST_EXPERTS} experts, found {len(experts.values)}", where=str(file))
    router = table.table("router") if "router" in table.values else _Table({}, "[router]", file)
    router.only("clip", "classifier")
    if len(router.values) != (len(experts.values) > 1):
        raise DataError(
            "[router] must name `clip` or `classifier`, where there is more than one expert", where=str(file)
        )
    answerer = table.table("answerer")
    answerer.only("model", "openai", "base_url", "prompt")
    if ("model" in answerer.values) == ("openai" in answerer.values):
        raise DataError("[answerer] must name `model` or `openai`, and not both", where=str(file))
    return CascadePlan(
        file=file,
        experts=tuple(_expert(name, experts.table(name)) for name in experts.values),
        prompt=_prompt(answerer),
        clip=router.path("clip"),
        classifier=router.path("classifier"),
        answerer=answerer.model("model"),
        served=answerer.text("openai"),
        base_url=answerer.text("base_url"),
    )


def _expert(name: str, table: _Table) -> Expert:
    table.only("label", "model", "prompt", "clip", "findings")
    model, clip = table.model("model"), table.path("clip")
    label, prompt, findings = table.text("label"), table.text("prompt"), table.texts("findings")
    if label is None:
        raise DataError(f"{table.name} has no `label`", where=str(table.file))
    if (model is None) == (clip is None):
        raise DataError(f"{table.name} must name `model` or `clip`, and not both", where=str(table.file))
    if (model is not None and prompt is None) or (clip is not None and not findings):
        lacking = "prompt" if model is not None else "findings"
        raise DataError(f"{table.name} has no `{lacking}`", where=str(table.file))
    return Expert(name=name, label=label, model=model, prompt=prompt, clip=clip, findings=findings)


def _prompt(table: _Table) -> str:
    prompt = table.text("prompt")
    if prompt is None:
        raise DataError(f"{table.name} has no `prompt`", where=str(table.file))
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
    except ValueError as error:
        raise DataError(f"{table.name} prompt: {error}", where=str(table.file)) from error
    if unknown := sorted(named - set(FIELDS)):
        raise DataError(
            f"{table.name} prompt: unknown field {{{unknown[0]}}}, known are {FIELDS}", where=str(table.file)
        )
    if "question" not in named or "description" not in named:
        raise DataError(f"{table.name} prompt must hold {{description}} and {{question}}", where=str(table.file))
    return prompt


@dataclass(frozen=True)
class _Table:
    """A table of the file, with its name for messages."""

    values: Mapping[str, Any]
    name: str
    file: Path

    def only(self, *known: str) -> None:
        for key in self.values:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                meant = f"did you mean {near[0]}? " if near else ""
                raise DataError(
                    f"{self.name}: unknown key {key!r}; {meant}known are {', '.join(known)}", where=str(self.file)
                )

    def table(self, key: str) -> _Table:
        value = self.values.get(key)
        name = f"[{key}]" if self.name == self.file.name else f"[{self.name.strip('[]')}.{key}]"
        if not isinstance(value, dict):
            raise DataError(f"expected a table {name}", where=str(self.file))
        return _Table(value, name, self.file)

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise DataError(f"{self.name} {key} must be a text", where=str(self.file))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            raise DataError(f"{self.name} {key} must be a list of texts", where=str(self.file))
        if len(value) > MOST_FINDINGS:
            raise DataError(f"{self.name} {key}: at most {MOST_FINDINGS}", where=str(self.file))
        return tuple(value)

    def path(self, key: str) -> Path | None:
        """A folder, relative to the file. Raises DataError where there is none."""
        value = self.text(key)
        if value is None:
            return None
        path = self.file.parent / Path(value).expanduser()
        if not path.is_dir():
            raise DataError(f"{self.name} {key}: there is no folder {path}", where=str(self.file))
        return path

    def model(self, key: str) -> str | None:
        """A model folder relative to the file, or a hub name."""
        value = self.text(key)
        if value is None:
            return None
        path = self.file.parent / Path(value).expanduser()
        return str(path) if path.exists() else value
