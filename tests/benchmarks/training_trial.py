"""What the training benchmarks share: a small LLaVA, samples of realistic lengths, a step in every way of computing.

The language model is a Llama of 8 layers, width 384, with LLaMA's 32,000 words; the tower, a CLIP of 4 layers, width
128, is a twentieth of it, as in LLaVA 1.5, and gives 256 tokens a picture. Weights are random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.training.examples import Example
from llavamed_cli.training.features import tower_features
from llavamed_cli.training.head_loss import head_loss
from llavamed_cli.training.layout import PackedRow, collate
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_states

WORDS, PICTURE, PICTURE_TOKENS, BEFORE = 32_000, 31_999, 256, 4
"""`<s>[INST]` stands before the picture, as Mistral's template has it."""
BATCH = 16
"""What LLaVA 1.5's own script gives a device to tune on (scripts/v1_5/finetune.sh)."""
BUDGET = 4096
"""Tokens a row, less than the reference's batch has."""


@dataclass(frozen=True)
class Ways:
    """How a step is computed. None of them: as the published trainer does."""

    packed: bool = False
    supervised: bool = False
    cached: bool = False
    shared: bool = False


REFERENCE = Ways()
ALL = Ways(packed=True, supervised=True, cached=True, shared=True)


def small_llava(train: Sequence[str]) -> LlavaForConditionalGeneration:
    """The model, with what learns: "projector", "lm"."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=WORDS, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=224,
        patch_size=14,
    )
    net = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision, image_token_index=PICTURE))
    net.requires_grad_(False)
    net.model.multi_modal_projector.requires_grad_("projector" in train)
    for part in (net.model.language_model, net.lm_head):
        part.requires_grad_("lm" in train)
    return net.train()


Lengths = tuple[int, int]
"""Tokens of a question and of its answer."""


def conversation(draw: numpy.random.Generator) -> list[Lengths]:
    """LLaVA-Med's instructions: up to five rounds, answers of some sentences. 157 tokens on average, 456 at most."""
    rounds = int(draw.integers(1, 6))
    return [(int(draw.integers(8, 22)), int(min(150, draw.lognormal(3.45, 0.65)))) for _ in range(rounds)]


def short_answer(draw: numpy.random.Generator) -> list[Lengths]:
    """VQA-RAD and SLAKE: 6.8 words asked, 1.6 answered (VQA-RAD's means), the template's tokens around them."""
    return [(int(draw.integers(9, 18)), int(draw.integers(2, 6)))]


def caption(draw: numpy.random.Generator) -> list[Lengths]:
    """Alignment: an instruction and a figure's caption."""
    return [(int(draw.integers(8, 22)), int(min(300, draw.lognormal(4.0, 0.6))))]


@dataclass(frozen=True)
class Trial:
    """A kind of training data. per_picture: samples about one picture. train: what learns."""

    name: str
    turns: Callable[[numpy.random.Generator], list[Lengths]]
    per_picture: int = 1
    train: tuple[str, ...] = ("projector", "lm")
    samples: int = BATCH
    aim: float = 1.0

    def examples(self, seed: int = 0) -> list[Example]:
        """One step's samples, in random order."""
        draw = numpy.random.default_rng(seed)
        made = [self._example(draw, number) for number in range(self.samples)]
        return [made[number] for number in draw.permutation(len(made))]

    def _example(self, draw: numpy.random.Generator, number: int) -> Example:
        turns = self.turns(draw)
        learned = [False] * (BEFORE + PICTURE_TOKENS)
        for question, answer in turns:
            learned += [False] * question + [True] * answer
        ids = draw.integers(5, WORDS - 2, len(learned), dtype=numpy.int32)
        ids[:BEFORE] = range(1, BEFORE + 1)
        ids[BEFORE : BEFORE + PICTURE_TOKENS] = PICTURE
        picture = Path(f"{number // self.per_picture}.png")
        return Example(id=str(number), input_ids=ids, supervised=numpy.asarray(learned), pictures=(picture,))


TRIALS = (
    Trial("instruct", conversation, aim=3.0),
    Trial("VQA-RAD", short_answer, per_picture=6, samples=12, aim=4.5),
    Trial("SLAKE", short_answer, per_picture=11, samples=11, aim=7.0),
    Trial("align", caption, train=("projector",), aim=2.0),
)


