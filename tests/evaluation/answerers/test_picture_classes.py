from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from llavamed_cli.errors import ModelError
from llavamed_cli.evaluation.answerers.picture_classes import load_classifier

CLASSES = {0: "X-Ray", 1: "CT", 2: "MRI"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        id2label=CLASSES,
        label2id={name: number for number, name in CLASSES.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(config)
        torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    return tmp_path


def test_it_names_the_class_that_transformers_does(folder: Path) -> None:
    classify = load_classifier(folder, ["x-ray", "ct"])
    model, processor = ViTForImageClassification.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    written = {"X-Ray": "x-ray", "CT": "ct", "MRI": "MRI"}
    for number in range(6):
        picture = Image.effect_noise((20, 20), 30 + 20 * number).convert("RGB")
        with torch.no_grad():
            logits = model(**processor(images=picture, return_tensors="pt")).logits
        assert classify(picture) == written[CLASSES[int(logits.argmax())]]


def test_a_classifier_of_other_things_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"none of the classes a chest X-ray\n.*X-Ray, CT, MRI"):
        load_classifier(folder, ["a chest X-ray"])


def test_a_head_of_random_numbers_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in tensors.items() if "classifier" not in name}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=re.escape("2 tensor(s) missing, the first classifier.bias")):
        load_classifier(folder, ["CT"])


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no image classifier can be loaded"):
        load_classifier(tmp_path, ["CT"])
