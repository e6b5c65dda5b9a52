"""A LLaVA without its weights: shapes on torch's meta device, to plan what could never be held here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llavamed_cli.model.hub import hub_name, locate
from llavamed_cli.model.load import LoadedModel, load_config, load_processor
from llavamed_cli.model.precision import Choice, choose_device, choose_precision
from llavamed_cli.model.published.read import read_published
from llavamed_cli.model.published.tower_settings import read_settings

if TYPE_CHECKING:
    from transformers import LlavaConfig


def load_skeleton(where: str, *, device: str = "auto", precision: str = "auto") -> LoadedModel:
    """What `load_model` would load to train, its tensors without contents.

    Of a folder in Hugging Face's layout config and processor are enough, and of a hub name no more is fetched. Other
    layouts' weights must be there: their names tell the layout.

    Raises:
        ModelError: no LLaVA is there. UsageError: a device or precision that cannot be had.
    """
    import torch
    from transformers import LlavaForConditionalGeneration

    chosen_device = choose_device(device)
    choices = {"device": chosen_device, "precision": choose_precision(precision, chosen_device.value)}
    config, processor = _described(where)
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    choices["attention"] = Choice("sdpa", "nothing is computed")
    return LoadedModel(model.eval(), processor, chosen_device.value, choices)


def _described(where: str) -> tuple[LlavaConfig, Any]:
    folder = locate(where, weights=False)
    file = folder / "config.json"
    if file.is_file() and {"text_config", "vision_config"} <= read_settings(file).keys():
        return load_config(folder), load_processor(folder)
    if hub_name(where) is not None:
        folder = locate(where)
    reading = read_published(folder)
    return reading.config, reading.processor
