"""Label masks against the reference's own, conversation by conversation, for every template that it shares with us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import DataError
from llavamed_cli.model.chat import IGNORED, ChatFormat, picture_first
from llavamed_cli.model.chat_templates import template_for
from llavamed_cli.model.published.tokenizer import image_token, load_tokenizer
from llavamed_cli.records import IMAGE_MARKER, Turn

KEYS = {  # the reference's key, by the file it is in: our template
    "v10": {
        "v0.im_start_end=True": "v0",
        "v0.im_start_end=False": "v0",
        "multimodal.im_start_end=True": "v0",
        "v1.im_start_end=True": "vicuna_v1",
        "v1.im_start_end=False": "vicuna_v1",
        "llava_v1.im_start_end=True": "llava_v1",
    },
    "llava": {
        "v1.legacy=True.im_start_end=False.conv=llava": "vicuna_v1",
        "v1.legacy=False.im_start_end=False.conv=llava": "vicuna_v1",
        "v1.legacy=True.im_start_end=True.conv=llava": "vicuna_v1",
        "v1.legacy=True.im_start_end=False.conv=med15": "vicuna_v1",
        "v1.legacy=False.im_start_end=False.conv=med15": "vicuna_v1",
        "llava_llama_2.legacy=True.im_start_end=False.conv=llava": "llava_llama_2",
        "mistral_instruct.legacy=True.im_start_end=False.conv=llava": "mistral_instruct",
        "mistral_instruct.legacy=False.im_start_end=False.conv=llava": "mistral_instruct",
        "mistral_instruct.legacy=True.im_start_end=False.conv=med15": "mistral_instruct",
        "v0.legacy=True.im_start_end=False.conv=llava": "v0",
    },
}
NO_TEMPLATE = {
    "plain.legacy=True.im_start_end=False.conv=llava": "drops the question, and ends answers by a line break alone",
    "v1_mmtag.legacy=True.im_start_end=False.conv=llava": "an experiment of LLaVA's that no published model uses",
}
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
    "separator_in_answer": "the reference's length check fails and masks everything",
    "eos_in_answer": "we refuse control tokens in text; the reference's length check fails and masks everything",
    "two_images": "LLaVA removes both markers and puts back one; we keep both, in their places",
    "truncated": "the reference cuts at model_max_length; we set aside what exceeds the context",
    "integer_answer": "LLaVA raises TypeError",
}
MORE_THAN_ONE_ROUND = {"multi_turn_image", "multi_turn_image_in_second", "chinese", "text_only"}


class Oracle:
    """The reference's recorded preprocessing under one key, and our own format over the same tokenizer."""

    def __init__(self, shared: Path, folder: Path, version: str, key: str) -> None:
        self.version, self.key, self.name = version, key, KEYS[version][key]
        labels = shared / "oracle" / "labels"
        recorded = json.loads((labels / f"{version}_labels.json").read_text())[key]
        self.rows: dict[str, Any] = {row["name"]: row for row in recorded["rows"]}
        self.picture = recorded.get("image_tokens", 1)
        self.picture_id = recorded.get("token_ids", {}).get("<im_patch>", -200)
        self.truncated_at = recorded["model_max_length"]
        spoken = json.loads((labels / "conversations.json").read_text())
        self.spoken = {talked["name"]: talked["conversations"] for talked in spoken}
        _write_tokenizer(labels, folder, recorded, old=version == "v10")
        tokenizer = load_tokenizer(folder)
        tokenizer.add_special_tokens({"extra_special_tokens": [image_token(tokenizer)]})
        template = template_for(self.name, tokenizer, wrapped=recorded["use_im_start_end"])
        if recorded["template"] == "multimodal":
            prompts = json.loads((shared / "oracle" / "v10" / "prompts.json").read_text())
            system = prompts[1]["prompt"].partition("###")[0]
            said = f"[{{'role': 'system', 'content': '{system}'}}]"
            template = f"{{%- set messages = {said} + messages -%}}{template}"
        self.chat = ChatFormat(tokenizer, template)

    def ours(self, name: str) -> tuple[list[int], list[int]]:
        """Ids, with the reference's own for a picture, and labels."""
        turns = [Turn(speaker=turn["from"], text=str(turn["value"]).strip()) for turn in self.spoken[name]]
        if self.version == "llava":  # v1.0 trains with the picture where the data have it
            turns = [picture_first(turn) for turn in turns]
        encoded = self.chat.encode(turns, [self.picture] * sum(turn.text.count(IMAGE_MARKER) for turn in turns))
        ids = [self.picture_id if token == self.chat.image_token_id else token for token in encoded.input_ids]
        return ids, list(encoded.labels)

    def joins_otherwise(self, name: str) -> bool:
        """LLaVA-Med v1.5's `vicuna_v1` has a blank after `</s>`, which LLaVA's own, and so the models, lack."""
        return self.key.startswith("v1.") and self.key.endswith("med15") and name in MORE_THAN_ONE_ROUND


