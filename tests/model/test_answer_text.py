"""What of generated text is the answer: whole, in pieces, and by tokens."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.model.answer_text import answer_of, answer_pieces, length_of_answer, stop_at
from llavamed_cli.model.chat import AnswerShape
from llavamed_cli.model.tiny import byte_tokenizer

OWN_ROLE = AnswerShape(role="Assistant:", other_role="Human:", stop="###")
PLAIN = AnswerShape(role="", other_role="", stop=None)
alphabet = st.sampled_from(["Assistant:", "Human:", "A", "Assist", "#", "##", "###", " ", "\n", "lung", "#1"])


def test_the_role_and_the_stop_text_are_no_part_of_an_answer() -> None:
    for text in ("Assistant: A lung.\n###", " Assistant: A lung.", "A lung.###Human: And?", "Human: A lung.\n### "):
        assert answer_of(text, OWN_ROLE) == "A lung."
    assert answer_of("###Assistant: late", OWN_ROLE) == ""
    assert answer_of("The Assistant: role #1", OWN_ROLE) == "The Assistant: role #1"


def test_where_the_prompt_writes_the_role_an_answer_may_say_it() -> None:
    assert answer_of(" Assistant: yes ### no ", PLAIN) == "Assistant: yes ### no"


@given(st.lists(alphabet, max_size=12), st.sampled_from([OWN_ROLE, PLAIN]))
def test_pieces_say_what_the_whole_says(pieces: list[str], shape: AnswerShape) -> None:
    shown: list[str] = []
    for piece in answer_pieces(pieces, shape):
        shown.append(piece)
        assert shape.stop is None or shape.stop not in "".join(shown)
    assert "".join(shown) == answer_of("".join(pieces), shape)


def test_an_answer_is_shown_as_it_comes() -> None:
    assert list(answer_pieces(iter(["Assist", "ant: A", " lung", " #", "1 ##", "#"]), OWN_ROLE)) == [
        "A",
        " lung",
        " #1",
    ]
    assert next(answer_pieces(iter(["Yes", " no"]), PLAIN)) == "Yes"


def test_each_row_of_a_batch_stops_by_itself() -> None:
    tokenizer = byte_tokenizer()

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text)["input_ids"]
        return found

    rows = torch.tensor([ids("###ab###"), ids("######ab"), ids("###ab##c")])
    assert stop_at(tokenizer, "###", 3)(rows, torch.empty(0)).tolist() == [True, False, False]
    assert stop_at(tokenizer, "###", 3)(rows[:, :6], torch.empty(0)).tolist() == [False, True, False]
    assert length_of_answer(tokenizer, ids("ab###cd"), "###") == 5
    assert length_of_answer(tokenizer, ids("ab##cd"), "###") == 6
