"""What packing and supervised-only logits save:  python tests/benchmarks/packing_speed.py

One thread. The same samples through the same model (a random Llama of 6 layers, width 256, 32,000 words): padded
batches with every logit, as transformers' own `labels=` computes them, beside packed rows with supervised logits
alone. Forward and backward; sides alternate; medians of 5 runs after one that warms up.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from llavamed_cli.training.packing import collate, pack
from llavamed_cli.training.samples import Example
from llavamed_cli.training.step import row_loss

RUNS, SAMPLES, IMAGE_TOKENS, WORDS = 5, 16, 64, 32_000
BUDGET, BATCH = 512, 8


def model() -> LlavaForConditionalGeneration:
    """A small LLaVA with a vocabulary as wide as LLaMA's."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=WORDS, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8
    )
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=8
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=WORDS - 1)
    )


def samples() -> list[Example]:
    """Questions about pictures with answers of 4 to 100 tokens: one token in five or so is supervised."""
    draw = numpy.random.default_rng(0)
    found = []
    for number in range(SAMPLES):
        question, answer = int(draw.integers(10, 60)), int(draw.integers(4, 100))
        ids = draw.integers(5, WORDS - 2, IMAGE_TOKENS + question + answer)
        ids[1 : IMAGE_TOKENS + 1] = WORDS - 1
        learned = numpy.arange(len(ids)) >= IMAGE_TOKENS + question
        found.append(Example(id=str(number), input_ids=ids, supervised=learned, pictures=(Path(str(number)),)))
    return found


def packed(net: LlavaForConditionalGeneration, examples: list[Example], features: torch.Tensor) -> float:
    """llavamed's way; the mean loss."""
    learned = sum(int(example.supervised.sum()) for example in examples)
    total = 0.0
    for row in pack(range(len(examples)), [len(example.input_ids) for example in examples], BUDGET):
        loss = row_loss(net, collate([examples[index] for index in row]), features[list(row)]) / learned
        loss.backward()
        total += float(loss.detach())
    return total


def padded(net: LlavaForConditionalGeneration, examples: list[Example], pixels: torch.Tensor) -> float:
    """The ordinary way: batches padded to their longest, logits everywhere, the tower run each time."""
    learned = sum(int(example.supervised.sum()) for example in examples)
    total = 0.0
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        longest = max(len(example.input_ids) for example in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        labels = torch.full((len(batch), longest), -100)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for place, example in enumerate(batch):
            length = len(example.input_ids)
            ids[place, :length] = torch.from_numpy(example.input_ids)
            labels[place, :length] = torch.where(torch.from_numpy(example.supervised), ids[place, :length], -100)
            mask[place, :length] = 1
        output = net(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=pixels[start : start + BATCH],
            labels=labels,
            use_cache=False,
        )
        loss = output.loss * (labels[:, 1:] != -100).sum() / learned
        loss.backward()
        total += float(loss.detach())
    return total


def main() -> None:
    """Print both medians, their ratio, and the two losses, which must agree."""
    torch.set_num_threads(1)
    net, examples = model(), samples()
    net.model.vision_tower.requires_grad_(False)
    pixels = torch.randn(SAMPLES, 3, 64, 64)
    with torch.no_grad():
        features = net.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    sides = {"padded": lambda: padded(net, examples, pixels), "packed": lambda: packed(net, examples, features)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    losses = {}
    for run in range(RUNS + 1):
        for name, side in sides.items():
            net.zero_grad(set_to_none=True)
            began = time.perf_counter()
            losses[name] = side()
            if run:
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s, loss {losses[name]:.6f}")
    print(f"packed rows are {medians['padded'] / medians['packed']:.2f} times as fast")


if __name__ == "__main__":
    main()
