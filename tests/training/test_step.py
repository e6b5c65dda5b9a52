"""One row through the model: packing, sharing and supervised-only logits change neither loss nor gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch

from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.training import head_loss
from llavamed_cli.training.examples import Example, ExampleSet
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.layout import collate, supervised_tokens
from llavamed_cli.training.parts import prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss

BOTH = ("projector", "lm")
RECIPES = {
    "projector": Recipe(train=("projector",)),
    "full": Recipe(train=BOTH),
    "checkpointing": Recipe(train=BOTH, gradient_checkpointing=True),
    "language model alone": Recipe(train=("lm",), gradient_checkpointing=True),
    "lora": Recipe(train=BOTH, lora_rank=4),
    "lora and checkpointing": Recipe(train=BOTH, lora_rank=4, gradient_checkpointing=True),
}
Open = Callable[[], LoadedModel]


def learn(
    loaded: LoadedModel, rows: Sequence[Sequence[Example]], prefixes: Sequence[int] | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Summed loss and gradients of some rows."""
    model: Any = loaded.model.train()
    model.model.vision_tower.eval()
    features = FrozenFeatures(loaded)
    total = 0.0
    for row in rows:
        packed = collate(row, prefixes=prefixes)
        loss = row_loss(model, packed, features.of(packed.pictures) if packed.pictures else None)
        loss.backward()
        total += float(loss.detach())
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in trained_parameters(model).items()
        if parameter.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return total, gradients


def stir_lora(model: Any) -> None:
    """LoRA's second factor starts at 0, and with it the first one's gradient."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trained_parameters(model).items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=generator)


@pytest.mark.parametrize("name", RECIPES)
def test_packed_training_equals_one_by_one(name: str, open_tiny: Open, examples: tuple[Example, ...]) -> None:
    loaded = open_tiny()
    prepare_parts(loaded.model, RECIPES[name], seed=0)
    stir_lora(loaded.model)
    chosen = [examples[index] for index in (0, 8, 3, 7)]  # the second has no picture
    assert len({len(example.input_ids) for example in chosen}) == 4
    packed, packed_gradients = learn(loaded, [chosen])
    single, single_gradients = learn(
        loaded, [[example] for example in chosen if example.pictures or name != "projector"]
    )
    if name == "projector":  # without a picture nothing of it reaches the projector: the loss alone is compared
        with torch.no_grad():
            single += float(row_loss(loaded.model, collate([examples[8]]), None))
    tokens = sum(supervised_tokens(example) for example in chosen)
    assert packed / tokens == pytest.approx(single / tokens, abs=1e-5)
    assert packed_gradients.keys() == single_gradients.keys()
    for parameter, gradient in packed_gradients.items():
        assert gradient.abs().max() > 0, parameter
        torch.testing.assert_close(gradient / tokens, single_gradients[parameter] / tokens, atol=1e-5, rtol=0)


def test_examples_in_a_row_do_not_see_each_other(open_tiny: Open, examples: tuple[Example, ...]) -> None:
    """Whoever stands before it, an example's loss stays: the trap of attention across borders."""
    loaded = open_tiny()
    alone = loss_of(loaded, [examples[0]])
    for before in (examples[1], examples[8]):
        together = loss_of(loaded, [before, examples[0]]) - loss_of(loaded, [before])
        assert together == pytest.approx(alone, abs=1e-4)


def loss_of(loaded: LoadedModel, row: Sequence[Example]) -> float:
    packed = collate(row)
    features = FrozenFeatures(loaded).of(packed.pictures) if packed.pictures else None
    with torch.no_grad():
        return float(row_loss(loaded.model, packed, features))


@pytest.mark.parametrize("number", [0, 5, 8])
def test_the_loss_is_transformers_own_over_all_logits(
    number: int, open_tiny: Open, examples: tuple[Example, ...]
) -> None:
    """Against `labels=`, with pixels instead of features, every logit computed, and the mean instead of the sum."""
    loaded = open_tiny()
    prepare_parts(loaded.model, RECIPES["full"], seed=0)
    example = examples[number]
    total, gradients = learn(loaded, [[example]])
    ids = torch.as_tensor(example.input_ids, dtype=torch.long)[None]
    labels = ids.masked_fill(~torch.as_tensor(example.supervised)[None], -100)
    pixels = loaded.pixels([open_picture(path) for path in example.pictures]) if example.pictures else None
    model: Any = loaded.model
    expected = model(input_ids=ids, labels=labels, pixel_values=pixels, attention_mask=torch.ones_like(ids)).loss
    expected.backward()
    count = supervised_tokens(example)
    assert total / count == pytest.approx(float(expected), abs=1e-5)
    reached = {name: one.grad for name, one in trained_parameters(model).items() if one.grad is not None}
    assert gradients.keys() == reached.keys()
    for name, gradient in reached.items():
        torch.testing.assert_close(gradients[name] / count, gradient, atol=1e-5, rtol=0)


def asked_again(examples: ExampleSet) -> tuple[list[Example], list[int]]:
    """Three samples about one picture, one about another and one without, and what each could share."""
    first, second, blind = examples[0], examples[3], examples[8]
    chosen = [first]
    for seed in (1, 2):
        ids = first.input_ids.copy()
        place = numpy.flatnonzero(first.supervised)[0] - 4  # in the question, after the picture
        ids[place] = 60 + seed
        chosen.append(replace(first, id=f"again {seed}", input_ids=ids))
    prefix = int(examples.prefix_lengths[0])
    return [chosen[0], second, chosen[1], blind, chosen[2]], [prefix, 0, prefix, 0, prefix]


@pytest.mark.parametrize("logits", [1, 10**9])
@pytest.mark.parametrize("name", RECIPES)
def test_samples_that_share_a_picture_learn_what_they_do_alone(
    name: str, logits: int, open_tiny: Open, examples: ExampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of a step: a shared prefix, attention by segments, and logits one at a time or all together."""
    monkeypatch.setattr(head_loss, "LOGITS_AT_ONCE", logits)
    loaded = open_tiny()
    chosen, prefixes = asked_again(examples)
    prepare_parts(loaded.model, RECIPES[name], seed=0)
    stir_lora(loaded.model)
    single, expected = learn(loaded, [[example] for example in chosen if example.pictures])
    use_segments(loaded.model)
    row = [example for example in chosen if example.pictures]
    shared, found = learn(loaded, [row], [prefix for prefix, one in zip(prefixes, chosen, strict=True) if one.pictures])
    tokens = sum(supervised_tokens(example) for example in row)
    assert shared / tokens == pytest.approx(single / tokens, abs=1e-5)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert gradient.abs().max() > 0, parameter
        torch.testing.assert_close(found[parameter] / tokens, gradient / tokens, atol=1e-5, rtol=0)


def test_a_shared_prefix_needs_attention_by_segments(open_tiny: Open, examples: ExampleSet) -> None:
    loaded = open_tiny()
    chosen, prefixes = asked_again(examples)
    row = collate(chosen, prefixes=prefixes)
    assert row.segments.shared
    with pytest.raises(ValueError, match="attends by segments"):
        row_loss(loaded.model, row, FrozenFeatures(loaded).of(row.pictures))
