"""The store on disk: what is read back is what a plain list would hold; torn or stale ones are made anew."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault
from llavamed_cli.training import example_store, store_writer
from llavamed_cli.training.example_store import EncodedSample, ExampleStore, open_store
from llavamed_cli.training.store_writer import new_store

IMAGE, LENGTH = 7, 5
Plain = tuple[str, list[int], list[bool], tuple[str, ...]]


def plain_samples(count: int) -> list[Plain]:
    """Samples as a list: id, ids with pictures unfolded, what is learned, pictures."""
    draw = random.Random(0)
    made: list[Plain] = []
    for number in range(count):
        pictures = tuple(f"/p/{draw.randrange(6)}.png" for _ in range(draw.choice([0, 1, 1, 1, 2, 3])))
        ids: list[int] = []
        for _ in pictures:
            ids += [draw.randrange(10, 99) for _ in range(draw.randrange(3))] + [IMAGE] * LENGTH
        ids += [draw.randrange(10, 99) for _ in range(1 + draw.randrange(8))]
        learned = [place == len(ids) - 1 or (token != IMAGE and draw.random() < 0.3) for place, token in enumerate(ids)]
        made.append((f"s{number}\ud800" if number == 3 else f"s{number}", ids, learned, pictures))
    return made


def encoded(sample: Plain, number: int) -> EncodedSample:
    identity, ids, learned, pictures = sample
    folded: list[int] = []
    place = 0
    while place < len(ids):
        folded.append(-1 - ids[place] if learned[place] else ids[place])
        place += LENGTH if ids[place] == IMAGE else 1
    return EncodedSample(
        id=identity,
        where=f"data.jsonl:{number}",
        tokens=numpy.asarray(folded, dtype="<i4").tobytes(),
        length=len(ids),
        prefix=0,
        supervised=sum(learned[1:]),
        pictures=pictures,
    )


def write(target: Path, samples: list[Plain]) -> ExampleStore:
    with new_store(target, image_token=IMAGE, image_length=LENGTH) as writer:
        writer.fault(Fault(where="data.jsonl:0", reason="turn 2: empty answer", record_id=None))
        for number, sample in enumerate(samples, start=1):
            writer.add(encoded(sample, number))
    store = open_store(target)
    assert store is not None
    return store


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    samples = plain_samples(60)
    store = write(tmp_path / "store", samples)
    assert len(store) == 60
    for number, (identity, ids, learned, pictures) in enumerate(samples):
        found, flags = store.tokens(number)
        assert (found.dtype, flags.dtype) == (numpy.int32, numpy.bool_)
        assert (found.tolist(), flags.tolist(), store.ids[number]) == (ids, learned, identity)
        assert tuple(store.pictures[one] for one in store.picture_numbers(number)) == pictures
    assert list(store.pictures) == list(dict.fromkeys(path for *_, pictures in samples for path in pictures))
    assert [(fault.where, fault.reason) for fault in store.faults()] == [("data.jsonl:0", "turn 2: empty answer")]


def test_samples_have_one_key_where_they_have_the_same_pictures_in_the_same_order(tmp_path: Path) -> None:
    samples = plain_samples(60)
    keys = write(tmp_path / "store", samples).columns["picture_key"].tolist()
    for key, (*_, pictures) in zip(keys, samples, strict=True):
        assert (key == -1) == (not pictures)
        for other_key, (*_, other) in zip(keys, samples, strict=True):
            assert (key == other_key) == (pictures == other)


@pytest.mark.parametrize("samples", [0, 1])
def test_few_samples_and_no_picture(samples: int, tmp_path: Path) -> None:
    store = write(tmp_path / "store", [("a", [11, 12], [False, True], ())][:samples])
    assert (len(store), len(store.pictures), store.columns["picture_key"].tolist()) == (samples, 0, [-1] * samples)


@pytest.mark.parametrize("name", ["tokens.bin", "rows.bin", "references.bin", "pictures.texts", "ids.ends"])
def test_a_torn_store_is_none_and_is_made_anew(name: str, tmp_path: Path) -> None:
    samples = plain_samples(9)
    write(tmp_path / "store", samples)
    torn = tmp_path / "store" / name
    torn.write_bytes(torn.read_bytes()[:-1])
    assert open_store(tmp_path / "store") is None
    store = write(tmp_path / "store", samples)
    assert store.tokens(8)[0].tolist() == samples[8][1]
    torn.unlink()
    assert open_store(tmp_path / "store") is None


@pytest.mark.parametrize("head", ["", "[]", "{", '{"format": 0}', '{"format": 1, "sizes": {}}'])
def test_a_store_without_its_head_is_none(head: str, tmp_path: Path) -> None:
    write(tmp_path / "store", plain_samples(2))
    (tmp_path / "store" / "store.json").write_text(head)
    assert open_store(tmp_path / "store") is None


def test_nothing_is_left_where_writing_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_store(tmp_path / "store", image_token=IMAGE, image_length=LENGTH) as one:
        one.add(encoded(plain_samples(1)[0], 1))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_the_same_store_do_not_disturb_each_other(tmp_path: Path) -> None:
    samples = plain_samples(9)
    with new_store(tmp_path / "store", image_token=IMAGE, image_length=LENGTH) as slow:
        slow.add(encoded(samples[0], 1))
        store = write(tmp_path / "store", samples)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert store.tokens(8)[0].tolist() == samples[8][1]


def test_an_opened_store_outlives_its_folder(tmp_path: Path) -> None:
    samples = plain_samples(9)
    store = write(tmp_path / "store", samples)
    shutil.rmtree(tmp_path / "store")
    assert store.tokens(8)[0].tolist() == samples[8][1]
    assert store.ids[8] == "s8"


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot be kept here: No space left on device\n  Set LLAVAMED_CACHE"):
        write(tmp_path / "cache" / "store", plain_samples(2))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be kept here"):
        write(tmp_path / "cache" / "store", plain_samples(2))


def age(path: Path, days: float) -> None:
    moment = time.time() - days * 24 * 3600
    os.utime(path, (moment, moment))


def test_old_stores_and_remains_go_when_another_is_made(tmp_path: Path) -> None:
    for name in ("old", "used", "new"):
        write(tmp_path / name, plain_samples(2))
    for name in ("old", "used"):
        age(tmp_path / name / "store.json", store_writer.DAYS_KEPT + 1)
    open_store(tmp_path / "used")
    for name, days in ((".x.1.part", 2.0), (".y.1.part", 0.1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / example_store.TOKENS).write_bytes(b"")
        age(tmp_path / name / example_store.TOKENS, days)
    (tmp_path / "someone's").mkdir()
    write(tmp_path / "another", plain_samples(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".y.1.part", "another", "new", "someone's", "used"]


def test_reasons_are_counted_by_kind(tmp_path: Path) -> None:
    def reasons() -> Iterator[str]:
        yield from (f"{number} tokens, more than the model's context of 2048" for number in range(2049, 2060))
        yield "turn 2: the text holds the model's control token '<|im_end|>'"
        yield from ("abc"[place % 3] * place for place in range(1, 200))

    with new_store(tmp_path / "store", image_token=IMAGE, image_length=LENGTH) as writer:
        for reason in reasons():
            writer.fault(Fault(where="x", reason=reason))
    counted = json.loads((tmp_path / "store" / "store.json").read_text())["reasons"]
    assert counted["… tokens, more than the model's context of …"] == 11
    assert counted["turn …: the text holds the model's control token '<|im_end|>'"] == 1
    assert len(counted) == store_writer.KINDS_COUNTED + 1
    assert sum(counted.values()) == 11 + 1 + 199
