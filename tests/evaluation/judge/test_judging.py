from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import DataError, EndpointError, UsageError
from llavamed_cli.evaluation.judge.judging import check_judge
from llavamed_cli.evaluation.judge.options import JudgeOptions, name_judge
from llavamed_cli.evaluation.judge.rescore import rescore

Judge = Callable[..., Any]
REVIEWS = "reviews.jsonl"


@pytest.fixture
def results(question: Any, answered: Any) -> dict[str, dict[str, Any]]:
    """Six open questions on three figures, and a closed one; "tuned" is worse than the reference, "blind" worst."""
    questions = [question(number) for number in range(6)]
    questions.append(question(6, answer_type="closed", answer="yes"))
    return {"chat": {"tuned": answered(questions, lambda number: 3.5), "blind": answered(questions, lambda number: 2)}}


def reviews_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / REVIEWS).read_text().splitlines()]


def test_every_pair_in_both_orders_at_temperature_0(
    serve: Any, judge: Judge, results: Any, known_judge: Any, tmp_path: Path
) -> None:
    server = serve()
    server.reply = known_judge(bonus=1)
    judged = judge(server, results).by_benchmark["chat"]

    pairs = [(pair["first"], pair["second"]) for pair in judged["pairs"]]
    assert pairs == [("reference answer", "tuned"), ("reference answer", "blind"), ("tuned", "blind")]
    assert judged["questions"] == 6 and judged["reviews"]["n"] == len(server.bodies) == 6 * 3 * 2
    assert {body["temperature"] for body in server.bodies.values()} == {0}
    assert judged["pairs"][2]["corrected"]["relative"]["value"] == pytest.approx(100 * 2.5 / 4)
    assert judged["pairs"][2]["published"]["relative"]["value"] == pytest.approx(100 * 2 / 4.5)
    assert judged["position"]["first_wins"]["value"] == 50, "all pairs are too far apart for this bias to decide one"
    assert judged["pairs"][2]["by"]["modality"]["mri"]["n"] == 3

    stored = rescore(tmp_path / REVIEWS, seed=0).scores["benchmarks"]["chat"]["judge"]
    assert stored == {name: judged[name] for name in stored}, "stored reviews give the same scores without a server"
    rows = reviews_in(tmp_path)
    assert [row["assistant_1"] for row in rows[:2]] == ["reference answer", "tuned"]
    assert rows[0]["type"] == "conversation" and rows[0]["domain"]["chest_xray"] is True


def test_an_unreadable_review_is_asked_for_once_more(
    serve: Any, judge: Judge, results: Any, known_judge: Any, tmp_path: Path
) -> None:
    server, good = serve(), known_judge()

    def reply(body: dict[str, Any]) -> str:
        prompt, again = body["messages"][0]["content"], len(body["messages"]) > 1
        if "figure 1?" in prompt:
            return "Both are fine."
        if "figure 2?" in prompt and not again:
            return "Assistant 1 deserves 8 and Assistant 2 deserves 4."
        return str(good(body))

    server.reply = reply
    results["chat"].pop("blind")
    judged = judge(server, results).by_benchmark["chat"]
    assert judged["reviews"]["retried"] == 4 and judged["reviews"]["unreadable"] == 2
    assert sum(server.sent.values()) == 6 * 2 + 4, "each of the four once more, and no more"
    retried = [body for body in server.bodies.values() if len(body["messages"]) > 1]
    assert [message["role"] for message in retried[0]["messages"]] == ["user", "assistant", "user"]
    assert judged["pairs"][0]["corrected"]["n"] == 5
    unreadable = [row for row in reviews_in(tmp_path) if row["question_id"] == "q1"]
    assert [row["gpt_eval"] for row in unreadable] == ["Both are fine."] * 2

    sent = sum(server.sent.values())
    assert judge(server, results).by_benchmark["chat"] == judged
    assert sum(server.sent.values()) == sent, "the second time all is in the journal, also what could not be read"


def test_a_refusal_is_not_asked_again(
    serve: Any, openai_server: Any, judge: Judge, results: Any, known_judge: Any
) -> None:
    def script(body: dict[str, Any], times: int) -> Any:
        if "figure 1?" in body["messages"][0]["content"]:
            return openai_server.error(400, "not allowed", code="content_policy_violation")
        return None

    server = serve(script)
    server.reply = known_judge()
    judged = judge(server, results).by_benchmark["chat"]
    assert judged["reviews"] == {"n": 36, "retried": 0, "unreadable": 6, "reasons": {"the model refused": 6}}


