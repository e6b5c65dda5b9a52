"""A CLIP whole: pictures and texts as vectors of one space, whose cosine says how well they fit.

Hugging Face's CLIP (PubMedCLIP is one) or open_clip's BiomedCLIP. Nothing is fetched, and none of the folder's code is
run. In 32-bit numbers, so that the size of a batch does not show in the fifth digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.precision import Choice, choose_device

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

TENSORS_LISTED = 8


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP on its device. longest: how many tokens of a text it reads, ends included."""

    device: Choice
    longest: int
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    image_processor: Any = field(repr=False)

    def pictures(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Float [pictures, width], each of length 1."""
        import torch

        pixels = self.image_processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            return _unit(self.model.get_image_features(pixel_values=pixels.to(self.device.value)))

    def texts(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        """Float [texts, width], each of length 1, and which were too long to be read whole."""
        import torch

        if not texts:
            return torch.empty(0), []
        texts = list(texts)
        truncated = [len(ids) > self.longest for ids in self.tokenizer(texts, verbose=False)["input_ids"]]
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        inputs = {name: tokens[name].to(self.device.value) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return _unit(self.model.get_text_features(**inputs)), truncated

    def shares(self, pictures: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """How a picture is divided among texts: float [pictures, texts], each row adds up to 1."""
        import torch

        with torch.inference_mode():
            shares: torch.Tensor = (self.model.logit_scale.exp() * pictures @ texts.T).softmax(-1)
        return shares


def load_clip_model(folder: Path, *, device: str = "auto") -> Clip:
    """Load the CLIP in `folder` onto a device.

    Raises:
        ModelError: no CLIP is there, or one that lacks its tokenizer, its image settings or a tensor.
    """
    from llavamed_cli.model.published.biomed_clip import is_open_clip

    chosen = choose_device(device)
    if is_open_clip(folder):
        return _biomed(folder, chosen)
    if not (folder / "config.json").is_file():
        hint = (
            "Give a folder with config.json, weights, tokenizer and image settings, or a BiomedCLIP's with "
            "open_clip_config.json, weights and tokenizer."
        )
        raise ModelError("no CLIP in Hugging Face's or open_clip's layout lies there", where=str(folder), hint=hint)
    model = _load_model(folder).to(chosen.value).eval()
    processor = _load_processor(folder)
    longest = int(model.config.text_config.max_position_embeddings)
    return Clip(chosen, longest, model, processor.tokenizer, processor.image_processor)


def _biomed(folder: Path, device: Choice) -> Clip:
    from transformers import CLIPImageProcessorPil

    from llavamed_cli.model.published.biomed_clip import load_biomed_clip

    loaded = load_biomed_clip(folder)
    size = loaded.vision.config.image_size
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(loaded.vision.mean),
        image_std=list(loaded.vision.std),
    )
    return Clip(device, loaded.longest, loaded.model.to(device.value), loaded.tokenizer, pictures)


def _unit(features: Any) -> torch.Tensor:
    """Features as rows of length 1; transformers 5 hands them over as its models' outputs."""
    rows: torch.Tensor = getattr(features, "pooler_output", features)
    return rows / rows.norm(dim=-1, keepdim=True)


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
