"""The tokenizer of a published folder, with the very ids its authors trained on: always fast, never anyone's code.

The reference reads `tokenizer.model` with sentencepiece itself. transformers 5 converts that file, and the result is
not the same: a folder without `"legacy": true` loses the blank that sentencepiece puts before the text after each added
token, and one with it loses that blank where the text starts with a blank. So the conversion is done here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.published.pieces import Pieces, disagreement, read_pieces, sentencepiece_core

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

SENTENCEPIECE_FILE, FAST_FILE = "tokenizer.model", "tokenizer.json"
CONFIG_FILE, SPECIAL_FILE, ADDED_FILE = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
KEPT_SETTINGS = ("model_max_length", "padding_side", "truncation_side", "chat_template")


def load_tokenizer(folder: Path, *, fast_file_first: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of a local model folder, as its authors' code tokenises, with character offsets.

    Read from `tokenizer.model` (with the added tokens of `added_tokens.json`, `special_tokens_map.json` or
    `tokenizer_config.json`), else from `tokenizer.json` as it stands, else whatever transformers makes of the folder.

    Args:
        fast_file_first: take `tokenizer.json` as it stands where there is one, as transformers does with a LLaVA in
            its own layout. The original code never opens that file.

    Raises:
        ModelError: no tokenizer, one that cannot be read, a `tokenizer.json` whose merges are not those of the
            `tokenizer.model` beside it, or an added token whose id is not the next free one.
    """
    config = _read_json(folder / CONFIG_FILE)
    fast = folder / FAST_FILE
    pieces = None if fast_file_first and fast.is_file() else _pieces(folder)
    if pieces is not None:
        if fast.is_file():
            _check_agreement(pieces, fast)
        legacy = config.get("legacy") is not False
        if not legacy and config.get("add_prefix_space") is False:
            pieces = replace(pieces, leading_blank=False)
        tokens = {**pieces.named, **_named_tokens(folder, config)}
        core = sentencepiece_core(pieces, legacy=legacy)
        _add_tokens(core, _added_tokens(folder, config, pieces), folder)
        _begin_and_end(core, config, tokens)
    elif fast.is_file():
        tokens = _named_tokens(folder, config)
        core = _read_core(fast)
    else:
        return _whatever_transformers_makes(folder)
    return _wrap(core, folder, config, tokens)


def image_token(tokenizer: PreTrainedTokenizerFast) -> AddedToken:
    """`<image>` for a tokenizer that lacks it, swallowing blanks around it where the folder's `<im_patch>` does.

    LLaVA-Med v1.0 without start and end tokens puts the patches into the text as added tokens of transformers 4.28,
    which dropped the blanks on both sides.
    """
    from tokenizers import AddedToken

    patch = next((t for t in tokenizer.added_tokens_decoder.values() if t.content == "<im_patch>"), None)
    strips = patch is not None and patch.lstrip and patch.rstrip
    return AddedToken("<image>", lstrip=strips, rstrip=strips, normalized=False, special=True)


def _pieces(folder: Path) -> Pieces | None:
    fast = folder / FAST_FILE
    try:
        return read_pieces(folder / SENTENCEPIECE_FILE)
    except ModelError:
        if fast.is_file():  # Llama 3 ships a tiktoken file under this name
            return None
        raise


def _check_agreement(pieces: Pieces, path: Path) -> None:
    stored = _read_json(path).get("model")
    what = disagreement(pieces, stored if isinstance(stored, Mapping) else {})
    if what is not None:
        raise ModelError(
            f"{FAST_FILE} does not tokenise as the {SENTENCEPIECE_FILE} beside it: {what}",
            where=str(path),
            hint=f"Remove {FAST_FILE}: {SENTENCEPIECE_FILE} is enough, and is what the model was trained with.",
        )


# ---- what stands beside the vocabulary


