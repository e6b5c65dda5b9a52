"""A CLIP's view of a picture: how well its caption fits, and which modality it looks like. `--clip FOLDER`.

Any CLIP in Hugging Face's layout. Nothing is fetched, and none of the folder's code is run. In 32-bit numbers, so that
the size of a batch does not show in the fifth digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.precision import Choice, choose_device

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PAIRS_AT_ONCE = 16
TENSORS_LISTED = 8


@dataclass(frozen=True)
class ClipScore:
    """What a CLIP makes of one pair.

    similarity: the cosine of picture and caption, from -1 to 1. truncated: the caption was too long to be read whole.
    modality: the domain's that the picture is nearest to; share: its softmax among them all. None if it has none.
    """

    similarity: float
    truncated: bool
    modality: str | None = None
    share: float | None = None


class ClipScorer:
    """A loaded CLIP. Made by `load_clip`."""

    def __init__(self, model: Any, processor: Any, domain: Domain, device: Choice) -> None:
        self.device = device
        self.truncated = 0
        self._model, self._processor = model, processor
        self._longest: int = model.config.text_config.max_position_embeddings
        self._modalities = [modality.name for modality in domain.modalities]
        self._prompts = self._texts([modality.phrase for modality in domain.modalities])[0]  # [modalities, width]

    def score(self, pairs: Sequence[tuple[Path, str]]) -> list[ClipScore]:
        """Score pairs of a picture and its caption. `truncated` counts the captions that were too long.

        Raises:
            PictureError: a picture cannot be opened.
        """
        scores: list[ClipScore] = []
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = pairs[start : start + PAIRS_AT_ONCE]
            scores.extend(self._score([open_picture(path) for path, _ in part], [caption for _, caption in part]))
        self.truncated += sum(score.truncated for score in scores)
        return scores

    def _score(self, pictures: list[Image], captions: list[str]) -> list[ClipScore]:
        import torch

        seen = self._pictures(pictures)  # [pairs, width]
        read, truncated = self._texts(captions)
        similarities = (seen * read).sum(-1).clamp(-1, 1).tolist()
        if not self._modalities:
            return [ClipScore(*score) for score in zip(similarities, truncated, strict=True)]
        with torch.inference_mode():
            shares = (self._model.logit_scale.exp() * seen @ self._prompts.T).softmax(-1)  # [pairs, modalities]
        share, best = (values.tolist() for values in shares.max(-1))
        names = [self._modalities[index] for index in best]
        return [ClipScore(*score) for score in zip(similarities, truncated, names, share, strict=True)]

    def _pictures(self, pictures: list[Image]) -> torch.Tensor:
        """Float [pictures, width], each of length 1."""
        import torch

        pixels = self._processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            return _unit(self._model.get_image_features(pixel_values=pixels.to(self.device.value)))

    def _texts(self, texts: list[str]) -> tuple[torch.Tensor, list[bool]]:
        """Float [texts, width], each of length 1, and which were cut."""
        import torch

        if not texts:
            return torch.empty(0), []
        tokenizer = self._processor.tokenizer
        truncated = [len(ids) > self._longest for ids in tokenizer(texts, verbose=False)["input_ids"]]
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        inputs = {name: tokens[name].to(self.device.value) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return _unit(self._model.get_text_features(**inputs)), truncated


def _unit(features: Any) -> torch.Tensor:
    """Features as rows of length 1; transformers 5 hands them over as its models' outputs."""
    rows: torch.Tensor = getattr(features, "pooler_output", features)
    return rows / rows.norm(dim=-1, keepdim=True)


def load_clip(folder: Path, domain: Domain, *, device: str = "auto") -> ClipScorer:
    """Load a CLIP onto a device. `domain` gives the modalities to tell apart.

    Raises:
        ModelError: no CLIP in that folder, or one that lacks its tokenizer, its image settings or a tensor.
    """
    if not (folder / "config.json").is_file():
        hint = "Give a folder with config.json, weights, tokenizer and image settings."
        raise ModelError("no CLIP in Hugging Face's layout lies there", where=str(folder), hint=hint)
    chosen = choose_device(device)
    model = _load_model(folder).to(chosen.value).eval()
    return ClipScorer(model, _load_processor(folder), domain, chosen)


def _load_model(folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModel

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        if config.model_type != "clip":
            raise ModelError(f"expected a CLIP, found a {config.model_type} model", where=str(folder))
        model, report = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, weights_only=True, output_loading_info=True, **local
        )
    except ModelError:
        raise
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"the CLIP cannot be loaded: {first_line(error)}", where=str(folder)) from error
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        listed = ", ".join(missing[:TENSORS_LISTED]) + (" ..." if len(missing) > TENSORS_LISTED else "")
        raise ModelError(f"{len(missing)} tensor(s) missing: {listed}", where=str(folder))
    return model


def _load_processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            f"no tokenizer and image settings can be loaded: {first_line(error)}", where=str(folder)
        ) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        found = type(processor).__name__
        raise ModelError(f"expected a tokenizer and image settings, found {found} alone", where=str(folder))
    return processor
