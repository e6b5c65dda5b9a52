"""What `align` and `tune` do once their options are read: look (--plan, --show-sample), or train and print."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.cli.terminal import FAULTS_SHOWN, Terminal
from llavamed_cli.cli.training_options import TrainingOptions
from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel
    from llavamed_cli.records import Fault
    from llavamed_cli.run_record import Run
    from llavamed_cli.training.data_files import DataFile
    from llavamed_cli.training.planning.hardware import Hardware
    from llavamed_cli.training.planning.machine import Machine
    from llavamed_cli.training.recipe import Recipe
    from llavamed_cli.training.stage import Prepared
    from llavamed_cli.world import World

PICTURE = re.compile(r"^picture .+?: ")
"""What a fault of a picture begins with, its path in it."""


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """What `align` or `tune` was asked to do, resolved.

    shaping: beyond the recipe, what shapes the result. inputs: what is read. announced: choices that are told while the
    model is opened.
    """

    command: str
    data: list[Path]
    stage_file: str
    options: TrainingOptions
    recipe: Recipe
    open_model: Callable[[], LoadedModel]
    shaping: Mapping[str, Any]
    inputs: Mapping[str, Path | str]
    announced: tuple[str, ...] = ()

    @property
    def looking(self) -> bool:
        """Whether nothing is to be trained."""
        return self.options.plan or self.options.show_sample


def input_of(where: str) -> Path | str:
    """A model named on the command line: a path where there is one, else a hub name."""
    path = Path(where).expanduser()
    return path if path.exists() else where


def run_stage(request: StageRequest, terminal: Terminal) -> None:
    """Look (--plan, --show-sample), or train, in all the processes that were launched for it."""
    from llavamed_cli.training.data_files import find_data
    from llavamed_cli.world import ALONE, open_world

    options = request.options
    _check(request)
    files = find_data(request.data, request.stage_file, options.images)
    if request.looking:
        terminal.quiet_libraries()
        _look(request, _prepare(request, files, terminal, ALONE), terminal)
        return
    with open_world(options.device) as world:
        if not world.leads:
            terminal = Terminal(quiet=True)
        run = world.from_lead(lambda: _begin(request, files))
        if run.finished:
            terminal.note(f"{options.out} is finished already; nothing to do")
            results: Mapping[str, Any] = run.results
        else:
            terminal.quiet_libraries()
            results = _train(request, _prepare(request, files, terminal, world), run, terminal, world)
        if world.leads:
            _print_result(request, results, terminal)


def _prepare(request: StageRequest, files: Sequence[DataFile], terminal: Terminal, world: World) -> Prepared:
    from llavamed_cli.training.stage import prepare_stage

    prepared = prepare_stage(
        request.open_model, files, request.recipe, seed=request.options.seed, progress=terminal, world=world
    )
    if world.leads:
        _tell_faults(prepared, request, terminal)
    return prepared


def _check(request: StageRequest) -> None:
    from llavamed_cli.training.metrics import check_tracker

    options = request.options
    if not 0 <= options.seed < 2**63:
        raise UsageError("expected 0 or more, and less than 2^63", where="--seed")
    if options.out is None and not request.looking:
        raise UsageError("--out is missing", hint="Name the folder to write, or look first with --plan.")
    for name, value in (("--memory", options.memory), ("--rate", options.rate)):
        if value is not None and not value > 0:
            raise UsageError("must be above 0", where=name)
    for name, given in (("--hardware", options.hardware), ("--memory", options.memory), ("--rate", options.rate)):
        if given is not None and not options.plan:
            raise UsageError("this is for --plan", where=name)
    if options.tracker is not None:
        check_tracker(options.tracker)
    if options.validate is None and (options.validate_every or options.patience):
        raise UsageError("there is nothing to validate on", hint="Name it with --validate FILE.")


def _begin(request: StageRequest, files: Sequence[DataFile]) -> Run:
    from llavamed_cli.run_record import begin_run
    from llavamed_cli.training.recipe import SPEED_ALONE

    options = request.options
    assert options.out is not None
    inputs = {**request.inputs, **{f"data {n}": file.path for n, file in enumerate(files, start=1)}}
    if options.validate is not None:
        inputs["validation"] = options.validate
    settings = {**request.shaping, **request.recipe.as_options()}
    if options.auto_tokens:
        settings["max_tokens"] = "auto"  # what is chosen stands under "choices"
    return begin_run(
        options.out, request.command, options=settings, inputs=inputs, seed=options.seed, may_change=SPEED_ALONE
    )


def _train(request: StageRequest, prepared: Prepared, run: Run, terminal: Terminal, world: World) -> Mapping[str, Any]:
    from llavamed_cli.training.data_files import find_data
    from llavamed_cli.training.fit import settle_max_tokens
    from llavamed_cli.training.stage import train_stage
    from llavamed_cli.training.validation import open_validation

    options, recipe = request.options, request.recipe
    for name, choice in prepared.loaded.choices.items():
        if name not in request.announced:
            terminal.note(f"{name}: {choice.value} ({choice.reason})")
    if options.auto_tokens:
        chosen = settle_max_tokens(prepared, recipe, run, seed=options.seed, progress=terminal, world=world)
        terminal.note(f"max_tokens: {chosen.value} ({chosen.reason})")
        recipe = replace(recipe, max_tokens=int(chosen.value))
    validation = None
    if options.validate is not None:
        (file,) = find_data([options.validate], request.stage_file, options.images)
        with world.in_turn():
            validation = open_validation(file, prepared.loaded, terminal)
    return train_stage(
        prepared,
        recipe,
        run,
        seed=options.seed,
        progress=terminal,
        validation=validation,
        tracker=options.tracker,
        world=world,
    )


def _print_result(request: StageRequest, results: Mapping[str, Any], terminal: Terminal) -> None:
    out = request.options.out
    text = (
        f"{out}\n{results['steps']} steps on {results['samples']} samples ({results['set_aside']} set aside), "
        f"loss {results['first_loss']:.3f} -> {results['last_loss']:.3f}"
    )
    terminal.result(text, {"out": str(out), **results})


def _tell_faults(prepared: Prepared, request: StageRequest, terminal: Terminal) -> None:
    """Name the records set aside: the first in full, and where there are more, all of them by reason."""
    found = prepared.examples
    terminal.faults(found.faults, kept=len(found), total=found.set_aside)
    if found.set_aside <= FAULTS_SHOWN:
        return
    named = ids_by_reason(found.faults)
    for reason, count in found.reasons.items():
        ids = named.get(reason, [])
        more = f" and {count - len(ids)} more" if ids and count > len(ids) else ""
        terminal.warn(f"  {count} x {reason}: {', '.join(ids)}{more}")
    if request.options.out is not None and not request.looking:
        terminal.warn(f"  each with its place and reason: {request.options.out / 'rejected.jsonl'}")


def _look(request: StageRequest, prepared: Prepared, terminal: Terminal) -> None:
    shown: dict[str, tuple[str, Any]] = {}
    if request.options.show_sample:
        shown["sample"] = _sample(prepared)
    if request.options.plan:
        shown["plan"] = _plan(request, prepared, terminal)
    values = {name: value for name, (_, value) in shown.items()}
    text = "\n\n".join(text for text, _ in shown.values())
    terminal.result(text, values if len(values) > 1 else next(iter(values.values())))


def _plan(request: StageRequest, prepared: Prepared, terminal: Terminal) -> tuple[str, Any]:
    """The plan, for a person and as a value."""
    from llavamed_cli.training.fit import estimate_max_tokens
    from llavamed_cli.training.planning.hardware import find_hardware
    from llavamed_cli.training.planning.plan import GivenRate, plan_training
    from llavamed_cli.training.planning.rate import measure_rate

    options, loaded, recipe = request.options, prepared.loaded, request.recipe
    hardware = find_hardware(options.hardware) if options.hardware else None
    machine = _machine(options, loaded, hardware)
    precision = loaded.choices["precision"].value
    if hardware is not None and options.precision == "auto":
        precision = "bf16"  # as is chosen on such cards
    model: Any = loaded.model
    if options.auto_tokens:
        chosen = estimate_max_tokens(
            model.config, prepared.examples, recipe, machine, precision=precision, seed=options.seed
        )
        terminal.note(f"max_tokens: {chosen.value} ({chosen.reason})")
        recipe = replace(recipe, max_tokens=int(chosen.value))
    speed = GivenRate(options.rate) if options.rate is not None else hardware
    plan = plan_training(
        model.config,
        prepared.examples,
        recipe,
        precision=precision,
        machine=machine,
        speed=speed or measure_rate(loaded, prepared.examples, recipe, seed=options.seed),
        seed=options.seed,
    )
    return "\n".join(plan.lines()), plan.as_values()


def _machine(options: TrainingOptions, loaded: LoadedModel, hardware: Hardware | None) -> Machine:
    from llavamed_cli.model.precision import GB
    from llavamed_cli.training.planning.machine import machine_of, this_machine

    machine = machine_of(hardware) if hardware is not None else this_machine(loaded)
    if options.memory is None:
        return machine
    return replace(machine, free=int(options.memory * GB), source="as given")


def _sample(prepared: Prepared) -> tuple[str, Any]:
    """The first sample; what is learned stands in green on a terminal, and between « » everywhere."""
    from llavamed_cli.training.samples import show_sample

    loaded = prepared.loaded
    example = prepared.examples[0]
    image = loaded.chat.image_token_id
    tokenizer: Any = loaded.chat.tokenizer

    def decode(ids: list[int]) -> str:
        shown = [token for place, token in enumerate(ids) if token != image or place == 0 or ids[place - 1] != image]
        text: str = tokenizer.decode(shown, skip_special_tokens=False)
        return text.replace("<image>", f"<image> x {ids.count(image)}") if image in ids else text

    pieces = show_sample(example, decode)
    green, plain = ("\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "")
    text = "".join(f"{green}«{piece}»{plain}" if learned else piece for piece, learned in pieces)
    value = {"id": example.id, "pieces": [{"text": piece, "supervised": learned} for piece, learned in pieces]}
    return f"{example.id}: what stands between « and » is learned\n{text}", value


def ids_by_reason(faults: Sequence[Fault]) -> dict[str, list[str]]:
    """Which records were set aside for each kind of reason, as `ExampleSet.reasons` counts them."""
    from llavamed_cli.training.store_writer import NUMBER

    found: dict[str, list[str]] = {}
    for fault in faults:
        kind = NUMBER.sub("…", PICTURE.sub("picture: ", fault.reason))
        found.setdefault(kind, []).append(fault.record_id or fault.where)
    return found
