"""LLaVA 1.5 and LLaVA-Med 1.5 as their authors publish them: `llava_llama`, `llava_mistral`, a two-layer projector.

Everything maps name for name. Left-overs of training in the config are ignored and listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.choose_tower import choose_tower
from llavamed_cli.model.published.inside_tower import tower_names
from llavamed_cli.model.published.join import Parts, join
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.llava_config import text_config
from llavamed_cli.model.published.names import classic_name_of_original, renamed, split_ignored
from llavamed_cli.model.published.reading import CHECKPOINT, Reading

FAMILY_TEMPLATES = {"mistral": "mistral_instruct", "llama": "vicuna_v1"}
"""What conversations LLaVA-Med 1.5 and LLaVA 1.5 were trained on, by the kind of language model."""


def read_llava_v15(
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
        vision_tower: as `choose_tower` takes it.
        template: a built-in chat template's name, instead of the family's.

    Raises:
        ModelError: a part is missing or cannot be read.
    """
    from llavamed_cli.model.published.tokenizer import load_tokenizer

    family = text_config(raw).model_type
    tower = choose_tower(vision_tower, raw, files, folder)
    inside = frozenset(tower_names(files))
    kept, ignored = split_ignored(name for name in files if name not in inside)
    names = {name: classic_name_of_original(name, tower.tower.config.model_type) for name in kept}
    chosen = (
        Choice(template, "asked for") if template else Choice(FAMILY_TEMPLATES[family], f"a {family} of version 1.5")
    )
    return join(
        Parts(
            layout=f"{raw.get('model_type')}, as the original code saves it",
            folder=folder,
            raw=raw,
            tokenizer=load_tokenizer(folder),
            tensors=renamed(files, names),
            tower=tower,
            template=chosen,
            ignored=ignored,
        )
    )
