"""Training's start over many records: the first time, and the second, when nothing is parsed, encoded or opened again.

    python tests/benchmarks/training_start.py [RECORDS] [FORM] [PICTURES]      500,000 json 500,000 need 3 GB of disk

Each record is a question, a caption of about 60 words and a picture of its own (noise, 48 x 48), or one of PICTURES.
FORM is `json` (one list, as LLaVA-Med publishes it) or `jsonl`. Each start is a process of its own; memory is read from
Linux's /proc. After the second start every sample is read once in random order, as an epoch does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48
FOLDER_HOLDS = 10_000
AIM_SECONDS = 10.0
WORDS = "the left right upper lower lobe shows a nodule effusion mass fracture normal opacity of mm with and in"


def make_data(folder: Path, records: int, form: str, pictures: int) -> Path:
    """Write the pictures and the records."""
    rng = np.random.default_rng(0)
    words = WORDS.split()
    for number in range(pictures):
        picture = folder / "images" / f"{number // FOLDER_HOLDS:03d}/{number:07d}.png"
        if number % FOLDER_HOLDS == 0:
            picture.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(picture, compress_level=0)
    file = folder / f"align.{form}"
    with file.open("w", encoding="utf-8") as stream:
        stream.write("[" if form == "json" else "")
        for number in range(records):
            caption = " ".join(words[place] for place in rng.integers(0, len(words), 60))
            turns = [
                {"from": "human", "value": "<image>\nDescribe the picture."},
                {"from": "gpt", "value": f"Picture {number}: {caption}."},
            ]
            own = number % pictures
            image = f"{own // FOLDER_HOLDS:03d}/{own:07d}.png"
            comma = "," if number and form == "json" else ""
            stream.write(comma + json.dumps({"id": f"r{number}", "image": image, "conversations": turns}) + "\n")
        stream.write("]" if form == "json" else "")
    return file


def memory() -> dict[str, float]:
    """MiB: the most that was resident, what is, and of that what is the process's own and what is mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return {name: int(fields[name][0]) / 1024 for name in ("VmHWM", "VmRSS", "RssAnon", "RssFile")}


def start(file: Path, model: Path, epoch: bool) -> None:
    """One start, in this process; prints its figures as JSON."""
    from transformers import AutoTokenizer

    from llavamed_cli.model.chat import ChatFormat
    from llavamed_cli.progress import Silent
    from llavamed_cli.training.samples import find_data, read_examples

    tokenizer = AutoTokenizer.from_pretrained(model)
    chat = ChatFormat(tokenizer, tokenizer.chat_template)
    before = memory()
    began = time.perf_counter()
    found = read_examples(
        find_data([file], "align.jsonl", None), chat, image_length=576, context=4096, progress=Silent()
    )
    figures = {"seconds": time.perf_counter() - began, "n": len(found), "tokens": int(found.lengths.sum())}
    figures |= {"before": before, "after": memory()}
    if epoch:
        began = time.perf_counter()
        for index in np.random.default_rng(0).permutation(len(found)).tolist():
            _ = found[index]
        figures |= {"epoch_seconds": time.perf_counter() - began, "epoch": memory()}
    print(json.dumps(figures))


def main(records: int, form: str, pictures: int) -> None:
    """Make the data, start twice, and print."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        began = time.perf_counter()
        file = make_data(folder, records, form, pictures)
        print(
            f"{records:,} records in {file.stat().st_size / 2**20:,.0f} MiB of {form}, {pictures:,} pictures", end=" "
        )
        print(f"(made in {time.perf_counter() - began:.0f} s)", flush=True)
        tokenizer_folder(folder / "words")
        environment = {**os.environ, "LLAVAMED_CACHE": str(folder / "cache")}
        for name, epoch in (("first", 0), ("second", 1)):
            command = [sys.executable, __file__, "--start", str(file), str(folder / "words"), str(epoch)]
            told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if told.returncode:
                sys.exit(told.stderr)
            figures = json.loads(told.stdout)
            before, after = figures["before"], figures["after"]
            print(
                f"{name} start: {figures['seconds']:.1f} s, {figures['n']:,} samples, {figures['tokens']:,} tokens; "
                f"memory {before['VmRSS']:.0f} MiB before, {after['VmRSS']:.0f} after, {after['VmHWM']:.0f} at most"
            )
        kept = sum(item.stat().st_size for item in (folder / "cache").rglob("*") if item.is_file())
        epoch_memory = figures["epoch"]
        print(f"store: {kept / 2**20:,.0f} MiB")
        print(
            f"every sample read: {figures['epoch_seconds']:.1f} s, memory {epoch_memory['VmRSS']:.0f} MiB after "
            f"({epoch_memory['RssAnon']:.0f} of its own, {epoch_memory['RssFile']:.0f} of mapped files)"
        )
        print("aim of 10 s at the second start:", "met" if figures["seconds"] < AIM_SECONDS else "missed")


def tokenizer_folder(folder: Path) -> None:
    """The tokenizer of the tiny model (bytes, as long a road per word as any), saved for the starts."""
    import torch

    from llavamed_cli.model.assemble import assemble

    assemble("tiny", "tiny", dtype=torch.float32, seed=0).processor.tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        start(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "1")
    else:
        given = sys.argv[1:]
        count = int(given[0]) if given else 500_000
        main(count, given[1] if len(given) > 1 else "json", int(given[2]) if len(given) > 2 else count)
