"""The nearest training answer over an index of words is the one that a plain loop over all of them finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring.candidates import Candidates

answers = st.lists(st.lists(st.sampled_from("abcd"), max_size=4).map(" ".join), min_size=1, max_size=8)


@given(known=answers, said=st.lists(st.sampled_from("abcde"), max_size=5))
def test_equals_the_loop_over_all(known: list[str], said: list[str]) -> None:
    def share(candidate: str) -> float:
        wanted = {*candidate.split()}
        return len(wanted & {*said}) / len(wanted) if wanted else 0.0

    nearest = max(known, key=share)
    candidates = Candidates(known)
    assert candidates.nearest(said) == nearest
    assert all(candidates.is_nearest(answer, said) == (answer == nearest) for answer in [*known, "e f"])
