"""What `ask` costs beside a bare `generate`, as ratios within one run:

    python tests/benchmarks/ask_speed.py MODEL [--runs 5] [--threads 1]

MODEL is a folder of ours, such as the quickstart's. Four lines; what is compared runs in turn, and of each the best run
counts, since other work on the machine only ever adds:

- first token after loading: a session's, over that of transformers' `generate` given the processor's inputs;
- streaming: tokens a second of a session whose pieces are read, over those of `generate` without a streamer;
- second question on the same picture: its time to the first token, over the first question's;
- start-up: a command's wall-clock until its first token, less reading the weights and answering, less what
  `python -c "import torch, transformers.models.llava"` takes; and less what importing the model class takes, which that
  lazy import leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUESTIONS = ("What kind of image is this?", "Is there an abnormality, and where is it seen?")
LONG = 96
LAZY = "import torch, transformers.models.llava"
CLASS = "import torch, transformers; transformers.LlavaForConditionalGeneration"
START = """
import json, sys, time
from llavamed_cli.cli.app import run
from llavamed_cli.model import load, running_answer
spent = {"weights": 0.0, "answer": 0.0}
def timed(place, name, what):
    plain = getattr(place, name)
    def counted(*given, **named):
        from transformers import LlavaForConditionalGeneration  # start-up's, wherever it comes first
        start = time.perf_counter()
        try:
            return plain(*given, **named)
        finally:
            spent[what] += time.perf_counter() - start
    setattr(place, name, counted)
timed(load, "_load_weights", "weights")
timed(running_answer.RunningAnswer, "_generate", "answer")
try:
    run()
finally:
    print(json.dumps(spent), file=sys.stderr)
"""


def first_token_and_rate(
    loaded: Any, picture: Any, runs: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], list[float]]:
    """Seconds to the first token, tokens a second, and seconds to a second question's first token, of each run."""
    import torch

    from llavamed_cli.asking.session import LocalSession
    from llavamed_cli.model.decoding import Decoding

    model, processor = loaded.model, loaded.processor
    picture_part = {"type": "image", "image": picture.image}

    def bare(question: str, length: int) -> float:
        """Wall-clock of the processor and `generate`; `length` tokens exactly."""
        began = time.perf_counter()
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [picture_part, {"type": "text", "text": question}]}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            model.generate(**inputs, do_sample=False, max_new_tokens=length, min_new_tokens=length)
        return time.perf_counter() - began

    def session(length: int) -> LocalSession:
        fresh = LocalSession(loaded, decoding=Decoding(max_new_tokens=length))
        fresh.talk = fresh.talk.showing([picture])
        return fresh

    def read(asked: LocalSession, question: str) -> Any:
        for _ in asked.ask(question):
            pass
        return asked.last

    first: dict[str, list[float]] = {"bare": [], "ours": []}
    rate: dict[str, list[float]] = {"bare": [], "ours": []}
    second: list[float] = []
    bare(QUESTIONS[0], 1), read(session(1), QUESTIONS[0])  # imports and threads
    kept = model.generation_config.min_new_tokens
    for _ in range(runs):
        first["bare"].append(bare(QUESTIONS[0], 1))
        asked = session(1)
        first["ours"].append(read(asked, QUESTIONS[0]).to_first)
        asked.talk = asked.talk.begun_again()
        second.append(read(asked, QUESTIONS[1]).to_first)
        rate["bare"].append((LONG - 1) / (bare(QUESTIONS[0], LONG) - first["bare"][-1]))
        model.generation_config.min_new_tokens = LONG
        said = read(session(LONG), QUESTIONS[0])
        model.generation_config.min_new_tokens = kept
        rate["ours"].append((said.tokens - 1) / (said.seconds - said.to_first))
    return first, rate, second


def start_up(model: Path, picture: Path, runs: int) -> dict[str, float]:
    """Seconds: "lazy" and "class" imports, and of a whole command what is neither weights nor answer."""
    found: dict[str, list[float]] = {"lazy": [], "class": [], "ours": []}
    for _ in range(runs):
        for name, code in (("lazy", LAZY), ("class", CLASS)):
            found[name].append(clock(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)))  # type: ignore[misc]
        began = time.perf_counter()
        words = ["ask", str(picture), QUESTIONS[0], "--model", str(model), "--max-new-tokens", "1", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", START, *words],
            check=True,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        spent = json.loads(done.stderr.splitlines()[-1])
        found["ours"].append(time.perf_counter() - began - spent["weights"] - spent["answer"])
    return {name: min(times) for name, times in found.items()}


def clock(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["TQDM_DISABLE"] = "1"

    from pydicom.data import get_testdata_file

    picture = Path(get_testdata_file("CT_small.dcm", download=False))
    started = start_up(options.model, picture, options.runs)
    beyond, ours = started["ours"] - started["lazy"], started["ours"] - started["class"]
    print(
        f"start-up outside weights and answer: {started['ours']:.2f} s; import alone {started['lazy']:.2f} s, with the "
        f"model class {started['class']:.2f} s; beyond the import {beyond:.2f} s, beyond the class {ours:.2f} s"
    )

    from llavamed_cli.model.images import read_picture
    from llavamed_cli.model.load import load_model

    loaded = load_model(str(options.model), device="cpu", precision="fp32")
    first, rate, second = first_token_and_rate(loaded, read_picture(picture), options.runs)
    ratio = min(first["ours"]) / min(first["bare"])
    print(f"first token: {ratio:.2f}x of a bare generate ({min(first['bare']):.3f} s)")
    cost = 1 - max(rate["ours"]) / max(rate["bare"])
    print(f"streaming: costs {100 * cost:.1f}% of {max(rate['bare']):.1f} tokens/s")
    print(f"second question on the picture: first token in {min(second) / min(first['ours']):.2f}x of the first's")


if __name__ == "__main__":
    main()
