"""The loop: schedule and losses against transformers; a run stopped or killed ends as if it had not been."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llavamed_cli.errors import DataError, TrainingError
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Bar, Silent
from llavamed_cli.training.data_files import find_data
from llavamed_cli.training.examples import Example, ExampleSet
from llavamed_cli.training.feature_choice import open_features
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.layout import supervised_tokens
from llavamed_cli.training.loop import Training
from llavamed_cli.training.metrics import read_metrics
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.parts import prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import read_examples
from llavamed_cli.training.schedule import Schedule
from llavamed_cli.training.step_faults import is_out_of_memory
from llavamed_cli.training.validation import Validation, open_validation

Open = Callable[[], LoadedModel]
Weights = dict[str, torch.Tensor]

BOTH = ("projector", "lm")
FULL = Recipe(train=BOTH, batch_size=3, max_tokens=300, steps=4, learning_rate=1e-3, warmup=0.3)
LORA = Recipe(train=BOTH, batch_size=3, steps=4, learning_rate=1e-3, lora_rank=4, lora_dropout=0.3)
ALIGN = Recipe(train=("projector",), batch_size=3, steps=4, learning_rate=1e-2)
CHECKPOINTED = Recipe(
    train=BOTH, batch_size=3, steps=4, learning_rate=1e-3, lora_rank=4, lora_dropout=0.3, gradient_checkpointing=True
)
QLORA = Recipe(
    train=BOTH, batch_size=3, steps=4, learning_rate=1e-3, lora_rank=8, lora_dropout=0.1, quantise="4bit",
    optimizer="adamw8bit",
)  # fmt: skip
LOSSES_OF_FULL = [5.777318, 5.682041, 5.454600, 5.354518]


@pytest.fixture(scope="session")
def spelled(counted_model: Path, data_folder: Path) -> ExampleSet:
    """The nine conversations of instruct.jsonl in bytes, the last without a picture."""
    loaded = load_model(str(counted_model), device="cpu", precision="fp32")
    files = find_data([data_folder], "instruct.jsonl", None)
    found = read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())
    assert len(found) == 9
    return found


def training(loaded: LoadedModel, examples: ExampleSet, recipe: Recipe, out: Path) -> Training:
    """A run in `out`, its model's parts prepared."""
    out.mkdir(exist_ok=True)
    prepare_parts(loaded.model, recipe, seed=0)
    features = FrozenFeatures(loaded)
    return Training(
        loaded=loaded, examples=examples, features=features, recipe=recipe, seed=0, out=out, identity="test"
    )


def weights_of(loaded: LoadedModel) -> Weights:
    """A copy of every weight."""
    model: Any = loaded.model
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before: Weights, after: Weights) -> set[str]:
    """The weights that differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


class Terminating:
    """Progress that asks this process to end, as a scheduler would, once `after` steps are done."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.done = 0
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        self.done = done
        yield self

    def advance(self, amount: int = 1, **figures: str) -> None:
        self.done += amount
        if self.done == self.after:
            os.kill(os.getpid(), signal.SIGTERM)


