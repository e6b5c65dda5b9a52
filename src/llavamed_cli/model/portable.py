"""Make a folder that transformers 5 saved readable by transformers 4 too, and by the servers built on it.

Version 5 renamed keys and classes that version 4 and others look up; it still reads the old ones. Each is written under
both names, so that nothing is guessed: a `rope_theta` that is not found counts as 10,000, in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llavamed_cli.files import read_json, write_json

TOKENIZER_CLASS = "PreTrainedTokenizerFast"
"""Any tokenizer.json, as both versions call it; version 5 writes `TokenizersBackend`, which only it knows."""
OWN_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def make_portable(folder: Path) -> None:
    """Add what transformers 4.49 to 4.57 look for to the JSON files of a LLaVA folder, in place.

    4.49 is the first whose image processor pads.
    """
    _change(folder / "config.json", _old_config_keys)
    _change(folder / "tokenizer_config.json", _old_tokenizer_keys)
    processor = folder / "processor_config.json"
    if processor.is_file():
        whole = read_json(processor, "processor config")
        pictures = whole.pop("image_processor", None)
        if pictures is not None:  # both versions read a file of their own; version 4 trips over this place
            write_json(folder / "preprocessor_config.json", {**pictures, "processor_class": whole["processor_class"]})
            write_json(processor, whole)


def _change(file: Path, change: Any) -> None:
    if file.is_file():
        config = read_json(file, "configuration")
        change(config)
        write_json(file, config)


def _old_config_keys(config: dict[str, Any]) -> None:
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        if "dtype" in part:
            part["torch_dtype"] = part["dtype"]
        rope = part.get("rope_parameters")
        if isinstance(rope, dict) and "rope_theta" in rope:
            part["rope_theta"] = rope["rope_theta"]
            if rope.get("rope_type", "default") != "default":
                part["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}


def _old_tokenizer_keys(config: dict[str, Any]) -> None:
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = TOKENIZER_CLASS
    extra = config.get("extra_special_tokens")
    if isinstance(extra, list):  # version 4 expects names here, and keeps the nameless under the other key
        del config["extra_special_tokens"]
        own = {config.get(name) for name in OWN_TOKENS}
        config["additional_special_tokens"] = [token for token in extra if token not in own]
