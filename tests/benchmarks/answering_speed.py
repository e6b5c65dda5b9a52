"""Answering a benchmark beside asking one question at a time:  python tests/benchmarks/answering_speed.py [TRIAL]

TRIAL: a row's name, such as "SLAKE/576"; all four where none is named, about 8 minutes. One thread a side. The
reference is plain transformers: the processor's pixels and ids, and `generate` for each question. Ours is what `eval`
does with the same questions. Both must give the same tokens. Pictures are decoded already. The sides alternate five
times, with other questions each time; a speed-up is the median of five ratios of the process's CPU seconds, which a
busy neighbour hardly changes.

The model is random: a Llama of 10 layers, width 640, with 32,000 words, and a CLIP of 5 layers, width 192, which is as
small a part of the arithmetic as LLaVA 1.5's tower. 576 tokens a picture are LLaVA-Med v1.5's shape. Questions have the
lengths of VQA-RAD's and SLAKE's, 4 to 13 words, and answers 4 tokens.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from llavamed_cli.model.answer_many import answer_many
from llavamed_cli.model.assemble import assemble_on
from llavamed_cli.model.chat_templates import template_for
from llavamed_cli.model.generate import Prompt
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.tiny import byte_tokenizer
from llavamed_cli.records import Turn

RUNS, NEW_TOKENS, VOCABULARY = 5, 4, 32_000
WORDS = [f"w{first}{second}" for first in "bcdfghjklm" for second in "bcdfghjklm"]


@dataclass(frozen=True)
class Trial:
    """A benchmark's shape. questions: about each picture of a batch. aim: times as fast."""

    name: str
    pixels: int
    questions: tuple[int, ...]
    aim: float


TRIALS = (
    Trial("SLAKE/576", 336, (11, 11), 7.0),
    Trial("VQA-RAD/576", 336, (2, 2, 2, 2, 3) * 2, 2.2),
    Trial("SLAKE/256", 224, (11, 11), 6.0),
    Trial("VQA-RAD/256", 224, (2, 2, 2, 2, 3) * 2, 2.2),
)


def small_llava(folder: Path, pixels: int) -> LoadedModel:
    """The random model, put together from folders as any other is."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer([*WORDS, "user", "assistant"])
    tokenizer.chat_template = template_for("chatml", tokenizer)
    tokenizer.save_pretrained(folder / "words")
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=640, intermediate_size=1728, num_hidden_layers=10, num_attention_heads=10
    )
    LlamaForCausalLM(text).save_pretrained(folder / "words")
    size = {"image_size": pixels, "patch_size": 14}
    vision = CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=5, num_attention_heads=4, **size
    )
    CLIPVisionModel(vision).save_pretrained(folder / "tower")
    square = {"height": pixels, "width": pixels}
    CLIPImageProcessor(size={"shortest_edge": pixels}, crop_size=square).save_pretrained(folder / "tower")
    return assemble_on(str(folder / "words"), str(folder / "tower"), device="cpu", precision="fp32", seed=0)


def prompts(trial: Trial, seed: int) -> list[Prompt]:
    """A batch of questions about pictures of noise."""
    draw = random.Random(seed)
    made = []
    for count in trial.questions:
        picture = Image.frombytes("RGB", (trial.pixels, trial.pixels), draw.randbytes(3 * trial.pixels**2))
        for _ in range(count):
            text = " ".join(draw.choices(WORDS, k=draw.randint(4, 13)))
            made.append(Prompt((Turn(speaker="human", text=f"<image>\n{text}"),), (picture,)))
    return made


def one_by_one(loaded: LoadedModel, asked: list[Prompt]) -> list[tuple[int, ...]]:
    """What anyone writes who knows transformers."""
    processor: Any = loaded.processor
    model: Any = loaded.model
    found = []
    for prompt in asked:
        words = prompt.turns[0].text.removeprefix("<image>\n")
        content = [{"type": "image", "image": prompt.pictures[0]}, {"type": "text", "text": words}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        found.append(tuple(output[0, inputs["input_ids"].shape[1] :].tolist()))
    return found


def together(loaded: LoadedModel, asked: list[Prompt]) -> list[tuple[int, ...]]:
    """Ours."""
    return [answer.token_ids for answer in answer_many(loaded, asked, max_new_tokens=NEW_TOKENS)]


def run(trial: Trial) -> tuple[list[float], list[float]]:
    """Seconds of both sides, run by run."""
    times: tuple[list[float], list[float]] = [], []
    with tempfile.TemporaryDirectory() as folder:
        loaded = small_llava(Path(folder), trial.pixels)
        warm = prompts(trial, seed=-1)[:2]
        one_by_one(loaded, warm)
        together(loaded, warm)
        for number in range(RUNS):
            asked = prompts(trial, seed=number)
            answers = []
            for side, seconds in zip((one_by_one, together), times, strict=True):
                began = time.process_time()
                answers.append(side(loaded, asked))
                seconds.append(time.process_time() - began)
            if answers[0] != answers[1]:
                raise SystemExit(f"{trial.name}: the two sides answer differently in run {number}")
    return times


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trial", nargs="?", choices=[trial.name for trial in TRIALS])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| trial | questions a picture | one by one, ms a question | together | times as fast | aim |")
    print("|---|---|---|---|---|---|")
    for trial in TRIALS:
        if asked.trial not in (None, trial.name):
            continue
        alone, shared = run(trial)
        ratio = statistics.median(a / b for a, b in zip(alone, shared, strict=True))
        each = [1000 * statistics.median(seconds) / sum(trial.questions) for seconds in (alone, shared)]
        mean = sum(trial.questions) / len(trial.questions)
        print(f"| {trial.name} | {mean:g} | {each[0]:.0f} | {each[1]:.0f} | {ratio:.2f} | {trial.aim:g} |", flush=True)


if __name__ == "__main__":
    main()
