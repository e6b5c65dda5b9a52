"""The built-in templates: the reference's prompts, and the same ids from plain transformers as from us."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tokenizers import AddedToken
from transformers import AutoProcessor, LlavaConfig, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from llavamed_cli.errors import UsageError
from llavamed_cli.model.chat import ChatFormat, picture_first
from llavamed_cli.model.chat_templates import (
    BUILTIN_TEMPLATES,
    accept_typed_content,
    builtin_template,
    needs_blanks,
    template_for,
    write_bos_once,
)
from llavamed_cli.model.published.tokenizer import image_token, load_tokenizer
from llavamed_cli.model.tiny import byte_tokenizer
from llavamed_cli.records import IMAGE_MARKER, Turn

SYSTEMS = {  # length and SHA-256 of the system texts, as LLaVA-Med v1.0's and LLaVA's conversation.py have them
    "vicuna_v1": (154, "1fa69e2371b762d1"),
    "simple": (156, "ace78a978005f68a"),
    "v0": (156, "ace78a978005f68a"),
    "multimodal": (379, "775b149575e41368"),
    "simple_legacy": (296, "0771b932775028eb"),
    "llava_v1": (388, "9784a3117e8f8786"),
}
PICTURE_TOKENS = 16


def ask(text: str) -> tuple[Turn, ...]:
    return (Turn(speaker="human", text=text),)


def give_picture(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens({"extra_special_tokens": [image_token(tokenizer)]})
    return tokenizer


# ---- texts


@pytest.mark.parametrize("name", SYSTEMS)
def test_system_texts_are_the_references(name: str) -> None:
    chat = byte_chat(name)
    text = chat.render(ask("q"), open_answer=True).removeprefix("<s>")
    end = {"vicuna_v1": " USER", "llava_v1": " USER", "v0": "\n\n###"}.get(name, "###")
    system = text.partition(end)[0]
    assert (len(system), hashlib.sha256(system.encode()).hexdigest()[:16]) == SYSTEMS[name]


def byte_chat(name: str, **options: bool) -> ChatFormat:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_MARKER, "<im_start>", "<im_end>"]})
    if name != "chatml":
        tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return ChatFormat(tokenizer, builtin_template(name, **options))


def test_an_unknown_template_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no chat template 'vicuna', there are chatml, mistral_instruct"):
        builtin_template("vicuna")


def test_the_picture_goes_where_the_format_wants_it() -> None:
    asked = ask("<image>\nWhat is it?")
    assert byte_chat("simple").render(asked, open_answer=True).endswith("###Human: What is it?\n<image>###")
    wrapped = byte_chat("multimodal", wrapped=True).render(asked, open_answer=True)
    assert wrapped.endswith("###Human: What is it?\n<im_start><image><im_end>###")
    legacy = byte_chat("simple_legacy").render(asked, open_answer=True)
    assert legacy.endswith("###Human: What is it?\n<image>\n\n### Response:###")
    first = byte_chat("v0", wrapped=True).render(asked, open_answer=True)
    assert first.endswith("### Human: <im_start><image><im_end>\nWhat is it?\n###")
    two = ask("<image>\n<image>\nAlike?")
    assert byte_chat("simple").render(two, open_answer=True).endswith("###Human: <image>\n<image>\nAlike?###")


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
def test_typed_content_renders_as_text_does(name: str) -> None:
    chat = byte_chat(name)
    picture, words = {"type": "image"}, {"type": "text", "text": "What is it?"}

    def render(*messages: dict[str, Any]) -> Any:
        return chat.tokenizer.apply_chat_template(
            list(messages), chat_template=chat.template, tokenize=False, add_generation_prompt=True
        )

    typed = (
        {"role": "user", "content": [picture, words]},
        {"role": "assistant", "content": [{"type": "text", "text": "A lung."}]},
    )
    written = ({"role": "user", "content": "<image>\nWhat is it?"}, {"role": "assistant", "content": "A lung."})
    assert render(*typed) == render(*written)
    assert accept_typed_content(chat.template) == chat.template


def test_a_system_message_takes_the_place_of_the_formats_own() -> None:
    for name in set(BUILTIN_TEMPLATES) - {"mistral_instruct"}:
        chat = byte_chat(name)
        said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
        text: Any = chat.tokenizer.apply_chat_template(said, chat_template=chat.template, tokenize=False)
        assert "Be brief." in text
        assert "assistant." not in text
    with pytest.raises(Exception, match="no system message"):
        chat = byte_chat("mistral_instruct")
        chat.tokenizer.apply_chat_template(said, chat_template=chat.template, tokenize=False)


# ---- the reference's prompts


@pytest.fixture(params=["tokenizer.json", "tokenizer.model"])
def v15(shared: Path, tmp_path: Path, request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """The v1.5 fixture's tokenizer from either of its two files."""
    for name in (request.param, "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(shared / "oracle" / "v15" / "llava-mistral-tiny-separate" / name, tmp_path / name)
    return give_picture(load_tokenizer(tmp_path))


def test_version_one_and_a_halfs_prompts(shared: Path, v15: PreTrainedTokenizerFast) -> None:
    prompts = json.loads((shared / "oracle" / "v15" / "prompts.json").read_text())
    assert len(prompts) == 6
    for recorded in prompts:
        chat = ChatFormat(v15, template_for(recorded["conv_mode"], v15))
        turns = [Turn(speaker="gpt" if n % 2 else "human", text=text) for n, text in enumerate(recorded["turns"])]
        ids = chat.encode_prompt(turns, [1] * len(recorded["images"]))
        assert [-200 if token == chat.image_token_id else token for token in ids] == recorded["input_ids"]


def test_the_lone_blank_on_both_sides_of_the_picture(v15: PreTrainedTokenizerFast) -> None:
    chat = ChatFormat(v15, template_for("mistral_instruct", v15))
    words = v15.convert_ids_to_tokens(chat.encode_prompt(ask("<image>\nIs it?"), [2]))
    place = words.index(IMAGE_MARKER)
    assert words[place - 1 : place + 4] == ["▁", IMAGE_MARKER, IMAGE_MARKER, "▁", "<0x0A>"]


def test_version_ones_prompts(shared: Path) -> None:
    tokenizer = give_picture(load_tokenizer(shared / "oracle" / "v10" / "applied-llava"))
    patch = tokenizer.convert_tokens_to_ids("<im_patch>")
    prompts = json.loads((shared / "oracle" / "v10" / "prompts.json").read_text())
    assert len(prompts) == 5
    for recorded in prompts:
        name, pictures = recorded["conv_mode"], 1 if recorded["image"] else 0
        chat = ChatFormat(tokenizer, template_for(name, tokenizer, wrapped=recorded["use_im_start_end"]))
        question = "\n".join([*[IMAGE_MARKER] * pictures, recorded["question"]])
        if name == "llava_v1":  # a training format: the picture stays where the question has it
            question = "\n".join([recorded["question"], IMAGE_MARKER])
        ids = chat.encode_prompt(ask(question), [PICTURE_TOKENS] * pictures)
        expected = list(recorded["input_ids"])
        if name == "llava_v1":  # v1.0's script leaves out the cue that its own training data have
            expected += tokenizer.convert_tokens_to_ids(["▁ASSISTANT", ":"])
        assert [patch if token == chat.image_token_id else token for token in ids] == expected


# ---- plain transformers


@pytest.fixture(scope="module", params=["old", "legacy", "not legacy"])
def words(shared: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """A sentencepiece tokenizer in its three behaviours, with the tokens of every template."""
    folder = tmp_path_factory.mktemp("words")
    shutil.copyfile(shared / "oracle" / "labels" / "tokenizer.model", folder / "tokenizer.model")
    extra = ["<im_start>", "<im_end>", "<|im_start|>", "<|im_end|>"]
    config: dict[str, Any] = {"legacy": request.param != "not legacy", "pad_token": "<unk>"}
    if request.param == "old":
        (folder / "added_tokens.json").write_text(json.dumps({token: 512 + n for n, token in enumerate(extra)}))
    else:
        config["added_tokens_decoder"] = {str(512 + n): {"content": token} for n, token in enumerate(extra)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return lambda: give_picture(load_tokenizer(folder))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
def test_a_saved_processor_gives_the_same_ids(name: str, wrapped: bool, words: Any, tmp_path: Path) -> None:
    """What scripts and servers do: both ways of transformers, text and typed parts, one round, two, two pictures."""
    tokenizer = words()
    template = template_for(name, tokenizer, wrapped=wrapped)
    write_bos_once(tokenizer, template)
    tokenizer.chat_template = template
    LlavaConfig().save_pretrained(tmp_path)
    LlavaProcessor(
        image_processor=LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 32}, crop_size=32),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(tmp_path)
    processor: Any = AutoProcessor.from_pretrained(tmp_path)
    chat = ChatFormat(processor.tokenizer, processor.chat_template)
    picture = Image.new("RGB", (40, 24))
    for texts in (
        ["<image>\nWhat is it?"],
        ["<image>\nWhat?", "A lung.", "Sure?"],
        ["<image>\n<image>\nAlike?"],
        ["q"],
    ):
        turns = [Turn(speaker="gpt" if n % 2 else "human", text=text) for n, text in enumerate(texts)]
        count = sum(text.count(IMAGE_MARKER) for text in texts)
        ours = list(chat.encode_prompt(turns, [PICTURE_TOKENS] * count))
        assert ours == list(ChatFormat(words(), template).encode_prompt(turns, [PICTURE_TOKENS] * count))
        typed = [{"role": "assistant" if n % 2 else "user", "content": parts(text)} for n, text in enumerate(texts)]
        plain = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
        pictures = {"images": [picture] * count} if count else {}
        for messages in (typed, plain):
            text = processor.apply_chat_template(messages, add_generation_prompt=True)
            assert processor(text=text, **pictures)["input_ids"][0] == ours
            if name != "chatml":  # it writes no BOS, so servers that add none have none
                assert processor(text=text, **pictures, add_special_tokens=False)["input_ids"][0] == ours
        with_pictures = [
            {**m, "content": [{**p, "image": picture} if p["type"] == "image" else p for p in m["content"]]}
            for m in typed
        ]
        at_once = processor.apply_chat_template(
            with_pictures, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        assert at_once["input_ids"][0] == ours


def parts(text: str) -> list[dict[str, str]]:
    pictures = text.count(IMAGE_MARKER)
    return [{"type": "image"}] * pictures + [{"type": "text", "text": text.replace(f"{IMAGE_MARKER}\n", "")}]


def test_blanks_are_written_where_the_tokenizer_puts_none(words: Any) -> None:
    tokenizer = words()
    first, after = (tokenizer("a")["input_ids"][1:], tokenizer("<s>a", add_special_tokens=False)["input_ids"][1:])
    assert needs_blanks(tokenizer) == (first != after)
    assert not needs_blanks(byte_chat("chatml").tokenizer)


def test_bos_is_left_to_the_template() -> None:
    from tokenizers import processors

    tokenizer = byte_chat("vicuna_v1").tokenizer
    core = tokenizer.backend_tokenizer
    bos = ("<s>", tokenizer.bos_token_id)
    added = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[bos])
    core.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), added])
    assert tokenizer("a")["input_ids"][0] == bos[1]
    write_bos_once(tokenizer, "{{ messages[0].content }}")
    assert tokenizer("a")["input_ids"][0] == bos[1]
    write_bos_once(tokenizer, builtin_template("vicuna_v1"))
    assert tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    assert json.loads(core.to_str())["post_processor"]["processors"][0]["type"] == "ByteLevel"


def test_an_image_token_is_plain_by_default() -> None:
    token = image_token(byte_tokenizer())
    assert token == AddedToken(IMAGE_MARKER, lstrip=False, rstrip=False, normalized=False, special=True)


def test_a_moved_picture_keeps_training_and_asking_alike() -> None:
    chat = byte_chat("simple", wrapped=True)
    asked = picture_first(Turn(speaker="human", text="Look at <image> now"))
    whole = chat.encode([asked, Turn(speaker="gpt", text="A lung.")], [3])
    prompt = chat.encode_prompt([asked], [3])
    assert whole.input_ids[: len(prompt)] == prompt
    assert chat.tokenizer.decode(whole.input_ids[len(prompt) :]) == "Assistant: A lung.###"
    assert all(whole.supervised[len(prompt) :]) and not any(whole.supervised[: len(prompt)])
