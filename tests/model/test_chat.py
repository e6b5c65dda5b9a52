"""Token ids and label masks: against the reference's own, against ids written out by hand, and as a property."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llavamed_cli.errors import DataError, ModelError
from llavamed_cli.model.answer_text import answer_of
from llavamed_cli.model.answer_text import length_of_answer as text_length
from llavamed_cli.model.chat import IGNORED, ChatFormat, picture_first
from llavamed_cli.model.chat_templates import BUILTIN_TEMPLATES, builtin_template
from llavamed_cli.model.tiny import byte_tokenizer
from llavamed_cli.records import IMAGE_MARKER, Turn

TEMPLATES = tuple(BUILTIN_TEMPLATES)


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
    assert text == f"<s>{system} USER: Hi? ASSISTANT: No.</s>USER: Sure? ASSISTANT:"


def test_the_training_header_by_hand() -> None:
    """LLaVA-Med v1.0's train.py: `_add_speaker_and_signal`. What a prompt leaves to be written is learned too."""
    chat = byte_chat("v0")
    encoded = chat.encode(talk("Hi?", "No.", "Sure?", "Yes"), [])
    text = chat.render(talk("Hi?", "No.", "Sure?", "Yes"), open_answer=False)
    assert text.endswith("questions.\n\n### Human: Hi?\n### Assistant: No.\n### Human: Sure?\n### Assistant: Yes\n### ")
    learned = [chat.tokenizer.decode(encoded.input_ids[start:end]) for start, end in runs(encoded.supervised)]
    assert learned == [" Assistant: No.\n###", " Assistant: Yes\n###"]


# ---- as a property

letters = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
said = letters.map(str.strip).filter(lambda text: text and not any(mark in text for mark in ("<", "|", "#")))
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


def length_of_answer(chat: ChatFormat, ids: list[int]) -> int:
    """Where generation would stop."""
    if chat.shape.stop is None:
        return ids.index(chat.end_token_id) + 1
    return text_length(chat.tokenizer, ids, chat.shape.stop)


def check_masks(chat: ChatFormat, turns: tuple[Turn, ...]) -> None:
    """What is learned after a prompt is exactly what the model would have to generate for it."""
    encoded = chat.encode(turns, [5])
    found = list(runs(encoded.supervised))
    assert len(found) == len(turns) // 2
    for number, (start, end) in enumerate(found):
        prompt = chat.encode_prompt(turns[: 2 * number + 1], [5])
        assert encoded.input_ids[:start] == prompt
        if chat.shape.stop is None:
            assert encoded.input_ids[end - 1] == chat.end_token_id
        generated: Any = chat.tokenizer.decode(encoded.input_ids[start:end], skip_special_tokens=True)
        assert answer_of(generated, chat.shape) == turns[2 * number + 1].text
        assert length_of_answer(chat, list(encoded.input_ids[start:])) == end - start


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_a_prefix_and_the_answer_alone_is_learned(template: str) -> None:
    chat = byte_chat(template)

    @given(rounds)
    def check(pairs: list[tuple[str, str]]) -> None:
        check_masks(chat, conversation(pairs))

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


ECHO = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
THINKS = "{{ messages[0].content }}<s>{% if messages[1] %}{{ messages[1].content }}</s>{% else %}<think>{% endif %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (ECHO, "no end token"),
        (ECHO + "\n", "no end token"),
        (f"{ECHO}</s>{{{{ messages | length }}}}", "does not extend"),
        (THINKS, "does not extend"),
    ],
)
def test_a_template_whose_answers_cannot_be_found_teaches_nothing_and_may_ask(template: str, message: str) -> None:
    chat = ChatFormat(byte_chat("vicuna_v1").tokenizer, template)
    assert chat.encode_prompt(talk("a"), [])
    with pytest.raises(DataError, match=message):
        chat.encode(talk("a", "b"), [])


def test_a_template_may_end_answers_by_a_text_of_its_own() -> None:
    template = "{% for m in messages %}{{ m.role }}> {{ m.content }}\n%%\n{% endfor %}"
    chat = ChatFormat(byte_chat("vicuna_v1").tokenizer, template)
    assert (chat.shape.role, chat.shape.other_role, chat.shape.stop) == ("assistant>", "user>", "%%")
    encoded = chat.encode(talk("a", "b", "c", "d"), [])
    learned = [chat.tokenizer.decode(encoded.input_ids[start:end]) for start, end in runs(encoded.supervised)]
    assert learned == ["assistant> b\n%%", "assistant> d\n%%"]
    with pytest.raises(DataError, match=r"turn 2: the answer holds '%%', which ends answers"):
        chat.encode(talk("a", "b %% c"), [])


def test_a_template_without_a_cue_is_learned_with_its_cue() -> None:
    """ChatML that ignores add_generation_prompt: the first control token of an answer is not its end."""
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    chat = ChatFormat(byte_chat("chatml").tokenizer, template)
    encoded = chat.encode(talk("a", "b"), [])
    (only,) = runs(encoded.supervised)
    assert chat.tokenizer.decode(encoded.input_ids[slice(*only)]) == "<|im_start|>assistant\nb<|im_end|>"
    assert answer_of("assistant\nb", chat.shape) == "b"


@pytest.mark.parametrize(
    ("template", "tokens"),
    [
        (builtin_template("chatml"), r"<\|im_start\|>, <\|im_end\|>, which"),
        (builtin_template("vicuna_v1", wrapped=True), "<im_start>, <im_end>, which"),
        ("<start_of_turn>{{ messages[0].content }}</s>", "<start_of_turn>, which"),
    ],
)
def test_a_tokenizer_that_lacks_the_templates_tokens_is_refused_at_once(template: str, tokens: str) -> None:
    with pytest.raises(ModelError, match=f"the chat template writes {tokens} the tokenizer does not have"):
        ChatFormat(word_chat().tokenizer, template)


def test_a_tokenizer_without_an_end_token_is_refused_where_the_template_needs_one() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_MARKER]}, replace_extra_special_tokens=False)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="'eos_token' is undefined"):
        ChatFormat(tokenizer, builtin_template("vicuna_v1"))


def test_a_tokenizer_without_an_image_token_is_refused() -> None:
    with pytest.raises(ModelError, match="no <image> token"):
        ChatFormat(byte_tokenizer(), builtin_template("chatml"))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow: Any = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ModelError, match="character offsets"):
        ChatFormat(slow, builtin_template("chatml"))


def test_a_single_picture_goes_first() -> None:
    for text in ("Look at <image> and say", "<image>\nLook at  and say", "Look at  and say\n<image>"):
        assert picture_first(Turn(speaker="human", text=text)).text == "<image>\nLook at  and say"
    for text in ("no picture", "<image> or <image>?"):
        assert picture_first(Turn(speaker="human", text=text)).text == text
