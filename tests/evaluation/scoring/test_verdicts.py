"""Which answers decide yes or no: by whole words and whole phrases, on SLAKE's own answers and on any text."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring.verdicts import asks_yes_or_no, yes_or_no


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes.", "yes"),
        ("no, it is not", "no"),
        ("There is no mass, yes", "no"),
        ("(no)", "no"),
        ("normal", "unparsed"),
        ("unknown", "unparsed"),
        ("yesterday", "unparsed"),
        ("no.5", "unparsed"),
        ("It is not.", "unparsed"),
        ("", "unparsed"),
        ("ＹＥＳ", "yes"),
        ("是的。", "yes"),
        ("是", "yes"),
        ("不是，肺部正常", "no"),
        ("图中没有异常", "unparsed"),
        ("没有", "no"),
        ("不包含肺", "no"),
        ("否", "no"),
        ("不正常", "unparsed"),
        ("异常", "unparsed"),
        ("是否存在", "unparsed"),
        ("有可能", "unparsed"),
        ("无异常", "no"),
        ("无法判断", "unparsed"),
        ("不知道", "unparsed"),
        ("肺, 是的", "yes"),
        ("答案：no", "no"),
    ],
)
def test_the_first_whole_word_or_phrase_decides(text: str, verdict: str) -> None:
    assert yes_or_no(text) == verdict


def test_only_an_answer_that_starts_with_it_asks_yes_or_no() -> None:
    assert asks_yes_or_no("No, it is not") == "no"
    assert asks_yes_or_no("there is no mass") == "unparsed"
    assert asks_yes_or_no("不可以") == "no"
    assert asks_yes_or_no("左侧, 是的") == "unparsed"


@given(st.text(max_size=20), st.text(max_size=20))
def test_abnormal_is_never_a_no(before: str, after: str) -> None:
    for word in ("abnormal", "normal", "unknown", "cannot", "diagnosis", "nodule"):
        assert yes_or_no(f"{before} {word} {after}") == yes_or_no(f"{before} x {after}")


@given(st.text(alphabet="yesno 是的不没有,。-", max_size=12))
def test_a_reference_that_asks_yes_or_no_is_answered_by_itself(text: str) -> None:
    if asks_yes_or_no(text) != "unparsed":
        assert yes_or_no(text) == asks_yes_or_no(text)


def test_slake_s_closed_answers_in_both_languages(shared: Path) -> None:
    """What SLAKE's 5,561 closed answers decide, looked through by hand: all that decide nothing name a choice."""
    with gzip.open(shared / "data" / "slake" / "train.json.gz", "rt", encoding="utf-8") as stream:
        records = json.load(stream)
    for name in ("validate.json", "test.json"):
        records += json.loads((shared / "data" / "slake" / name).read_text(encoding="utf-8"))
    closed = [record for record in records if record["answer_type"].strip() == "CLOSED"]
    left = Counter(one["answer"] for one in closed if asks_yes_or_no(one["answer"]) == "unparsed")
    decided = Counter(asks_yes_or_no(one["answer"]) for one in closed)
    assert (len(closed), decided["yes"], decided["no"]) == (5561, 2372, 2395)
    assert not [answer for answer in left if answer[0] in "是否没无有" or answer.lower() in ("yes", "no")]
    assert {answer for answer in left if "不" in answer} == {"不正常"}
