"""Recipes: what they say by name, which slips are caught, and that a flag overrides a key."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.training.recipe import RECIPES, Recipe, builtin_recipes, load_recipe

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "recipes" / "every-key.toml"
BOTH = ("projector", "lm")


def test_the_published_recipes_are_there() -> None:
    """LLaVA-Med v1.0's README: stage 1 one epoch, stage 2 three epochs at 2e-5, both of 128 samples a step; one
    benchmark at 64 samples a step, which the published table ran for up to 15 epochs."""
    align, tune, vqa = (load_recipe(f"llava-med-{stage}", {}) for stage in ("align", "tune", "vqa"))
    assert (align.train, align.epochs, align.batch_size, align.learning_rate) == (("projector",), 1, 128, 1e-3)
    assert (tune.train, tune.epochs, tune.batch_size, tune.learning_rate) == (BOTH, 3, 128, 2e-5)
    assert (vqa.train, vqa.epochs, vqa.batch_size, vqa.learning_rate) == (BOTH, 15, 64, 2e-5)
    for recipe in (align, tune, vqa):
        assert (recipe.warmup, recipe.weight_decay, recipe.max_tokens, recipe.lora_rank) == (0.03, 0, 2048, 0)


def test_one_gpu_is_qlora_as_published() -> None:
    """LLaVA-1.5's scripts/v1_5/finetune_lora.sh, and NF4 of QLoRA."""
    recipe = load_recipe("one-gpu-24gb", {})
    assert (recipe.lora_rank, recipe.lora_scale, recipe.learning_rate) == (128, 256, 2e-4)
    assert (recipe.projector_learning_rate, recipe.batch_size, recipe.warmup) == (2e-5, 128, 0.03)
    assert (recipe.quantise, recipe.optimizer, recipe.gradient_checkpointing) == ("4bit", "adamw8bit", True)


@pytest.mark.parametrize("name", builtin_recipes())
def test_every_recipe_that_comes_along_can_be_used_and_says_its_source(name: str) -> None:
    assert load_recipe(name, {}).steps is None
    assert re.search(r"^# Source: ", (RECIPES / f"{name}.toml").read_text(), re.MULTILINE)


def test_the_laptop_needs_no_library_that_macos_lacks() -> None:
    recipe = load_recipe("laptop", {})
    assert (recipe.quantise, recipe.optimizer) == ("none", "adamw")


