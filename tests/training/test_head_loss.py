"""The head's loss a few positions at a time: PyTorch's own numbers, and never a tensor of positions by words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llavamed_cli.training import head_loss as room
from llavamed_cli.training.head_loss import head_loss

POSITIONS, WORDS, WIDTH = 23, 50, 12
BF16_STEP = 2.0**-7
"""From a number of bf16 to the next: 8 bits of it are kept."""


@pytest.fixture(params=[1, 7, POSITIONS, 1000], ids="{} at once".format)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Positions computed together."""
    rows: int = request.param
    monkeypatch.setattr(room, "LOGITS_AT_ONCE", rows * WORDS)
    return rows


def drawn(dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(WIDTH, WORDS, bias=False, dtype=dtype)
    head.weight.data.normal_(generator=generator)
    states = torch.randn(POSITIONS, WIDTH, generator=generator).to(dtype).requires_grad_()
    return head, states, torch.randint(WORDS, (POSITIONS,), generator=generator)


def plainly(head: Any, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    (loss / POSITIONS).backward()
    found = [one.grad for one in inputs if one.grad is not None]
    for one in inputs:
        one.grad = None
    assert len(found) == len(inputs)
    return found


class Called(torch.nn.Module):
    """A head that must be called, as a quantised or adapted one must."""

    def __init__(self, inside: torch.nn.Linear) -> None:
        super().__init__()
        self.inside = inside
        self.out_features = inside.out_features

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inside(states)
        return found


@pytest.mark.parametrize("wrap", [lambda head: head, Called], ids=["plain", "called"])
def test_loss_and_gradients_are_those_of_all_logits_at_once(wrap: Any, at_once: int) -> None:
    head, states, targets = drawn()
    expected = plainly(head, states, targets)
    found = head_loss(wrap(head), states, targets)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    wanted = gradients(expected, states, head.weight)
    for one, other in zip(gradients(found, states, head.weight), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_in_double_precision_it_stays_there() -> None:
    head, states, targets = drawn(torch.float64)
    expected = torch.nn.functional.cross_entropy(head(states), targets, reduction="sum")
    found = head_loss(head, states, targets)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-14)
    wanted = gradients(expected, states, head.weight)
    torch.testing.assert_close(gradients(found, states, head.weight), wanted, atol=1e-14, rtol=1e-12)


def test_a_second_backward_is_refused() -> None:
    """The first used the gradients up: no copy of them is made."""
    head, states, targets = drawn()
    loss = head_loss(head, states, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


@pytest.mark.parametrize("frozen", ["states", "head"])
def test_what_is_frozen_gets_no_gradient(frozen: str, at_once: int) -> None:
    head, states, targets = drawn()
    (states if frozen == "states" else head.weight).requires_grad_(False)
    learns = head.weight if frozen == "states" else states
    wanted = gradients(plainly(head, states, targets), learns)
    found = gradients(head_loss(head, states, targets), learns)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert (states if frozen == "states" else head.weight).grad is None


def test_without_gradients_it_is_the_same_loss(at_once: int) -> None:
    head, states, targets = drawn()
    with torch.no_grad():
        loss = head_loss(head, states, targets)
    assert not loss.requires_grad
    assert float(loss) == pytest.approx(float(plainly(head, states, targets).detach()), rel=1e-6)


def test_large_logits_do_not_overflow() -> None:
    head, states, targets = drawn()
    head.weight.data *= 300
    expected = plainly(head, states, targets)
    found = head_loss(head, states, targets)
    assert torch.isfinite(found)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("wrap", [lambda head: head, Called], ids=["plain", "called"])
def test_under_autocast_it_rounds_as_autocast_does(wrap: Any, at_once: int) -> None:
    """fp32 weights, products in bf16, the loss in fp32: within bf16's rounding of PyTorch's own under autocast."""
    head, states, targets = drawn()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = plainly(head, states, targets)
        found = head_loss(wrap(head), states, targets)
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = gradients(expected, states, head.weight)
    for one, other in zip(gradients(found, states, head.weight), wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=BF16_STEP * float(other.abs().max()), rtol=0)


def test_gradients_of_several_rows_add_up() -> None:
    head, states, targets = drawn()
    (wanted,) = gradients(plainly(head, states, targets), head.weight)
    for part in (slice(0, 9), slice(9, None)):
        (head_loss(head, states[part], targets[part]) / POSITIONS).backward()
    torch.testing.assert_close(head.weight.grad, wanted, atol=1e-6, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, forward or backward."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


@pytest.mark.parametrize("wrap", [lambda head: head, Called], ids=["plain", "called"])
def test_no_tensor_grows_with_positions_times_words(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOGITS_AT_ONCE", 2 * WORDS)
    head, states, targets = drawn()
    with Largest() as largest:
        plainly(head, states, targets).backward()
    assert largest.numbers == POSITIONS * WORDS
    with Largest() as largest:
        head_loss(wrap(head), states, targets).backward()
    assert largest.numbers <= max(WIDTH * WORDS, 2 * WORDS)


def test_a_head_that_is_gathered_when_called_is_called() -> None:
    """As DeepSpeed's hooks do: outside a call its weight is not there."""
    head, states, targets = drawn()
    expected = plainly(head, states, targets)
    weight = head.weight.data.clone()

    def gather(module: Any, inputs: Any) -> None:
        module.weight.data.copy_(weight)

    head.register_forward_pre_hook(gather)
    head.weight.data.zero_()
    assert float(head_loss(head, states, targets).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
