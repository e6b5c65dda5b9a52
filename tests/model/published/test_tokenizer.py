"""Ids against sentencepiece's own encoder and the reference's prompts, from every form a folder may have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.tokenizer import image_token, load_tokenizer

Made = Callable[..., Path]
WORDS = ["the", "lung", "shows", "a", "lesion", "near", "its", "left", "border", "and", "no", "fracture", "in", "chest"]
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
dull = st.text(st.sampled_from("aeilnst  ▁\n.,#肺"), max_size=40)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece BPE of LLaMA's kind, trained here."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(WORDS[n:] + WORDS[:n]) for n in range(len(WORDS))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=360, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        split_digits=True, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return folder / "tokenizer.model"


@pytest.fixture()
def made(model_file: Path, tmp_path: Path) -> Made:
    """A folder with the tokenizer and what a test writes beside it."""

    def make(**files: Any) -> Path:
        shutil.copy(model_file, tmp_path / "tokenizer.model")
        for name, value in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
        return tmp_path

    return make


def ids(tokenizer: Any, text: str, **options: Any) -> list[int]:
    found: list[int] = tokenizer(text, **options)["input_ids"]
    return found


def pieces(tokenizer: Any, text: str) -> list[str]:
    found: list[str] = tokenizer.convert_ids_to_tokens(ids(tokenizer, text, add_special_tokens=False))
    return found


# ---- as sentencepiece itself


def agrees(tokenizer: Any, model_file: Path) -> None:
    theirs: Any = sentencepiece.SentencePieceProcessor(model_file=str(model_file))

    @settings(max_examples=300)
    @given(st.one_of(anything, dull))
    def check(text: str) -> None:
        if any(token in text for token in ("<s>", "</s>", "<unk>")):
            return
        assert ids(tokenizer, text, add_special_tokens=False) == theirs.encode(text)
        assert ids(tokenizer, f"</s>{text}") == [1, 2, *theirs.encode(text)]

    check()


def test_random_text_gets_sentencepieces_own_ids(made: Made, model_file: Path) -> None:
    agrees(load_tokenizer(made()), model_file)


def test_the_references_vocabulary_too(shared: Path) -> None:
    folder = shared / "oracle" / "v10" / "base"
    agrees(load_tokenizer(folder), folder / "tokenizer.model")


def test_offsets_and_the_way_back(made: Made) -> None:
    tokenizer = load_tokenizer(made())
    text = "the left lung, 肺 and é"
    encoded: Any = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    assert tokenizer.decode(encoded["input_ids"]) == text
    assert encoded["offset_mapping"][-1][1] == len(text)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)


# ---- every form a folder may have


def test_legacy_unless_the_folder_says_not(made: Made) -> None:
    for config in ({}, {"legacy": True}, {"legacy": None}):
        assert pieces(load_tokenizer(made(tokenizer_config=config)), "the</s>the") == ["▁the", "</s>", "▁the"]
    assert pieces(load_tokenizer(made(tokenizer_config={"legacy": False})), "the</s>the")[:2] == ["▁the", "</s>"]
    assert pieces(load_tokenizer(made(tokenizer_config={"legacy": False})), "the</s>the")[2] != "▁the"


def test_added_tokens_of_an_old_folder_swallow_the_blanks_around_them(made: Made) -> None:
    base = len(load_tokenizer(made()))
    old = {"[PAD]": base, "<im_patch>": base + 1, "<im_start>": base + 2, "<im_end>": base + 3}
    tokenizer = load_tokenizer(made(added_tokens=old, special_tokens_map={"pad_token": "[PAD]"}))
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", base)
    assert pieces(tokenizer, "the \n<im_start> <im_end> the") == ["▁the", "<im_start>", "<im_end>", "▁the"]
    token = image_token(tokenizer)
    assert (token.lstrip, token.rstrip) == (True, True)


def test_added_tokens_of_a_newer_folder_do_not(made: Made) -> None:
    base = len(load_tokenizer(made()))
    decoder = {str(base): {"content": "<im_start>", "lstrip": False, "rstrip": False, "special": True}}
    tokenizer = load_tokenizer(made(tokenizer_config={"added_tokens_decoder": decoder}))
    assert pieces(tokenizer, "the <im_start> the") == ["▁the", "▁", "<im_start>", "▁", "▁the"]
    assert not image_token(tokenizer).lstrip


def test_bos_and_eos_as_the_config_says(made: Made) -> None:
    assert ids(load_tokenizer(made()), "")[:1] == [1]
    both = load_tokenizer(made(tokenizer_config={"add_bos_token": False, "add_eos_token": True}))
    assert ids(both, "") == [2]
    assert load_tokenizer(made(tokenizer_config={"model_max_length": 77})).model_max_length == 77


def test_tokenizer_json_alone_is_taken_as_it_stands(made: Made, tmp_path: Path) -> None:
    whole = load_tokenizer(made())
    alone = tmp_path / "alone"
    whole.save_pretrained(alone)
    assert not (alone / "tokenizer.model").exists()
    (alone / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}))
    again = load_tokenizer(alone)
    text = "the  left</s> lung"
    assert ids(again, text) == ids(whole, text)
    assert ids(AutoTokenizer.from_pretrained(alone), text) != ids(whole, text)  # why AutoTokenizer is not asked


def test_tokenizer_json_first_where_the_layout_is_transformers_own(made: Made, tmp_path: Path) -> None:
    """llava-hf's folders say `"legacy": false` beside a tokenizer.json that puts a blank after every token."""
    load_tokenizer(made()).save_pretrained(tmp_path)
    made(tokenizer_config={"legacy": False})
    assert pieces(load_tokenizer(tmp_path, fast_file_first=True), "the</s>the") == ["▁the", "</s>", "▁the"]
    assert pieces(load_tokenizer(tmp_path), "the</s>the")[2] != "▁the"


