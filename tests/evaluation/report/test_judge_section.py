"""What report.html says of a judge: every pair and stratum of scores.json, its prompt, and its name as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from PIL import Image

CHAT = 8
JUDGE = "<b>judge</b>"


@pytest.fixture
def judged(
    serve: Callable[..., Any], llavamed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], html.HtmlElement]:
    """What scores.json has of the judge, and the page, of eight questions; the judge will not rate the last."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    questions, answers = [], []
    for number in range(CHAT):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number // 2}.jpg")
        asked = {"question_id": number, "image": f"{number // 2}.jpg", "text": f"What is seen in figure {number}?"}
        kind = {"type": ("conversation", "detailed <i>")[number % 2], "domain": {"mri": True}}
        questions.append({**asked, **kind, "gpt4_answer": f"A nodule of {number} mm.", "fig_caption": "Axial CT."})
        answers.append({"question_id": number, "text": f"Something of {number} mm."})
    for name, records in (("chat", questions), ("said", answers)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    server = serve()
    last = f"A nodule of {CHAT - 1} mm."
    server.reply = lambda body: "<script>4</script>" if last in str(body["messages"]) else "8 6\nBecause."
    on = ["--on", f"llava-med-chat:{tmp_path / 'chat.jsonl'}", "--out", tmp_path / "out"]
    judge = [
        "--judge",
        f"openai:{JUDGE}",
        "--judge-base-url",
        server.url,
        "--judge-price",
        "2,8",
        "--judge-budget",
        "3",
    ]
    outcome = llavamed("eval", f"answers:{tmp_path / 'said.jsonl'}", *on, *judge)
    assert outcome.code == 0, outcome.stderr
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return scores["benchmarks"]["llava-med-chat"]["judge"], html.document_fromstring(page)


def test_every_pair_and_stratum_is_there(judged: tuple[dict[str, Any], html.HtmlElement]) -> None:
    judge, tree = judged
    (table,) = tree.xpath("//div[@aria-label='The judge on llava-med-chat']/table")
    (pair,), (body,) = judge["pairs"], table.xpath("./tbody")
    rows = body.xpath("./tr")
    names = [f"{name.replace('_', ' ')}: {value}" for name, groups in pair["by"].items() for value in groups]
    groups = [pair, *(group for own in pair["by"].values() for group in own.values())]
    assert [row.xpath("./th[@scope='row']")[0].text for row in rows] == ["all", *names]
    assert "question type: detailed <i>" in names
    (heading,) = body.xpath(".//th[@scope='rowgroup']")
    assert int(heading.get("rowspan")) == len(groups)
    for row, group in zip(rows, groups, strict=True):
        n, *cells = (cell.text_content() for cell in row.xpath("./td"))
        assert int(n) == group["n"]
        # The judge always says "8 6": 6 to the reference's 8 as published; with both orders 7 to 7, a tie.
        assert [float(cell.split()[0]) for cell in cells] == [75.0, 100.0, 50.0]


def test_its_name_prompt_and_failures_are_said(judged: tuple[dict[str, Any], html.HtmlElement]) -> None:
    judge, tree = judged
    text = tree.text_content()
    assert any(heading.text_content() == f"The judge: {JUDGE}" for heading in tree.xpath("//h3"))
    assert not tree.xpath("//b[text()='judge'] | //i | //script")
    assert judge["prompt"]["instruction"] in text and judge["prompt"]["reminder"] in text
    assert judge["reviews"]["unreadable"] == 2 and "2 of 16 reviews cannot be read" in " ".join(text.split())
