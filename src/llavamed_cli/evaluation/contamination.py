"""Which pictures of a benchmark its answerers may have been trained on: the same bytes, or all but the same picture.

Compared are the benchmark's own training split, where it is here, what `--trained-on` names, and what a model's
run.json says it learned from. A perceptual hash finds a picture again that was scaled, compressed or trimmed a little;
neighbouring slices of one scan may be taken for one another. What a model of unknown training has seen, nobody can tell
from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName, picture_folder, read_benchmark, training_part
from llavamed_cli.benchmarks.reading import is_file
from llavamed_cli.errors import LlavamedError, UsageError
from llavamed_cli.files import read_json
from llavamed_cli.progress import Progress
from llavamed_cli.records import Question
from llavamed_cli.run_record import RUN_FILE

if TYPE_CHECKING:
    from llavamed_cli.corpus.screening.deduplicate import Seen

TRAINING_SPLIT = "its training split"
NAMED = 50
"""Shared pictures that scores.json lists of each training set."""
AT_ONCE = 8
"""Pictures decoded side by side."""
MOST_UNASKED = 20_000
"""Training pictures that are compared though nobody asked for it: some minutes."""
GENERATIONS = 5
"""A tuned model comes from an aligned one, and so on."""
Hashed = tuple[Path, str, tuple[int, ...]]
"""A picture, the SHA-256 of its bytes, its perceptual hash."""
Known = tuple[Sequence[Path], int]
"""Training pictures, and how many more have no file."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A benchmark's pictures held against one training set.

    pictures: of training, that were read; unread: pictures or records that could not be, so nothing was compared.
    tested: the benchmark's pictures that were read. shared: of these, by name: the training picture, by what ("bytes",
    or "picture": the perceptual hash), and the bits in which the hashes differ.
    not_compared: why, where there was nothing to compare with.
    """

    trained_on: str
    pictures: int = 0
    unread: int = 0
    tested: int = 0
    shared: Mapping[str, tuple[str, str, int | None]]
    not_compared: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As scores.json has it."""
        kinds = [by for _, by, _ in self.shared.values()]
        listed = sorted(self.shared.items())[:NAMED]
        return {
            "trained_on": self.trained_on,
            "not_compared": self.not_compared,
            "pictures": self.pictures,
            "unread": self.unread,
            "tested": self.tested,
            "same_bytes": kinds.count("bytes"),
            "same_picture": kinds.count("picture"),
            "shared": [
                {"image": image, "training_picture": other, "by": by, "bits": bits}
                for image, (other, by, bits) in listed
            ],
        }


@dataclass(frozen=True, kw_only=True)
class TrainingSets:
    """Where training pictures may lie: as eval's options. folders: see `training_pictures`."""

    images: Path | None = None
    train: Path | None = None
    folders: Sequence[Path] = ()
    seed: int = 0


def find_overlaps(
    benchmarks: Mapping[str, tuple[BenchmarkName, Sequence[Question]]], sets: TrainingSets, progress: Progress
) -> dict[str, list[Overlap]]:
    """Hold each benchmark's pictures against its own training split and against every folder of training pictures.

    Where a training split cannot be read nothing is raised, for the answers are there by then: `not_compared` says why.

    Raises:
        UsageError: as `training_pictures`.
    """
    tested = {title: _tested(title, questions, progress) for title, (_, questions) in benchmarks.items()}
    found: dict[str, list[Overlap]] = {title: [] for title in benchmarks}
    for title, (name, _) in benchmarks.items():
        if name.kind == "phantoms":
            continue
        try:
            with _training_split(name, sets) as known:
                if known is not None:
                    found[title] += _compare(TRAINING_SPLIT, known, {title: tested[title]}, progress).values()
        except LlavamedError as error:
            found[title].append(Overlap(trained_on=TRAINING_SPLIT, shared={}, not_compared=str(error)))
    for folder in sets.folders:
        for title, overlap in _compare(str(folder), (training_pictures(folder), 0), tested, progress).items():
            found[title].append(overlap)
    return found


def seen_images(overlaps: Iterable[Overlap]) -> frozenset[str]:
    """The benchmark's pictures that stand in any of the training sets."""
    return frozenset(image for overlap in overlaps for image in overlap.shared)