def test_no_blank_at_all(made: Made) -> None:
    tokenizer = load_tokenizer(made(tokenizer_config={"legacy": False, "add_prefix_space": False}))
    assert pieces(tokenizer, "the the") != pieces(load_tokenizer(made(tokenizer_config={})), "the the")
    assert tokenizer.decode(ids(tokenizer, "the the", add_special_tokens=False)) == "the the"


def test_a_tokenizer_json_that_agrees_stands_beside_the_model(made: Made, tmp_path: Path) -> None:
    load_tokenizer(made()).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)


# ---- what is refused


def test_a_tokenizer_json_that_merges_otherwise_is_refused(made: Made, tmp_path: Path) -> None:
    load_tokenizer(made()).save_pretrained(tmp_path)
    fast = tmp_path / "tokenizer.json"
    right = json.loads(fast.read_text())
    best = "".join(right["model"]["merges"][0])
    lost = [pair for pair in right["model"]["merges"] if "".join(pair) != best]  # as transformers 4.28 wrote it
    turned = list(reversed(right["model"]["merges"]))
    for merges, message in ((lost, "merge.s. differ"), (turned, "not in the order")):
        fast.write_text(json.dumps({**right, "model": {**right["model"], "merges": merges}}))
        with pytest.raises(ModelError, match=message) as raised:
            load_tokenizer(tmp_path)
        assert "Remove tokenizer.json" in str(raised.value)
    other = {**right["model"]["vocab"], best: 7}
    fast.write_text(json.dumps({**right, "model": {**right["model"], "vocab": other}}))
    with pytest.raises(ModelError, match="vocabularies differ"):
        load_tokenizer(tmp_path)


def test_an_added_token_out_of_place_is_refused(made: Made) -> None:
    with pytest.raises(ModelError, match="'<im_start>' should have the id 9999, but the vocabulary gives it"):
        load_tokenizer(made(added_tokens={"<im_start>": 9999}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.model", b"version https://git-lfs.github.com/spec/v1\n", "not a sentencepiece model"),
        ("tokenizer.model", b"", "without pieces"),
        ("tokenizer.json", b"{", "tokenizer cannot be read"),
        ("tokenizer.json", b"{}", "tokenizer cannot be read"),
        ("tokenizer_config.json", b"[]", "expected a JSON object"),
        ("tokenizer_config.json", b"\xff", "not JSON"),
        ("readme.md", b"", "no tokenizer could be loaded"),
    ],
)
def test_broken_files_are_one_sentence(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_tokenizer(tmp_path)


def test_nobodys_code_runs(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass T: pass\n")
    (tmp_path / "config.json").write_text('{"model_type": "evil"}')
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}')
    with pytest.raises(ModelError):
        load_tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists()
