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
The file may be a stranger's: nothing in it is run, and a server that it names is told before anything is sent there.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.domain_file import TableReader
from llavamed_cli.errors import DataError
from llavamed_cli.files import read_toml
from llavamed_cli.model.hub import hub_name

FIELDS = ("label", "description", "question")
MOST_EXPERTS, MOST_FINDINGS, LONGEST_TEXT, LONGEST_NAME = 64, 512, 10_000, 200
"""More is taken for a mistake, or for a file that means harm."""


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
    """Router, experts and answerer. clip or classifier: one of them routes; a single expert needs neither.

    answerer: a local model; served: a server's, at base_url or where the environment says.
    """

    file: Path
    experts: tuple[Expert, ...]
    prompt: str
    clip: Path | None = None
    classifier: Path | None = None
    answerer: str | None = None
    served: str | None = None
    base_url: str | None = None

    @property
    def parts(self) -> dict[str, str]:
        """The models it is made of by what they do: folders and hub names on this machine, each once."""
        named = {"router": self.clip or self.classifier, "answerer": self.answerer}
        named |= {f"expert {expert.name}": expert.model or expert.clip for expert in self.experts}
        by_place: dict[str, list[str]] = {}
        for part, place in named.items():
            if place is not None:
                by_place.setdefault(str(place), []).append(part)
        return {", ".join(parts): place for place, parts in by_place.items()}


def read_cascade(file: Path) -> CascadePlan:
    """Read a cascade's file.

    Raises:
        UsageError: there is no such file.
        DataError: it is no TOML; or a key is unknown (the nearest is named), missing, of another type, or without
            effect; a model is not there; a prompt names no known field. All faults are told together.
    """
    data = read_toml(file, "cascade file")
    reader = _Reader(beside=file.parent)
    reader.known("", data, ("router", "experts", "answerer"))
    experts = tuple(
        _expert(reader, name, value) for name, value in reader.table("experts", data.get("experts")).items()
    )
    router = reader.table("router", data.get("router", {}), ("clip", "classifier"))
    answerer = reader.table("answerer", data.get("answerer"), ("model", "openai", "base_url", "prompt"))
    plan = CascadePlan(
        file=file,
        experts=experts,
        prompt=_prompt(reader, answerer.get("prompt")),
        clip=reader.folder("router.clip", router.get("clip")),
        classifier=reader.folder("router.classifier", router.get("classifier")),
        answerer=reader.model("answerer.model", answerer.get("model")),
        served=reader.optional("answerer.openai", answerer.get("openai")),
        base_url=reader.optional("answerer.base_url", answerer.get("base_url")),
    )
    reader.one_of("answerer", answerer, "model", "openai")
    if "base_url" in answerer and "openai" not in answerer:
        reader.faults.append("answerer.base_url is of a server, and answerer.openai names no model of one")
    _check_routes(reader, experts, router)
    if reader.faults:
        listed = "\n    ".join(reader.faults)
        raise DataError(f"{len(reader.faults)} fault(s) in this cascade:\n    {listed}", where=str(file))
    return plan


def _expert(reader: _Reader, name: str, value: Any) -> Expert:
    place = f"experts.{name}"
    table = reader.table(place, value, ("label", "model", "prompt", "clip", "findings"))
    reader.one_of(place, table, "model", "clip")
    for key, of, other in (("prompt", "model", "clip"), ("findings", "clip", "model")):
        if of in table and key not in table:
            reader.faults.append(f"{place}.{key} is missing: what a {of} is asked")
        if key in table and other in table and of not in table:
            reader.faults.append(f"{place}.{key} has no effect beside `{other}`")
    findings = reader.texts(f"{place}.findings", table["findings"]) if "findings" in table else ()
    if findings and not 2 <= len({*findings}) == len(findings) <= MOST_FINDINGS:
        reader.faults.append(f"{place}.findings must be 2 to {MOST_FINDINGS} different texts: a CLIP only compares")
    return Expert(
        name=name,
        label=reader.text(f"{place}.label", table.get("label")),
        model=reader.model(f"{place}.model", table.get("model")),
        prompt=reader.optional(f"{place}.prompt", table.get("prompt")),
        clip=reader.folder(f"{place}.clip", table.get("clip")),
        findings=findings,
    )


