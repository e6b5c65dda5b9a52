"""Token ids and label masks: against the reference's own, against ids written out by hand, and as a property."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llavamed_cli.errors import DataError, ModelError
from llavamed_cli.model.chat import IGNORED, ChatFormat, accept_typed_content, builtin_template, picture_first
from llavamed_cli.model.tiny import byte_tokenizer
from llavamed_cli.records import IMAGE_MARKER, Turn

TEMPLATES = ("chatml", "mistral_instruct", "vicuna_v1")


def talk(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(speaker="gpt" if index % 2 else "human", text=text) for index, text in enumerate(texts))


def byte_chat(template: str) -> ChatFormat:
    """A byte tokenizer with the control tokens that the template writes."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_MARKER]}, replace_extra_special_tokens=False)
    if template != "chatml":
        tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return ChatFormat(tokenizer, builtin_template(template))


def word_chat(template: str = "mistral_instruct") -> ChatFormat:
    """A tokenizer of eight words, without a byte for any other."""
    words = ["<unk>", "<s>", "</s>", IMAGE_MARKER, "[INST]", "[/INST]", "what", "lung", "no"]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens([AddedToken(word, special=True) for word in words[:4]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    return ChatFormat(tokenizer, builtin_template(template))


# ---- by hand

PAD, START, END, IMAGE, SPACE, NEWLINE = 256, 257, 258, 259, 220, 198


def by_hand(text: str) -> list[int]:
    """GPT-2's byte alphabet begins with the printable ASCII characters, `!` being 0; the blanks come at its end."""
    return [{" ": SPACE, "\n": NEWLINE}.get(letter, ord(letter) - 33) for letter in text]


def test_chatml_by_hand() -> None:
    encoded = byte_chat("chatml").encode(talk("<image>\nHi?", "No.", "Sure?", "Yes"), [3])
    prompt = [START, 84, 82, 68, 81, NEWLINE, IMAGE, IMAGE, IMAGE, NEWLINE, 39, 72, 30, END, NEWLINE]
    assistant = [START, 64, 82, 82, 72, 82, 83, 64, 77, 83, NEWLINE]
    first = [45, 78, 13, END]
    second_prompt = [NEWLINE, START, *by_hand("user\nSure?"), END, NEWLINE, *assistant]
    second = [56, 68, 82, END]
    assert list(encoded.input_ids) == [*prompt, *assistant, *first, *second_prompt, *second, NEWLINE]
    ignored = [IGNORED] * len([*prompt, *assistant])
    assert list(encoded.labels) == [*ignored, *first, *[IGNORED] * len(second_prompt), *second, IGNORED]


def test_mistral_instruct_by_hand() -> None:
    chat = word_chat()
    encoded = chat.encode(talk("<image> what", "lung", "what", "no lung"), [2])
    assert encoded.input_ids == (1, 4, 3, 3, 6, 5, 7, 2, 4, 6, 5, 8, 7, 2)
    assert encoded.labels == (*[IGNORED] * 6, 7, 2, *[IGNORED] * 3, 8, 7, 2)
    assert chat.encode_prompt(talk("<image> what"), [2]) == (1, 4, 3, 3, 6, 5)
    assert chat.end_token_id == 2


def test_an_unknown_word_does_not_end_an_answer() -> None:
    encoded = word_chat().encode(talk("what", "no pneumothorax lung"), [])
    assert encoded.labels == (*[IGNORED] * 4, 8, 0, 7, 2)


def test_vicuna_text_is_the_references() -> None:
    """LLaVA's conversation.py, `vicuna_v1`: system, one blank, `USER: `, one blank, `ASSISTANT: `, and `</s>`."""
    text = byte_chat("vicuna_v1").render(talk("Hi?", "No.", "Sure?"), open_answer=True)
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    assert text == f"<s>{system} USER: Hi? ASSISTANT: No.</s> USER: Sure? ASSISTANT:"


# ---- the reference's own ids and masks

EQUAL = (
    "image_first_single",
    "image_last_single",
    "image_middle",
    "multi_turn_image",
    "multi_turn_image_in_second",
    "chinese",
    "text_only",
    "numbers_punct",
    "chinese_single",
    "caption_alignment",
)
APART = {
    "empty_answer": "the data format refuses an empty answer; the reference learns nothing from it",
    "empty_answer_mid": "the same",
    "starts_with_gpt": "the data format refuses it; the reference drops the first turn",
    "odd_turns": "the data format refuses a question without an answer; the reference masks everything",
    "whitespace": "the data format strips texts; the reference's default templates keep the blanks",
    "separator_in_answer": "the ids are equal; the reference's length check fails and masks everything",
    "eos_in_answer": "we refuse control tokens in text; the reference's length check fails and masks everything",
    "two_images": "the reference removes both markers and puts back one; we keep both, in their places",
    "truncated": "the reference cuts at model_max_length; we set aside what exceeds the context",
    "integer_answer": "the reference raises TypeError",
}
KEYS = {
    "mistral_instruct": "mistral_instruct.legacy=True.im_start_end=False.conv=llava",
    "vicuna_v1": "v1.legacy=True.im_start_end=False.conv=llava",
}


class Oracle:
    """The reference's recorded preprocessing, and our own format over the same tokenizer."""

    def __init__(self, shared: Path, template: str) -> None:
        tokenizer = AutoTokenizer.from_pretrained(shared / "oracle" / "v15" / "llava-mistral-tiny-separate")
        tokenizer.add_tokens([IMAGE_MARKER], special_tokens=True)
        self.chat = ChatFormat(tokenizer, builtin_template(template))
        labels = shared / "oracle" / "labels"
        self.rows = {
            row["name"]: row for row in json.loads((labels / "llava_labels.json").read_text())[KEYS[template]]["rows"]
        }
        spoken = json.loads((labels / "conversations.json").read_text())
        self.turns = {
            talked["name"]: [
                picture_first(Turn(speaker=turn["from"], text=str(turn["value"]).strip()))
                for turn in talked["conversations"]
            ]
            for talked in spoken
        }

    def ours(self, name: str) -> tuple[list[int], list[int]]:
        """Ids, with the reference's -200 for a picture, and labels."""
        turns = self.turns[name]
        encoded = self.chat.encode(turns, [1] * sum(turn.text.count(IMAGE_MARKER) for turn in turns))
        ids = [-200 if token == self.chat.image_token_id else token for token in encoded.input_ids]
        return ids, list(encoded.labels)


@pytest.fixture(scope="module", params=sorted(KEYS))
def oracle(shared: Path, request: pytest.FixtureRequest) -> Oracle:
    return Oracle(shared, request.param)


def test_every_row_of_the_reference_is_accounted_for(oracle: Oracle) -> None:
    assert set(oracle.rows) == {*EQUAL, *APART}


@pytest.mark.parametrize("name", EQUAL)
def test_ids_and_masks_are_the_references(name: str, oracle: Oracle) -> None:
    ids, labels = oracle.ours(name)
    assert ids == oracle.rows[name]["input_ids"]
    assert labels == oracle.rows[name]["labels"]


def test_where_only_the_references_mask_is_broken_the_ids_are_its_own(oracle: Oracle) -> None:
    assert oracle.rows["separator_in_answer"]["all_masked"]
    assert oracle.ours("separator_in_answer")[0] == oracle.rows["separator_in_answer"]["input_ids"]


def test_the_reference_cuts_what_we_encode_whole(oracle: Oracle) -> None:
    ids, labels = oracle.ours("truncated")
    cut = oracle.rows["truncated"]
    assert ids[: len(cut["input_ids"])] == cut["input_ids"]
    assert labels[: len(cut["labels"])] == cut["labels"]
    assert ids[-1] == labels[-1] == oracle.chat.end_token_id


# ---- as a property

letters = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
said = letters.map(str.strip).filter(lambda text: text and not any(mark in text for mark in ("<", "|")))
rounds = st.lists(st.tuples(said, said), min_size=1, max_size=3)


def conversation(pairs: list[tuple[str, str]]) -> tuple[Turn, ...]:
    first, *rest = [text for pair in pairs for text in pair]
    return talk(f"{IMAGE_MARKER}\n{first}", *rest)


def runs(flags: tuple[bool, ...]) -> Iterator[tuple[int, int]]:
    place = 0
    for learned, group in groupby(flags):
        length = len(list(group))
        if learned:
            yield place, place + length
        place += length


def check_masks(chat: ChatFormat, turns: tuple[Turn, ...]) -> None:
    """What is learned after a prompt is exactly what the model would have to generate for it."""
    encoded = chat.encode(turns, [5])
    found = list(runs(encoded.supervised))
    assert len(found) == len(turns) // 2
    for number, (start, end) in enumerate(found):
        prompt = chat.encode_prompt(turns[: 2 * number + 1], [5])
        assert encoded.input_ids[:start] == prompt
        assert encoded.input_ids[end - 1] == chat.end_token_id
        answer: Any = chat.tokenizer.decode(encoded.input_ids[start : end - 1])
        assert answer.strip() == turns[2 * number + 1].text


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_a_prefix_and_the_answer_alone_is_learned(template: str) -> None:
    chat = byte_chat(template)

    @given(rounds)
    def check(pairs: list[tuple[str, str]]) -> None:
        check_masks(chat, conversation(pairs))

    check()


def test_the_same_with_a_sentencepiece_tokenizer(oracle: Oracle) -> None:
    latin = st.text(st.sampled_from("abcdefgh ,.'?0123456789肺\n"), min_size=1, max_size=20)
    clean = latin.map(lambda text: " ".join(text.split(" "))).map(str.strip).filter(bool)

    @given(st.lists(st.tuples(clean, clean), min_size=1, max_size=3))
    def check(pairs: list[tuple[str, str]]) -> None:
        check_masks(oracle.chat, conversation(pairs))

    check()


# ---- what is refused, and what is accepted


@pytest.mark.parametrize("template", TEMPLATES)
def test_control_tokens_in_text_are_refused(template: str) -> None:
    chat = byte_chat(template)
    assert chat.control_tokens >= {"<|pad|>", "<|im_start|>", "<|im_end|>"}
    for token in chat.control_tokens:
        for turns in (talk(f"a{token}", "b"), talk("a", f"{token}b")):
            with pytest.raises(DataError, match="control token"):
                chat.encode(turns, [])
        with pytest.raises(DataError, match=r"turn 1: .*control token"):
            chat.encode_prompt(talk(f"a{token}"), [])


def test_markers_and_pictures_must_agree() -> None:
    chat = byte_chat("chatml")
    with pytest.raises(DataError, match=r"1 <image> marker\(s\) for 0 picture"):
        chat.encode_prompt(talk("<image>\na"), [])
    with pytest.raises(DataError, match=r"0 <image> marker\(s\) for 1 picture"):
        chat.encode(talk("a", "b"), [4])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "no end token"),
        ("{% for m in messages %}{{ m['content'] }}</s>{% endfor %}{{ messages | length }}", "does not extend"),
        ("{{ raise_exception('only one turn') }}", "refuses this conversation: only one turn"),
    ],
)
def test_a_template_whose_answers_cannot_be_found_is_refused(template: str, message: str) -> None:
    chat = byte_chat("vicuna_v1")
    with pytest.raises(DataError, match=message):
        ChatFormat(chat.tokenizer, template).encode(talk("a", "b"), [])


