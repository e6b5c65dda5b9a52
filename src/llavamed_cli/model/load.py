"""Open a LLaVA folder or hub name: every tensor accounted for, or an error that lists them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.precision import Choice, choose_device, choose_precision, torch_dtype

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

TENSORS_LISTED = 8


@dataclass(frozen=True)
class LoadedModel:
    """A LLaVA ready to train or to answer.

    choices: what was chosen automatically ("device", "precision", "attention") and why.
    """

    model: LlavaForConditionalGeneration = field(repr=False)
    processor: LlavaProcessor = field(repr=False)
    device: str
    choices: dict[str, Choice]

    @cached_property
    def chat(self) -> ChatFormat:
        """How this model writes conversations."""
        processor: Any = self.processor
        return ChatFormat(processor.tokenizer, processor.chat_template or processor.tokenizer.chat_template)

    def pixels(self, pictures: list[Image]) -> torch.Tensor:
        """Pictures as the tower takes them: float [n, 3, height, width]."""
        processor: Any = self.processor
        pixels: torch.Tensor = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        return pixels

    @cached_property
    def image_length(self) -> int:
        """How many tokens one picture takes."""
        from PIL import Image

        processor: Any = self.processor
        height, width = self.pixels([Image.new("RGB", (8, 8))]).shape[-2:]
        patches = (height // processor.patch_size) * (width // processor.patch_size)
        return patches + processor.num_additional_image_tokens - (processor.vision_feature_select_strategy == "default")


def load_model(where: str, *, device: str = "auto", precision: str = "auto") -> LoadedModel:
    """Load a LLaVA in Hugging Face's layout onto a device.

    Raises:
        ModelError: no model there, another kind of model, no tokenizer or processor, or tensors missing or left over.
    """
    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device.value)
    attention = choose_attention(chosen_device.value, chosen_precision.value)
    _check_folder(where)
    processor = _load_processor(where)
    model = _load_weights(where, torch_dtype(chosen_precision.value), attention.value)
    choices = {"device": chosen_device, "precision": chosen_precision, "attention": attention}
    return LoadedModel(model.to(chosen_device.value).eval(), processor, chosen_device.value, choices)


def _check_folder(where: str) -> None:
    path = Path(where).expanduser()
    if path.exists() and not (path / "config.json").is_file():
        kind = "a file" if path.is_file() else "a folder without config.json"
        raise ModelError(f"expected a model folder, found {kind}", where=where, hint="Name what align or tune wrote.")
    if not path.exists() and (where.startswith((".", "/", "~")) or where.count("/") != 1):
        raise ModelError("no such model folder", where=where)


def _load_processor(where: str) -> Any:
    from transformers import AutoProcessor, LlavaProcessor

    try:
        processor = AutoProcessor.from_pretrained(where)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(
            f"no processor (tokenizer and image settings) could be loaded: {first_line(error)}", where=where
        ) from error
    if not isinstance(processor, LlavaProcessor):
        raise ModelError(f"expected a LLaVA processor with a tokenizer, found {type(processor).__name__}", where=where)
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise ModelError("the tokenizer has no chat template", where=where)
    return processor


def _load_weights(where: str, dtype: torch.dtype, attention: str) -> Any:
    from transformers import AutoConfig, LlavaForConditionalGeneration

    try:
        config = AutoConfig.from_pretrained(where)
    except Exception as error:
        raise ModelError(f"config.json cannot be read: {first_line(error)}", where=where) from error
    if config.model_type != "llava" or not hasattr(config, "vision_config"):
        raise ModelError(f"expected a LLaVA in Hugging Face's layout, found a {config.model_type} model", where=where)
    try:
        model, report = LlavaForConditionalGeneration.from_pretrained(
            where,
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported, and refused below by name
            use_safetensors=True,
        )
    except Exception as error:
        raise ModelError(f"the weights cannot be loaded: {first_line(error)}", where=where) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(found if isinstance(found, str) else found[0] for found in report.get(what) or ())
        if names:
            listed = ", ".join(names[:TENSORS_LISTED]) + (" ..." if len(names) > TENSORS_LISTED else "")
            raise ModelError(f"{len(names)} tensor(s) {what.split('_')[0]}: {listed}", where=where)
    return model
