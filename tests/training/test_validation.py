"""Validation: its loss against transformers' own, one sample at a time; and it leaves no trace in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.errors import TrainingError
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.progress import Silent
from llavamed_cli.training.data_files import DataFile
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.validation import SHOWN, Validation, ValidationSet, open_validation, validate

RECIPE = Recipe(train=("projector", "lm"), lora_rank=4, lora_dropout=0.5, max_tokens=300, batch_size=4)


@pytest.fixture
def file(data_folder: Path) -> DataFile:
    return DataFile(path=data_folder / "instruct.jsonl", images=data_folder / "images")


@pytest.fixture
def loaded(open_tiny: Callable[[], LoadedModel]) -> LoadedModel:
    """A model in training, with dropout, whose additions are no longer nothing."""
    opened = open_tiny()
    prepare_parts(opened.model, RECIPE, seed=0)
    net: Any = opened.model
    use_segments(net)
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    net.train()
    net.model.vision_tower.eval()
    return opened


def run(loaded: LoadedModel, validation: ValidationSet, recipe: Recipe = RECIPE) -> Validation:
    return validate(loaded, validation, recipe, FrozenFeatures(loaded))


def plainly(loaded: LoadedModel, validation: ValidationSet) -> tuple[float, int]:
    """Summed loss over tokens, by transformers' own forward and labels."""
    net: Any = loaded.model
    total, tokens = 0.0, 0
    net.eval()
    for example in validation.examples:
        ids = torch.as_tensor(example.input_ids, dtype=torch.long)[None]
        labels = ids.masked_fill(~torch.as_tensor(example.supervised)[None], -100)
        pictures = [open_picture(path) for path in example.pictures]
        pixels = loaded.pixels(pictures) if pictures else None
        with torch.no_grad():
            loss = net(input_ids=ids, labels=labels, pixel_values=pixels, attention_mask=torch.ones_like(ids)).loss
        count = int((labels[0, 1:] != -100).sum())
        total += float(loss) * count
        tokens += count
    return total / tokens, tokens


def test_the_loss_is_the_mean_over_all_supervised_tokens(loaded: LoadedModel, file: DataFile) -> None:
    validation = open_validation(file, loaded, Silent())
    found = run(loaded, validation)
    loss, tokens = plainly(loaded, validation)
    assert found.tokens == tokens
    assert found.loss == pytest.approx(loss, abs=1e-5)
    apart = Recipe(**{**vars(RECIPE), "share_pictures": False, "max_tokens": 64})
    assert run(loaded, validation, apart).loss == pytest.approx(loss, abs=1e-5)


def test_it_leaves_no_trace(loaded: LoadedModel, file: DataFile) -> None:
    """Modes, gradients, weights and the random state are as before: a run goes on bit for bit as without it."""
    validation = open_validation(file, loaded, Silent())
    net: Any = loaded.model
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = {name: part.training for name, part in net.named_modules()}
    state = torch.get_rng_state()
    first, second = run(loaded, validation), run(loaded, validation)
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: part.training for name, part in net.named_modules()} == modes
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_answers_stand_beside_what_was_wanted(loaded: LoadedModel, file: DataFile) -> None:
    validation = open_validation(file, loaded, Silent())
    answers = run(loaded, validation).answers
    assert len(answers) == SHOWN
    assert [answer.id for answer in answers] == ["s0", "s2", "s4", "s6"]
    assert (answers[0].question, answers[0].wanted) == ("What colour is it?", "It is black.")
    assert [asked.pictures[0].name for asked in validation.asked] == ["0.png", "2.png", "4.png", "6.png"]
    assert "It is black." in answers[0].line()


def test_an_answer_that_was_learned_is_given(
    open_tiny: Callable[[], LoadedModel], file: DataFile, tmp_path: Path
) -> None:
    """Trained on one sample until it is known by heart, the model answers with it, and the loss is near nothing."""
    from llavamed_cli.training.layout import collate
    from llavamed_cli.training.step import row_loss

    record = json.loads(file.path.read_text().splitlines()[0])
    alone = tmp_path / "one.jsonl"
    alone.write_text(json.dumps(record) + "\n")
    loaded = open_tiny()
    recipe = Recipe(train=("projector", "lm"))
    prepare_parts(loaded.model, recipe, seed=0)
    use_segments(loaded.model)
    validation = open_validation(DataFile(path=alone, images=file.images), loaded, Silent())
    net: Any = loaded.model
    net.train()
    optimizer = torch.optim.AdamW([one for one in net.parameters() if one.requires_grad], lr=3e-3)
    features = FrozenFeatures(loaded)
    row = collate([validation.examples[0]])
    for _ in range(60):
        loss = row_loss(net, row, features.of(row.pictures)) / len(row.targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    found = run(loaded, validation, recipe)
    assert found.loss < 0.1
    assert [answer.given for answer in found.answers] == ["It is black."]


def test_a_file_without_a_usable_sample_is_refused_with_why(loaded: LoadedModel, tmp_path: Path) -> None:
    empty = tmp_path / "none.jsonl"
    empty.write_text("[1]\n")
    with pytest.raises(TrainingError, match="no sample can be validated on") as refused:
        open_validation(DataFile(path=empty, images=tmp_path), loaded, Silent())
    assert "expected an object" in str(refused.value)
