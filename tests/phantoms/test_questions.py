"""Answers agree with the truth, and nobody who does not look can answer a closed question better than a coin.

Bounds are 4.5 standard deviations of a fair coin, widened where many pairs are looked at.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from llavamed_cli.phantoms import Phantom, PhantomQuestion, draw_phantoms, questions

MANY = 8000
Conversation = tuple[PhantomQuestion, ...]
NAMES = {"X-ray": "X-ray", "CT scan": "CT", "MRI scan": "MRI", "histology slide": "histology"}
ORGANS = {"chest": "X-ray", "abdomen": "CT", "brain": "MRI", "tissue": "histology"}


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return list(draw_phantoms(MANY, split="train", seed=7))


@pytest.fixture(scope="module")
def conversations(phantoms: list[Phantom]) -> list[Conversation]:
    return [questions(phantom) for phantom in phantoms]


def read(phantom: Phantom, text: str) -> str:
    """The answer to a question, found from its words and the truth alone: written apart from what is tested."""
    truth = phantom.truth
    if "scale bar" in text:
        return "yes" if truth.scale_bar else "no"
    if text in ("What kind of image is this?", "What type of image is this?"):
        return {modality: name for name, modality in NAMES.items()}[phantom.modality]
    if text in ("What part of the body is this?", "What is imaged?"):
        return {modality: organ for organ, modality in ORGANS.items()}[phantom.modality]
    for word, modality in (NAMES | ORGANS).items():
        if word in text:
            return "yes" if modality == phantom.modality else "no"
    if "abnormal" in text:
        return " and ".join(f.name for f in truth.findings) or "none"
    name = "mass" if "mass" in text else "cyst"
    finding = truth.finding(name)  # type: ignore[arg-type]
    if re.fullmatch(rf"Is (there a {name}|a {name} seen)\?", text):
        return "yes" if finding else "no"
    assert finding is not None, text
    if text.startswith("How many"):
        return {1: "one", 2: "two"}[finding.count]
    if text.startswith("What size"):
        return finding.size
    if "side" in text:
        return finding.side
    asked = next(word for word in ("left", "right", "small", "large") if word in text)
    return "yes" if asked in (finding.side, finding.size) else "no"


def test_every_answer_is_the_truth(phantoms: list[Phantom], conversations: list[Conversation]) -> None:
    for phantom, conversation in zip(phantoms, conversations, strict=True):
        for question in conversation:
            assert question.answer == read(phantom, question.text), (phantom.id, question)
            assert (question.answer_type == "closed") == (question.answer in ("yes", "no"))


def test_questions_are_the_same_each_time_and_short(phantoms: list[Phantom], conversations: list[Conversation]) -> None:
    assert [questions(phantom) for phantom in phantoms[:50]] == conversations[:50]
    assert all(len(question.text) <= 45 for conversation in conversations for question in conversation)
    assert len({question.text for conversation in conversations for question in conversation}) == TEXTS


TEXTS = 56
"""How many different questions there are: few enough for a tiny model to learn to read."""


def test_conversations_have_about_four_closed_and_one_or_two_open_questions(conversations: list[Conversation]) -> None:
    closed = [sum(q.answer_type == "closed" for q in conversation) for conversation in conversations]
    lengths = [len(conversation) for conversation in conversations]
    assert 3.5 < np.mean(closed) < 4.5
    assert 1.2 < np.mean(lengths) - np.mean(closed) < 2.2
    assert (min(lengths), max(lengths)) == (3, 6)


def test_every_closed_text_is_a_fair_coin(conversations: list[Conversation]) -> None:
    asked: Counter[str] = Counter()
    yes: Counter[str] = Counter()
    for question in closed_turns(conversations):
        asked[question.text] += 1
        yes[question.text] += question.answer == "yes"
    assert min(asked.values()) > 100
    for text, n in asked.items():
        assert abs(yes[text] - n / 2) < 4.5 * n**0.5 / 2, (text, yes[text], n)


def test_no_earlier_turn_moves_the_coin(conversations: list[Conversation]) -> None:
    """For each closed question and each turn before it (its words and its answer): still a fair coin."""
    asked: Counter[tuple[str, str, str]] = Counter()
    yes: Counter[tuple[str, str, str]] = Counter()
    for conversation in conversations:
        for i, question in enumerate(conversation):
            if question.answer_type == "open":
                continue
            for earlier in conversation[:i]:
                key = (question.text, earlier.text, earlier.answer)
                asked[key] += 1
                yes[key] += question.answer == "yes"
    often = {key: n for key, n in asked.items() if n >= 20}
    assert len(often) > 500
    for key, n in often.items():
        assert abs(yes[key] - n / 2) < 5 * n**0.5 / 2, (key, yes[key], n)


def test_no_whole_history_moves_the_coin(conversations: list[Conversation]) -> None:
    """Guess each closed answer by the majority after the same history (types and answers) in other conversations."""
    seen: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    right = total = 0
    for half, group in enumerate((conversations[: MANY // 2], conversations[MANY // 2 :])):
        for conversation in group:
            history: tuple[object, ...] = ()
            for question in conversation:
                words = re.sub(r"^(Is there|Does this show|Is this) | seen| shown", "", question.text)
                key = (*history, words)
                if question.answer_type == "closed" and half == 0:
                    seen[key][question.answer] += 1
                elif question.answer_type == "closed" and seen[key]:
                    right += question.answer == seen[key].most_common(1)[0][0]
                    total += 1
                history = (*history, words, question.answer)
    assert total > 3000
    assert abs(right - total / 2) < 4.5 * total**0.5 / 2, (right, total)


def test_the_question_alone_does_not_tell_what_the_picture_tells(conversations: list[Conversation]) -> None:
    """A least-squares reader of the words (letter pairs), fitted on half, stays at chance on the other half."""
    turns = closed_turns(conversations)[:6000]
    pairs = sorted({q.text[i : i + 2] for q in turns for i in range(len(q.text) - 1)})
    counts = np.array([[q.text.count(pair) for pair in pairs] for q in turns], dtype=float)
    answers = np.array([1.0 if q.answer == "yes" else -1.0 for q in turns])
    weights = np.linalg.lstsq(counts[:3000], answers[:3000], rcond=None)[0]
    accuracy = float(((counts[3000:] @ weights > 0) == (answers[3000:] > 0)).mean())
    assert abs(accuracy - 0.5) < 4.5 * 0.5 / 3000**0.5


def closed_turns(conversations: list[Conversation]) -> list[PhantomQuestion]:
    return [question for conversation in conversations for question in conversation if question.answer_type == "closed"]
