"""What is kept, drawn and held out, by options of build-data, seen in the files it writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.corpus.build_options import BuildOptions, ScreenOptions, TeacherOptions
from llavamed_cli.corpus.dry_run import rehearse
from llavamed_cli.corpus.pipeline import build_data
from llavamed_cli.corpus.screening.clip import ClipScore
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Silent

Draw = Callable[..., Path]
CAPTIONS = {
    "CT": "Axial CT showing a round nodule in the left lobe of the lung, case {}.",
    "MRI": "Sagittal MRI showing a bright lesion in the right temporal lobe, case {}.",
    "CXR": "Chest X-ray showing a dense opacity in the lower right lung, case {}.",
    "chart": "Bar graph of the number of visits in each month of the year, case {}.",
}


@pytest.fixture
def mixed(tmp_path: Path, draw: Draw) -> Path:
    """Twelve CT, four MRI, two CXR and three charts, in turn CC BY and CC BY-NC."""
    told = ["CT"] * 12 + ["MRI"] * 4 + ["CXR"] * 2 + ["chart"] * 3
    records = []
    for number, name in enumerate(told):
        draw(tmp_path / "pictures" / f"{number}.png", seed=number)
        license = "CC BY 4.0" if number % 2 == 0 else "CC BY-NC 4.0"
        records.append({"image": f"{number}.png", "caption": CAPTIONS[name].format(number), "license": license})
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def asked(source: Path, out: Path, screen: ScreenOptions | None = None, **others: Any) -> BuildOptions:
    return BuildOptions(
        sources=(str(source),), out=out, images=source.parent / "pictures", screen=screen or ScreenOptions(), **others
    )


def build(source: Path, out: Path, screen: ScreenOptions | None = None, **others: Any) -> dict[str, Any]:
    return build_data(asked(source, out, screen, **others), Silent()).figures


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_charts_are_set_aside_unless_they_are_wanted(mixed: Path, tmp_path: Path) -> None:
    figures = build(mixed, tmp_path / "out")
    assert figures["modalities"] == {"CT": 12, "MRI": 4, "CXR": 2}
    assert figures["reasons"] == {"caption: chart or schematic": 3}
    assert build(mixed, tmp_path / "all", ScreenOptions(charts="keep"))["kept"] == 21


def test_only_the_modalities_that_are_asked_for(mixed: Path, tmp_path: Path) -> None:
    figures = build(mixed, tmp_path / "out", ScreenOptions(modalities=("MRI", "CXR")))
    assert figures["modalities"] == {"MRI": 4, "CXR": 2}
    assert figures["reasons"]["caption: modality not wanted"] == 12
    with pytest.raises(UsageError, match="MRT is no modality of the domain biomedical"):
        build(mixed, tmp_path / "no", ScreenOptions(modalities=("MRT",)))


def test_only_licences_that_are_accepted(mixed: Path, tmp_path: Path) -> None:
    figures = build(mixed, tmp_path / "out", ScreenOptions(license="commercial"))
    assert set(figures["licenses"]) == {"CC BY"}
    assert figures["reasons"]["metadata: licence not accepted"] == 10


def test_a_balanced_draw_takes_all_of_the_rare_and_evenly_of_the_rest(mixed: Path, tmp_path: Path) -> None:
    figures = build(mixed, tmp_path / "out", limit=9, balance=True)
    assert figures["modalities"] == {"CT": 4, "MRI": 3, "CXR": 2}
    assert figures["reasons"]["selection: not drawn by --balance"] == 9
    other = build(mixed, tmp_path / "other", limit=9, balance=True, seed=1)
    assert other["modalities"] == figures["modalities"]
    assert records(tmp_path / "other" / "align.jsonl") != records(tmp_path / "out" / "align.jsonl")
    with pytest.raises(UsageError, match="--limit"):
        build(mixed, tmp_path / "no", balance=True)


def test_a_validation_part_is_held_out_and_nothing_is_lost(mixed: Path, tmp_path: Path) -> None:
    figures = build(mixed, tmp_path / "out", validation=0.3)
    out = tmp_path / "out"
    training, held_out = records(out / "align.jsonl"), records(out / "align.validation.jsonl")
    assert len(held_out) == figures["held_out"] > 0
    assert len(training) + len(held_out) == figures["kept"] == 18
    assert not {record["image"] for record in training} & {record["image"] for record in held_out}
    about = {record["image"] for record in records(out / "instruct.validation.jsonl")}
    assert about <= {record["image"] for record in held_out}


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_no_byte(workers: int, mixed: Path, tmp_path: Path) -> None:
    build(mixed, tmp_path / "one", validation=0.2)
    build(mixed, tmp_path / "many", validation=0.2, workers=workers)
    for file in sorted((tmp_path / "one").rglob("*")):
        twin = tmp_path / "many" / file.relative_to(tmp_path / "one")
        assert file.is_dir() or file.name == "run.json" or file.read_bytes() == twin.read_bytes(), file


def test_a_dry_run_tells_and_writes_nothing(mixed: Path, tmp_path: Path) -> None:
    told = rehearse(asked(mixed, tmp_path / "out", ScreenOptions(license="CC BY")), Silent())
    assert (told.figures, told.passed, told.to_fetch) == (21, 9, 0)
    assert Counter(told.reasons) == {"metadata: licence not accepted": 10, "caption: chart or schematic": 2}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TeacherOptions(budget=1.0), "a teacher that is a model"),
        (lambda: TeacherOptions(name="m", budget=0.0), "above 0"),
        (lambda: TeacherOptions(name="m", concurrency=0), "--concurrency"),
        (lambda: ScreenOptions(min_quality=1.5), "0 to 1"),
        (lambda: ScreenOptions(min_similarity=0.2), "--clip"),
        (lambda: BuildOptions(sources=("x",), out=Path("o"), validation=1.0), "--validation"),
        (lambda: BuildOptions(sources=("x",), out=Path("o"), limit=0), "--limit"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make()


def composed(folder: Path, name: str, draw: Draw, *, seeds: tuple[int, int]) -> None:
    """Two noisy pictures beside each other on white."""
    whole = Image.new("RGB", (212, 100), "white")
    for place, seed in enumerate(seeds):
        part = draw(folder / f".part{seed}.png", seed=seed, size=(100, 100))
        whole.paste(Image.open(part), (112 * place, 0))
        part.unlink()
    whole.save(folder / name)


@pytest.fixture
def panelled(tmp_path: Path, draw: Draw) -> Path:
    """A figure of two panels that caption and picture agree on, one that its caption alone tells, and a plain one."""
    pictures = tmp_path / "pictures"
    draw(pictures / "plain.png", seed=1, size=(100, 100))
    draw(pictures / "told.png", seed=2, size=(100, 100))
    composed(pictures, "both.png", draw, seeds=(3, 4))
    told = "Lung disease. (A) Axial CT showing a round nodule on the left. (B) Chest X-ray showing a dense opacity."
    captions = {"plain": CAPTIONS["CT"].format(1), "told": told.replace("Lung", "Heart"), "both": told}
    records = [{"id": name, "image": f"{name}.png", "caption": caption} for name, caption in captions.items()]
    file = tmp_path / "panelled.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def test_panels_are_kept_dropped_or_split(panelled: Path, tmp_path: Path) -> None:
    assert build(panelled, tmp_path / "keep")["kept"] == 3
    assert build(panelled, tmp_path / "drop", ScreenOptions(panels="drop"))["kept"] == 1
    split = build(panelled, tmp_path / "split", ScreenOptions(panels="split"))
    assert split["modalities"] == {"CT": 2, "CXR": 1}
    assert split["reasons"] == {"pixels: panels that cannot be told apart": 1}
    made = {record["id"]: record for record in records(tmp_path / "split" / "align.jsonl")}
    assert set(made) == {"plain", "both-A", "both-B"}
    told = made["both-B"]["conversations"][-1]["value"]
    assert told == "Lung disease. Chest X-ray showing a dense opacity."
    with Image.open(tmp_path / "split" / "images" / made["both-B"]["image"]) as part:
        assert part.size == (100, 100)


def test_repeats_are_dropped_with_what_they_repeat(mixed: Path, tmp_path: Path) -> None:
    lines = mixed.read_text(encoding="utf-8").splitlines()
    smaller = mixed.parent / "pictures" / "smaller.png"
    with Image.open(mixed.parent / "pictures" / "0.png") as first:
        first.resize((48, 48)).save(smaller)
    again = {"id": "same-picture", "image": "smaller.png", "caption": "Another axial CT of the chest of a patient."}
    bytes_again = {**json.loads(lines[0]), "id": "same-bytes", "caption": "A third axial CT of the chest of a patient."}
    told_again = {**json.loads(lines[0]), "id": "same-caption", "image": "20.png"}
    mixed.write_text("\n".join([*lines[:2], *map(json.dumps, (again, bytes_again, told_again))]), encoding="utf-8")
    figures = build(mixed, tmp_path / "out")
    assert figures["kept"] == 2
    rejected = {record["id"]: record for record in records(tmp_path / "out" / "rejected.jsonl")}
    assert {name: record["reason"] for name, record in rejected.items()} == {
        "same-picture": "same picture",
        "same-bytes": "same bytes",
        "same-caption": "same caption",
    }
    assert all(record["detail"].startswith("of mixed-1") for record in rejected.values())
    assert build(mixed, tmp_path / "all", ScreenOptions(duplicates="keep"))["kept"] == 5


def test_a_benchmarks_pictures_are_left_out(mixed: Path, tmp_path: Path) -> None:
    benchmark = tmp_path / "benchmark"
    benchmark.mkdir()
    with Image.open(mixed.parent / "pictures" / "3.png") as tested:
        tested.convert("RGB").save(benchmark / "tested.jpg", quality=60)
    figures = build(mixed, tmp_path / "out", ScreenOptions(exclude=(benchmark,)))
    assert figures["kept"] == 17
    assert figures["reasons"]["duplicate: picture of an excluded set"] == 1


class ScriptedClip:
    """Stands for a CLIP (test_clip.py has a real one): sure of an MRI, and that odd captions fit their pictures."""

    truncated = 0

    def score(self, pairs: list[tuple[Path, str]]) -> list[ClipScore]:
        odd = [int(caption.rstrip(".").split()[-1]) % 2 for _, caption in pairs]
        return [ClipScore(0.1 + 0.2 * each, truncated=False, modality="MRI", share=0.9) for each in odd]


def test_a_clip_names_what_the_text_does_not_and_filters(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llavamed_cli.corpus.screening.distinct.load_clip", lambda *_, **__: ScriptedClip())
    untold = "A round bright lesion beside the midline, case {}."
    lines = [json.loads(line) for line in mixed.read_text(encoding="utf-8").splitlines()]
    lines = [
        {**record, "caption": untold.format(number)} if number > 15 else record for number, record in enumerate(lines)
    ]
    mixed.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    clip = ScreenOptions(clip=tmp_path, modalities=("MRI",))
    figures = build(mixed, tmp_path / "out", clip)
    assert figures["modalities"] == {"MRI": 9}, "four by their text, five by their picture"
    near = build(mixed, tmp_path / "near", ScreenOptions(clip=tmp_path, min_similarity=0.2))
    assert near["kept"] == 10 and near["reasons"]["pixels: caption and picture below 0.2"] == 11
