"""What cannot be split over processes is refused. That what can be learns the same is in test_distributed.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from llavamed_cli.errors import UsageError
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import Choice
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.sharding import Sharded, asked_to_shard
from llavamed_cli.world import World

LORA = Recipe(train=("projector", "lm"), lora_rank=4)


def test_accelerate_is_asked_whether_to_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert not asked_to_shard()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert asked_to_shard()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (replace(LORA, quantise="4bit"), "quantised weights cannot be split"),
        (replace(LORA, optimizer="adamw8bit"), "adamw8bit cannot be split"),
    ],
)
def test_recipes_that_cannot_be_split(recipe: Recipe, said: str, open_tiny: Callable[[], LoadedModel]) -> None:
    loaded = open_tiny()
    with pytest.raises(UsageError, match=said) as refused:
        Sharded(loaded, recipe, World())
    assert "without FSDP" in str(refused.value.hint)


def test_fp16_is_not_split(open_tiny: Callable[[], LoadedModel]) -> None:
    loaded = open_tiny()
    halved = replace(loaded, choices={**loaded.choices, "precision": Choice("fp16", "asked for")})
    with pytest.raises(UsageError, match="fp16 is not trained in shards"):
        Sharded(halved, LORA, World())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("FSDP_VERSION", "1", "only FSDP 2 is supported"), ("FSDP_ACTIVATION_CHECKPOINTING", "true", "the recipe's word")],
)
def test_configurations_that_are_not_followed(
    name: str, value: str, said: str, open_tiny: Callable[[], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv(name, value)
    loaded = open_tiny()
    prepare_parts(loaded.model, LORA, seed=0)
    with pytest.raises(UsageError, match=said):
        Sharded(loaded, LORA, World())
