from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llavamed_cli.conversation_format import read_samples
from llavamed_cli.corpus import data_folder
from llavamed_cli.corpus.build_options import BuildOptions, ScreenOptions, TeacherOptions
from llavamed_cli.corpus.pipeline import build_data
from llavamed_cli.corpus.screening import stages
from llavamed_cli.errors import DataError, OutputFolderError, UsageError
from llavamed_cli.model.images import open_picture
from llavamed_cli.progress import Silent
from llavamed_cli.records import Fault, Sample

Draw = Callable[..., Path]
SCREENING = [field.name for field in fields(ScreenOptions)]


@pytest.fixture
def pairs(tmp_path: Path, draw: Draw) -> Path:
    """Twelve pairs: nine good ones in several formats, one without a picture, one without a caption, one broken."""
    names = ["0.png", "1.jpg", "2.tif", "3.webp", "4.png", "5.jpg", "6.png", "7.bmp", "8.png"]
    records = []
    for number, name in enumerate(names):
        draw(tmp_path / "pictures" / name, seed=number, mode="P" if name == "4.png" else "RGB")
        records.append({"image": name, "caption": f"Axial CT showing a round nodule in the left lobe, case {number}."})
    records += [{"image": "none.png", "caption": "A CT of the lung."}, {"image": "0.png", "caption": " "}]
    (tmp_path / "pictures" / "broken.png").write_bytes((tmp_path / "pictures" / "0.png").read_bytes()[:-900])
    records.insert(3, {"image": "broken.png", "caption": "A CT of the lung.", "id": "broken"})
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, records)) + "\nnot json\n", encoding="utf-8")
    return file


def options(source: Path | str, out: Path, **others: Any) -> BuildOptions:
    if "images" not in others and isinstance(source, Path) and source.suffix == ".jsonl":
        others["images"] = source.parent / "pictures"
    screen = {name: others.pop(name) for name in SCREENING if name in others}
    if "teacher" in others:
        others["teacher"] = TeacherOptions(name=others["teacher"])
    return BuildOptions(sources=(str(source),), out=out, screen=ScreenOptions(**screen), **others)


