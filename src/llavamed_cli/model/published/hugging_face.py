"""LLaVA in Hugging Face's own layout, as transformers 4.3x to 5.x and the people around it have written it.

Tensor names, config keys and the processor's files have all changed over these years. What a file leaves out is taken
from what the model is, never from a default for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat_templates import template_for
from llavamed_cli.model.hub import locate
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.choose_tower import OWN_LEFT_OUT
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.llava_config import greedy_generation, select_strategy
from llavamed_cli.model.published.names import TOWER, classic_name, renamed, split_ignored
from llavamed_cli.model.published.processor import join_processor, tower_settings
from llavamed_cli.model.published.processor_files import picture_settings, stored_template
from llavamed_cli.model.published.reading import CHECKPOINT, STOCK, LoadReport, Reading
from llavamed_cli.model.published.tower_settings import read_settings
from llavamed_cli.model.published.towers import FAMILIES, TowerFamily, TowerReading, read_tower
from llavamed_cli.model.published.vocabulary import EMBEDDINGS, add_tokens, grow_vocabulary
from llavamed_cli.records import IMAGE_MARKER

if TYPE_CHECKING:
    from transformers import GenerationConfig, LlavaConfig, PreTrainedTokenizerBase

FAMILY_TEMPLATES = {"llama": "vicuna_v1", "mistral": "mistral_instruct", "qwen2": "chatml"}
"""For a folder without a template, by the kind of language model: what LLaVAs of that kind were taught."""


def read_hugging_face(
    folder: Path,
    files: Mapping[str, LazyTensor],
    raw: Mapping[str, Any],
    *,
    vision_tower: str = CHECKPOINT,
    template: str | None = None,
) -> Reading:
    """Read a checkpoint of this layout.

    Args:
        files: its tensors by stored name. raw: its config.json.
        vision_tower: "checkpoint", or the folder or hub name of another tower of the same width.
        template: a built-in chat template's name, instead of the folder's own.

    Raises:
        ModelError: a part is missing or cannot be read.
    """
    from llavamed_cli.model.published.tokenizer import load_tokenizer

    config: Any = _config(raw, folder)
    family = _family(config, folder)
    kept, ignored = split_ignored(files)
    tower_kind = config.vision_config.model_type
    tensors = renamed(files, {name: classic_name(name, tower_kind) for name in kept})
    tokenizer: Any = load_tokenizer(folder, fast_file_first=True)
    tensors = _settle_tokens(tensors, tokenizer, config, folder)
    parts = _Parts(tensors, picture_settings(folder, family), ignored)
    if vision_tower != CHECKPOINT:
        parts = _with_tower(parts, _other_tower(vision_tower, folder), config, family)
    text, chosen = _template(template, folder, tokenizer, config)
    family = _family(config, folder)
    config.image_seq_length = _picture_tokens(parts.pictures, config, family)
    processor = join_processor(
        tokenizer,
        text,
        parts.pictures,
        patch=int(config.vision_config.patch_size),
        strategy=config.vision_feature_select_strategy,
        class_token=family.class_token,
    )
    tower = Choice(vision_tower, "its own" if vision_tower == CHECKPOINT else "asked for")
    report = LoadReport(
        layout="LLaVA in Hugging Face's layout",
        choices={"vision tower": tower, "chat template": chosen},
        used=len(parts.tensors),
        added=parts.added,
        ignored=parts.ignored,
    )
    return Reading(config, processor, _generation(folder, tokenizer, text), parts.tensors, report)


@dataclass(frozen=True)
class _Parts:
    """tensors: by classic name. pictures: image settings. ignored, added: as a LoadReport has them."""

    tensors: Mapping[str, LazyTensor]
    pictures: Mapping[str, Any]
    ignored: Mapping[str, tuple[str, ...]]
    added: Mapping[str, str] = field(default_factory=dict)


def _with_tower(parts: _Parts, tower: TowerReading, config: Any, family: TowerFamily) -> _Parts:
    """The same with another tower, whose config takes the place of the one of `family`.

    What of its tokens is read stays what it was: patches alone, or the class token too.
    """
    own = tuple(name for name in parts.tensors if name.startswith(TOWER))
    tensors = {name: tensor for name, tensor in parts.tensors.items() if not name.startswith(TOWER)}
    with_class = family.class_token and config.vision_feature_select_strategy == "full"
    feature = "cls_patch" if with_class else "patch"
    config.vision_config = tower.config
    config.vision_feature_select_strategy = select_strategy(feature, class_token=tower.class_token)
    return _Parts(
        tensors={**tensors, **{TOWER + name: tensor for name, tensor in tower.tensors.items()}},
        pictures={**parts.pictures, **tower_settings(tower)},
        ignored={**parts.ignored, **tower.ignored, OWN_LEFT_OUT: own},
        added={TOWER + name: how for name, how in tower.added.items()},
    )


def _config(raw: Mapping[str, Any], folder: Path) -> LlavaConfig:
    """The config, of any age: keys that today's does not know are left alone by transformers itself."""
    from transformers import LlavaConfig

    if raw.get("quantization_config"):
        raise ModelError(
            "the weights are quantised, and cannot be read tensor by tensor",
            where=str(folder),
            hint="Name the folder that they were quantised from.",
        )
    try:
        config: LlavaConfig = LlavaConfig.from_dict(dict(raw))
    except Exception as error:  # transformers validates a stranger's values, and raises as it pleases
        reason = " ".join(str(error).split())
        raise ModelError(f"config.json makes no sense: {reason}", where=str(folder)) from error
    return config


