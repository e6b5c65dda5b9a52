"""Packing and sharing pictures change neither the loss nor any gradient: against the plainest loop there is.

The other side is transformers alone: one sample at a time, pixels through the tower, every logit, its own `labels=`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    GemmaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
)

from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.training.examples import Example
from llavamed_cli.training.layout import PackedRow, collate
from llavamed_cli.training.step import row_loss

WORDS, PICTURE, PICTURE_TOKENS = 120, 119, 16
small: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LANGUAGE_MODELS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**small),
    "mistral": MistralConfig(**small, sliding_window=None),
    "mistral with a window": MistralConfig(**small, sliding_window=11),
    "qwen2": Qwen2Config(**small),
    "gemma": GemmaConfig(**small, head_dim=8),
}


def open_model(config: PretrainedConfig) -> LlavaForConditionalGeneration:
    tower = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    model: Any = LlavaForConditionalGeneration(
        LlavaConfig(text_config=config, vision_config=tower, image_token_index=PICTURE)
    )
    for parameter in model.parameters():  # as they come, all attend nearly alike, and nothing would be told apart
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    model.model.vision_tower.requires_grad_(False)
    return model.train()


def prepare_checkpointing(model: Any) -> None:
    """transformers 5.23 gave it the first name."""
    words = model.model.language_model
    enable = getattr(words, "activation_checkpointing_enable", None) or words.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def sample(seed: int, *pictures: str, start: int = 3, question: int = 5, answers: Sequence[int] = (4,)) -> Example:
    """A system prompt of `start` tokens, pictures, and turns; text differs by seed, the system prompt does not."""
    draw = numpy.random.default_rng(seed)
    ids, learned = [*range(1, start + 1)], [False] * start
    for _ in pictures:
        ids += [PICTURE] * PICTURE_TOKENS + [7]
        learned += [False] * (PICTURE_TOKENS + 1)
    for answer in answers:
        ids += draw.integers(10, WORDS - 2, question + answer).tolist()
        learned += [False] * question + [True] * answer
    return Example(
        id=str(seed),
        input_ids=numpy.asarray(ids, dtype=numpy.int32),
        supervised=numpy.asarray(learned),
        pictures=tuple(map(Path, pictures)),
    )


def prefix(example: Example) -> int:
    """Tokens up to and with the last picture."""
    return int(numpy.flatnonzero(example.input_ids == PICTURE).max(initial=-1)) + 1


SAMPLES = (
    sample(1, "a.png"),
    sample(2, "b.png", question=3, answers=(2, 6)),  # two turns
    sample(3, "a.png", question=9),
    sample(4, "c.png", "a.png"),  # two pictures
    sample(5),  # none
    sample(6, "a.png", question=0, answers=(3,)),  # what follows the picture is learned: its predictor is shared
    sample(7, "a.png", question=0, answers=(5,)),
    sample(8, "c.png", "a.png", answers=(1,)),
    sample(9, "a.png", start=5),  # another beginning: the picture stands elsewhere
    sample(10, "b.png", question=1, answers=(130,)),  # too long to share a call of attention
)


def pixels_of(pictures: Sequence[Path]) -> torch.Tensor:
    draws = [torch.Generator().manual_seed(sum(path.name.encode())) for path in pictures]
    return torch.stack([torch.randn(3, 32, 32, generator=draw) for draw in draws])


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def plainly(model: Any, samples: Sequence[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss over all learned tokens, and its gradients, a sample at a time."""
    count = sum(int(example.supervised.sum()) for example in samples)
    total = 0.0
    for example in samples:
        ids = torch.as_tensor(example.input_ids, dtype=torch.long)[None]
        loss = model(
            input_ids=ids,
            labels=ids.masked_fill(~torch.as_tensor(example.supervised)[None], -100),
            pixel_values=pixels_of(example.pictures) if example.pictures else None,
            attention_mask=torch.ones_like(ids),
        ).loss * (int(example.supervised.sum()) / count)
        loss.backward()
        total += float(loss.detach())
    return total, gradients(model)


def packed(model: Any, rows: Sequence[PackedRow]) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by rows."""
    count = sum(len(row.targets) for row in rows)
    total = 0.0
    for row in rows:
        with torch.no_grad():
            states = model.model.vision_tower(pixels_of(row.pictures), output_hidden_states=True).hidden_states
        loss = row_loss(model, row, states[-2][:, 1:]) / count
        loss.backward()
        total += float(loss.detach())
    return total, gradients(model)


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_loss_and_every_gradient_are_those_of_one_sample_at_a_time(name: str, checkpointing: bool, share: bool) -> None:
    model = open_model(LANGUAGE_MODELS[name])
    expected, expected_gradients = plainly(model, SAMPLES)
    use_segments(model)
    if checkpointing:
        prepare_checkpointing(model)
    prefixes = [prefix(example) if share else 0 for example in SAMPLES]
    row = collate(SAMPLES, prefixes=prefixes)
    assert row.segments.shared is share
    loss, found = packed(model, [row])
    assert loss == pytest.approx(expected, abs=1e-5)
    assert found.keys() == expected_gradients.keys()
    for parameter, gradient in expected_gradients.items():
        assert gradient.abs().max() > 1e-4, parameter
        torch.testing.assert_close(found[parameter], gradient, atol=1e-5, rtol=0, msg=parameter)


def test_how_a_step_is_divided_into_rows_changes_nothing() -> None:
    model = open_model(LANGUAGE_MODELS["llama"])
    expected, expected_gradients = plainly(model, SAMPLES)
    use_segments(model)
    for division in ([(0, 2, 5, 6), (1, 9), (3, 7, 4), (8,)], [(4, 0), (8, 2, 3), (5, 1), (6, 7, 9)]):
        chosen = [[SAMPLES[index] for index in row] for row in division]
        loss, found = packed(model, [collate(row, prefixes=list(map(prefix, row))) for row in chosen])
        assert loss == pytest.approx(expected, abs=1e-5)
        for parameter, gradient in expected_gradients.items():
            torch.testing.assert_close(found[parameter], gradient, atol=1e-5, rtol=0, msg=parameter)