def build(source: Path | str, out: Path, **others: Any) -> dict[str, Any]:
    return build_data(options(source, out, **others), Silent()).figures


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a data folder but run.json, which holds times."""
    files = (file for file in out.rglob("*") if file.is_file() and file.name != "run.json")
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def samples(file: Path) -> list[Sample]:
    faults: list[Fault] = []
    read = [sample for _, sample in read_samples(file, faults.append)]
    assert faults == []
    return read


def test_the_folder_holds_what_align_and_tune_read(pairs: Path, tmp_path: Path) -> None:
    figures = build(pairs, tmp_path / "out")
    align, instruct = (samples(tmp_path / "out" / name) for name in ("align.jsonl", "instruct.jsonl"))
    assert figures["kept"] == len(align) == len(instruct) == 9
    for sample in (*align, *instruct):
        assert sample.modality == "CT" and sample.quality is not None and sample.source is not None
        for image in sample.images:
            assert open_picture(tmp_path / "out" / "images" / image).size == (64, 48)
    assert {sample.images for sample in align} == {sample.images for sample in instruct}
    assert align[0].turns[1].text == "Axial CT showing a round nodule in the left lobe, case 0."
    assert {turn.text for turn in instruct[0].turns} >= {"This is a CT scan.", align[0].turns[1].text}
    assert len(list((tmp_path / "out" / "images").iterdir())) == 9


def test_every_record_is_kept_or_named_with_its_reason(pairs: Path, tmp_path: Path) -> None:
    figures = build(pairs, tmp_path / "out")
    lines = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = [json.loads(line) for line in lines]
    assert figures["kept"] + figures["rejected"] == 13
    assert [(line.get("id"), line["stage"], line["reason"]) for line in rejected] == [
        ("broken", "pixels", "unreadable picture"),
        ("pairs-11", "metadata", "no picture file"),
        ("pairs-12", "caption", "no caption"),
        (None, "read", "unreadable record"),
    ]
    assert [line["where"] for line in rejected] == [f"{pairs}:{number}" for number in (4, 11, 12, 13)]
    assert sum(figures["reasons"].values()) == 4


@pytest.mark.parametrize("stop_at", [1, 5, 9])
@pytest.mark.parametrize(("room", "step"), [(stages, "keep_picture"), (data_folder, "keep")])
def test_an_interrupted_run_goes_on_and_ends_the_same(
    room: ModuleType, step: str, stop_at: int, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(pairs, tmp_path / "whole", seed=4)
    keep: Callable[..., str] = getattr(room, step)
    kept: list[Any] = []

    def fail_at_last(picture: Any, stem: str, folder: Path) -> str:
        kept.append(picture)
        if len(kept) == stop_at:
            raise KeyboardInterrupt
        return keep(picture, stem, folder)

    monkeypatch.setattr(room, step, fail_at_last)
    with pytest.raises(KeyboardInterrupt):
        build(pairs, tmp_path / "out", seed=4)
    assert not {"align.jsonl", "instruct.jsonl", "rejected.jsonl"} & set(contents(tmp_path / "out"))
    (tmp_path / "out" / "images").mkdir(exist_ok=True)
    (tmp_path / "out" / "images" / ".x.png.abc.part").write_bytes(b"left by kill -9")
    monkeypatch.undo()
    build(pairs, tmp_path / "out", seed=4)
    whole, resumed = contents(tmp_path / "whole"), contents(tmp_path / "out")
    assert resumed == whole


def test_a_repeated_run_does_nothing_and_another_is_refused(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(pairs, tmp_path / "out")
    monkeypatch.setattr("llavamed_cli.corpus.pipeline.open_data_folder", None)
    assert build(pairs, tmp_path / "out") == first
    with pytest.raises(OutputFolderError, match="min_quality"):
        build(pairs, tmp_path / "out", min_quality=0.5)
    with pytest.raises(OutputFolderError, match="seed"):
        build(pairs, tmp_path / "out", seed=5)
    pairs.write_text(pairs.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")
    with pytest.raises(OutputFolderError, match="content differs"):
        build(pairs, tmp_path / "out")


def test_nothing_kept_is_an_error_with_the_reasons_on_disk(pairs: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"nothing was kept of 13 .*10 x caption: caption quality below 1"
        ) as caught:
            build(pairs, tmp_path / "out", min_quality=1.0)
        assert "rejected.jsonl" in (caught.value.hint or "")
    assert len((tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 13


def test_the_limit_counts_what_is_kept(pairs: Path, tmp_path: Path) -> None:
    assert build(pairs, tmp_path / "out", limit=4)["kept"] == 4
    assert [sample.id for sample in samples(tmp_path / "out" / "align.jsonl")] == [f"pairs-{n}" for n in (1, 2, 3, 5)]


def test_equal_ids_are_told_apart(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures" / "a.png")
    record = json.dumps({"id": "x/../y", "image": "a.png", "caption": "A CT of the lung."})
    (tmp_path / "p.jsonl").write_text(f"{record}\n{record}\n{record}\n", encoding="utf-8")
    build(tmp_path / "p.jsonl", tmp_path / "out", duplicates="keep")
    written = samples(tmp_path / "out" / "align.jsonl")
    assert [sample.id for sample in written] == ["x/../y", "x/../y~2", "x/../y~3"]
    assert len({sample.images for sample in written}) == 1
    assert [path.parent.name for path in tmp_path.rglob("y-*.png")] == ["images"]


def test_articles_and_packages_end_up_alike(article_folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "PMC77.tar.gz", "w:gz") as archive:
        archive.add(article_folder, arcname="PMC77")
    for name, source in (("a", article_folder), ("b", tmp_path / "PMC77.tar.gz")):
        figures = build(source, tmp_path / name)
        assert (figures["kept"], figures["rejected"]) == (2, 1)
        assert figures["licenses"] == {"CC BY": 1, "third party": 1}
        assert not (tmp_path / name / ".scratch").exists()
    one, two = ([(s.id, s.images, s.turns) for s in samples(tmp_path / n / "instruct.jsonl")] for n in "ab")
    assert one == two
    answers = [turn.text for turn in samples(tmp_path / "a" / "instruct.jsonl")[0].turns[1::2]]
    assert answers == [
        "This is a chest X-ray.",
        "The arrow shows a round nodule of 10^2 mm in the left upper lobe.",
        "The film shows a round nodule in the left upper lobe.",
    ]


def test_what_has_nothing_visible_is_kept_for_alignment_and_named(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures" / "a.png")
    record = {"image": "a.png", "caption": "Survival of the whole cohort."}
    (tmp_path / "p.jsonl").write_text(json.dumps(record), encoding="utf-8")
    figures = build(tmp_path / "p.jsonl", tmp_path / "out")
    assert (figures["align"], figures["instruct"], figures["rejected"]) == (1, 0, 0)
    assert json.loads((tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8"))["stage"] == "teacher"


def test_phantoms_and_pairs_may_be_built_together(pairs: Path, tmp_path: Path) -> None:
    both = BuildOptions(sources=("phantoms:3", str(pairs)), out=tmp_path / "out", images=pairs.parent / "pictures")
    assert build_data(both, Silent()).figures["kept"] == 12
    with (tmp_path / "out" / "images" / "phantom-train-00000.png").open("rb") as stream:
        assert stream.read(4) == b"\x89PNG"


def test_the_report_is_one_safe_page(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "pictures" / "a.png")
    record = {"image": "a.png", "caption": "CT of a <script>alert(1)</script> nodule.", "license": "CC BY-NC 4.0"}
    (tmp_path / "p.jsonl").write_text(json.dumps(record) + '\n{"image": "b.png", "caption": "A CT."}', encoding="utf-8")
    build(tmp_path / "p.jsonl", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 pictures kept" in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "data:image/jpeg;base64," in page and "http" not in page.replace("http-equiv", "")
    assert "CC BY-NC" in page and "no picture file" in page


def test_contradictions_are_refused_before_anything_is_written(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    out = tmp_path / "out"
    for wrong, what in (
        ({"teacher": "gpt-4o"}, "OPENAI_API_KEY is not set"),
        ({"min_quality": 2.0}, "from 0 to 1"),
        ({"min_quality": float("nan")}, "from 0 to 1"),
        ({"limit": 0}, "at least one"),
        ({"seed": -1}, "0 or more"),
        ({"domain": "law"}, "no domain"),
        ({"images": tmp_path / "nowhere"}, "no such folder"),
    ):
        with pytest.raises(UsageError, match=what):
            build(pairs, out, **wrong)
    with pytest.raises(UsageError, match="given twice"):
        build_data(BuildOptions(sources=("phantoms:3", "phantoms:4"), out=out), Silent())
    with pytest.raises(UsageError, match="Add --images"):
        build(f"vqa-rad:{pairs}", out)
    with pytest.raises(UsageError, match="lies inside the source"):
        (pairs.parent / "pictures" / "0.txt").write_text("A nodule.", encoding="utf-8")
        build(pairs.parent / "pictures", pairs.parent / "pictures" / "out")
    assert not out.exists() and not (pairs.parent / "pictures" / "out").exists()


def test_vqa_rad_is_built_whole(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "vqa_rad"
    source = f"vqa-rad:{folder / 'VQA_RAD Dataset Public.json'}"
    figures = build(source, tmp_path / "out", images=folder / "images")
    assert (figures["kept"], figures["instruct"], figures["questions"], figures["rejected"]) == (313, 567, 1797, 0)
    assert figures["licenses"] == {"CC0": 313}
    assert len(samples(tmp_path / "out" / "instruct.jsonl")) == 567
    composed = samples(tmp_path / "out" / "align.jsonl")
    assert all(s.source is not None and (s.source.citation or "").startswith("Composed by rule") for s in composed)


def test_articles_without_their_pictures_are_set_aside_for_that_reason(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="644 x metadata: no picture file"):
        build(shared / "data" / "pmc_jats", tmp_path / "out")
