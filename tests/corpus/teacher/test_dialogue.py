from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.teacher.dialogue import (
    EMPTY_TURN,
    NO_ANSWER,
    NO_DIALOGUE,
    NO_QUESTION,
    REPEATED,
    parse_dialogue,
    read_dialogue,
)
from llavamed_cli.corpus.teacher.grounding import NUMBER
from llavamed_cli.corpus.teacher.prompts import write_dialogue
from llavamed_cli.records import Figure, Source

TWO = [("What is it?", "It is a CT."), ("Where?", "In the lung.")]


@pytest.mark.parametrize(
    "text",
    [
        "User: What is it?\n\nAssistant: It is a CT.\n\nUser: Where?\n\nAssistant: In the lung.",
        "User: What is it?\r\nAssistant: It is a CT.\r\nUser: Where?\r\nAssistant: In the lung.\r\n",
        "Sure! Here it is:\n\nUser: What is it?\nAssistant: It is a CT.\nUser: Where?\nAssistant: In the lung.",
        "**User:** What is it?\n**Assistant:** It is a CT.\n\n**User**: Where?\n\n**Assistant**: In the lung.",
        "**User: What is it?**\nAssistant: It is a CT.\n**User: Where?**\nAssistant: *In the lung.*",
        "```text\nUser: What is it?\nAssistant: It is a CT.\nUser: Where?\nAssistant: In the lung.\n```",
        "1. User: What is it?\n   Assistant: It is a CT.\n\n2. User: Where?\n   Assistant: In the lung.",
        "- User: What is it?\n- Assistant: It is a CT.\n---\n- User: Where?\n- Assistant: In the lung.",
        "### User 1:\nWhat is it?\n### Assistant 1:\nIt is a CT.\n### User 2:\nWhere?\n### Assistant 2:\nIn the lung.",
        "> user: What is it?\n> ASSISTANT: It is a CT.\n> Human: Where?\n> assistant : In the lung.",
        "Q: What is it?\nA: It is a CT.\nQ: Where?\nA: In the lung.",
        "Question: What is it?\nAnswer: It is a CT.\nQuestion: Where?\nAnswer: In the lung.",
        "User: What is it? Assistant: It is a CT. User: Where? Assistant: In the lung.",
        "User: < image >\nWhat is it?\nAssistant: It is a CT.\nUser: Where? <im<image>age>\nAssistant: In the lung.",
    ],
)
def test_a_conversation_is_read_in_every_form_that_models_write(text: str) -> None:
    assert parse_dialogue(text) == (TWO, [])


@pytest.mark.parametrize(
    ("text", "exchanges", "reasons"),
    [
        ("", 0, [NO_DIALOGUE]),
        ("I am sorry, but I cannot.", 0, [NO_DIALOGUE]),
        ('[{"role": "user", "content": "What?"}]', 0, [NO_DIALOGUE]),
        ("The user asks: what? The assistant: a CT.", 0, [NO_DIALOGUE]),
        ("User: One?\nUser: Two?\nAssistant: Yes.", 1, [NO_ANSWER]),
        ("User: One?\nAssistant: Yes.\nUser: Two?", 1, [NO_ANSWER]),
        ("Assistant: Hello.\nUser: One?\nAssistant: Yes.\nAssistant: And no.", 1, [NO_QUESTION, NO_QUESTION]),
        ("User: One?\nAssistant:\nUser: Two?\nAssistant: Yes.", 1, [EMPTY_TURN]),
        ("User: <image>\nAssistant: Yes.", 0, [EMPTY_TURN]),
        ("User: One?\nAssistant: A.\nUser: one?\nAssistant: B.", 1, [REPEATED]),
    ],
)
def test_what_is_no_exchange_is_dropped_with_its_reason(text: str, exchanges: int, reasons: list[str]) -> None:
    kept, drops = parse_dialogue(text)
    assert (len(kept), [drop.reason for drop in drops]) == (exchanges, reasons)


def test_panels_and_lines_stay_in_their_answer() -> None:
    text = "User: What is shown?\nAssistant: Two views:\n\nA: axial\nB: coronal"
    assert parse_dialogue(text)[0] == [("What is shown?", "Two views:\nA: axial\nB: coronal")]


WORDS = st.from_regex(r"[A-Za-z0-9 ,.?'()-]{0,40}[a-z]", fullmatch=True).map(lambda text: " ".join(text.split()))


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5, unique_by=lambda pair: pair[0].lower()))
def test_what_is_written_is_read_back(exchanges: list[tuple[str, str]]) -> None:
    assert parse_dialogue(write_dialogue(exchanges)) == (exchanges, [])


PIECES = ["User:", "Assistant:", "\n", " ", "<image>", "<", "im", "age>", "**", "x", "Q:", "A:"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_marker_comes_through_and_anything_is_read(text: str) -> None:
    exchanges, _ = parse_dialogue(text)
    for turn in (turn for exchange in exchanges for turn in exchange):
        assert not re.search(r"<\s*/?\s*image\s*>", turn)
        assert turn == turn.strip() and turn


def test_a_long_hostile_answer_is_read_in_time() -> None:
    for text in ("*" * 50_000, "1." * 50_000, "User: " * 20_000, "User:\n" * 20_000, "<image" * 20_000):
        parse_dialogue(text)


def test_reading_parses_and_checks(domain: Domain) -> None:
    figure = Figure(id="f", picture=Path("x"), caption="CT of a 5 cm mass in the liver.", source=Source(kind="pairs"))
    text = "User: What?\nAssistant: A mass of 50 mm in the liver.\nUser: How many?\nAssistant: There are 7.\nUser: So?"
    taught = read_dialogue(text, figure, domain)
    assert taught.exchanges == (("What?", "A mass of 50 mm in the liver."),)
    assert [drop.reason for drop in taught.drops] == [NO_ANSWER, NUMBER]
