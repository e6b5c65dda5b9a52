"""What feeds a published checkpoint: HF's LlavaProcessor, from its tokenizer, its tower's settings and a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from llavamed_cli.model.chat_templates import write_bos_once
from llavamed_cli.model.published.llava_config import select_strategy

if TYPE_CHECKING:
    from transformers import LlavaProcessor, PreTrainedTokenizerBase

    from llavamed_cli.model.published.towers import TowerReading

Aspect = Literal["pad", "square"]
"""What becomes of an oblong picture: padded to a square with the mean colour, or its middle square cut out."""


def aspect_of(image_aspect_ratio: str | None) -> Aspect:
    """What a LLaVA config's `image_aspect_ratio` does: "pad" pads, anything else is left to CLIP's centre crop."""
    return "pad" if image_aspect_ratio == "pad" else "square"


def build_processor(
    tokenizer: PreTrainedTokenizerBase,
    template_text: str,
    tower: TowerReading,
    *,
    aspect: Aspect,
    strategy: str | None = None,
) -> LlavaProcessor:
    """A processor whose tokenizer has `<image>`, writing conversations, and their BOS, by `template_text`.

    Args:
        strategy: HF's vision_feature_select_strategy; left out, the class token is dropped where the tower has one.
    """
    return join_processor(
        tokenizer,
        template_text,
        {**tower_settings(tower), "do_pad": aspect == "pad"},
        patch=tower.patch,
        strategy=strategy or select_strategy("patch", class_token=tower.class_token),
        class_token=tower.class_token,
    )


def tower_settings(tower: TowerReading) -> dict[str, Any]:
    """How a picture becomes a tower's pixels: its shorter side scaled to `size`, the middle square cut out."""
    return {
        "size": {"shortest_edge": tower.size},
        "crop_size": {"height": tower.size, "width": tower.size},
        "image_mean": list(tower.mean),
        "image_std": list(tower.std),
    }


def join_processor(
    tokenizer: PreTrainedTokenizerBase,
    template_text: str,
    pictures: Mapping[str, Any],
    *,
    patch: int,
    strategy: str,
    class_token: bool,
) -> LlavaProcessor:
    """The processor of a tokenizer and of image settings, named as in a preprocessor_config.json.

    Args:
        patch: pixels of a patch's side. strategy: HF's name, as in the model's config.
        class_token: whether the tower puts one before its patches.
    """
    from transformers import LlavaProcessor
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    write_bos_once(tokenizer, template_text)
    words: Any = tokenizer
    words.chat_template = template_text
    return LlavaProcessor(
        image_processor=LlavaImageProcessorPil(**pictures),
        tokenizer=words,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=int(class_token),
        chat_template=template_text,
    )
