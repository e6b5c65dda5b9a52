"""LLaVA-Med's chat questions: what a judge needs is kept, and nothing is learned from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.benchmarks.llava_med_chat import read_llava_med_chat
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import FigureText

Make = Callable[..., Path]
ROW: dict[str, Any] = {
    "question_id": 0,
    "image": "1_F3.jpg",
    "pair_id": "1_F3",
    "text": "What is the organ in the image?\n<image>",
    "gpt4_answer": "The conjunctiva.",
    "fig_caption": "A cystic wall.",
    "in_text_mention": [{"tokens": "No cells ( Fig. 3 ) .", "entities": []}],
    "domain": {"chest_xray": False, "mri": False, "ct_scan": True, "histology": True, "gross": True},
    "type": "conversation",
    "fig_label": "Fig. 3",
}


def test_the_figures_text_the_type_and_the_first_domain_are_kept(tmp_path: Path, draw: Make, write: Make) -> None:
    draw("1_F3.jpg")
    other = {**ROW, "question_id": "1", "type": "detailed_description", "in_text_mention": ["Seen."], "domain": None}
    read = read_llava_med_chat(write("qa50.jsonl", ROW, other), tmp_path)
    first, second = read.questions
    assert first.figure == FigureText(label="Fig. 3", caption="A cystic wall.", mentions=("No cells ( Fig. 3 ) .",))
    assert (first.text, first.answer) == ("What is the organ in the image?", "The conjunctiva.")
    assert (first.modality, first.question_types, first.answer_type) == ("histology", ("conversation",), "open")
    assert second.modality is None and second.figure is not None and second.figure.mentions == ("Seen.",)
    assert read.judged and "published are 193 questions on 50 pictures" in read.notes[0]
    assert read.notes[1] == "Types: 1 conversation, 1 detailed_description."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question_id": 0}, "occurs twice"),
        ({"gpt4_answer": None}, "gpt4_answer must be text"),
        ({"fig_caption": " "}, "empty fig_caption"),
        ({"in_text_mention": "x"}, "must be a list"),
        ({"domain": "mri"}, "domain must be an object"),
        ({"image": "none.jpg"}, "is not in"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, draw: Make, write: Make, change: dict[str, Any], reason: str) -> None:
    draw("1_F3.jpg")
    read = read_llava_med_chat(write("qa50.jsonl", ROW, {**ROW, "question_id": 1, **change}), tmp_path)
    assert len(read.questions) == 1
    (fault,) = read.faults
    assert reason in fault.reason and fault.where.endswith("qa50.jsonl:2")


def test_nothing_is_learned_from_it_and_another_file_is_refused(tmp_path: Path, write: Make) -> None:
    with pytest.raises(UsageError, match="none to learn from"):
        read_llava_med_chat(write("qa50.jsonl", ROW), None, "train")
    with pytest.raises(DataError, match="not the chat questions"):
        read_llava_med_chat(write("other.jsonl", {"question": "x"}), tmp_path)