def _family(config: Any, folder: Path) -> TowerFamily:
    kind = config.vision_config.model_type
    if kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelError(f"its vision tower is a {kind}; known are {known}", where=str(folder))
    return FAMILIES[kind]


def _other_tower(wanted: str, folder: Path) -> TowerReading:
    if wanted == STOCK:
        raise ModelError(
            "the config of a LLaVA in Hugging Face's layout names no stock vision tower",
            where=str(folder),
            hint="Name one with --vision-tower FOLDER, or leave the option out.",
        )
    return read_tower(locate(wanted))


def _settle_tokens(
    tensors: Mapping[str, LazyTensor], tokenizer: Any, config: Any, folder: Path
) -> dict[str, LazyTensor]:
    """See to `<image>` and a pad token; the tables grow only where a token has no row yet.

    Raises:
        ModelError: no table, or the token that config.json has stand for a picture is another one.
    """
    if EMBEDDINGS not in tensors:
        raise ModelError("the weights hold no table of word embeddings", where=str(folder))
    had = IMAGE_MARKER in tokenizer.get_vocab()
    if not had or tokenizer.pad_token is None:
        add_tokens(tokenizer)
    place = tokenizer.convert_tokens_to_ids(IMAGE_MARKER)
    if had and place != config.image_token_index:
        raise ModelError(
            f"config.json has the token {config.image_token_index} stand for a picture, but {IMAGE_MARKER} is {place}",
            where=str(folder),
        )
    config.image_token_index = place
    config.pad_token_id = tokenizer.pad_token_id
    if len(tokenizer) > tensors[EMBEDDINGS].shape[0]:
        tensors = grow_vocabulary(tensors, tokenizer)
        config.text_config.vocab_size = tensors[EMBEDDINGS].shape[0]
    return dict(tensors)


def _template(wanted: str | None, folder: Path, tokenizer: PreTrainedTokenizerBase, config: Any) -> tuple[str, Choice]:
    if wanted is not None:
        return template_for(wanted, tokenizer), Choice(wanted, "asked for")
    stored = stored_template(folder, tokenizer)
    if stored is not None:
        return stored, Choice("own", "the folder brings one")
    kind = config.text_config.model_type
    name = FAMILY_TEMPLATES.get(kind, "vicuna_v1")
    return template_for(name, tokenizer), Choice(name, f"the folder brings none; a LLaVA over {kind}")


def _picture_tokens(pictures: Mapping[str, Any], config: Any, family: TowerFamily) -> int:
    """How many tokens a picture takes; old configs do not say, and transformers' default is one model's."""
    size = pictures.get("crop_size") if pictures.get("do_center_crop", True) else pictures.get("size")
    side = size.get("height") or size.get("shortest_edge") if isinstance(size, dict) else size
    patches = (int(side or config.vision_config.image_size) // int(config.vision_config.patch_size)) ** 2
    return patches + int(family.class_token and config.vision_feature_select_strategy == "full")


def _generation(folder: Path, tokenizer: Any, template: str) -> GenerationConfig:
    """Greedy; the end tokens of the folder's own generation config are kept, as a template's may differ."""
    generation: Any = greedy_generation(tokenizer, template)
    file = folder / "generation_config.json"
    named = read_settings(file).get("eos_token_id") if file.is_file() else None
    ends = [end for end in (named if isinstance(named, list) else [named]) if isinstance(end, int)]
    if ends and max(ends) < len(tokenizer):
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]
    return generation
