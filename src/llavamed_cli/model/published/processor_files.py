"""A Hugging Face folder's processor: image settings and chat template, in whichever files its age put them.

transformers 4.3x   preprocessor_config.json; processor_config.json without patch_size; chat_template in the
                    tokenizer's config
4.4x to 4.5x        chat_template.json, or processor_config.json's own key
5                   processor_config.json with the image settings inside; chat_template.jinja
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.chat_templates import TEMPLATES, accept_typed_content
from llavamed_cli.model.published.tower_settings import image_settings, read_settings
from llavamed_cli.model.published.towers import TowerFamily

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PICTURE_KEYS = frozenset(
    {
        "crop_size",
        "do_center_crop",
        "do_convert_rgb",
        "do_normalize",
        "do_pad",
        "do_rescale",
        "do_resize",
        "image_mean",
        "image_std",
        "resample",
        "rescale_factor",
        "size",
    }
)
"""What LLaVA's image processor takes; the rest of such a file names classes, or serves other models."""
CROPPING = ("CLIP", "Llava", "Bit")
"""Image processors that cut out the middle unless their file says otherwise; SigLIP's and ViT's do not."""
PROBE = "llavamed"


def picture_settings(folder: Path, family: TowerFamily) -> dict[str, Any]:
    """The folder's image settings, with the statistics of the tower's family where they leave them out.

    Raises:
        ModelError: a file that cannot be read, or none: padded or cropped, the model would run either way.
    """
    found = image_settings(folder)
    if not found:
        raise ModelError(
            "no image settings (preprocessor_config.json, or processor_config.json) lie there",
            where=str(folder),
            hint="Fetch or copy the whole folder.",
        )
    kind = str(found.get("image_processor_type") or found.get("feature_extractor_type") or CROPPING[0])
    settings = {"do_center_crop": kind.startswith(CROPPING), "image_mean": family.mean, "image_std": family.std}
    return {**settings, **{key: value for key, value in found.items() if key in PICTURE_KEYS and value is not None}}


def stored_template(folder: Path, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The folder's own chat template, taking text or typed parts as content; None where it has none.

    Raises:
        ModelError: a file that cannot be read, or a template that is none.
    """
    words: Any = tokenizer
    found: Any = _file_template(folder) or words.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    if not found:
        return None
    if not isinstance(found, str):
        raise ModelError(f"the chat template is no text, but a {type(found).__name__}", where=str(folder))
    return accept_typed_content(found) if _writes_plain(found, words, folder) else _accept_plain_content(found)


def _file_template(folder: Path) -> Any:
    """From the files that go before the tokenizer's own config."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json"):
        if (folder / name).is_file():
            found = read_settings(folder / name).get("chat_template")
            if found:
                return found
    return None


def _writes_plain(template: str, tokenizer: Any, folder: Path) -> bool:
    """Whether text as content is written; llava-hf's templates take typed parts alone, and drop it in silence."""
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": PROBE}], chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a stranger's template raises whatever it stumbles over
        try:
            tokenizer.apply_chat_template(
                [{"role": "user", "content": [{"type": "text", "text": PROBE}]}], chat_template=template, tokenize=False
            )
        except Exception:
            raise ModelError(f"the chat template does not work: {first_line(error)}", where=str(folder)) from error
        return False
    return PROBE in text


def _accept_plain_content(template: str) -> str:
    """Let a template that takes typed parts alone also take text, with `<image>` where pictures stand."""
    return (TEMPLATES / "plain_content.jinja").read_text(encoding="utf-8").replace("\n", "") + template
