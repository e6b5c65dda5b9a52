"""Write a LLaVA as a plain Hugging Face folder, into place only when every file of it is whole."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.files import umask
from llavamed_cli.model.portable import make_portable

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

STAGING = ".model-"
LAST_FILE = "config.json"
"""Moved into place last: a folder without it opens nowhere, so a half-moved model is never taken for a whole one."""


def save_model(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Save weights (safetensors), config, generation config, tokenizer, processor and chat template into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for remains in folder.glob(f"{STAGING}*"):  # of a run that was killed while it saved
        shutil.rmtree(remains)
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
    try:
        keeper: Any = model
        keeper.save_pretrained(staging)
        feeder: Any = processor
        feeder.save_pretrained(staging)
        make_portable(staging)
        files = sorted(staging.iterdir(), key=lambda file: file.name == LAST_FILE)
        for file in files:
            file.chmod(0o666 & ~umask())  # safetensors writes files that only their owner can read
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