@settings(deadline=None)  # the first call imports transformers
@given(st.integers(1, 300), st.floats(0, 0.99))
def test_the_schedule_is_transformers_own(total: int, warmup: float) -> None:
    """Theirs starts at a rate of 0, a step that learns nothing; our warm-up is one step ahead, and ends in the same."""
    from transformers import get_cosine_schedule_with_warmup

    schedule = Schedule.of(Recipe(steps=total, warmup=warmup), 10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    share = get_cosine_schedule_with_warmup(optimizer, schedule.warmup, total).lr_lambdas[0]
    for step in range(total):
        theirs = share(step + 1) if step < schedule.warmup else share(step)
        assert schedule.rate_share(step) == pytest.approx(theirs, rel=1e-9)


def test_steps_by_hand() -> None:
    epochs = Schedule.of(Recipe(batch_size=4, epochs=3, warmup=0.1), 9)
    assert (epochs.total, epochs.per_epoch, epochs.warmup) == (9, 3, 1)
    assert epochs.rate_share(0) == 1
    four = Schedule(total=6, per_epoch=6, warmup=2)
    rates = [four.rate_share(step) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert Schedule.of(Recipe(batch_size=4, epochs=3, steps=5), 9).total == 5


def mean_loss(loaded: LoadedModel, examples: list[Example]) -> float:
    """transformers' own loss of each sample alone, from its pixels, weighted by its supervised tokens."""
    model: Any = loaded.model
    total = 0.0
    for example in examples:
        ids = torch.as_tensor(example.input_ids, dtype=torch.long)[None]
        labels = ids.masked_fill(~torch.as_tensor(example.supervised)[None], -100)
        pixels = loaded.pixels([open_picture(path) for path in example.pictures]) if example.pictures else None
        with torch.no_grad():
            loss = model(input_ids=ids, labels=labels, pixel_values=pixels, attention_mask=torch.ones_like(ids)).loss
        total += float(loss) * supervised_tokens(example)
    return total / sum(supervised_tokens(example) for example in examples)


def test_four_steps_give_these_losses(open_counted: Open, spelled: ExampleSet, tmp_path: Path) -> None:
    """The first is transformers' own mean over the step's supervised tokens; the rest were recorded on a CPU."""
    loaded = open_counted()
    rows = plan_epoch(spelled, FULL, seed=0, epoch=0)[0]
    first = mean_loss(loaded, [spelled[index] for row in rows for index in row])
    training(loaded, spelled, FULL, tmp_path).run(Silent())
    schedule = Schedule.of(FULL, len(spelled))
    steps = read_metrics(tmp_path / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert [step["epoch"] for step in steps] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3], abs=1e-4)
    assert [step["learning_rate"] for step in steps] == [1e-3 * schedule.rate_share(step) for step in range(4)]
    assert sum(step["tokens"] for step in steps[:3]) == int(spelled.lengths.sum())
    assert sum(step["supervised_tokens"] for step in steps[:3]) == sum(map(supervised_tokens, spelled))
    losses = [step["loss"] for step in steps]
    assert losses[0] == pytest.approx(first, abs=1e-5)
    assert losses == pytest.approx(LOSSES_OF_FULL, abs=1e-5)


@pytest.mark.parametrize("recipe", [FULL, ALIGN], ids=["tune", "align"])
def test_what_is_frozen_stays_bit_for_bit(
    recipe: Recipe, open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    loaded = open_tiny()
    before = weights_of(loaded)
    run = training(loaded, examples, recipe, tmp_path)
    learning = set(trained_parameters(loaded.model))
    run.run(Silent())
    model: Any = loaded.model
    moved = changed(before, weights_of(loaded))
    assert moved == learning | ({"lm_head.weight"} if "lm" in recipe.train else set())  # tied
    assert not any("vision_tower" in name for name in moved)
    if recipe is ALIGN:
        assert all("multi_modal_projector" in name for name in moved)
    assert not model.model.vision_tower.training


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [(FULL, "fp32"), (LORA, "fp32"), (CHECKPOINTED, "bf16"), (QLORA, "fp32"), (FULL, "fp16")],
    ids=["full", "lora with dropout", "checkpointed in bf16", "qlora with moments in 8 bits", "fp16 with its scaler"],
)
def test_a_stopped_run_goes_on_as_if_it_had_not(
    recipe: Recipe, precision: str, tiny_model: Path, examples: ExampleSet, tmp_path: Path
) -> None:
    whole, first, second = (
        load_model(str(tiny_model), device="cpu", precision=precision, for_training=True, quantise=recipe.quantise)
        for _ in range(3)
    )
    training(whole, examples, recipe, tmp_path / "whole").run(Silent())
    before = signal.getsignal(signal.SIGTERM)
    progress = Terminating(after=2)
    stopped = training(first, examples, recipe, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(progress)
    assert progress.notes == ["stopped after step 2 of 4; the same command goes on from there"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert changed(weights_of(first), weights_of(whole)), "the last two steps would learn nothing"
    torch.manual_seed(12345)  # a new process starts from any random state
    repeated = Terminating(after=-1)
    training(second, examples, recipe, tmp_path / "stopped").run(repeated)
    assert repeated.notes == ["going on after step 2"]
    assert not changed(weights_of(second), weights_of(whole))
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "whole")


def timeless(out: Path) -> list[dict[str, Any]]:
    """The metrics without what no two runs share."""
    return [
        {name: value for name, value in step.items() if name != "seconds"}
        for step in read_metrics(out / "metrics.jsonl")
    ]


def test_dropout_depends_on_the_random_state(open_tiny: Open, examples: ExampleSet, tmp_path: Path) -> None:
    """Or the test above would not notice a random state that is not restored."""
    found = []
    for seed in (0, 1):
        loaded = open_tiny()
        run = training(loaded, examples, LORA, tmp_path / str(seed))
        Training(**{**vars(run), "seed": seed}).run(Silent())
        found.append(weights_of(loaded))
    assert changed(*found)


def test_a_stop_in_the_last_step_ends_the_run(open_tiny: Open, examples: ExampleSet, tmp_path: Path) -> None:
    progress = Terminating(after=4)
    training(open_tiny(), examples, ALIGN, tmp_path).run(progress)
    assert progress.notes == []


def test_a_step_without_a_picture_teaches_a_projector_nothing_and_is_no_fault(
    open_tiny: Open, examples: ExampleSet, few: Callable[..., Any], tmp_path: Path
) -> None:
    loaded = open_tiny()
    before = weights_of(loaded)
    recipe = Recipe(train=("projector",), batch_size=1, steps=2)
    training(loaded, few([examples[8]]), recipe, tmp_path).run(Silent())
    assert not changed(before, weights_of(loaded))
    steps = read_metrics(tmp_path / "metrics.jsonl")
    assert steps[0]["loss"] == pytest.approx(mean_loss(loaded, [examples[8]]), abs=1e-5)
    assert [step["grad_norm"] for step in steps] == [0, 0]


def test_metrics_beyond_the_checkpoint_and_a_torn_line_are_cut(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    """What a kill between two checkpoints leaves."""
    with pytest.raises(KeyboardInterrupt):
        training(open_tiny(), examples, ALIGN, tmp_path).run(Terminating(after=2))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')
    training(open_tiny(), examples, ALIGN, tmp_path).run(Silent())
    steps = read_metrics(tmp_path / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert all(step["loss"] < 9 for step in steps)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_checkpoints_come_as_often_as_asked_and_not_at_the_end(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    recipe = Recipe(train=("projector",), batch_size=3, steps=6, save_every=2, keep=5)
    training(open_tiny(), examples, recipe, tmp_path).run(Silent())
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["step-000002", "step-000004"]


def test_a_loss_that_is_no_number_ends_the_run_and_the_weights_stay(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    loaded = open_tiny()
    run = training(loaded, examples, FULL, tmp_path)
    model: Any = loaded.model
    model.model.multi_modal_projector.linear_1.bias.data[0] = float("nan")
    before = weights_of(loaded)
    with pytest.raises(TrainingError, match="the loss of step 1 is nan") as refused:
        run.run(Silent())
    assert "--lr" in str(refused.value.hint)
    assert changed(before, weights_of(loaded)) == {"model.multi_modal_projector.linear_1.bias"}  # nan is not nan
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_gradient_that_is_no_number_ends_the_run_before_it_is_taken(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is a number still; after the step no weight would be one, and a checkpoint would keep that."""
    loaded = open_tiny()
    run = training(loaded, examples, FULL, tmp_path)
    model: Any = loaded.model
    model.model.multi_modal_projector.linear_1.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights_of(loaded)
    with pytest.raises(TrainingError, match=r"the gradient of step 1 is (nan|inf); its samples are s\d"):
        run.run(Silent())
    assert not changed(before, weights_of(loaded))
    assert not (tmp_path / "checkpoints").exists()


class NoMemory:
    """Features that are too much for the memory at the call given, as PyTorch's CPU allocator says it."""

    def __init__(self, loaded: LoadedModel, call: int) -> None:
        self.features = FrozenFeatures(loaded)
        self.left = call

    def of(self, pictures: Sequence[Path]) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory")
        return self.features.of(pictures)


@pytest.mark.parametrize("recipe", [FULL, LORA], ids=["full", "lora with dropout"])
def test_memory_that_runs_out_in_a_step_is_said_and_the_run_goes_on_from_before_it(
    recipe: Recipe, open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    whole, failing, again = open_tiny(), open_tiny(), open_tiny()
    training(whole, examples, recipe, tmp_path / "whole").run(Silent())
    rows = plan_epoch(examples, recipe, seed=0, epoch=0)[:3]
    calls = sum(any(examples[index].pictures for index in row) for step in rows for row in step)
    run = replace(
        training(failing, examples, recipe, tmp_path / "failing"), features=NoMemory(failing, calls)
    )  # the last row of step 3: others' gradients are there, random numbers are drawn
    with pytest.raises(TrainingError, match="memory ran out in step 3") as refused:
        run.run(Silent())
    hint = str(refused.value.hint)
    assert f"Step 2 is saved in {tmp_path / 'failing' / 'checkpoints'}." in hint
    assert "--max-tokens (now 300)" in hint or "--max-tokens (now 2,048)" in hint
    assert "gradient_checkpointing" in hint
    training(again, examples, recipe, tmp_path / "failing").run(Silent())
    assert not changed(weights_of(again), weights_of(whole))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("MPS backend out of memory")],
)
def test_what_running_out_of_memory_looks_like(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_a_disk_that_fills_up_while_saving_is_said_and_the_run_goes_on(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    recipe = replace(ALIGN, save_every=1)
    whole, again = open_tiny(), open_tiny()
    training(whole, examples, recipe, tmp_path / "whole").run(Silent())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filling(Terminating):
        def advance(self, amount: int = 1, **figures: str) -> None:
            self.done += amount
            if self.done == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(TrainingError, match="checkpoint of step-000002 cannot be written") as refused:
            training(open_tiny(), examples, recipe, tmp_path / "full").run(Filling(after=-1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "step-000001 is whole" in str(refused.value.hint)
    training(again, examples, recipe, tmp_path / "full").run(Silent())
    assert not changed(weights_of(again), weights_of(whole))


def test_a_picture_that_goes_between_two_epochs_is_named_and_what_was_done_is_saved(
    open_tiny: Open, data_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(data_folder, data)
    recipe = replace(ALIGN, batch_size=9, steps=3)

    def read(loaded: LoadedModel) -> ExampleSet:
        files = find_data([data], "instruct.jsonl", None)
        return read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())

    picture = data / "images" / "3.png"
    content = picture.read_bytes()

    class Removing(Terminating):
        def advance(self, amount: int = 1, **figures: str) -> None:
            picture.unlink()

    first = open_tiny()
    with pytest.raises(DataError, match=r"3\.png is gone since training began; it belongs to 's3'"):
        training(first, read(first), recipe, tmp_path / "out").run(Removing(after=-1))
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-000001"]
    picture.write_bytes(content)
    second, whole = open_tiny(), open_tiny()
    training(second, read(second), recipe, tmp_path / "out").run(Silent())
    training(whole, read(whole), recipe, tmp_path / "whole").run(Silent())
    assert not changed(weights_of(second), weights_of(whole))


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_kept_features_teach_what_computed_ones_teach(
    keep: str, open_tiny: Open, examples: ExampleSet, tmp_path: Path
) -> None:
    found = []
    for where in ("off", keep):
        loaded = open_tiny()
        recipe = replace(FULL, cache_features=where, steps=6)
        run = training(loaded, examples, recipe, tmp_path / where)
        features, choice = open_features(loaded, recipe, examples, progress=Silent(), folder=tmp_path / "features")
        assert choice.value == where
        replace(run, features=features).run(Silent())
        found.append(weights_of(loaded))
    assert not changed(*found)
    assert timeless(tmp_path / "off") == timeless(tmp_path / keep)


VALIDATED = replace(FULL, steps=6, validate_every=2)


def judged_by(run: Training, losses: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> Training:
    """The run, its validations finding these losses."""
    left = list(losses)
    monkeypatch.setattr(
        "llavamed_cli.training.loop.validate", lambda *_: Validation(loss=left.pop(0), tokens=7, answers=())
    )
    some: Any = object()
    return replace(run, validation=some)


def test_a_run_that_is_validated_learns_what_it_learns_without(
    open_tiny: Open, data_folder: Path, examples: ExampleSet, tmp_path: Path
) -> None:
    """With dropout: a validation draws no random number."""
    recipe = replace(LORA, validate_every=2)
    plain, looked = open_tiny(), open_tiny()
    training(plain, examples, recipe, tmp_path / "plain").run(Silent())
    (file,) = find_data([data_folder], "instruct.jsonl", None)
    run = training(looked, examples, recipe, tmp_path / "looked")
    trained = replace(run, validation=open_validation(file, looked, Silent())).run(Silent())
    steps = timeless(tmp_path / "looked")
    looked_at: Any = looked.model
    looked_at.eval()
    found = [step["step"] for step in steps if "validation_loss" in step]
    assert found == [2, 4]
    assert steps[-1]["validation_loss"] == pytest.approx(mean_loss(looked, list(examples)), abs=1e-5)
    assert steps[-1]["validation_tokens"] == int(examples.supervised.sum())
    assert len(steps[-1]["validation_answers"]) == 4
    without = [{key: value for key, value in step.items() if "validation" not in key} for step in steps]
    assert without == timeless(tmp_path / "plain")
    assert trained.judged.best_step == 4
    assert not changed(weights_of(plain), weights_of(looked))


def test_the_best_weights_are_kept_and_are_the_ones_that_stay(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_four, best = open_tiny(), open_tiny()
    four = training(at_four, examples, VALIDATED, tmp_path / "four")
    with pytest.raises(KeyboardInterrupt):
        four.run(Terminating(after=4))
    run = judged_by(training(best, examples, VALIDATED, tmp_path / "best"), (3.0, 2.0, 2.5), monkeypatch)
    progress = Terminating(after=-1)
    trained = run.run(progress)
    assert (trained.steps, trained.judged.best_step, trained.judged.best_loss) == (6, 4, 2.0)
    assert not changed(weights_of(best), weights_of(at_four))
    assert progress.notes[-1] == "the weights of step 4 are taken: their validation loss was the lowest"
    assert [path.name for path in (tmp_path / "best" / "checkpoints").iterdir()] == ["best-000004"]


def test_patience_ends_a_run_that_gets_no_better(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(VALIDATED, steps=30, patience=2, save_every=7)
    run = judged_by(training(open_tiny(), examples, recipe, tmp_path), (3.0, 2.0, 2.5, 2.1), monkeypatch)
    trained = run.run(Silent())
    assert (trained.steps, trained.judged.best_step) == (8, 4)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 8


def test_what_was_judged_survives_a_stop_and_a_validation_that_was_due_is_made_up_for(
    open_tiny: Open, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop in a step that is to be validated, a run saves and leaves without: a cluster does not wait."""
    losses = (2.0, 3.0, 4.0)
    whole = judged_by(training(open_tiny(), examples, VALIDATED, tmp_path / "whole"), losses, monkeypatch)
    expected = whole.run(Silent())
    first = judged_by(training(open_tiny(), examples, VALIDATED, tmp_path / "stopped"), losses, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        first.run(Terminating(after=4))
    assert "validation_loss" not in read_metrics(tmp_path / "stopped" / "metrics.jsonl")[-1]
    second = judged_by(training(open_tiny(), examples, VALIDATED, tmp_path / "stopped"), losses[1:], monkeypatch)
    assert second.run(Silent()) == expected
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "whole")


def test_a_run_killed_between_checkpoints_is_repeated_to_the_same_bytes(
    tiny_model: Path, data_folder: Path, tmp_path: Path, llavamed: Callable[..., Any]
) -> None:
    def command(out: Path) -> list[str]:
        options = "--steps 16 --batch-size 3 --lr 1e-3 --save-every 1 --device cpu --precision fp32"
        return ["tune", str(data_folder), "--model", str(tiny_model), "--out", str(out), *options.split()]

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "llavamed_cli", *command(killed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    limit = time.monotonic() + 120
    while not any(int(path.name[5:]) >= 2 for path in (killed / "checkpoints").glob("step-*")):
        assert process.poll() is None and time.monotonic() < limit, "it never came to step 2"
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "config.json").exists(), "it was done before it was killed"
    assert json.loads((killed / "run.json").read_text())["status"] == "running"

    again, straight = llavamed(*command(killed)), llavamed(*command(whole))
    assert (again.code, straight.code) == (0, 0), again.stderr + straight.stderr
    assert "going on after step" in again.stderr
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert timeless(killed) == timeless(whole)
    assert len(timeless(whole)) == 16
