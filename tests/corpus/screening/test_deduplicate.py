from __future__ import annotations

import random
from pathlib import Path

import pytest

from llavamed_cli.corpus.screening.deduplicate import MIN_CAPTION_WORDS, NEAR, Duplicate, Seen, normalise_caption
from llavamed_cli.corpus.screening.picture_hash import BITS
from llavamed_cli.errors import LlavamedError

CAPTION = "Axial CT of the chest shows a round nodule in the left upper lobe."


def digest(number: int) -> str:
    return f"{number:064x}"


def turn(hash: int, bits: int, rng: random.Random) -> int:
    for bit in rng.sample(range(BITS), bits):
        hash ^= 1 << bit
    return hash


def test_the_same_bytes_picture_or_caption_name_the_first_record(tmp_path: Path) -> None:
    rng = random.Random(0)
    one, other = rng.getrandbits(BITS), rng.getrandbits(BITS)
    with Seen(tmp_path / "seen.sqlite") as seen:
        assert seen.add("a", digest(1), (one,), CAPTION) is None
        assert seen.add("b", digest(1), (other,), "another caption") == Duplicate("a", "bytes")
        assert seen.add("c", digest(2), (turn(one, 5, rng),), "another caption") == Duplicate("a", "picture", 5)
        shouted = f"  {CAPTION.upper().replace(' ', '  ')}!"
        assert seen.add("d", digest(2), (other,), shouted) == Duplicate("a", "caption")
        assert seen.add("e", digest(2), (other,), None) is None
        assert seen.find(digest(2), (one,), CAPTION) == Duplicate("e", "bytes")


def test_a_repeated_record_is_not_remembered(tmp_path: Path) -> None:
    rng = random.Random(0)
    one = rng.getrandbits(BITS)
    with Seen(tmp_path / "seen.sqlite") as seen:
        seen.add("a", digest(1), (one,), None)
        seen.add("b", digest(1), (~one & (1 << BITS) - 1,), CAPTION)
        assert seen.find(digest(3), (~one & (1 << BITS) - 1,), CAPTION) is None


def test_any_views_may_be_the_near_ones(tmp_path: Path) -> None:
    rng = random.Random(0)
    hashes = [rng.getrandbits(BITS) for _ in range(5)]
    with Seen(tmp_path / "seen.sqlite") as seen:
        seen.add("a", digest(1), (hashes[0], hashes[1]), None)
        found = seen.find(digest(2), (hashes[2], turn(hashes[1], 7, rng)), None)
        assert found == Duplicate("a", "picture", 7)


def test_a_picture_without_a_hash_is_compared_by_bytes_and_caption(tmp_path: Path) -> None:
    with Seen(tmp_path / "seen.sqlite") as seen:
        assert seen.add("a", digest(1), (), CAPTION) is None
        assert seen.add("b", digest(2), (), None) is None
        assert seen.find(digest(3), (), CAPTION) == Duplicate("a", "caption")


def test_the_search_finds_what_a_scan_finds(tmp_path: Path) -> None:
    """Against every stored hash in turn: clusters of hashes, and queries at all distances about the limit."""
    rng = random.Random(1)
    stored: list[int] = []
    with Seen(tmp_path / "seen.sqlite") as seen:
        for number in range(200):
            near_another = stored and rng.random() < 0.5
            hash = turn(rng.choice(stored), rng.randint(NEAR + 1, 40), rng) if near_another else rng.getrandbits(BITS)
            if seen.add(str(number), digest(number), (hash,), None) is None:
                stored.append(hash)
        for number in range(600):
            query = turn(rng.choice(stored), number % 32, rng)
            nearest = min((query ^ hash).bit_count() for hash in stored)
            found = seen.find(digest(10_000), (query,), None)
            assert (found.bits if found else None) == (nearest if nearest <= NEAR else None)


def test_every_split_of_the_limit_over_the_parts_is_found(tmp_path: Path) -> None:
    """23 bits spread as evenly as can be: one bit in one part, two in each other, wherever the parts begin."""
    rng = random.Random(2)
    hash = rng.getrandbits(BITS)
    with Seen(tmp_path / "seen.sqlite") as seen:
        seen.add("a", digest(1), (hash,), None)
        for start in range(BITS):
            query = hash
            for step in range(NEAR):
                query ^= 1 << (start + step * BITS // NEAR) % BITS
            assert seen.find(digest(2), (query,), None) == Duplicate("a", "picture", NEAR)


def test_captions_are_compared_by_their_words() -> None:
    assert normalise_caption("The  Ⅳ ventricle (arrow), T2-weighted.") == "the iv ventricle arrow t2 weighted"
    assert normalise_caption("Caf\u00e9") == normalise_caption("CAFE\u0301")


def test_a_short_caption_belongs_to_many_pictures(tmp_path: Path) -> None:
    words = CAPTION.split()
    rng = random.Random(0)
    with Seen(tmp_path / "seen.sqlite") as seen:
        for count, repeated in ((MIN_CAPTION_WORDS - 1, False), (MIN_CAPTION_WORDS, True)):
            caption = " ".join(words[:count])
            assert seen.add(f"{count}", digest(count), (rng.getrandbits(BITS),), caption) is None
            again = seen.add("again", digest(100 + count), (rng.getrandbits(BITS),), caption)
            assert (again == Duplicate(f"{count}", "caption")) is repeated


def test_a_scratch_file_begins_empty_and_a_full_disk_is_told(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "seen.sqlite"
    for _ in range(2):
        with Seen(file) as seen:
            assert seen.add("a", digest(1), (1 << 200,), None) is None
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises((LlavamedError, OSError)):
        Seen(tmp_path / "folder.sqlite")
    with Seen(file) as seen, pytest.raises(LlavamedError, match="cannot be kept there"):
        seen._database.execute("PRAGMA max_page_count = 100")
        rng = random.Random(0)
        for number in range(1_000):
            seen.add("a" * 1000, digest(number), (rng.getrandbits(BITS),), None)