def _write_tokenizer(labels: Path, folder: Path, recorded: dict[str, Any], *, old: bool) -> None:
    """The tokenizer that the driver script of the oracle put together, as its version of transformers writes it."""
    (folder / "tokenizer.model").write_bytes((labels / "tokenizer.model").read_bytes())
    added = [recorded["pad_token"]] if recorded["pad_token"] != "<unk>" else []
    added += ["<im_patch>"] if old else []
    added += ["<im_start>", "<im_end>"] if recorded["use_im_start_end"] else []
    config: dict[str, Any] = {"pad_token": recorded["pad_token"], "legacy": recorded.get("tokenizer_legacy", True)}
    if old:
        (folder / "added_tokens.json").write_text(json.dumps({token: 512 + n for n, token in enumerate(added)}))
    else:
        config["added_tokens_decoder"] = {str(512 + n): {"content": token} for n, token in enumerate(added)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


ALL = [(version, key) for version in KEYS for key in KEYS[version]]
HEADERS = [(version, key) for version, key in ALL if KEYS[version][key] == "v0"]


@pytest.fixture(scope="module", params=HEADERS, ids="-".join)
def header(shared: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Oracle:
    return Oracle(shared, tmp_path_factory.mktemp("tokenizer"), *request.param)


@pytest.fixture(scope="module", params=ALL, ids="-".join)
def oracle(shared: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Oracle:
    return Oracle(shared, tmp_path_factory.mktemp("tokenizer"), *request.param)


@pytest.mark.parametrize("version", KEYS)
def test_every_key_of_the_reference_is_accounted_for(version: str, shared: Path) -> None:
    recorded = json.loads((shared / "oracle" / "labels" / f"{version}_labels.json").read_text())
    assert set(recorded) == {*KEYS[version], *(NO_TEMPLATE if version == "llava" else ())}


def test_every_row_of_the_reference_is_accounted_for(oracle: Oracle) -> None:
    assert set(oracle.rows) == {*EQUAL, *APART}


@pytest.mark.parametrize("name", EQUAL)
def test_ids_and_masks_are_the_references(name: str, oracle: Oracle) -> None:
    row = oracle.rows[name]
    ids, labels = oracle.ours(name)
    if oracle.joins_otherwise(name):
        blank = oracle.chat.tokenizer.convert_tokens_to_ids("▁")
        joined = [n for n, token in enumerate(row["input_ids"]) if token == 2][:-1]
        assert all(row["input_ids"][n + 1] == blank for n in joined)
        assert ids == [token for n, token in enumerate(row["input_ids"]) if n - 1 not in joined]
        return
    whole = len(row["input_ids"])
    assert whole == len(ids) or whole == oracle.truncated_at
    assert ids[:whole] == row["input_ids"]
    if oracle.name != "v0":
        assert labels[:whole] == row["labels"]


@pytest.mark.parametrize("name", EQUAL)
def test_the_training_headers_masks_are_the_references_but_for_its_drift(name: str, header: Oracle) -> None:
    """v1.0 measures each turn with a BOS of its own, and leaves the first two tokens of a human turn as targets.

    With one round: `### Human` at the start is learned too, and the blank behind the last `###`, which nobody asks
    for. With more, each further turn's span is off by one more, so the reference learns words of the questions and not
    those of the answers.
    """
    row = header.rows[name]
    ids, labels = header.ours(name)
    whole = len(row["input_ids"])
    words = header.chat.tokenizer.convert_ids_to_tokens([max(token, 0) for token in ids[:whole]])
    apart = {n for n in range(whole) if labels[n] != row["labels"][n]}
    only_theirs = [words[n] for n in sorted(apart) if row["labels"][n] != IGNORED]
    only_ours = [words[n] for n in sorted(apart) if labels[n] != IGNORED]
    assert only_theirs[:2] == ["###", "▁Human"]
    if name in MORE_THAN_ONE_ROUND:
        assert only_theirs.count("▁Human") > 1
        assert only_ours[:2] == ["▁Assistant", ":"]
    else:
        assert (only_theirs, only_ours) == (["###", "▁Human", "▁"], [])


@pytest.mark.parametrize("name", EQUAL)
def test_what_is_learned_reads_as_the_answers(name: str, oracle: Oracle) -> None:
    _, labels = oracle.ours(name)
    learned: Any = oracle.chat.tokenizer.decode([token for token in labels if token != IGNORED])
    answers = [turn["value"] for turn in oracle.spoken[name] if turn["from"] == "gpt"]
    written = {
        "v0": "".join(f"Assistant: {answer}\n###" for answer in answers),
        "mistral_instruct": " </s>".join([*answers, ""]),
        "llava_llama_2": " </s>".join([*answers, ""]),
    }.get(oracle.name, "</s>".join([*answers, ""]))
    assert learned.replace("</s> ", "</s>").replace("###  ", "### ").replace("### A", "###A") == written


def test_where_only_the_references_mask_is_broken_the_ids_are_its_own(oracle: Oracle) -> None:
    row = oracle.rows["separator_in_answer"]
    if oracle.name == "v0":
        with pytest.raises(DataError, match="turn 2: the answer holds '###', which ends answers"):
            oracle.ours("separator_in_answer")
        return
    assert row["all_masked"]
    if not oracle.key.endswith("med15") or oracle.name != "vicuna_v1":
        assert oracle.ours("separator_in_answer")[0] == row["input_ids"]


def test_the_reference_cuts_what_we_encode_whole(oracle: Oracle) -> None:
    ids, labels = oracle.ours("truncated")
    cut = oracle.rows["truncated"]
    assert len(cut["input_ids"]) == oracle.truncated_at < len(ids)
    assert ids[: oracle.truncated_at] == cut["input_ids"]
    if oracle.name != "v0":
        assert labels[: oracle.truncated_at] == cut["labels"]


def test_control_tokens_in_an_answer_are_refused(oracle: Oracle) -> None:
    with pytest.raises(DataError, match="control token '</s>'"):
        oracle.ours("eos_in_answer")
