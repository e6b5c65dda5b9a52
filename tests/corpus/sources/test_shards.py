from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources import shards
from llavamed_cli.corpus.sources.shards import holds_shards, shard_batches


def shard(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def read(source: Path, tmp_path: Path) -> list[Any]:
    """What each sample came to: (id, caption, licence, bytes), or a reason."""
    found: list[Any] = []
    for batch in shard_batches(source, tmp_path / "scratch"):
        for item in batch.read():
            if isinstance(item, Rejection):
                found.append(item.detail)
            else:
                found.append((item.id, item.caption, item.source.license, item.picture.read_bytes()))
    return found


def as_json(**record: Any) -> bytes:
    return json.dumps(record).encode()


def test_files_that_share_a_key_are_one_sample(tmp_path: Path) -> None:
    members = [
        ("d/0001.jpg", b"one"),
        ("d/0001.txt", b"A  nodule.\n"),
        ("d/0001.cls", b"3"),
        ("d/0002.json", as_json(caption="A mass.", id=7, license="CC BY 4.0", mentions="It grew.")),
        ("d/0002.png", b"two"),
        ("d/0003.seg.png", b"a mask"),
        ("d/0003.JPG", b"three"),
        ("d/0003.json", as_json(captions=["first", "second"])),
    ]
    assert read(shard(tmp_path / "s.tar", *members), tmp_path) == [
        ("d/0001", "A nodule.", None, b"one"),
        ("7", "A mass.", "CC BY", b"two"),
        ("d/0003", "first", None, b"three"),
    ]


def test_a_folder_of_shards_is_read_in_order(tmp_path: Path) -> None:
    for number in (1, 0):
        shard(tmp_path / "set" / f"s-{number}.tar", (f"{number}.jpg", b"x"), (f"{number}.txt", b"text"))
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert holds_shards(tmp_path / "set")
    assert [found[:3] for found in read(tmp_path / "set", tmp_path)] == [("0", "text", "mit"), ("1", "text", "mit")]


def test_a_bad_sample_is_named_and_the_others_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_TEXT_BYTES", 100)
    members = [
        ("a.txt", b"no picture"),
        ("b.jpg", b"x"),
        ("b.json", b"{broken"),
        ("c.jpg", b"x"),
        ("c.json", b"[1]"),
        ("d.jpg", b"x"),
        ("d.txt", b"\xff\xfe"),
        ("e.jpg", b"x"),
        ("e.txt", b"y" * 101),
        ("f.jpg", b"x"),
        ("f.json", as_json(caption=3)),
        ("g.jpg", b"good"),
        ("g.txt", b"good"),
    ]
    assert read(shard(tmp_path / "s.tar", *members), tmp_path) == [
        "no picture in this sample",
        "its .json is not JSON",
        "its .json must be an object, found list",
        "its caption is not UTF-8 text",
        "its .txt has 101 bytes, more than are ever read",
        "a caption must be text, found int",
        ("g", "good", None, b"good"),
    ]


@pytest.mark.parametrize("name", ["../../evil.jpg", "/tmp/evil.jpg", "a\\..\\b.jpg"])
def test_what_follows_a_hostile_member_is_set_aside(name: str, tmp_path: Path) -> None:
    good = [("a.jpg", b"x"), ("a.txt", b"good"), ("b.jpg", b"x"), ("b.txt", b"good")]
    found = read(shard(tmp_path / "s.tar", *good, (name, b"x"), ("c.jpg", b"x")), tmp_path)
    assert found[0] == ("a", "good", None, b"x") and "leads out of the archive" in found[-1] and len(found) == 2


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "s.tar", "w") as archive:
            info = tarfile.TarInfo("a.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        assert read(tmp_path / "s.tar", tmp_path) == ["refused: member 'a.jpg' is no plain file"]


def test_a_member_that_claims_too_much_is_refused_unread(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 2**40
    (tmp_path / "s.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    (reason,) = read(tmp_path / "s.tar", tmp_path)
    assert "claims" in reason


def test_a_shard_that_is_cut_short_keeps_what_came_before(tmp_path: Path) -> None:
    members = [(f"{n}.{ending}", bytes([65 + n]) * 3000) for n in range(5) for ending in ("jpg", "txt")]
    whole = shard(tmp_path / "s.tar", *members).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[: len(whole) // 2])
    *kept, reason = read(tmp_path / "s.tar", tmp_path)
    assert 1 <= len(kept) < 5 and "not a readable .tar" in reason
    for data in (b"no tar", b"x" * 2000):
        (tmp_path / "s.tar").write_bytes(data)
        assert [reason[:19] for reason in read(tmp_path / "s.tar", tmp_path)] == ["not a readable .tar"]