def test_the_budget_is_kept_and_a_larger_one_goes_on(
    serve: Any, judge: Judge, results: Any, known_judge: Any, tmp_path: Path
) -> None:
    server = serve()
    server.reply = known_judge()
    with pytest.raises(EndpointError, match=r"--judge-budget: the budget of .* are left") as fault:
        judge(server, results, budget=0.02)
    assert "larger --judge-budget" in str(fault.value)
    assert 0 < len(server.charges) < 36 and server.cost(2, 8) <= 0.02
    assert not (tmp_path / REVIEWS).exists(), "the reviews are complete or absent"
    judge(server, results, budget=2)
    assert set(server.charged().values()) == {1} and len(server.charged()) == 36


def test_a_server_that_dies_half_way_loses_nothing(
    serve: Any, openai_server: Any, judge: Judge, results: Any, known_judge: Any
) -> None:
    server = serve()
    server.reply = known_judge()
    server.script = lambda body, times: openai_server.error(503, "dying") if len(server.charges) >= 10 else None
    with pytest.raises(EndpointError, match="gave up after 4 tries"):
        judge(server, results, concurrency=1)
    assert len(server.charges) == 10
    server.script = lambda body, times: None
    assert judge(server, results).by_benchmark["chat"]["reviews"]["unreadable"] == 0
    assert set(server.charged().values()) == {1} and len(server.charged()) == 36


def test_without_an_open_question_nothing_is_asked(serve: Any, judge: Judge, question: Any, answered: Any) -> None:
    server = serve()
    closed = answered([question(0, answer_type="closed", answer="yes")], lambda number: 4)
    assert judge(server, {"rad": {"tuned": closed}}).by_benchmark == {}
    assert not server.sent


def test_what_stops_a_judge_is_found_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="--judge-base-url"):
        check_judge(JudgeOptions(name="gpt-4o"))
    with pytest.raises(UsageError, match=r"--judge-budget cannot be kept(.|\n)*--judge-price"):
        check_judge(JudgeOptions(name="own", base_url="http://127.0.0.1:1/v1", budget=1.0))
    with pytest.raises(UsageError, match="above 0"):
        JudgeOptions(name="gpt-4o", budget=0.0)
    assert name_judge("openai:gpt-4o") == name_judge("gpt-4o") == "gpt-4o"
    with pytest.raises(UsageError, match="names no model"):
        name_judge("openai:")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question_id": 1, "gpt_eval": 8}', "`gpt_eval` is no text"),
        ('{"question_id": 1, "tuple": [8]}', "`tuple` is not two numbers"),
        ('{"question_id": 1, "tuple": [8, true]}', "`tuple` is not two numbers"),
        ('{"gpt_eval": "8 9"}', "no `question_id`"),
        ('{"question_id": 1, "gpt_eval": "8 9", "pair": ["a"]}', "`pair` is not two names"),
        ('{"question_id": 1, "gpt_eval": "8 9", "pair": ["a", "b"], "assistant_1": "c"}', "neither of `pair`"),
        ("[8, 9]", "expected an object"),
        ("{", "not JSON"),
    ],
)
def test_a_line_that_is_no_review_is_named_and_set_aside(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text(f'{line}\n{{"question_id": 7, "gpt_eval": "8 4\\nWhy."}}\n')
    again = rescore(file, seed=0)
    assert [fault.where for fault in again.faults] == [f"{file}:1"] and said in again.faults[0].reason
    assert again.kept == 1 and "50.0" in again.text


@pytest.mark.parametrize("stored", ["[NaN, 5]", "[Infinity, 5]", "[0, 0]", "[1e308, 1e308]", "[-1, -1]"])
def test_strange_stored_ratings_are_counted_and_harm_nothing(tmp_path: Path, stored: str) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text(f'{{"question_id": 1, "tuple": {stored}}}\n{{"question_id": 2, "tuple": {stored}}}\n')
    again = rescore(file, seed=0)
    assert "2 of 2 reviews cannot be read" in again.text
    json.dumps(again.scores, allow_nan=False)


def test_a_review_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text('{"question_id": 7, "gpt_eval": "8 4"}\n' * 2)
    with pytest.raises(DataError, match=r"reviews.jsonl:2: question 7 is reviewed twice, first in line 1"):
        rescore(file, seed=0)


def test_a_file_without_reviews_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text("")
    with pytest.raises(DataError, match="no line is a review"):
        rescore(file, seed=0)
