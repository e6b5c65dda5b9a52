"""What a reader must know to repeat a run, beyond run.json: the weights' hashes, the machine, a prompt as the model
reads it. After TRIPOD-LLM (Gallifant et al., Nature Medicine 31:60, 2025), items 6a, 6c and 12.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.errors import LlavamedError
from llavamed_cli.evaluation.answerers.answerer import Who
from llavamed_cli.evaluation.answerers.cascade_file import read_cascade
from llavamed_cli.files import file_sha256, read_json
from llavamed_cli.progress import Progress
from llavamed_cli.records import Turn
from llavamed_cli.run_record import RUN_FILE

PROMPT_ASKED, PROMPT_READ = "the first prompt", "the first prompt, as the model reads it"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
GIB = 2**30


@dataclass(frozen=True)
class FirstPrompt:
    """A prompt verbatim. what: PROMPT_READ with the model's own markers, else PROMPT_ASKED."""

    what: str
    text: str


@dataclass(frozen=True)
class Provenance:
    """models: see `describe_models`; machine: see `describe_machine`. prompts: by benchmark and answerer."""

    models: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    prompts: Mapping[tuple[str, str], FirstPrompt]
    seconds: float


def first_prompt(who: Who, asked: str) -> FirstPrompt | None:
    """What an answerer was asked first, as far as that is known here; None of one who is not asked in words."""
    if who.kind not in ("model", "server", "clip", "cascade") or not asked:
        return None
    rendered = rendered_prompt(who, asked)
    return FirstPrompt(PROMPT_ASKED, asked) if rendered is None else FirstPrompt(PROMPT_READ, rendered)


def describe_models(whos: Mapping[str, Who], progress: Progress) -> dict[str, dict[str, Any]]:
    """Of every answerer that is a folder or a hub name: {"target", "revision", "weights": {file: SHA-256},
    "learned_from": {name: (path, SHA-256)}}.

    Files are read whole: about a second a gigabyte. revision: the hub's commit, None of a local folder.
    learned_from: the data files that the run.json of one of our training commands names, where it lies beside them.
    """
    found: dict[str, dict[str, Any]] = {}
    targets: dict[str, dict[str, Any]] = {}
    for name, who in whos.items():
        if who.kind == "cascade":
            found[name] = _describe_cascade(Path(who.target), progress)
        if who.kind not in ("model", "clip"):
            continue
        if who.target not in targets:
            targets[who.target] = _describe(who.target, progress)
        found[name] = targets[who.target]
    return found


def _describe(target: str, progress: Progress) -> dict[str, Any]:
    folder = _folder(target)
    if folder is None:
        return {"target": target, "revision": None, "weights": {}, "learned_from": {}}
    files = [folder] if folder.is_file() else sorted(p for p in folder.iterdir() if p.suffix in WEIGHTS and p.is_file())
    weights = {}
    with progress.bar(f"hash of {folder.name}", total=len(files)) as bar:
        for file in files:
            weights[file.name] = file_sha256(file)
            bar.advance()
    revision = folder.name if folder.parent.name == "snapshots" else None
    return {"target": target, "revision": revision, "weights": weights, "learned_from": _learned_from(folder)}


def _describe_cascade(file: Path, progress: Progress) -> dict[str, Any]:
    """As of one model, whose weights are those of all parts on this machine; a part's name goes before its files."""
    weights: dict[str, str] = {}
    learned: dict[str, tuple[str, str]] = {}
    for part, place in read_cascade(file).parts.items():
        made = _describe(place, progress)
        weights |= {f"{part}: {name}": digest for name, digest in made["weights"].items()}
        learned |= {f"{part}: {name}": value for name, value in made["learned_from"].items()}
    return {"target": str(file), "revision": None, "weights": weights, "learned_from": learned}


def _learned_from(folder: Path) -> dict[str, tuple[str, str]]:
    try:
        inputs = read_json(folder / RUN_FILE, "run record")["inputs"]
        return {
            name: (str(value["path"]), str(value["sha256"]))
            for name, value in inputs.items()
            if name.startswith("data ")
        }
    except (LlavamedError, OSError, KeyError, TypeError, AttributeError):
        return {}


def _folder(target: str) -> Path | None:
    """Where a model lies on this machine; nothing is fetched for the sake of a report."""
    from llavamed_cli.model.hub import is_here, locate

    try:
        return locate(target) if is_here(target) else None
    except (LlavamedError, OSError):
        return None


def rendered_prompt(who: Who, asked: str) -> str | None:
    """The text that a local model's tokenizer gets for a human turn, its markers and special tokens written out.

    None where that is not known here: a server renders by itself, and a published checkpoint is given its format when
    it is loaded.
    """
    if who.kind != "model":
        return None
    folder = _folder(who.target)
    if folder is None or not (folder / "processor_config.json").is_file():
        return None
    from transformers import AutoProcessor

    from llavamed_cli.model.chat import ChatFormat

    try:
        processor: Any = AutoProcessor.from_pretrained(folder)
        template = processor.chat_template or processor.tokenizer.chat_template
        return ChatFormat(processor.tokenizer, template).render((Turn(speaker="human", text=asked),), open_answer=True)
    except (LlavamedError, OSError, ValueError, KeyError, AttributeError):
        return None


def describe_machine() -> dict[str, Any]:
    """{"system", "processor", "cores", "memory_gib", "accelerators": [...]}; accelerators where torch is at work."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory(),
        "accelerators": _accelerators(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory() -> float | None:
    import psutil

    return round(float(psutil.virtual_memory().total) / GIB, 1)


def _accelerators() -> list[str]:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return [f"{device.name}, {device.total_memory / GIB:.0f} GiB" for device in devices]
    return ["Apple MPS"] if torch.backends.mps.is_available() else []
