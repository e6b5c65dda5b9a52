"""The most memory a training step has resident, beside the published way:  python tests/benchmarks/training_memory.py

The samples and ways of `training_speed.py`, each in a process of its own: two steps with AdamW, the second as every
later one. Linux; one thread; about 3 minutes.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import torch
from training_speed import sides_of
from training_trial import TRIALS, Step, Trial, Ways, small_llava

MB = 10**6


def resident() -> int:
    """Bytes, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(trial: Trial, ways: Ways) -> None:
    """Print the peak before the first step, and after the last."""
    torch.set_num_threads(1)
    net = small_llava(trial.train)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.0, fused=True)
    step = Step(net, trial.examples(seed=0))
    if ways.cached:
        _ = step.kept
    before = resident()
    for _ in range(2):
        step.loss(ways)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    print(before, resident())


def main() -> None:
    """Print a Markdown table; with a trial and a way, measure one in this process."""
    if len(sys.argv) > 1:
        trial = next(trial for trial in TRIALS if trial.name == sys.argv[1])
        measure(trial, sides_of(trial, levers=False)[sys.argv[2]])
        return
    print("| samples | way | before the first step | at most |\n|---|---|---|---|")
    for trial in TRIALS:
        for name in sides_of(trial, levers=False):
            told = subprocess.run(
                [sys.executable, __file__, trial.name, name], capture_output=True, text=True, check=True
            )
            before, peak = map(int, told.stdout.split())
            print(f"| {trial.name} | {name} | {before / MB:,.0f} MB | {peak / MB:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
