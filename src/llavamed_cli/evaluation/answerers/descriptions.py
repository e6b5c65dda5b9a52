"""What a cascade's experts said of pictures: kept as it comes, so that an interrupted run does not look again.

One a line: {"image", "expert", "description"}. The run's folder holds one run's, whose models are in its run.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llavamed_cli.errors import DataError
from llavamed_cli.files import cut_torn_line, json_line, read_jsonl
from llavamed_cli.records import Fault


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the expert of that name said of a picture, named as the benchmark names it."""

    image: str
    expert: str
    text: str


@dataclass
class Descriptions:
    """Descriptions by picture. file: where they are kept; None keeps them in memory alone."""

    file: Path | None
    found: dict[str, Description] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.exists():
            self.found = {kept.image: kept for kept in _read(self.file)}

    def keep(self, made: Iterable[Description]) -> None:
        """Take descriptions as they come, each written before the next is asked for."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        for one in made:
            self.found[one.image] = one
            if self.file is not None:
                with self.file.open("a", encoding="utf-8") as stream:
                    stream.write(json_line({"image": one.image, "expert": one.expert, "description": one.text}))


def _read(file: Path) -> Iterator[Description]:
    """The whole lines of the file, a torn last one cut off. Raises DataError where it is damaged elsewhere."""
    cut_torn_line(file)

    def refuse(fault: Fault) -> None:
        raise DataError(fault.reason, where=fault.where, hint="Delete this file to have the pictures described anew.")

    for line, record in read_jsonl(file, refuse):
        values = [record.get(name) for name in ("image", "expert", "description")]
        if not all(isinstance(value, str) for value in values):
            refuse(Fault(where=f"{file}:{line}", reason="expected image, expert and description"))
        image, expert, text = map(str, values)
        yield Description(image=image, expert=expert, text=text)
