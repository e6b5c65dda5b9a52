"""An image classifier as Hugging Face saves one, which names the class of a picture. 32-bit numbers, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES_NAMED = 12


def load_classifier(folder: Path, wanted: Sequence[str]) -> Callable[[Image], str]:
    """What names a picture's class: as `wanted` writes it, whatever its letters' case, else as the model does.

    Nothing is fetched, and none of the folder's code is run.

    Raises:
        ModelError: no classifier is there; one whose weights are incomplete, for a head of random numbers would route
            at random; or one that has none of the wanted classes.
    """
    import torch

    model, processor = _load(folder)
    names = {number: str(name) for number, name in model.config.id2label.items()}
    as_wanted = {name.casefold(): name for name in wanted}
    if not any(name.casefold() in as_wanted for name in names.values()):
        known = ", ".join([*names.values()][:CLASSES_NAMED]) + (" ..." if len(names) > CLASSES_NAMED else "")
        raise ModelError(
            f"this classifier has none of the classes {', '.join(wanted)}",
            where=str(folder),
            hint=f"An expert's label is one of its classes: {known}.",
        )

    def classify(picture: Image) -> str:
        with torch.inference_mode():
            logits = model(**processor(images=picture, return_tensors="pt")).logits
        name = names[int(logits[0].argmax())]
        return as_wanted.get(name.casefold(), name)

    return classify


def _load(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, report = AutoModelForImageClassification.from_pretrained(
            folder, dtype=torch.float32, weights_only=True, output_loading_info=True, **local
        )
        processor = AutoImageProcessor.from_pretrained(folder, **local)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"no image classifier can be loaded: {first_line(error)}", where=str(folder)) from error
    wrong = sorted([*report.get("missing_keys", ()), *(str(key[0]) for key in report.get("mismatched_keys", ()))])
    if wrong:
        raise ModelError(f"{len(wrong)} tensor(s) missing, the first {wrong[0]}", where=str(folder))
    return model.eval(), processor
