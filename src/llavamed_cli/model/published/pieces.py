"""sentencepiece's BPE in the tokenizers library, id for id: the vocabulary of LLaMA and Mistral.

sentencepiece joins, again and again, the neighbours whose whole has the best score. The tokenizers library wants a list
of pairs instead, so every pair that makes a piece is listed, in the order of the pieces' scores. Other kinds of
sentencepiece models (unigram, or with a normalisation of their own) are left to transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLANK = "▁"
"""What sentencepiece writes for a space."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
"""Kinds of pieces in sentencepiece_model.proto."""
BPE_MODEL = 2


@dataclass(frozen=True)
class Pieces:
    """A BPE vocabulary of sentencepiece.

    vocabulary: piece to id. scores: of the pieces that merging can make. marked: control pieces (True) and symbols
    of the author's own (False). named: "bos_token" and the like, as the file itself names them.
    """

    vocabulary: Mapping[str, int]
    scores: Mapping[str, float]
    marked: Mapping[str, bool]
    named: Mapping[str, str]
    byte_fallback: bool
    leading_blank: bool


def read_pieces(path: Path) -> Pieces | None:
    """The BPE pieces of a `tokenizer.model`; None where there is no such file, or another kind of sentencepiece model.

    Raises ModelError where the file is no sentencepiece model.
    """
    if not path.is_file():
        return None
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2
    proto = messages.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"not a sentencepiece model: {first_line(error)}", where=str(path)) from error
    trained, normal = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces:
        raise ModelError("a sentencepiece model without pieces", where=str(path))
    if trained.model_type != BPE_MODEL or normal.precompiled_charsmap or normal.remove_extra_whitespaces:
        return None
    kinds = {p.piece: p.type for p in proto.pieces}
    named = {"unk_token": trained.unk_piece, "bos_token": trained.bos_piece, "eos_token": trained.eos_piece}
    return Pieces(
        vocabulary={p.piece: index for index, p in enumerate(proto.pieces)},
        scores={p.piece: p.score for p in proto.pieces if p.type == NORMAL},
        marked={p: kind != USER_DEFINED for p, kind in kinds.items() if kind in (UNKNOWN, CONTROL, USER_DEFINED)},
        named={name: piece for name, piece in named.items() if piece in kinds},
        byte_fallback=BYTE in kinds.values(),
        leading_blank=normal.add_dummy_prefix,
    )


def sentencepiece_core(pieces: Pieces, *, legacy: bool) -> Tokenizer:
    """sentencepiece's BPE in the tokenizers library.

    Args:
        legacy: a blank goes before the text after every added token, as LLaMA's first tokenizer did; else (newer
            folders say `"legacy": false`) only before the very first text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    core = Tokenizer(
        models.BPE(
            vocab=dict(pieces.vocabulary),
            merges=merges_of(pieces),
            unk_token=pieces.named.get("unk_token"),
            fuse_unk=True,
            byte_fallback=pieces.byte_fallback,
        )
    )
    blanks: list[Any] = [normalizers.Replace(" ", BLANK)]
    if pieces.leading_blank and legacy:
        core.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), *blanks])
    elif pieces.leading_blank:
        core.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="first", split=False)
    else:
        core.normalizer = normalizers.Sequence(blanks)
    strip = [decoders.Strip(content=" ", left=1, right=0)] if pieces.leading_blank else []
    core.decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return core


def merges_of(pieces: Pieces) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, best score first: sentencepiece joins the pair whose whole is best."""
    found = []
    for piece, score in pieces.scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces.scores and right in pieces.scores:
                found.append((-score, pieces.vocabulary[piece], cut, left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def disagreement(pieces: Pieces, model: Mapping[str, Any]) -> str | None:
    """How the "model" part of a `tokenizer.json` differs from the pieces: other pairs, or worse pieces first.

    transformers 4.28 left out the pairs that make the best piece, whose score is 0.
    """
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges") or ()]
    theirs = [pair for pair in pairs if "".join(pair) in pieces.scores]
    scores = [pieces.scores["".join(pair)] for pair in theirs]
    apart = sorted(set(merges_of(pieces)) ^ set(theirs))
    if apart:
        return f"{len(apart)} merge(s) differ, the first is {apart[0][0]!r} + {apart[0][1]!r}"
    if any(later > earlier for earlier, later in pairwise(scores)):
        return "the merges are not in the order of the pieces' scores"
    if any(model.get("vocab", {}).get(piece) != index for piece, index in pieces.vocabulary.items()):
        return "the vocabularies differ"
    return None