def test_a_tokenizer_without_an_image_token_is_refused() -> None:
    with pytest.raises(ModelError, match="no <image> token"):
        ChatFormat(byte_tokenizer(), builtin_template("chatml"))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow: Any = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ModelError, match="character offsets"):
        ChatFormat(slow, builtin_template("chatml"))


@pytest.mark.parametrize("template", TEMPLATES)
def test_typed_content_renders_as_text_does(template: str) -> None:
    chat = byte_chat(template)
    both = accept_typed_content(chat.template)
    picture, words = {"type": "image"}, {"type": "text", "text": "What is it?"}
    answer = {"role": "assistant", "content": "A lung."}

    def render(*messages: dict[str, Any], form: str = both) -> Any:
        return chat.tokenizer.apply_chat_template(
            list(messages), chat_template=form, tokenize=False, add_generation_prompt=True
        )

    typed = (
        {"role": "user", "content": [picture, words]},
        {**answer, "content": [{"type": "text", "text": "A lung."}]},
    )
    written = ({"role": "user", "content": "<image>\nWhat is it?"}, answer)
    assert render(*typed) == render(*written) == render(*written, form=chat.template)
    assert accept_typed_content(both) == both


def test_a_single_picture_goes_first() -> None:
    for text in ("Look at <image> and say", "<image>\nLook at  and say", "Look at  and say\n<image>"):
        assert picture_first(Turn(speaker="human", text=text)).text == "<image>\nLook at  and say"
    for text in ("no picture", "<image> or <image>?"):
        assert picture_first(Turn(speaker="human", text=text)).text == text
