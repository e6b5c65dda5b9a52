"""`run.json`: how an output folder was made, and whether a repeated command goes on, is done, or is refused.

A folder belongs to one run: the same command with the same options on the same inputs. The file is written before the
work starts (status "running") and again when it ends (status "finished"), so an interrupted run is recognised.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llavamed_cli.errors import OutputFolderError
from llavamed_cli.files import fingerprint, read_json, write_json

RUN_FILE = "run.json"
FORMAT = 1
RECORDED_PACKAGES = ("llavamed", "torch", "transformers", "accelerate", "peft", "bitsandbytes", "pillow", "numpy")


@dataclass
class Run:
    """An output folder at work.

    resumed: the folder held an unfinished run of the same command.
    finished: it held a finished one, so that nothing is left to do.
    """

    out: Path
    record: dict[str, Any]
    resumed: bool = False
    finished: bool = False
    _started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def results(self) -> dict[str, Any]:
        """What `finish` was told; empty before."""
        results: dict[str, Any] = self.record.get("results", {})
        return results

    @property
    def seconds(self) -> float:
        """How long it has worked so far, in all its starts that ended well and in this one."""
        worked: float = self.record["seconds"] + (datetime.now(timezone.utc) - self._started).total_seconds()
        return worked

    def choose(self, name: str, value: str, reason: str) -> None:
        """Record an automatic choice (device, precision, attention) with its reason."""
        self.record["choices"][name] = {"value": value, "reason": reason}
        self._write()

    def finish(self, **results: Any) -> None:
        """Mark the run finished, with its results."""
        now = datetime.now(timezone.utc)
        self.record.update(status="finished", finished=_stamp(now), results=results)
        self.record["seconds"] = round(self.record["seconds"] + (now - self._started).total_seconds(), 1)
        self._write()
        self.finished = True

    def _write(self) -> None:
        write_json(self.out / RUN_FILE, self.record)


def begin_run(
    out: Path,
    command: str,
    *,
    options: Mapping[str, Any],
    inputs: Mapping[str, Path | str],
    seed: int,
    may_change: Collection[str] = (),
) -> Run:
    """Claim `out` for a run, or find that it is this run's already.

    Args:
        options: every option that shapes the result, resolved; those that do not (--json, --quiet) stay out.
        inputs: what is read. A Path is fingerprinted, so that a changed input is noticed; a str (a hub name) is
            recorded.
        may_change: options that an unfinished run may go on with in another setting; the last one is recorded.

    Raises:
        OutputFolderError: the folder holds another run (the message lists what differs) or files of unknown origin.
    """
    identity = {
        "command": command,
        "options": {name: _plain(value) for name, value in options.items()},
        "seed": seed,
        "inputs": {name: _input(value) for name, value in inputs.items()},
    }
    if (out / RUN_FILE).is_file() and not _never_got_going(out):
        return _reopen(out, identity, may_change)
    if (
        out.exists()
        and not (out / RUN_FILE).is_file()
        and (not out.is_dir() or any(not _is_torn(file) for file in out.iterdir()))
    ):
        raise OutputFolderError(
            "this is not an empty folder, and no run.json says that llavamed made it",
            where=str(out),
            hint="Give another --out, or empty it yourself.",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFolderError(f"the folder cannot be made: {error.strerror}", where=str(out)) from error
    now = datetime.now(timezone.utc)
    record = {
        "format": FORMAT,
        **identity,
        "command_line": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "status": "running",
        "started": _stamp(now),
        "seconds": 0.0,
        "versions": _versions(),
        "choices": {},
    }
    run = Run(out=out, record=record)
    run._write()
    return run


def _is_torn(file: Path) -> bool:
    """Whether it is what a run killed while it wrote its first run.json left behind."""
    return file.name.startswith(f".{RUN_FILE}.") and file.suffix == ".part"


def _never_got_going(out: Path) -> bool:
    """Whether a run claimed the folder and failed before it wrote anything (a model that would not load, say)."""
    return [file.name for file in out.iterdir()] == [RUN_FILE] and _read_record(out).get("status") == "running"


def _read_record(out: Path) -> dict[str, Any]:
    record = read_json(out / RUN_FILE, "run record")
    if not isinstance(record, dict):
        raise OutputFolderError("run.json is no run record", where=str(out), hint="Give another --out.")
    return record


def _reopen(out: Path, identity: dict[str, Any], may_change: Collection[str]) -> Run:
    record = _read_record(out)
    if record.get("status") == "running" and isinstance(record.get("options"), dict):
        settings = identity["options"]
        record["options"].update({name: settings[name] for name in may_change if name in settings})
    differences = _differences(record, identity)
    if record.get("format") != FORMAT:
        differences.insert(0, f"run.json has format {record.get('format')}, this version writes {FORMAT}")
    if differences:
        raise OutputFolderError(
            "this folder holds another run:\n    " + "\n    ".join(differences),
            where=str(out),
            hint=f"To start anew give another --out, or delete the folder: rm -r {out}",
        )
    finished = record.get("status") == "finished"
    return Run(out=out, record=record, resumed=not finished, finished=finished)


def _differences(record: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    if record.get("command") != identity["command"]:
        return [f"command: {record.get('command')} there, {identity['command']} now"]
    lines = []
    if record.get("seed") != identity["seed"]:
        lines.append(f"--seed: {record.get('seed')} there, {identity['seed']} now")
    there, now = record.get("options", {}), identity["options"]
    for name in sorted({*there, *now}):
        if there.get(name) != now.get(name):
            lines.append(f"{name}: {there.get(name)!r} there, {now.get(name)!r} now")
    there, now = record.get("inputs", {}), identity["inputs"]
    for name in sorted({*there, *now}):
        if there.get(name, {}).get("sha256", there.get(name)) != now.get(name, {}).get("sha256", now.get(name)):
            lines.append(f"input {name}: its content differs from what that run read")
    return lines


def _input(value: Path | str) -> dict[str, str]:
    if isinstance(value, Path):
        return {"path": str(value), "sha256": fingerprint(value)}
    return {"name": value}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
