from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources import pairs
from llavamed_cli.corpus.sources.pairs import holds_pairs, pair_batches
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import Fault, Figure

Draw = Callable[..., Path]


def read(source: Path, images: Path | None = None) -> tuple[list[Figure], list[Fault]]:
    items = [item for batch in pair_batches(source, images) for item in batch.read()]
    rejected = [item for item in items if isinstance(item, Rejection)]
    faults = [Fault(where=item.where, reason=str(item.detail), record_id=item.id) for item in rejected]
    return [item for item in items if isinstance(item, Figure)], faults


def jsonl(path: Path, *records: object) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_json_lines_carry_all_that_a_figure_has(tmp_path: Path) -> None:
    record = {
        "id": 7,
        "image": "sub/a.png",
        "caption": "A  nodule\nin the lung.",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "mentions": "It is round (Fig. 2). It grew.",
    }
    (figure,), faults = read(jsonl(tmp_path / "p.jsonl", record))
    assert faults == []
    assert (figure.id, figure.picture, figure.caption) == ("7", tmp_path / "sub/a.png", "A nodule in the lung.")
    assert figure.mentions == ("It is round (Fig. 2).", "It grew.")
    assert (figure.source.license, figure.source.line) == ("CC BY", 1)


@pytest.mark.parametrize(("name", "comma"), [("p.csv", ","), ("p.tsv", "\t")])
def test_tables_are_read_with_their_lines(name: str, comma: str, tmp_path: Path) -> None:
    rows = [["file_name", "text", "license"], ["a.png", '"A nodule, round"', "private"], ["b.png", '"Two\nlines"', ""]]
    (tmp_path / name).write_text("\n".join(comma.join(row) for row in rows), encoding="utf-8-sig")
    figures, faults = read(tmp_path / name, tmp_path / "pictures")
    assert faults == []
    assert [(f.id, f.caption, f.source.line) for f in figures] == [
        ("p-2", "A nodule, round", 2),
        ("p-4", "Two lines", 4),
    ]
    assert [f.source.license for f in figures] == ["private", None]
    assert figures[0].picture == tmp_path / "pictures" / "a.png"


def test_a_folder_pairs_pictures_with_their_texts(tmp_path: Path, draw: Draw) -> None:
    for name in ("a.png", "sub/a.jpg", ".hidden/x.png", "bare.png", "bad.png"):
        draw(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("A nodule.\n", encoding="utf-8")
    (tmp_path / "bare.txt").unlink()
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    figures, faults = read(tmp_path)
    assert [(figure.id, figure.caption) for figure in figures] == [("a", "A nodule."), ("sub/a", "A nodule.")]
    assert [fault.reason for fault in faults] == ["bad.txt is not UTF-8 text", "no bare.txt beside this picture"]
    assert holds_pairs(tmp_path) and not holds_pairs(tmp_path / "sub" / "none")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1]", "expected an object, found list"),
        ({"caption": "x"}, "no `image` or `file_name`"),
        ({"image": "", "caption": "x"}, "no `image` or `file_name`"),
        ({"image": "a.png"}, "no `caption` or `text`"),
        ({"image": 3, "caption": "x"}, "`image` must be text, found int"),
        ({"image": "a.png", "caption": ["x"]}, "`caption` must be text, found list"),
        ({"image": "../a.png", "caption": "x"}, "lies outside"),
        ({"image": "/etc/passwd", "caption": "x"}, "lies outside"),
        ({"image": "a\0.png", "caption": "x"}, "zero byte"),
        ({"image": "a.png", "caption": "x", "license": 4}, "`license` must be text"),
        ({"image": "a.png", "caption": "x", "mentions": [4]}, "`mentions` must be a text or a list of texts"),
    ],
)
def test_a_bad_record_is_named_and_the_others_are_kept(record: object, reason: str, tmp_path: Path) -> None:
    good = {"image": "a.png", "caption": "A nodule."}
    figures, faults = read(jsonl(tmp_path / "p.jsonl", good, record, good))
    assert [figure.id for figure in figures] == ["p-1", "p-3"]
    assert len(faults) == 1 and reason in faults[0].reason
    assert faults[0].where == f"{tmp_path / 'p.jsonl'}:2"


def test_a_bad_row_of_a_table_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    text = 'image,caption\na.png,good one\nb.png,"bad "quote", x\nc.png,a,b,c\nd.png\ne.png,good too\n'
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    figures, faults = read(tmp_path / "p.csv")
    assert [figure.caption for figure in figures] == ["good one", "good too"]
    assert [fault.where.rpartition(":")[2] for fault in faults] == ["3", "4", "5"]


def test_a_table_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no column image or file_name; the columns are: a, b"):
        read(tmp_path / "p.csv")
    (tmp_path / "q.csv").write_bytes(b"image,caption\na.png,\xe9t\xe9\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path / "q.csv")
    (tmp_path / "r.csv").touch()
    with pytest.raises(DataError, match="the columns are: none"):
        read(tmp_path / "r.csv")
    with pytest.raises(UsageError, match="does not exist"):
        read(tmp_path / "none.csv")


def test_links_in_the_folder_of_pictures_are_followed(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "store" / "blob.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").symlink_to(tmp_path / "store" / "blob.png")
    figures, faults = read(jsonl(tmp_path / "p.jsonl", {"image": "a.png", "text": "A nodule."}), tmp_path / "pictures")
    assert faults == [] and figures[0].picture.is_file()


def test_batches_are_small_and_travel_to_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "RECORDS_A_BATCH", 3)
    good = {"image": "a.png", "caption": "A nodule."}
    source = jsonl(tmp_path / "p.jsonl", *([good] * 4), "{broken", good, {"image": "../a.png", "caption": "x"})
    batches = [pickle.loads(pickle.dumps(batch)) for batch in pair_batches(source, None)]
    told = [[item.id if isinstance(item, Figure) else item.where for item in batch.read()] for batch in batches]
    assert told == [["p-1", "p-2", "p-3"], ["p-4", f"{source}:5", "p-6"], [f"{source}:7"]]
    for number in range(4):
        (tmp_path / f"{number}.png").touch()
        (tmp_path / f"{number}.txt").write_text(f"caption {number}", encoding="utf-8")
    batches = [pickle.loads(pickle.dumps(batch)) for batch in pair_batches(tmp_path, None)]
    told = [[item.id for item in batch.read()] for batch in batches]
    assert told == [["0", "1", "2"], ["3"]]