def _check_routes(reader: _Reader, experts: Sequence[Expert], router: dict[str, Any]) -> None:
    if not 1 <= len(experts) <= MOST_EXPERTS:
        reader.faults.append(f"[experts] must hold 1 to {MOST_EXPERTS} experts, found {len(experts)}")
    elif len(experts) == 1 and router:
        reader.faults.append("[router] has no effect on a single expert")
    elif len(experts) > 1:
        reader.one_of("router", router, "clip", "classifier")
    labels = [expert.label for expert in experts if expert.label]
    for label in sorted({label for label in labels if labels.count(label) > 1}):
        reader.faults.append(f"two experts have the label {label!r}, and only the first would get pictures")


def _prompt(reader: _Reader, value: Any) -> str:
    """The text model's prompt: its fields plain, for a format such as {question:>999999999} would fill the memory."""
    prompt = reader.text("answerer.prompt", value)
    try:
        fields = [part for part in string.Formatter().parse(prompt) if part[1] is not None]
    except ValueError as error:
        reader.faults.append(f"answerer.prompt: {error}; braces that are meant so are doubled: {{{{ }}}}")
        return prompt
    for _, name, form, conversion in fields:
        if name not in FIELDS or form or conversion:
            shown = f"{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}"
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            reader.faults.append(f"answerer.prompt holds {{{shown}}}; known are {known}, and nothing more in them")
    if prompt and not {"question", "description"} <= {name for _, name, _, _ in fields}:
        reader.faults.append("answerer.prompt must hold {description} and {question}")
    return prompt


@dataclass
class _Reader(TableReader):
    """Reads also models and folders, relative to the file."""

    beside: Path = Path()

    def text(self, place: str, value: Any, *holds: str) -> str:
        """As TableReader, of a length that somebody may have meant."""
        text = super().text(place, value, *holds)
        if len(text) > LONGEST_TEXT:
            self.faults.append(f"{place} is longer than {LONGEST_TEXT} letters")
            return ""
        return text

    def optional(self, place: str, value: Any) -> str | None:
        """A text, where there is one."""
        return None if value is None else self.text(place, value)

    def one_of(self, place: str, table: dict[str, Any], first: str, second: str) -> None:
        """Tell where not exactly one of two keys is given."""
        if (first in table) == (second in table):
            self.faults.append(f"[{place}] must name `{first}` or `{second}`, and not both")

    def folder(self, place: str, value: Any) -> Path | None:
        """A folder, relative to the file."""
        path = self._path(self.optional(place, value))
        if path is not None and not _is_folder(path):
            self.faults.append(f"{place}: there is no folder {path}")
        return path

    def model(self, place: str, value: Any) -> str | None:
        """A folder with a model, relative to the file, or a hub name."""
        name = self.optional(place, value)
        path = self._path(name)
        if name is None or path is None:
            return None
        if _is_folder(path):
            if not (path / "config.json").is_file():
                self.faults.append(f"{place}: there is no model in {path}: expected a folder with config.json")
            return str(path)
        if len(name) > LONGEST_NAME or hub_name(name) is None:
            self.faults.append(f"{place}: there is no folder {path}, and no hub name is written so")
        return name

    def _path(self, name: str | None) -> Path | None:
        if not name:
            return None
        try:
            return self.beside / Path(name).expanduser()
        except RuntimeError:  # a home of nobody's: "~nobody"
            return self.beside / name


def _is_folder(path: Path) -> bool:
    """Whether a folder lies there; a name that no system has (too long, with a null) is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