@dataclass
class Step:
    """One step of a trial, to be computed in several ways."""

    net: LlavaForConditionalGeneration
    examples: list[Example] = field(repr=False)

    def __post_init__(self) -> None:
        paths = sorted({example.pictures[0] for example in self.examples})
        draw = torch.Generator().manual_seed(0)
        self.pixels = {path: torch.randn(3, 224, 224, generator=draw) for path in paths}

    @cached_property
    def kept(self) -> dict[Path, torch.Tensor]:
        """Every picture's features."""
        return {path: self._see([path])[0] for path in self.pixels}

    def loss(self, ways: Ways) -> torch.Tensor:
        """The mean loss over all learned tokens, computed and taken backwards in some way."""
        use = use_segments if ways.packed else self._use_sdpa
        use(self.net)
        parts = [self._row(row, ways) for row in self._rows(ways)] if ways.packed else [self._padded(ways)]
        return torch.stack(parts).sum()

    @staticmethod
    def _use_sdpa(net: LlavaForConditionalGeneration) -> None:
        net.set_attn_implementation({"text_config": "sdpa"})

    def _rows(self, ways: Ways) -> list[PackedRow]:
        recipe = Recipe(batch_size=len(self.examples), max_tokens=BUDGET, share_pictures=ways.shared, window=1)
        (step,) = plan_epoch(_Shapes(self.examples), recipe, seed=0, epoch=0)
        prefix = BEFORE + PICTURE_TOKENS
        return [
            collate([self.examples[index] for index in row], prefixes=[prefix] * len(row) if ways.shared else None)
            for row in step
        ]

    def _row(self, row: PackedRow, ways: Ways) -> torch.Tensor:
        learned = sum(int(example.supervised.sum()) for example in self.examples)
        graded = row.predictors.unique() if ways.supervised else None
        states = row_states(self.net, row, self._features(row.pictures, ways), graded)
        if ways.supervised:
            loss = head_loss(self.net.lm_head, states.index_select(0, row.predictors), row.targets)
        else:
            logits = self.net.lm_head(states).index_select(0, row.predictors)
            loss = torch.nn.functional.cross_entropy(logits, row.targets, reduction="sum")
        loss = loss / learned
        loss.backward()
        return loss.detach()

    def _padded(self, ways: Ways) -> torch.Tensor:
        """All samples side by side, as long as the longest, through transformers' own forward and loss."""
        longest = max(len(example.input_ids) for example in self.examples)
        ids = torch.zeros((len(self.examples), longest), dtype=torch.long)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for place, example in enumerate(self.examples):
            length = len(example.input_ids)
            ids[place, :length] = torch.from_numpy(example.input_ids)
            labels[place, :length] = torch.where(torch.from_numpy(example.supervised), ids[place, :length], -100)
            mask[place, :length] = 1
        pictures = [example.pictures[0] for example in self.examples]
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if ways.cached:
            projected = self.net.model.multi_modal_projector(self._features(pictures, ways))
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=list(projected))}
        else:
            inputs["pixel_values"] = torch.stack([self.pixels[path] for path in pictures])
        if ways.supervised:
            states = self.net.model(**inputs).last_hidden_state[:, :-1]
            wanted = labels[:, 1:] != -100
            loss = head_loss(self.net.lm_head, states[wanted], labels[:, 1:][wanted]) / wanted.sum()
        else:
            loss = self.net(**inputs, labels=labels).loss
        loss.backward()
        return loss.detach()

    def _features(self, pictures: Sequence[Path], ways: Ways) -> torch.Tensor:
        return torch.stack([self.kept[path] for path in pictures]) if ways.cached else self._see(pictures)

    def _see(self, pictures: Sequence[Path]) -> torch.Tensor:
        with torch.no_grad():
            return tower_features(self.net, torch.stack([self.pixels[path] for path in pictures]))


class _Shapes:
    """What planning reads of samples."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.lengths = numpy.asarray([len(example.input_ids) for example in examples])
        self.picture_keys = numpy.asarray([int(example.pictures[0].stem) for example in examples])
        self.picture_counts = numpy.ones(len(examples), dtype=numpy.int64)
        self.prefix_lengths = numpy.full(len(examples), BEFORE + PICTURE_TOKENS)
