"""What training saves beside the published way:  python tests/benchmarks/training_speed.py [TRIAL] [--levers]

TRIAL: instruct, VQA-RAD, SLAKE or align; all of them where none is named, about 6 minutes. --levers: each saving alone
as well, 3 minutes for VQA-RAD or SLAKE, 7 for the others. One thread. A step is forward, backward and AdamW over the
same samples with the same weights (the rate is 0), and all ways must come to the same loss. The reference pads its
batch to the longest, attends over the padding, computes every logit, and runs the tower over a copy of the picture for
each of its questions. Five batches; the ways alternate; a speed-up is the median of five ratios. Pictures are decoded
already, for both.

In "all" of align every picture goes through the tower, as in an only epoch it must; elsewhere features are kept from an
epoch before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from training_trial import ALL, REFERENCE, TRIALS, Step, Trial, Ways, small_llava

RUNS = 5
SAME = 1e-4
LEVERS = {
    "packed rows": Ways(packed=True),
    "supervised logits": Ways(supervised=True),
    "kept features": Ways(cached=True),
    "shared pictures": Ways(packed=True, shared=True),
}


def sides_of(trial: Trial, *, levers: bool) -> dict[str, Ways]:
    """The ways to time, by name."""
    sides = {"reference": REFERENCE}
    if levers:
        sides |= {name: ways for name, ways in LEVERS.items() if trial.per_picture > 1 or not ways.shared}
    return sides | {"all": ALL if "lm" in trial.train else replace(ALL, cached=False)}


def run(trial: Trial, sides: dict[str, Ways]) -> dict[str, list[float]]:
    """Seconds of each side's steps."""
    net = small_llava(trial.train)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.0, weight_decay=0.0, fused=True)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(RUNS):
        step = Step(net, trial.examples(seed=number))
        _ = step.kept
        losses = {}
        for name, ways in sides.items():
            began = time.perf_counter()
            losses[name] = float(step.loss(ways))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            times[name].append(time.perf_counter() - began)
        for name, loss in losses.items():
            if abs(loss - losses["reference"]) > SAME:
                raise SystemExit(
                    f"{trial.name}: {name} comes to a loss of {loss}, the reference to {losses['reference']}"
                )
    return times


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trial", nargs="?", choices=[trial.name for trial in TRIALS])
    parser.add_argument("--levers", action="store_true", help="each saving alone as well")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| samples | way | samples/s | times as fast | aim |\n|---|---|---|---|---|")
    for trial in TRIALS:
        if asked.trial not in (None, trial.name):
            continue
        times = run(trial, sides_of(trial, levers=asked.levers))
        for name, measured in times.items():
            ratio = statistics.median(a / b for a, b in zip(times["reference"], measured, strict=True))
            rate = trial.samples / statistics.median(measured)
            aim = f"{trial.aim:g}" if name == "all" else ""
            print(f"| {trial.name} | {name} | {rate:.2f} | {ratio:.2f} | {aim} |", flush=True)


if __name__ == "__main__":
    main()