def test_the_example_has_every_key_at_its_default() -> None:
    assert load_recipe(str(EXAMPLE), {}) == Recipe()
    keys = re.findall(r"^#? ?(\w+) = ", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(keys) == sorted(field.name for field in fields(Recipe))


def test_the_example_names_the_recipes_that_come_along() -> None:
    listed = re.search(r"\(--recipe ([^)]*)\)", EXAMPLE.read_text())
    assert listed is not None
    assert sorted(listed[1].split(", ")) == sorted(builtin_recipes())


def test_a_flag_overrides_a_key_and_none_does_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('train = ["lm"]\nepochs = 2\nbatch_size = 4\n')
    recipe = load_recipe(str(path), {"epochs": 5, "batch_size": None, "train": ["projector"]})
    assert (recipe.epochs, recipe.batch_size, recipe.train) == (5, 4, ("projector",))


def test_a_whole_number_will_do_for_a_fraction(tmp_path: Path) -> None:
    """And it is the same recipe: a run goes on whichever way it was written."""
    path = tmp_path / "mine.toml"
    path.write_text('train = ["lm"]\nlora_rank = 8\nlora_alpha = 16\nlearning_rate = 1\n')
    options = load_recipe(str(path), {"projector_learning_rate": 2}).as_options()
    assert repr((options["lora_alpha"], options["learning_rate"])) == "(16.0, 1.0)"
    assert repr((options["projector_learning_rate"], options["lora_rank"])) == "(2.0, 8)"


def refused(path: Path, text: str) -> str:
    """What is said about a recipe that cannot be used."""
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        load_recipe(str(path), {})
    assert error.value.where == str(path)
    return error.value.what


def test_unknown_keys_are_named_with_the_nearest_known(tmp_path: Path) -> None:
    said = refused(tmp_path / "mine.toml", "learning_rte = 1.0\nbatchsize = 3\nzzz = 1\n")
    assert said.splitlines()[1:] == [
        "    unknown key 'learning_rte', did you mean 'learning_rate'?",
        "    unknown key 'batchsize', did you mean 'batch_size'?",
        "    unknown key 'zzz'",
    ]


def test_wrong_types_are_collected(tmp_path: Path) -> None:
    text = (
        'train = "projector"\nbatch_size = "8"\nepochs = 1.5\nlearning_rate = true\nsteps = "x"\nkeep = false\n'
        "merge = 1\nquantise = 4\npatience = [1]\n"
    )
    said = refused(tmp_path / "mine.toml", text)
    for name in ("train", "batch_size", "epochs", "learning_rate", "steps", "keep", "merge", "quantise", "patience"):
        assert f"    {name}: expected " in said
    assert "train: expected a list of names, found 'projector'" in said
    assert "patience: expected a whole number, found [1]" in said
    assert len(said.splitlines()) == 10


BOUNDS = """
train = ["projector", 3, "projektor"]
lora_rank = 4
batch_size = 0
max_tokens = 0
window = 0
max_pictures = 0
epochs = 0
steps = 0
save_every = 0
keep = 0
validate_every = 0
patience = -1
learning_rate = nan
projector_learning_rate = 0
warmup = 1.0
lora_dropout = -0.1
lora_alpha = inf
weight_decay = -1.0
max_grad_norm = 0
quantise = "3bit"
optimizer = "sgd"
cache_features = "ram"
"""


def test_values_out_of_bounds_are_collected(tmp_path: Path) -> None:
    said = refused(tmp_path / "mine.toml", BOUNDS)
    for name in re.findall(r"^(\w+) = ", BOUNDS, re.MULTILINE):
        assert f"    {name}: " in said, name
    assert "train: expected names, found 3" in said
    assert "train: unknown part 'projektor', did you mean 'projector'?" in said
    assert "quantise: unknown '3bit', expected none or 4bit or 8bit" in said


def test_all_kinds_of_faults_are_told_together(tmp_path: Path) -> None:
    said = refused(
        tmp_path / "mine.toml", 'epoch = 3\nbatch_size = "8"\nwarmup = 2\nquantise = "4bit"\ntrain = ["lm"]\n'
    )
    assert said.splitlines()[1:] == [
        "    unknown key 'epoch', did you mean 'epochs'?",
        "    batch_size: expected a whole number, found '8'",
        "    warmup: must be a share from 0 up to 1",
        "    quantise: quantised weights cannot learn; give a lora_rank, or take 'lm' out of train",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": ()}, "nothing would be trained"),
        ({"train": ("language_model",)}, "unknown part 'language_model', did you mean 'lm'?"),
        ({"train": ("xyz",)}, "unknown part 'xyz', expected projector, lm, vision_tower, embeddings, lm_head"),
        ({"lora_rank": 8}, "lora_rank: the language model is not trained"),
        ({"train": ("vision_tower",), "cache_features": "disk"}, "a vision tower that learns sees a picture anew"),
        ({"epochs": True}, "epochs: expected a whole number, found True"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Recipe(**settings)


def test_what_can_be() -> None:
    """A frozen language model may be quantised; patterns are left to who knows the model."""
    Recipe(train=("projector",), quantise="8bit")
    Recipe(train=("*norm*", "model.x"))
    Recipe(train=("vision_tower", "embeddings", "lm_head"))


def test_no_toml_and_no_such_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("= 3")
    with pytest.raises(DataError, match="is not TOML"):
        load_recipe(str(tmp_path / "mine.toml"), {})
    with pytest.raises(UsageError, match="no recipe 'llava'") as error:
        load_recipe("llava", {})
    assert "llava-med-align" in str(error.value.hint)
    with pytest.raises(UsageError, match="no recipe"):
        load_recipe(str(tmp_path / "absent.toml"), {})


def test_every_setting_is_recorded() -> None:
    options: dict[str, Any] = Recipe(lora_rank=8, train=BOTH).as_options()
    assert set(options) == {field.name for field in fields(Recipe)}
    assert options["train"] == ["projector", "lm"]
    assert Recipe(**{**options, "train": tuple(options["train"])}).as_options() == options


def test_every_setting_is_explained() -> None:
    assert Recipe.__doc__ is not None
    for field in fields(Recipe):
        assert re.search(rf"\b{field.name}\b[^.]*: ", Recipe.__doc__), field.name


def test_the_scale_of_lora() -> None:
    """QLoRA and its followers scale by alpha / rank; alpha left out means twice the rank."""
    assert Recipe(train=BOTH, lora_rank=8).lora_scale == 16
    assert Recipe(train=BOTH, lora_rank=8, lora_alpha=4.0).lora_scale == 4


def test_a_tuned_model_is_tuned_again(
    llavamed: Callable[..., Any], tiny_model: Path, data_folder: Path, tmp_path: Path
) -> None:
    """LLaVA-Med: on instructions, then on one benchmark."""
    model = tiny_model
    for recipe in ("llava-med-tune", "llava-med-vqa", "laptop"):
        out = tmp_path / recipe
        short = ("--steps", 1, "--batch-size", 4, "--device", "cpu")
        done = llavamed("tune", data_folder, "--model", model, "--out", out, "--recipe", recipe, *short)
        assert done.code == 0, done.stderr
        model = out


def test_reading_a_recipe_loads_no_heavy_library() -> None:
    code = "import sys; from llavamed_cli.training.recipe import load_recipe; load_recipe('laptop', {}); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print({'torch', 'numpy', 'peft'} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
