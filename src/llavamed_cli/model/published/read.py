"""The front door to published checkpoints: a folder of any layout in, Hugging Face's LLaVA in parts out."""

from __future__ import annotations

from pathlib import Path

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.complete import complete
from llavamed_cli.model.published.detect import Layout, detect
from llavamed_cli.model.published.reading import CHECKPOINT, Reading
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.published.tower_settings import read_settings

WITH_BASE = frozenset({Layout.DELTA, Layout.PROJECTOR})
NO_LLAVA = {
    Layout.TOWER: "Name it with --vision-tower.",
    Layout.OPEN_CLIP: "Name it with --vision-tower.",
    Layout.LANGUAGE_MODEL: "Name it with --language-model; `llavamed align` joins it to a vision tower.",
    Layout.GGUF: "Name it with --language-model; `llavamed align` joins it to a vision tower.",
    Layout.ADAPTER: "Merge it into the model it was made for first (peft: merge_and_unload), and save that.",
}
"""Kinds that are no LLaVA by themselves, and what to do with one."""


def read_published(
    folder: Path, *, base: Path | None = None, vision_tower: str = CHECKPOINT, template: str | None = None
) -> Reading:
    """Read a LLaVA of any known layout; its weights stay on disk until they are used.

    Args:
        base: the language model that a delta or a projector alone was made for.
        vision_tower: "checkpoint", "stock", or a folder or hub name.
        template: a built-in chat template's name, instead of the one the checkpoint was taught.

    Raises:
        ModelError: no LLaVA is there, or tensors are missing, unexpected or of another shape.
    """
    layout = detect(folder)
    if layout in NO_LLAVA:
        raise ModelError(f"expected a LLaVA, found {layout.value}", where=str(folder), hint=NO_LLAVA[layout])
    if layout in WITH_BASE and base is None:
        raise ModelError(
            f"found {layout.value}, which is nothing without its base",
            where=str(folder),
            hint="Name the language model it was made for with --base.",
        )
    if layout not in WITH_BASE and base is not None:
        raise ModelError(f"found {layout.value}, whole: it takes no --base", where=str(folder))
    return complete(_read(layout, folder, base, vision_tower, template), str(folder))


def _read(layout: Layout, folder: Path, base: Path | None, vision_tower: str, template: str | None) -> Reading:
    if layout is Layout.PROJECTOR:
        from llavamed_cli.model.published.projector_file import read_projector_file

        assert base is not None
        return read_projector_file(folder, base=base, vision_tower=vision_tower, template=template)
    files, raw = TensorFiles.open(folder), read_settings(folder / "config.json")
    if layout is Layout.HUGGING_FACE:
        from llavamed_cli.model.published.hugging_face import read_hugging_face

        return read_hugging_face(folder, files, raw, vision_tower=vision_tower, template=template)
    if layout is Layout.V15:
        from llavamed_cli.model.published.llava_v15 import read_llava_v15

        return read_llava_v15(folder, files, raw, vision_tower=vision_tower, template=template)
    from llavamed_cli.model.published.llava_v1 import read_llava_v1

    return read_llava_v1(folder, files, raw, base=base, vision_tower=vision_tower, template=template)
