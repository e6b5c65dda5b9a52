"""The tokens a published checkpoint lacks: a real `<image>` and a real pad token, and rows for them that never win.

The reference marks a picture by the id -200, outside the vocabulary, and pads with `<unk>` or the end token. Hugging
Face's LLaVA needs both as tokens of their own. A new row is the mean of the old ones: its logit is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.tokenizer import image_token
from llavamed_cli.records import IMAGE_MARKER

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PAD_MARKER = "<pad>"
VOCABULARY_MULTIPLE = 64
"""Embedding rows are padded to a multiple of this, which GPUs multiply faster."""
EMBEDDINGS, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
NEW_ROWS = "for new tokens; each the mean of the others"
ROWS_AT_ONCE = 4096


def add_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer `<image>` and, where it pads with nothing or with a token that means something, `<pad>`.

    They take the next free ids, in this order: 32000 and 32001 beside a vocabulary of 32,000.
    """
    words: Any = tokenizer
    if words.convert_tokens_to_ids(IMAGE_MARKER) in (None, words.unk_token_id):
        added = {"extra_special_tokens": [image_token(words)]}
        words.add_special_tokens(added, replace_extra_special_tokens=False)
    if words.pad_token in (None, words.unk_token, words.bos_token, words.eos_token):
        words.add_special_tokens({"pad_token": PAD_MARKER})


def padded(rows: int) -> int:
    """The next multiple of 64."""
    return -(-rows // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def add_rows(table: LazyTensor, rows: int) -> LazyTensor:
    """A table [old, width] grown to `rows` rows; the old ones are unchanged, each new one is their mean."""
    old, width = table.shape
    if rows == old:
        return table

    def grow(tensor: torch.Tensor) -> torch.Tensor:
        grown = tensor.new_empty(rows, width)
        grown[:old] = tensor
        total = sum(part.float().sum(dim=0) for part in tensor.split(ROWS_AT_ONCE))
        grown[old:] = total / old
        return grown

    return table.map(grow, shape=(rows, width))


def grow_vocabulary(tensors: Mapping[str, LazyTensor], tokenizer: PreTrainedTokenizerBase) -> dict[str, LazyTensor]:
    """The same tensors (classic names) with embeddings and head tall enough for `tokenizer`, and a multiple of 64.

    A head that is tied to the embeddings is in no file, and stays so.
    """
    words: Any = tokenizer
    rows = padded(max(tensors[EMBEDDINGS].shape[0], len(words)))
    return {name: add_rows(table, rows) if name in (EMBEDDINGS, HEAD) else table for name, table in tensors.items()}
