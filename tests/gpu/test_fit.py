"""`--max-tokens auto` on every device: as long as memory allows, and shorter where there is less of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llavamed_cli.model.load import load_model
from llavamed_cli.progress import Silent
from llavamed_cli.training.data_files import find_data
from llavamed_cli.training.fit import fit_max_tokens
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.planning.machine import this_machine
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import read_examples

RECIPE = Recipe(train=("projector", "lm"), batch_size=9)


def test_less_memory_makes_shorter_rows(device: str, tiny_model: Path, data_folder: Path) -> None:
    """On CUDA the rows are tried, beside a tensor that takes nearly all there is; elsewhere it is arithmetic."""
    loaded = load_model(str(tiny_model), device=device, precision="fp32", for_training=True)
    files = find_data([data_folder], "instruct.jsonl", None)
    examples = read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())
    prepare_parts(loaded.model, RECIPE, seed=0)
    here = this_machine(loaded)
    roomy = int(fit_max_tokens(loaded, examples, RECIPE, here, seed=0, progress=Silent()).value)
    assert roomy >= int(examples.lengths.sum())
    if device == "cuda":
        torch.cuda.empty_cache()
        room = 60 * 2**20
        taken = torch.empty(torch.cuda.mem_get_info()[0] - room, dtype=torch.uint8, device="cuda")
        little = replace(here, free=room)
    else:
        taken = None
        little = replace(here, free=60 * 10**6)
    tight = int(fit_max_tokens(loaded, examples, RECIPE, little, seed=0, progress=Silent()).value)
    del taken
    assert int(examples.lengths.max()) <= tight < roomy
    net: Any = loaded.model
    assert all(parameter.grad is None for parameter in net.parameters())
