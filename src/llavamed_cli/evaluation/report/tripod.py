"""How the run was made, in the order of TRIPOD-LLM's checklist: what of it a tool can know.

Gallifant J et al. The TRIPOD-LLM reporting guideline for studies using large language models. Nature Medicine 31:60-69
(2025), doi 10.1038/s41591-024-03425-5. The items' own words are shortened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llavamed_cli.evaluation.provenance import Provenance

AUTHORS = (
    "Items that only the authors can answer: 1 to 4 (title, abstract, background, objectives), 5c (dates of the data), "
    "6b (how the model was developed), 8 (annotation), 9 (how prompts were designed), 11, 13 (ethics), 14a to d, 15, "
    "16, 18 and 19 (discussion)."
)
SCORES_EXPLAINED = (
    "Reference: the formulae that LLaVA-Med v1.0 published. Strict: a closed answer is right if its first yes or no is "
    "the true one (other closed answers: the same words); an open one if it has the same words in the same order, and "
    "F1, precision and recall count a word at most as often as the other side has it."
)
COMPARED = (
    "Question by question on the same questions: the mean difference with a 95% interval from a bootstrap over "
    "pictures (10,000 draws), and a two-sided p from a permutation of signs by picture. p is not corrected for their "
    "number."
)


@dataclass(frozen=True)
class Entry:
    """One fact. code: a hash, a prompt, a command line: shown letter by letter."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Item:
    """An item of the checklist. number: as the checklist has it, "6a"."""

    number: str
    title: str
    entries: tuple[Entry, ...]


def tripod_items(scores: Mapping[str, Any], run: Mapping[str, Any], provenance: Provenance) -> list[Item]:
    """The items that have entries."""
    items = (
        Item("5a", "Sources of the data", (*_sources(scores, run), *_training(provenance))),
        Item("5b", "The data", tuple(_data(scores))),
        Item("5e", "Missing data", tuple(_missing(scores, run))),
        Item("6a", "Models", tuple(_models(scores, run, provenance))),
        Item("6c", "How text was generated", tuple(_generation(scores, run, provenance))),
        Item("6d", "What was scored", (Entry("output", "the whole text of each answer (answers.jsonl)"),)),
        Item("7a, 7c", "Metrics", (Entry("scores", SCORES_EXPLAINED), Entry("seed", str(scores["seed"])))),
        Item("7d", "Judgement", tuple(_judgement(scores))),
        Item("7e", "Comparison", (Entry("paired", COMPARED),)),
        Item("12", "Compute", tuple(_compute(run, provenance))),
        Item("14e, 14f", "Data and code", tuple(_availability(run))),
    )
    return [item for item in items if item.entries]


def _sources(scores: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[Entry]:
    for title, read in scores["benchmarks"].items():
        yield Entry(title, ". ".join(part for part in (read["benchmark"], read["citation"]) if part))
        if read["license"]:
            yield Entry(f"{title}: licence", read["license"])
        asked = run["inputs"].get(f"questions of {title}", {})
        if "sha256" in asked:
            yield Entry(f"{title}: SHA-256 of {asked['path']}", asked["sha256"], code=True)
        yield Entry(f"{title}: SHA-256 of its pictures", read["pictures_sha256"], code=True)


def _training(provenance: Provenance) -> Iterator[Entry]:
    """What models say of themselves, by the run.json beside their weights."""
    for who, made in provenance.models.items():
        for name, (path, digest) in made["learned_from"].items():
            yield Entry(f"{who}: learned from {name}, SHA-256 of {path}", digest, code=True)


def _data(scores: Mapping[str, Any]) -> Iterator[Entry]:
    for title, read in scores["benchmarks"].items():
        size = f"{read['n']} questions ({read['open']} open, {read['closed']} closed) on {read['pictures']} pictures"
        yield Entry(title, size)
        first = next(iter(read["answerers"].values()))
        for name, strata in first["by"].items():
            shares = ", ".join(f"{value} {block['overall']['n']}" for value, block in strata.items())
            yield Entry(f"{title}: {name.replace('_', ' ')}", shares)


def _missing(scores: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[Entry]:
    yield Entry("--missing", str(run["options"].get("--missing")))
    for title, read in scores["benchmarks"].items():
        absent = {who: answered["absent"] for who, answered in read["answerers"].items() if answered["absent"]}
        told = "".join(f"; without an answer, wrong: {who} {count}" for who, count in absent.items())
        yield Entry(title, f"{len(read['left_out'])} records could not be asked about{told}")


def _models(scores: Mapping[str, Any], run: Mapping[str, Any], provenance: Provenance) -> Iterator[Entry]:
    for who, typed in scores["answerers"].items():
        made = provenance.models.get(who)
        revision = f", revision {made['revision']}" if made and made["revision"] else ""
        yield Entry(who, typed + revision)
        for file, digest in (made["weights"] if made else {}).items():
            yield Entry(f"{who}: SHA-256 of {file}", digest, code=True)
        read = run["inputs"].get(who, {})
        if "sha256" in read:
            yield Entry(f"{who}: fingerprint of the folder or file", read["sha256"], code=True)
        elif "name" in read:
            yield Entry(f"{who}: asked as", read["name"])


def _generation(scores: Mapping[str, Any], run: Mapping[str, Any], provenance: Provenance) -> Iterator[Entry]:
    for title, read in scores["benchmarks"].items():
        for who, decoding in read["decoding"].items():
            yield Entry(f"{who} on {title}", decoding)
            prompt = provenance.prompts.get((title, who))
            if prompt is not None:
                yield Entry(f"{who} on {title}: {prompt.what}", prompt.text, code=True)
    for name, choice in run["choices"].items():
        yield Entry(name, f"{choice['value']}: {choice['reason']}")


def _judgement(scores: Mapping[str, Any]) -> Iterator[Entry]:
    for title, read in scores["benchmarks"].items():
        judge = read.get("judge", {})
        if "model" in judge:
            server = f" at {judge['server']}" if judge.get("server") else ""
            yield Entry(title, f"a model, {judge['model']}{server}, temperature {judge.get('temperature')}")
        for name, text in judge.get("prompt", {}).items():
            yield Entry(f"{title}: the judge's {name}", str(text), code=True)


def _compute(run: Mapping[str, Any], provenance: Provenance) -> Iterator[Entry]:
    machine = provenance.machine
    yield Entry("machine", f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB memory")
    yield Entry("accelerators", ", ".join(machine["accelerators"]) or "none")
    yield Entry("system", machine["system"])
    yield Entry("time", f"{provenance.seconds:,.0f} seconds, started {run['started']}")


def _availability(run: Mapping[str, Any]) -> Iterator[Entry]:
    yield Entry("command line", " ".join(run["command_line"]), code=True)
    yield Entry("versions", ", ".join(f"{package} {version}" for package, version in run["versions"].items()))
    yield Entry("this folder", "questions/ and answers.jsonl hold what was asked and answered; scores.json every score")
