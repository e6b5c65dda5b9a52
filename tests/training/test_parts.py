"""What learns: the parts a recipe names and no others; LoRA folded in says what it said beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.packing import collate
from llavamed_cli.training.parts import count, merge_parts, prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import Example
from llavamed_cli.training.step import row_loss

Open = Callable[[], LoadedModel]
BOTH = ("projector", "language_model")


@pytest.mark.parametrize(
    ("train", "inside", "outside"),
    [
        (("projector",), ["multi_modal_projector"], ["language_model", "lm_head", "vision_tower"]),
        (("language_model",), ["language_model"], ["multi_modal_projector", "vision_tower"]),
        (BOTH, ["language_model", "multi_modal_projector"], ["vision_tower"]),
    ],
)
def test_the_parts_named_learn_and_no_others(
    train: tuple[str, ...], inside: list[str], outside: list[str], open_tiny: Open
) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=train), seed=0)
    learning = set(trained_parameters(model))
    for name, _ in model.named_parameters():
        if any(part in name for part in inside):
            assert name in learning
        if any(part in name for part in outside):
            assert name not in learning
    assert learning


def test_lora_learns_beside_every_linear_layer_of_the_language_model(open_tiny: Open) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=4), seed=0)
    learning = trained_parameters(model)
    low = [name for name in learning if "lora_" in name]
    assert len(low) == 4 * 7 * 2  # layers x (q, k, v, o, gate, up, down) x (A, B)
    assert all("language_model" in name for name in low)
    assert {name for name in learning if "lora_" not in name} == {
        f"model.multi_modal_projector.linear_{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")
    }
    width, inner = 128, 384
    shapes = 4 * (width + width) * 4 + 2 * 4 * (width + inner) + 4 * (inner + width)
    projector = (model.config.vision_config.hidden_size + 1) * width + (width + 1) * width
    assert count(learning) == 4 * shapes + projector


def test_the_seed_decides_where_lora_starts(open_tiny: Open) -> None:
    def start(seed: int) -> torch.Tensor:
        model = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=2), seed=seed)
        return torch.cat(
            [one.detach().flatten() for name, one in trained_parameters(model).items() if "lora_A" in name]
        )

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


def test_lora_folded_in_says_what_it_said_beside(open_tiny: Open, examples: tuple[Example, ...]) -> None:
    loaded = open_tiny()
    plain_names = set(loaded.model.state_dict())
    prepare_parts(loaded.model, Recipe(train=BOTH, lora_rank=4, lora_dropout=0.5), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trained_parameters(loaded.model).items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05, generator=generator)
    row = collate(examples[:2])
    seen = FrozenFeatures(loaded).of(row.pictures)
    loaded.model.eval()
    with torch.no_grad():
        model: Any = loaded.model
        ids = torch.as_tensor(examples[8].input_ids, dtype=torch.long)[None]
        beside, loss_beside = model(ids).logits, row_loss(model, row, seen)
        merge_parts(model)
        folded, loss_folded = model(ids).logits, row_loss(model, row, seen)
        fresh: Any = open_tiny().model
        assert not torch.allclose(fresh(ids).logits, folded, atol=1e-2)
    torch.testing.assert_close(folded, beside, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss_folded, loss_beside, atol=1e-4, rtol=1e-5)
    assert set(loaded.model.state_dict()) == plain_names


def test_what_learns_is_held_in_fp32_and_the_rest_as_it_is(tiny_model: Any) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision="bf16")
    model: Any = prepare_parts(loaded.model, Recipe(train=("projector",)), seed=0)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if "projector" in name else torch.bfloat16), name