def training_pictures(place: Path) -> list[Path]:
    """The pictures of a build-data folder (its `images/`), or of any folder, at any depth.

    Raises:
        UsageError: it is no folder, or holds no pictures.
    """
    from llavamed_cli.corpus.screening.exclude import ENDINGS

    if not place.is_dir():
        raise UsageError("no such folder of training data", where=str(place), hint="Check --trained-on.")
    inside = place / "images" if (place / "images").is_dir() else place
    found = sorted(file for file in inside.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    if not found:
        raise UsageError("the folder holds no pictures", where=str(inside), hint="Check --trained-on.")
    return found


def recorded_training(model: Path, generations: int = GENERATIONS) -> list[Path]:
    """The build-data folders that a model folder's run.json, and those of the models it came from, say it learned from.

    Only those that are still here, and of at most 20,000 pictures. Nothing is raised: a strange run.json says nothing.
    """
    try:
        record = read_json(model / RUN_FILE, "run record")
        inputs = record["inputs"].items() if record.get("command") in ("align", "tune") else ()
        places = {name: Path(value["path"]) for name, value in inputs if isinstance(value, dict) and "path" in value}
    except (LlavamedError, OSError, AttributeError, KeyError, TypeError):
        return []
    found = [place.parent for name, place in places.items() if name.startswith("data ")]
    found = [folder for folder in found if (folder / "images").is_dir() and _is_few(folder / "images")]
    if generations > 1:
        for place in places.values():
            found += recorded_training(place, generations - 1)
    return list(dict.fromkeys(found))


def _is_few(images: Path) -> bool:
    return sum(1 for _ in islice(images.iterdir(), MOST_UNASKED + 1)) <= MOST_UNASKED


@contextmanager
def _training_split(name: BenchmarkName, sets: TrainingSets) -> Iterator[Known | None]:
    """Its pictures; None where the split is not here, or only on the hub."""
    part = training_part(name, sets.train)
    if part is None or part.place is None:
        yield None
        return
    with TemporaryDirectory(prefix="llavamed-train-") as scratch:
        folder = picture_folder(part, sets.images) if part.file is not None else Path(scratch)
        read = read_benchmark(part, pictures=folder, split="train", seed=sets.seed)
        pictures = sorted({question.picture for question in read.questions})
        yield (pictures, len(read.faults)) if pictures or read.faults else None


def _tested(title: str, questions: Sequence[Question], progress: Progress) -> dict[str, Hashed]:
    """A benchmark's pictures by name."""
    names = {question.picture: question.image for question in questions}
    return {names[one[0]]: one for one in _hashed(list(names), f"{title}: hashes", progress)}


def _compare(
    trained_on: str, known: Known, tested: Mapping[str, Mapping[str, Hashed]], progress: Progress
) -> dict[str, Overlap]:
    """Of each benchmark, the pictures that stand in one training set."""
    from llavamed_cli.corpus.screening.deduplicate import Seen

    train, pictures = known[0], 0
    by_bytes: dict[str, Path] = {}
    with TemporaryDirectory(prefix="llavamed-seen-") as scratch, Seen(Path(scratch) / "seen.sqlite") as seen:
        for path, digest, hashes in _hashed(train, f"pictures of {trained_on}", progress):
            by_bytes.setdefault(digest, path)  # Seen forgets a picture that is near another
            seen.add(str(path), digest, hashes, None)
            pictures += 1
        unread = len(train) - pictures + known[1]
        none = None if pictures else f"none of its pictures can be read ({unread} are absent or broken)"
        return {
            title: Overlap(
                trained_on=trained_on,
                pictures=pictures,
                unread=unread,
                tested=len(own),
                shared=dict(_shared(own, by_bytes, seen)),
                not_compared=none,
            )
            for title, own in tested.items()
        }


def _shared(
    tested: Mapping[str, Hashed], by_bytes: Mapping[str, Path], seen: Seen
) -> Iterator[tuple[str, tuple[str, str, int | None]]]:
    for image, (_, digest, hashes) in tested.items():
        if digest in by_bytes:
            yield image, (by_bytes[digest].name, "bytes", None)
        elif any(hashes) and (found := seen.find(digest, hashes, None)) is not None:  # one without detail has none
            yield image, (Path(found.id).name, found.by, found.bits)


def _hashed(paths: Sequence[Path], label: str, progress: Progress) -> Iterator[Hashed]:
    """What can be read, in order."""
    with ThreadPoolExecutor(AT_ONCE) as readers, progress.bar(label, len(paths)) as bar:
        for start in range(0, len(paths), 8 * AT_ONCE):
            for found in readers.map(_hash, paths[start : start + 8 * AT_ONCE]):
                bar.advance()
                if found is not None:
                    yield found


def _hash(path: Path) -> Hashed | None:
    from llavamed_cli.corpus.screening.picture_hash import hash_picture
    from llavamed_cli.errors import PictureError
    from llavamed_cli.files import file_sha256
    from llavamed_cli.model.images import open_picture

    try:
        return (path, file_sha256(path), hash_picture(open_picture(path))) if is_file(path) else None
    except PictureError:
        return None
