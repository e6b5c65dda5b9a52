"""Prompts divided into what they share and what they do not: nothing lost, nothing beyond its room."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.model.stems import LEAST_BRANCHES, AskedRow, common_length, fill, grow_stems, rows_of

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
asked = st.lists(st.builds(AskedRow, ids=tokens, pictures=st.sampled_from([(), (0,), (1,), (0, 1)])), max_size=12)


@given(st.lists(tokens, min_size=1, max_size=6))
def test_the_common_prefix_is_what_all_columns_say_and_leaves_each_a_token(rows: list[tuple[int, ...]]) -> None:
    alike = list(takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    expected = 0 if len(rows) == 1 else min(len(alike), min(map(len, rows)) - 1)
    assert common_length(rows) == expected


@given(asked, st.integers(1, 80), st.integers(0, 9))
def test_every_prompt_is_put_together_again(rows: list[AskedRow], most: int, new_tokens: int) -> None:
    stems = grow_stems(rows, most=most, new_tokens=new_tokens)
    found = {
        number: AskedRow((*stem.prefix, *branch), stem.pictures)
        for stem in stems
        for number, branch in zip(stem.members, stem.branches, strict=True)
    }
    assert [found[number] for number in range(len(rows))] == rows
    assert sum(len(stem.members) for stem in stems) == len(rows)
    for stem in stems:
        assert all(stem.branches)
        assert len(stem.members) == 1 or stem.kept(new_tokens) <= most
        for half in stem.halves() if len(stem.members) > 1 else ():
            assert half.prefix == stem.prefix
        if len(stem.members) > 1:
            first, second = stem.halves()
            assert first.members + second.members == stem.members
            assert first.branches + second.branches == stem.branches


def test_questions_about_a_picture_share_it_and_many_blind_ones_do_not_crowd() -> None:
    prefix = tuple(range(600))
    (stem,) = grow_stems([AskedRow((*prefix, n, 7), (0,)) for n in range(60)], most=10**6, new_tokens=9)
    assert (stem.prefix, len(stem.branches)) == (prefix, 60)
    blind = grow_stems([AskedRow((1, 2, *range(n, n + 20))) for n in range(3, 63)], most=10**6, new_tokens=9)
    assert len(blind) > 1
    assert max(stem.tokens - len(stem.prefix) for stem in blind) <= LEAST_BRANCHES


@given(asked, st.integers(1, 200), st.integers(1, 60))
def test_batches_and_rows_keep_within_their_room(rows: list[AskedRow], most: int, read: int) -> None:
    stems = grow_stems(rows, most=most, new_tokens=4)
    batches = fill(stems, most=most, new_tokens=4)
    assert sorted(stem.members for batch in batches for stem in batch) == sorted(stem.members for stem in stems)
    for batch in batches:
        kept = [stem.kept(4) for stem in batch]
        assert kept == sorted(kept)
        assert len(batch) == 1 or len(batch) * kept[-1] <= most
        laid = rows_of(batch, most=read)
        assert [number for row in laid for number in row] == list(range(len(batch)))
        assert all(len(row) == 1 or sum(batch[number].tokens for number in row) <= read for row in laid)
