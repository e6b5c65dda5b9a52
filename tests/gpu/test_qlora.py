"""Low-rank additions beside a quantised language model, on every device: they learn, go on, and are folded in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.generate import Prompt
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.precision import compute_dtype
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.model.save import save_model
from llavamed_cli.training.adapters import save_adapters
from llavamed_cli.training.optimizer import make_optimizer
from llavamed_cli.training.parts import merge_parts, prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe

pytestmark = pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")
Logits = Callable[[LoadedModel, Prompt], torch.Tensor]
QUANTISED = ("4bit", "8bit")
STEPS = 8


def recipe_of(quantise: str, **settings: Any) -> Recipe:
    return Recipe(
        train=("projector", "lm"),
        quantise=quantise,
        lora_rank=8,
        learning_rate=2e-3,
        projector_learning_rate=1e-3,
        optimizer="adamw8bit",
        **settings,
    )


def opened(tiny_model: Path, device: str, recipe: Recipe) -> LoadedModel:
    loaded = load_model(str(tiny_model), device=device, for_training=True, quantise=recipe.quantise)
    prepare_parts(loaded.model, recipe, seed=0)
    return loaded


def losses(loaded: LoadedModel, optimizer: torch.optim.Optimizer, prompt: Prompt, steps: int) -> list[float]:
    """The loss of each step on one prompt, its own words as the answer."""
    model: Any = loaded.model
    ids = torch.tensor([loaded.chat.encode_prompt(prompt.turns, [loaded.image_length])], device=loaded.device)
    labels = ids.masked_fill(ids == model.config.image_token_id, -100)
    pixels = loaded.pixels(list(prompt.pictures)).to(loaded.device, model.dtype)
    bf16 = loaded.choices["precision"].value == "bf16"
    found = []
    model.train()
    for _ in range(steps):
        with torch.autocast(loaded.device, torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, pixel_values=pixels, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss))
    model.eval()
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("quantise", QUANTISED)
def test_all_of_it_learns(
    quantise: str, checkpointing: bool, device: str, tiny_model: Path, prompts: list[Prompt]
) -> None:
    recipe = recipe_of(quantise, gradient_checkpointing=checkpointing)
    loaded = opened(tiny_model, device, recipe)
    before = {name: parameter.detach().clone() for name, parameter in trained_parameters(loaded.model).items()}
    frozen = {n: p.detach().clone() for n, p in loaded.model.named_parameters() if n not in before}
    found = losses(loaded, make_optimizer(loaded.model, recipe), prompts[0], STEPS)
    assert found[-1] < 0.8 * found[0]
    now: dict[str, Any] = dict(loaded.model.named_parameters())
    assert all(now[name].dtype == torch.float32 for name in before)
    assert not [name for name, parameter in before.items() if torch.equal(parameter, now[name])]
    assert all(torch.equal(parameter, now[name]) for name, parameter in frozen.items())


@pytest.mark.parametrize("quantise", QUANTISED)
def test_it_goes_on_from_a_file(
    quantise: str, device: str, tiny_model: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    recipe = recipe_of(quantise)
    straight = opened(tiny_model, device, recipe)
    optimizer = make_optimizer(straight.model, recipe)
    losses(straight, optimizer, prompts[0], 2)
    weights = {name: parameter.detach().clone() for name, parameter in trained_parameters(straight.model).items()}
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    rest = losses(straight, optimizer, prompts[0], 2)
    resumed = opened(tiny_model, device, recipe)
    again = make_optimizer(resumed.model, recipe)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True, map_location="cpu"))
    for name, parameter in trained_parameters(resumed.model).items():
        parameter.data.copy_(weights[name])
    assert losses(resumed, again, prompts[0], 2) == pytest.approx(rest, rel=1e-5 if device == "cpu" else 1e-3)


@pytest.mark.parametrize(("quantise", "agreement"), [("4bit", 0.999), ("8bit", 0.99)])
def test_folded_in_it_says_what_was_trained(
    quantise: str,
    agreement: float,
    device: str,
    tiny_model: Path,
    prompts: list[Prompt],
    tmp_path: Path,
    logits_of: Logits,
) -> None:
    recipe = recipe_of(quantise)
    loaded = opened(tiny_model, device, recipe)
    untrained = logits_of(loaded, prompts[0])
    losses(loaded, make_optimizer(loaded.model, recipe), prompts[0], STEPS)
    beside = logits_of(loaded, prompts[0])
    save_adapters(loaded.model, tmp_path / "adapter", base=str(tiny_model), quantise=quantise)
    merge_parts(loaded.model)
    model: Any = loaded.model
    model.to(compute_dtype(loaded.choices["precision"].value, device))
    save_model(loaded.model, loaded.processor, tmp_path / "merged")
    merged = load_model(str(tmp_path / "merged"), device=device, precision=loaded.choices["precision"].value)
    said = logits_of(merged, prompts[0])
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(said, beside, dim=0) > agreement
    assert cosine(said, beside, dim=0) > cosine(said, untrained, dim=0)
