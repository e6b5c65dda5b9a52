"""How the first token of an answer divides between yes and no, whatever it was.

The two are renormalised to each other: `yes` + `no` is 1, and `mass` says how much of all probability they hold. A
model that would rather say something else has a small mass, and its division then means little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

WORDS = {"yes": ("yes", "Yes", "YES", "是", "有"), "no": ("no", "No", "NO", "不", "否", "没")}
"""In each language that we score: its cases, and Chinese answers' first characters."""
SPACES = ("", "▁", "Ġ")
"""What a word's first token begins with: nothing, or the space of SentencePiece or of byte-level BPE."""


@dataclass(frozen=True)
class YesNo:
    """yes, no: their shares of the probability that both hold together. mass: how much that is, 0 to 1."""

    yes: float
    no: float
    mass: float


@lru_cache(maxsize=8)
def yes_no_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the tokens that begin a yes and a no.

    Where a vocabulary has neither as one token, the first token of each spelling stands for it; what begins both, or a
    character's byte, begins neither. Empty where nothing tells the two apart.
    """
    yes, no = _whole(tokenizer, WORDS["yes"]), _whole(tokenizer, WORDS["no"])
    if not yes or not no:
        yes, no = _begun(tokenizer, WORDS["yes"][:3]), _begun(tokenizer, WORDS["no"][:3])
    return tuple(sorted(yes - no)), tuple(sorted(no - yes))


def divide(logits: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> YesNo | None:
    """logits: [vocabulary], before anything is done to them. None where the vocabulary does not tell the two apart."""
    yes_ids, no_ids = yes_no_ids(tokenizer)
    if not yes_ids or not no_ids:
        return None
    probabilities = logits.float().softmax(-1)
    yes, no = float(probabilities[list(yes_ids)].sum()), float(probabilities[list(no_ids)].sum())
    mass = yes + no
    return YesNo(yes / mass, no / mass, mass) if mass > 0 else None


def _whole(tokenizer: Any, words: tuple[str, ...]) -> set[int]:
    found = tokenizer.convert_tokens_to_ids([space + word for word in words for space in SPACES])
    return {index for index in found if index is not None and index != tokenizer.unk_token_id}


def _begun(tokenizer: Any, words: tuple[str, ...]) -> set[int]:
    return {tokenizer.encode(space + word, add_special_tokens=False)[0] for word in words for space in ("", " ")}
