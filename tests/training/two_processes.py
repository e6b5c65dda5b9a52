"""Scenarios for two processes, told by test_distributed.py; not a test itself.

    torchrun --nproc_per_node 2 two_processes.py MODEL DATA OUT [DEVICE [SCENARIO...]]

Each leaves OUT/NAME.json, or OUT/NAME-RANK.json where every process has something to tell. One launch for all of them:
to start two processes and import torch in each takes longer than the rest.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llavamed_cli.errors import LlavamedError, PictureError
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Bar, Silent
from llavamed_cli.training.data_files import find_data
from llavamed_cli.training.features import Features, FrozenFeatures
from llavamed_cli.training.loop import Training
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.stage import Prepared, prepare_stage
from llavamed_cli.training.validation import open_validation
from llavamed_cli.world import World, open_world

BOTH = ("projector", "lm")
FULL = Recipe(train=BOTH, batch_size=3, max_tokens=150, share_pictures=False, steps=4, learning_rate=1e-3, warmup=0.3)
LORA = replace(FULL, lora_rank=4, lora_dropout=0.3, gradient_checkpointing=True, max_tokens=300)
ALONE = replace(FULL, train=("projector",), batch_size=1, steps=3)
"""One row a step: one process has none."""
VALIDATED = replace(FULL, validate_every=2)


class Asked(Silent):
    """Progress by which this process is asked to stop once `after` steps are done."""

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
            os.kill(os.getpid(), 15)


class Blind:
    """Features that fail in one process at the second step."""

    def __init__(self, features: Features, fault: Exception | None) -> None:
        self.features = features
        self.fault = fault
        self.calls = 0

    def of(self, pictures: Sequence[Path]) -> torch.Tensor:
        self.calls += 1
        if self.fault is not None and self.calls > 3:
            raise self.fault
        return self.features.of(pictures)


@dataclass(frozen=True)
class Bench:
    """What the scenarios share."""

    model: Path
    data: Path
    out: Path
    world: World
    device: str

    def open(self) -> LoadedModel:
        return load_model(str(self.model), device=self.device, precision="fp32")

    def prepare(self, recipe: Recipe) -> Prepared:
        files = find_data([self.data], "instruct.jsonl", None)
        return prepare_stage(self.open, files, recipe, seed=0, progress=Silent(), world=self.world)

    def training(self, recipe: Recipe, name: str, **more: Any) -> Training:
        prepared = self.prepare(recipe)
        out = self.out / name
        out.mkdir(exist_ok=True)
        loaded = prepared.loaded
        return Training(
            loaded=loaded,
            examples=prepared.examples,
            features=more.pop("features", None) or FrozenFeatures(loaded),
            recipe=recipe,
            seed=0,
            out=out,
            identity="test",
            world=self.world,
            **more,
        )

    def tell(self, name: str, value: Any) -> None:
        (self.out / f"{name}-{self.world.rank}.json").write_text(json.dumps(value))


def weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    model: Any = loaded.model
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def differing(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]


def the_same_everywhere(bench: Bench, loaded: LoadedModel) -> bool:
    from torch.distributed import all_gather_object

    sums = [None] * 2
    all_gather_object(sums, {name: float(tensor.double().sum()) for name, tensor in weights(loaded).items()})
    return sums[0] == sums[1]


def full(bench: Bench) -> None:
    run = bench.training(FULL, "full")
    run.run(Silent())
    bench.tell("full", {"same": the_same_everywhere(bench, run.loaded)})
    torch.save(weights(run.loaded), bench.out / f"full-{bench.world.rank}.pt")


def one_row(bench: Bench) -> None:
    run = bench.training(ALONE, "one_row")
    progress = Asked(-1)
    run.run(progress)
    bench.tell("one_row", {"same": the_same_everywhere(bench, run.loaded), "notes": progress.notes})


def resumed(bench: Bench, recipe: Recipe, name: str, **more: Any) -> None:
    """Process 1 is asked to stop after its second step; the run is repeated, and compared with one that was left alone.

    Of a request in the other process each hears a step later.
    """
    whole = bench.training(recipe, f"{name}_whole", **more)
    whole.run(Silent())
    first = bench.training(recipe, f"{name}_stopped", **more)
    progress = Asked(2 if bench.world.rank == 1 else -1)
    try:
        first.run(progress)
        left: Any = "to the end"
    except SystemExit as leaving:
        left = leaving.code
    except KeyboardInterrupt:
        left = "interrupted"
    torch.manual_seed(999 + bench.world.rank)
    again = bench.training(recipe, f"{name}_stopped", **more)
    repeated = Asked(-1)
    again.run(repeated)
    told = {"left": left, "stopped": progress.notes, "repeated": repeated.notes}
    told["differ"] = differing(weights(whole.loaded), weights(again.loaded)) if bench.world.leads else []
    bench.tell(name, told)
    torch.save(weights(again.loaded), bench.out / f"{name}-{bench.world.rank}.pt")


def lora(bench: Bench) -> None:
    resumed(bench, LORA, "lora")


@contextmanager
def sharding(**more: str) -> Iterator[None]:
    """As `accelerate launch` says it."""
    told = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", **more}
    os.environ.update(told)
    yield
    for name in told:
        del os.environ[name]


def sharded(bench: Bench) -> None:
    with sharding():
        resumed(bench, FULL, "sharded")


def sharded_lora(bench: Bench) -> None:
    with sharding(FSDP_RESHARD_AFTER_FORWARD="false"):
        resumed(bench, LORA, "sharded_lora")


def sharded_alone(bench: Bench) -> None:
    """One row a step, the last sample without a picture: both touch what the other process touches."""
    with sharding():
        run = bench.training(replace(ALONE, batch_size=1, steps=9), "sharded_alone")
        run.run(Silent())
    with_one = replace(ALONE, batch_size=1, steps=9)
    plain = bench.training(with_one, "plain_alone")
    plain.run(Silent())


def sharded_validated(bench: Bench) -> None:
    for name, how in (("plain_validated", None), ("sharded_validated", sharding())):
        run = bench.training(VALIDATED, name)
        (file,) = find_data([bench.data], "instruct.jsonl", None)
        run = replace(run, validation=open_validation(file, run.loaded, Silent()))
        if how is None:
            run.run(Silent())
        else:
            with how:
                run.run(Silent())


def outcome(work: Callable[[], object], world: World) -> Any:
    """How a process ends: its message, or its code where another speaks."""
    try:
        with world.together():
            work()
    except SystemExit as leaving:
        return leaving.code
    except LlavamedError as error:
        return str(error)
    return "done"


def fault(bench: Bench, name: str, error: Exception) -> None:
    """It comes in the second process, in the second step."""
    run = bench.training(FULL, name)
    features = Blind(FrozenFeatures(run.loaded), error if bench.world.rank == 1 else None)
    world = World(bench.world.rank, 2, bench.world.local_rank, bench.world._channel)
    failing = replace(run, features=features, world=world)
    bench.tell(name, outcome(lambda: failing.run(Silent()), world))


def faults(bench: Bench) -> None:
    fault(bench, "gone", PictureError("the picture is gone", where="7.png"))
    fault(bench, "memory", RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"))
    fault(bench, "bug", ZeroDivisionError("by zero"))


def meetings(bench: Bench) -> None:
    world = bench.world
    order = bench.out / "order"
    with world.in_turn(), order.open("a") as stream:
        stream.write(str(world.rank))
    told = world.from_lead(lambda: f"made by {world.rank}")
    values = world.exchange(world.rank * 10)
    bench.tell("meetings", {"order": order.read_text(), "told": told, "values": values})


SCENARIOS = [meetings, full, one_row, lora, sharded, sharded_lora, sharded_alone, sharded_validated, faults]


def main() -> None:
    model, data, out = map(Path, sys.argv[1:4])
    device, *names = sys.argv[4:] or ["cpu"]
    with open_world(device) as world:
        bench = Bench(model, data, out, world, device)
        for scenario in (one for one in SCENARIOS if not names or one.__name__ in names):
            scenario(bench)
            world.exchange(None)


if __name__ == "__main__":
    main()