def _named_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The begin, end, unknown and pad tokens that the folder's two files name."""
    mapped = _read_json(folder / SPECIAL_FILE)
    found = {name: _content(config.get(name)) or _content(mapped.get(name)) for name in NAMED_TOKENS}
    return {name: token for name, token in found.items() if token}


def _content(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) and content else None


def _added_tokens(folder: Path, config: Mapping[str, Any], pieces: Pieces) -> list[tuple[int | None, AddedToken]]:
    """Added tokens with the ids they must get.

    The tokens of a bare `added_tokens.json` are from before transformers 4.34, which dropped the blanks around them.
    """
    from tokenizers import AddedToken

    found: dict[str, tuple[int | None, AddedToken]] = {}
    for piece, special in pieces.marked.items():
        found[piece] = (pieces.vocabulary[piece], AddedToken(piece, normalized=False, special=special))
    decoder = config.get("added_tokens_decoder")
    old = _read_json(folder / ADDED_FILE)
    listed = _read_json(folder / FAST_FILE).get("added_tokens") or ()
    if isinstance(decoder, Mapping) and decoder:
        rows: list[Mapping[str, Any]] = [{**row, "id": int(index)} for index, row in decoder.items()]
    elif old:
        rows = [{"content": token, "id": index, "lstrip": True, "rstrip": True} for token, index in old.items()]
    else:
        rows = [row for row in listed if isinstance(row, Mapping)]
    for row in rows:
        token = str(row["content"])
        flags = {flag: bool(row.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip")}
        special = bool(row.get("special", True))
        found[token] = (int(row["id"]), AddedToken(token, normalized=False, special=special, **flags))
    return sorted(found.values(), key=lambda entry: entry[0] or 0)


def _add_tokens(core: Tokenizer, tokens: list[tuple[int | None, AddedToken]], folder: Path) -> None:
    for wanted, token in tokens:
        (core.add_special_tokens if token.special else core.add_tokens)([token])
        given = core.token_to_id(token.content)
        if given != wanted:
            raise ModelError(
                f"the added token {token.content!r} should have the id {wanted}, but the vocabulary gives it {given}",
                where=str(folder),
                hint="The tokenizer's files are not from one model; fetch the folder again.",
            )


def _begin_and_end(core: Tokenizer, config: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
    """LLaMA's: BOS before a text, no EOS after it, unless the config says otherwise."""
    from tokenizers import processors

    before = tokens.get("bos_token") if config.get("add_bos_token", True) else None
    after = tokens.get("eos_token") if config.get("add_eos_token", False) else None
    used = [token for token in (before, after) if token is not None]
    one = " ".join([*([f"{before}:0"] if before else []), "$A:0", *([f"{after}:0"] if after else [])])
    two = " ".join([*([f"{before}:1"] if before else []), "$B:1", *([f"{after}:1"] if after else [])])
    core.post_processor = processors.TemplateProcessing(
        single=one, pair=f"{one} {two}", special_tokens=[(token, core.token_to_id(token)) for token in used]
    )


def _wrap(
    core: Tokenizer, folder: Path, config: Mapping[str, Any], tokens: Mapping[str, str]
) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    settings = {name: config[name] for name in KEPT_SETTINGS if config.get(name) is not None}
    template = folder / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **{**settings, **tokens})


# ---- files


def _read_core(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"the tokenizer cannot be read: {first_line(error)}", where=str(path)) from error


def _whatever_transformers_makes(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    try:
        found: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"no tokenizer could be loaded: {first_line(error)}", where=str(folder)) from error
    if not getattr(found, "is_fast", False):
        raise ModelError("the tokenizer gives no character offsets, which label masks need", where=str(folder))
    fast: PreTrainedTokenizerFast = found
    return fast


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not JSON: {first_line(error)}", where=str(path)) from error
    if not isinstance(read, dict):
        raise ModelError(f"expected a JSON object, found {type(read).__name__}", where=str(path))
    return read
