"""The optimiser: each group at its own rate and decay, and a state that goes through a file without a bit changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from llavamed_cli.errors import UsageError
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.training.optimizer import MOMENT_BYTES, make_optimizer, need_optimizer, set_rates
from llavamed_cli.training.parts import count, prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe

Open = Callable[[], LoadedModel]
BOTH = ("projector", "lm")
EIGHT_BITS = pytest.param(
    "adamw8bit", marks=pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")
)
OPTIMIZERS = ["adamw", EIGHT_BITS]


def prepared(open_model: Open, **settings: Any) -> tuple[Any, torch.optim.Optimizer]:
    recipe = Recipe(**{"train": BOTH, "learning_rate": 1e-2, **settings})
    model: Any = prepare_parts(open_model().model, recipe, seed=0)
    return model, make_optimizer(model, recipe)


def steps(model: Any, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    """Steps along gradients that are a function of the step's number."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for parameter in trained_parameters(model).values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        set_rates(optimizer, 1 / (1 + number))
        optimizer.step()


def test_rate_and_decay_of_each_parameter(open_tiny: Open) -> None:
    """Decay as transformers' own trainer gives it."""
    model, optimizer = prepared(open_tiny, learning_rate=2e-4, projector_learning_rate=2e-5, weight_decay=0.1)
    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(optimizer.param_groups) == 4
    assert found == {
        name: (2e-5 if "projector" in name else 2e-4, 0.1 if name in decayed else 0.0)
        for name in trained_parameters(model)
    }


def test_one_rate_and_no_decay_are_one_group(open_tiny: Open) -> None:
    model, optimizer = prepared(open_tiny)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in trained_parameters(model).values()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_schedule_scales_every_rate(optimizer: str, open_tiny: Open) -> None:
    _, made = prepared(open_tiny, learning_rate=2e-4, projector_learning_rate=2e-5, optimizer=optimizer)
    for share in (0.5, 0.25, 0.0, 1.0):
        set_rates(made, share)
        assert sorted(group["lr"] for group in made.param_groups) == [2e-5 * share, 2e-4 * share]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_that_of_adamw(optimizer: str, open_counted: Open) -> None:
    """Written out (Loshchilov and Hutter 2019, algorithm 2); in 8 bits the first step is off by the rounding alone."""
    model, made = prepared(open_counted, weight_decay=0.1, optimizer=optimizer)
    before = {name: parameter.detach().clone() for name, parameter in trained_parameters(model).items()}
    steps(model, made, range(1))
    for name, parameter in trained_parameters(model).items():
        gradient = parameter.grad
        assert gradient is not None
        decayed = before[name] * (1 - 1e-2 * (0.1 if parameter.ndim > 1 else 0))
        expected = decayed - 1e-2 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("rank", [0, 40])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_from_a_file_goes_on_to_the_same_bits(
    optimizer: str, rank: int, open_counted: Open, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "optimizer": optimizer, "lora_rank": rank, "weight_decay": 0.1, "projector_learning_rate": 1e-3
    }  # fmt: skip
    straight, made = prepared(open_counted, **settings)
    steps(straight, made, range(3))
    torch.save(made.state_dict(), tmp_path / "state.pt")
    weights = {name: parameter.detach().clone() for name, parameter in trained_parameters(straight).items()}
    steps(straight, made, range(3, 6))

    resumed, again = prepared(open_counted, **settings)
    for name, parameter in trained_parameters(resumed).items():
        parameter.data.copy_(weights[name])
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(saved)
    same_state(again.state_dict(), saved)
    steps(resumed, again, range(3, 6))
    same_state(again.state_dict(), made.state_dict())
    for name, parameter in trained_parameters(resumed).items():
        assert torch.equal(parameter, trained_parameters(straight)[name]), name


def same_state(one: Any, other: Any) -> None:
    """Equal to the last bit, and of the same types."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same_state(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same_state(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_it_keeps_takes_what_is_stated(optimizer: str, open_tiny: Open) -> None:
    """Of the matrices; word tables, as bitsandbytes advises, and the smallest tensors keep 32 bits."""
    model, made = prepared(open_tiny, optimizer=optimizer)
    steps(model, made, range(1))
    table = model.get_input_embeddings().weight
    large = {name: p for name, p in trained_parameters(model).items() if p.numel() >= 4096 and p is not table}
    held = sum(moments(made, parameter) for parameter in large.values())
    assert MOMENT_BYTES[optimizer] * count(large) <= held < (MOMENT_BYTES[optimizer] + 0.2) * count(large)
    assert moments(made, table) == 8 * table.numel()


def moments(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> int:
    """Bytes of a parameter's state, without the one code book that all share."""
    state = {name: value for name, value in optimizer.state[parameter].items() if "qmap" not in name and name != "step"}
    return sum(value.numel() * value.element_size() for value in state.values() if isinstance(value, torch.Tensor))


def test_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch, open_tiny: Open) -> None:
    monkeypatch.setattr("llavamed_cli.training.optimizer.has_bitsandbytes", lambda: False)
    need_optimizer(Recipe())
    with pytest.raises(UsageError, match="adamw8bit needs bitsandbytes, which is not installed") as error:
        prepared(open_tiny, optimizer="adamw8bit")
    assert 'optimizer = "adamw"' in str(error.value.hint)
