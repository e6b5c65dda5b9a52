"""The device as a parameter: the same bodies on a CPU and, where there is one, on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.generate import Prompt
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.phantoms import draw_phantoms
from llavamed_cli.records import Turn


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """`cpu`, and `cuda` where it is."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here; tests/gpu/README.md says how to run this elsewhere")
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    """Questions of different lengths, so that a batch of them is padded."""
    asked = ("Is there a mass?", "Which organ is shown here?", "What?")
    phantoms = draw_phantoms(len(asked), split="test", seed=0)
    return [
        Prompt((Turn(speaker="human", text=f"<image>\n{question}"),), (phantom.picture,))
        for question, phantom in zip(asked, phantoms, strict=True)
    ]


def next_logits(loaded: LoadedModel, prompt: Prompt) -> torch.Tensor:
    """Logits of the answer's first token, fp32 on the CPU, [vocabulary]."""
    model: Any = loaded.model
    ids = torch.tensor([loaded.chat.encode_prompt(prompt.turns, [loaded.image_length])], device=loaded.device)
    pixels = loaded.pixels(list(prompt.pictures)).to(loaded.device, model.dtype)
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, pixel_values=pixels, logits_to_keep=1).logits[0, -1]
    return logits.float().cpu()


@pytest.fixture(scope="session")
def exact(tiny_model: Path, prompts: list[Prompt]) -> list[torch.Tensor]:
    """What fp32 on the CPU says to each prompt."""
    loaded = load_model(str(tiny_model), device="cpu", precision="fp32")
    return [next_logits(loaded, prompt) for prompt in prompts]


@pytest.fixture(scope="session")
def logits_of() -> Any:
    """`next_logits`, for tests (a conftest is not imported)."""
    return next_logits
