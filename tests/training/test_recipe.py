"""Recipes: what they say by name, which slips are caught, and that a flag overrides a key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import DataError, LlavamedError, UsageError
from llavamed_cli.training.recipe import Recipe, builtin_recipes, load_recipe


def test_the_published_recipes_are_there() -> None:
    """LLaVA-Med v1.0's README: stage 1 one epoch, stage 2 three epochs at 2e-5, both of 128 samples a step."""
    assert {"llava-med-align", "llava-med-tune"} <= set(builtin_recipes())
    align, tune = (load_recipe(f"llava-med-{stage}", {}) for stage in ("align", "tune"))
    assert (align.train, align.epochs, align.batch_size, align.warmup) == (("projector",), 1, 128, 0.03)
    assert (tune.train, tune.epochs, tune.batch_size, tune.warmup) == (("projector", "language_model"), 3, 128, 0.03)
    assert (tune.learning_rate, tune.weight_decay, align.weight_decay) == (2e-5, 0, 0)


@pytest.mark.parametrize("name", builtin_recipes())
def test_every_recipe_that_comes_along_can_be_used(name: str) -> None:
    assert load_recipe(name, {}).steps is None


def test_a_flag_overrides_a_key_and_none_does_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('train = ["language_model"]\nepochs = 2\nbatch_size = 4\n')
    recipe = load_recipe(str(path), {"epochs": 5, "batch_size": None, "train": ["projector"]})
    assert (recipe.epochs, recipe.batch_size, recipe.train) == (5, 4, ("projector",))


def refused(path: Path, text: str) -> LlavamedError:
    path.write_text(text)
    with pytest.raises(LlavamedError) as error:
        load_recipe(str(path), {})
    return error.value


def test_unknown_keys_are_named_with_the_nearest_known(tmp_path: Path) -> None:
    error = refused(tmp_path / "mine.toml", "learning_rte = 1.0\nbatchsize = 3\nzzz = 1\n")
    assert isinstance(error, DataError)
    assert error.where == str(tmp_path / "mine.toml")
    assert "unknown key 'learning_rte', did you mean 'learning_rate'?" in error.what
    assert "unknown key 'batchsize', did you mean 'batch_size'?" in error.what
    assert error.what.endswith("unknown key 'zzz'")


def test_wrong_types_are_collected(tmp_path: Path) -> None:
    text = 'train = "projector"\nbatch_size = "8"\nepochs = 1.5\nlearning_rate = true\nsteps = "x"\nkeep = false\n'
    error = refused(tmp_path / "mine.toml", text)
    assert isinstance(error, UsageError)
    for name in ("train", "batch_size", "epochs", "learning_rate", "steps", "keep"):
        assert f"{name}: expected " in error.what
    assert len(error.what.splitlines()) == 7


def test_wrong_values_are_collected(tmp_path: Path) -> None:
    text = (
        'train = ["projector", "vision_tower"]\nlora_rank = 4\nbatch_size = 0\nmax_tokens = 0\nepochs = 0\nsteps = 0\n'
        "learning_rate = nan\nwarmup = 1.0\nlora_dropout = -0.1\nweight_decay = -1.0\nmax_grad_norm = 0\n"
    )
    said = refused(tmp_path / "mine.toml", text).what
    assert "unknown part 'vision_tower'" in said
    names = "lora_rank batch_size max_tokens epochs steps learning_rate warmup lora_dropout weight_decay max_grad_norm"
    for name in names.split():
        assert f"    {name}: " in said, name


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing would be trained"):
        Recipe(train=())


def test_no_toml_and_no_such_recipe(tmp_path: Path) -> None:
    assert "is not TOML" in refused(tmp_path / "mine.toml", "= 3").what
    with pytest.raises(UsageError, match="no recipe 'llava'") as error:
        load_recipe("llava", {})
    assert "llava-med-align" in str(error.value.hint)
    with pytest.raises(UsageError, match="no recipe"):
        load_recipe(str(tmp_path / "absent.toml"), {})


def test_every_setting_is_recorded() -> None:
    options: dict[str, Any] = Recipe(lora_rank=8, train=("projector", "language_model")).as_options()
    assert set(options) == {field.name for field in fields(Recipe)}
    assert options["train"] == ["projector", "language_model"]
    assert Recipe(**{**options, "train": tuple(options["train"])}).as_options() == options


def test_the_scale_of_lora() -> None:
    """QLoRA and its followers scale by alpha / rank; alpha left out means twice the rank."""
    both = ("projector", "language_model")
    assert Recipe(train=both, lora_rank=8).lora_scale == 16
    assert Recipe(train=both, lora_rank=8, lora_alpha=4).lora_scale == 4
