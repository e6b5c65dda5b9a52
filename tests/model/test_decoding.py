"""The next token: drawn with the softmax's own frequencies, from the likeliest only, and never by senseless options."""

from __future__ import annotations

import pytest
import torch

from llavamed_cli.errors import UsageError
from llavamed_cli.model.decoding import Decoding


def draws(decoding: Decoding, logits: torch.Tensor, times: int) -> torch.Tensor:
    """How often each token is taken, [vocabulary]."""
    processors = decoding.processors()
    scores = logits.expand(times, -1).clone()
    taken = processors(torch.zeros(times, 1, dtype=torch.long), scores).argmax(-1)
    return torch.bincount(taken, minlength=logits.numel()) / times


def test_frequencies_are_the_softmaxs() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    found = draws(Decoding(temperature=0.7, seed=5), logits, 40_000)
    torch.testing.assert_close(found, (logits / 0.7).softmax(-1), atol=0.01, rtol=0)


def test_top_p_leaves_the_unlikely_out() -> None:
    logits = torch.tensor([2.0, 1.9, -1.0, -2.0])
    found = draws(Decoding(temperature=1.0, top_p=0.8, seed=5), logits, 2_000)
    assert found[:2].min() > 0.3 and found[2:].sum() == 0


def test_greedy_changes_nothing() -> None:
    assert len(Decoding().processors()) == 0


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0.5}]
)
def test_senseless_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Decoding(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="share"):
        Decoding(temperature=1, top_p=1.5)
