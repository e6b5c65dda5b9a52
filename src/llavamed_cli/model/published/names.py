"""Tensor names: from every fashion that LLaVA was saved in to the classic one of llava-hf's own folders.

    classic (transformers to 4.51)  language_model.model.X  language_model.lm_head.W  vision_tower.vision_model.X
    in memory (4.52 to 4.57)        model.language_model.X  lm_head.W                 model.vision_tower.vision_model.X
    as saved by 5                   language_model.model.X  language_model.lm_head.W  vision_tower.X
    in memory (5)                   model.language_model.X  lm_head.W                 model.vision_tower.X
    the original code               model.X                 lm_head.W                 model.vision_tower.vision_tower.X

The classic names are what every transformers from 4.3x to 5.x, and other servers, can read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.tower_tensors import bare_name, saved_prefix

T = TypeVar("T")

LANGUAGE, PROJECTOR, TOWER = "language_model.", "multi_modal_projector.", "vision_tower."
_HUGGING_FACE = (
    (re.compile(r"^(model\.)?(language_model\.)?lm_head\."), "language_model.lm_head."),
    (re.compile(r"^(model\.)?language_model\.(model\.)?(?!lm_head\.)"), "language_model.model."),
    (re.compile(r"^(model\.)?multi_modal_projector\."), PROJECTOR),
    (re.compile(r"^(model\.)?vision_tower\."), TOWER),
)
_ORIGINAL = (
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    (re.compile(r"^model\.mm_projector\.0\."), "multi_modal_projector.linear_1."),
    (re.compile(r"^model\.mm_projector\.2\."), "multi_modal_projector.linear_2."),
    (re.compile(r"^model\.vision_tower\.vision_tower\."), TOWER),
    (re.compile(r"^model\.(?=embed_tokens\.|layers\.|norm\.)"), "language_model.model."),
)
IGNORED = (
    (re.compile(r".*\.rotary_emb\.inv_freq"), "rotary frequencies, which the model computes from its config"),
    (re.compile(r"(.*\.)?position_ids"), "position numbers, which the model makes itself"),
)
"""Buffers that older versions saved, and no version reads."""


def classic_name(name: str, tower: str) -> str:
    """The classic name of a tensor that any transformers saved or holds in memory; an unknown name stays as it is.

    Args:
        tower: the vision tower's model_type.
    """
    return _tower_settled(_first(_HUGGING_FACE, name), tower)


def classic_name_of_original(name: str, tower: str) -> str:
    """The same for the names of the original LLaVA code (llava_mistral, llava_llama; an mlp2x_gelu projector)."""
    return _tower_settled(_first(_ORIGINAL, name), tower)


def split_ignored(names: Iterable[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Names that matter, and those that do not, by reason."""
    kept: list[str] = []
    ignored: dict[str, list[str]] = {}
    for name in names:
        reason = next((reason for pattern, reason in IGNORED if pattern.fullmatch(name)), None)
        kept.append(name) if reason is None else ignored.setdefault(reason, []).append(name)
    return kept, {reason: tuple(found) for reason, found in ignored.items()}


def renamed(tensors: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """Tensors by the names that `names` gives them; what it does not list is left out.

    Raises:
        ModelError: two stored tensors are the same one.
    """
    found: dict[str, T] = {}
    for stored, name in names.items():
        if name in found:
            raise ModelError(f"the tensor {name} is stored twice, once as {stored}")
        found[name] = tensors[stored]
    return found


def _first(rules: Iterable[tuple[re.Pattern[str], str]], name: str) -> str:
    for pattern, replacement in rules:
        changed, hits = pattern.subn(replacement, name, count=1)
        if hits:
            return changed
    return name


def _tower_settled(name: str, tower: str) -> str:
    if not name.startswith(TOWER):
        return name
    return TOWER + saved_prefix(tower) + bare_name(tower, name[len(TOWER) :])
