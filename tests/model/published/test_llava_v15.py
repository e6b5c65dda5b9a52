"""LLaVA 1.5 and LLaVA-Med 1.5: against the reference's own outputs, and against models written in its layout here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.inside_tower import INSIDE
from llavamed_cli.model.published.read import read_published
from llavamed_cli.records import Turn

REFERENCE_IMAGE = -200
CASES = [
    ("separate", "checkpoint", "logits.separate", "separate"),
    ("inside", "stock", "logits_last4.inside_refload", "inside_refload"),
    ("inside", "checkpoint", "logits_last4.inside_weights", "inside_weights"),
]


@pytest.fixture(scope="module")
def oracle(shared: Path) -> Path:
    return shared / "oracle" / "v15"


@pytest.fixture(scope="module")
def prompts(oracle: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((oracle / "prompts.json").read_text())
    return found


@pytest.fixture(scope="module")
def outputs(oracle: Path) -> dict[str, torch.Tensor]:
    return load_file(oracle / "outputs.safetensors")


def expanded(ids: list[int], config: Any) -> torch.Tensor:
    """The reference's ids with each picture as Hugging Face's run of `<image>`, [1, length]."""
    run = [config.image_token_index] * config.image_seq_length
    return torch.tensor([[out for token in ids for out in (run if token == REFERENCE_IMAGE else [token])]])


@pytest.mark.parametrize(("folder", "tower", "logits", "generated"), CASES)
def test_the_references_outputs(
    oracle: Path,
    prompts: list[dict[str, Any]],
    outputs: dict[str, torch.Tensor],
    opened: Callable[..., Any],
    folder: str,
    tower: str,
    logits: str,
    generated: str,
) -> None:
    reading = read_published(oracle / f"llava-mistral-tiny-{folder}", vision_tower=tower)
    model = opened(reading)
    config = model.config
    assert (config.image_token_index, config.pad_token_id, config.text_config.vocab_size) == (512, 513, 576)
    for prompt in prompts:
        number = prompt["index"]
        ids = expanded(prompt["input_ids"], model.config)
        assert ids.shape[1] == prompt["expanded_len"]
        recorded_pixels = outputs.get(f"pixel_values.{number}")
        pixels = {} if recorded_pixels is None else {"pixel_values": recorded_pixels}
        with torch.no_grad():
            made = model(input_ids=ids, **pixels).logits[0]
        recorded = outputs[f"{logits}.{number}"]
        torch.testing.assert_close(made[-len(recorded) :, :512], recorded, atol=1e-4, rtol=0)
        assert (made.argmax(dim=-1) < 512).all()
        answer = model.generate(
            input_ids=ids,
            **pixels,
            attention_mask=torch.ones_like(ids),
            generation_config=reading.generation_config,
            max_new_tokens=24,
        )[0, ids.shape[1] :].tolist()
        assert [1, *answer] == prompt[f"generated_ids_{generated}"]


def test_the_references_features(
    oracle: Path, outputs: dict[str, torch.Tensor], prompts: list[dict[str, Any]], opened: Callable[..., Any]
) -> None:
    model = opened(read_published(oracle / "llava-mistral-tiny-separate"))
    pictured = [prompt["index"] for prompt in prompts if f"pixel_values.{prompt['index']}" in outputs]
    assert len(pictured) == 5
    for number in pictured:
        with torch.no_grad():
            seen = model.get_image_features(outputs[f"pixel_values.{number}"], output_hidden_states=True)
        torch.testing.assert_close(
            seen.hidden_states[-2][:, 1:], outputs[f"vision_features.{number}"], atol=1e-4, rtol=0
        )
        made = torch.stack(list(seen.pooler_output))
        torch.testing.assert_close(made, outputs[f"image_features.{number}"], atol=1e-4, rtol=0)


def test_the_references_pixels_and_ids(
    oracle: Path, prompts: list[dict[str, Any]], outputs: dict[str, torch.Tensor]
) -> None:
    from PIL import Image

    from llavamed_cli.model.chat import ChatFormat

    reading = read_published(oracle / "llava-mistral-tiny-inside")
    processor: Any = reading.processor
    chat = ChatFormat(processor.tokenizer, processor.chat_template)
    compared = 0
    for prompt in prompts:
        opened_pictures = [Image.open(oracle / file) for file in prompt["images"]]
        pictures = [picture.convert("RGB") for picture in opened_pictures]
        if pictures and all(picture.mode == "RGB" for picture in opened_pictures):  # grey ones it pads with a grey
            pixels = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
            torch.testing.assert_close(pixels, outputs[f"pixel_values.{prompt['index']}"], atol=1e-5, rtol=0)
        if prompt["conv_mode"] == "mistral_instruct":
            speakers = ("human", "gpt")
            turns = tuple(Turn(speaker=speakers[n % 2], text=text) for n, text in enumerate(prompt["turns"]) if text)
            ids = chat.encode_prompt(turns, [reading.config.image_seq_length] * len(pictures))
            assert list(ids) == expanded(prompt["input_ids"], reading.config)[0].tolist()
            compared += 1
    assert compared >= 2


def test_what_the_report_says_of_the_references_checkpoint(oracle: Path) -> None:
    report = read_published(oracle / "llava-mistral-tiny-inside").report
    assert report.choices["vision tower"].value == "checkpoint"
    assert report.choices["chat template"].value == "mistral_instruct"
    assert any("differs from the stock one (tiny_clip)" in note for note in report.notes)
    assert any("segtok_posembed" in names for names in report.ignored.values())


@pytest.mark.parametrize("text", ["mistral", "llama"])
def test_a_checkpoint_written_here(
    write_v15: Callable[..., Any], opened: Callable[..., Any], answered: Callable[..., Any], text: str
) -> None:
    made = write_v15(text)
    reading = read_published(made.folder)
    model = opened(reading)
    torch.testing.assert_close(answered(model)[:, :259], answered(made.model), atol=1e-5, rtol=0)
    assert (model.config.text_config.vocab_size, model.config.image_token_index) == (320, 259)
    assert reading.processor.tokenizer.pad_token == "<pad>"
    assert reading.processor.tokenizer.model_max_length == 200
    assert reading.report.choices["chat template"].value == {"mistral": "mistral_instruct", "llama": "vicuna_v1"}[text]
    assert reading.report.used == len(made.model.state_dict())
    assert len(reading.report.added) == 2


def test_a_separate_tower_beside_it(
    write_v15: Callable[..., Any], opened: Callable[..., Any], answered: Callable[..., Any]
) -> None:
    made = write_v15(inside=False, mm_vision_tower="clip")
    made.model.model.vision_tower.save_pretrained(made.folder.parent / "clip")
    model = opened(read_published(made.folder))
    torch.testing.assert_close(answered(model)[:, :259], answered(made.model), atol=1e-5, rtol=0)


def test_buffers_of_older_versions_are_left_out(write_v15: Callable[..., Any]) -> None:
    made = write_v15()
    file = made.folder / "model.safetensors"
    rope, numbers = "model.layers.0.self_attn.rotary_emb.inv_freq", f"{INSIDE}vision_model.embeddings.position_ids"
    save_file({**load_file(file), rope: torch.ones(4), numbers: torch.arange(5)[None]}, file)
    left_out = read_published(made.folder).report.ignored
    assert {rope, numbers} <= {name for names in left_out.values() for name in names}


def test_a_tensor_too_many_and_one_missing(write_v15: Callable[..., Any]) -> None:
    made = write_v15()
    file = made.folder / "model.safetensors"
    state = load_file(file)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file({**state, "model.image_newline": torch.ones(32)}, file)
    with pytest.raises(ModelError) as caught:
        read_published(made.folder)
    assert "1 missing: language_model.model.layers.1.mlp.up_proj.weight" in caught.value.what
    assert "1 unexpected: model.image_newline" in caught.value.what


def test_config_and_weights_of_different_sizes(write_v15: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"of another shape: .*48 x 32, not 96 x 32"):
        read_published(write_v15(intermediate_size=96).folder)


def test_a_tower_of_another_width_does_not_fit(write_v15: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match=r"linear_1.weight is 32 x 64, not 32 x 24"):
        read_published(write_v15().folder, vision_tower=str(tmp_path / "other"))


@pytest.mark.parametrize(("said", "pads"), [("pad", True), ("square", False), (None, False)])
def test_pictures_as_the_config_says(write_v15: Callable[..., Any], said: str | None, pads: bool) -> None:
    processor: Any = read_published(write_v15(image_aspect_ratio=said).folder).processor
    assert processor.image_processor.do_pad is pads
    assert processor.image_processor.crop_size["height"] == 16


def test_the_class_token_is_kept_where_the_config_says(write_v15: Callable[..., Any]) -> None:
    reading = read_published(write_v15(mm_vision_select_feature="cls_patch", mm_vision_select_layer=-3).folder)
    config: Any = reading.config
    assert (config.vision_feature_select_strategy, config.image_seq_length, config.vision_feature_layer) == (
        "full",
        5,
        -3,
    )


def test_start_and_end_tokens_must_be_in_the_tokenizer(write_v15: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="the tokenizer lacks <im_start>, <im_end>"):
        read_published(write_v15(mm_use_im_start_end=True).folder)


def test_a_template_asked_for(write_v15: Callable[..., Any]) -> None:
    reading = read_published(write_v15().folder, template="vicuna_v1")
    assert reading.report.choices["chat template"].reason == "asked for"
    assert "USER: " in str(reading.processor.chat_template)


def test_a_tied_head_takes_no_rows(write_v15: Callable[..., Any], opened: Callable[..., Any], tmp_path: Path) -> None:
    made = write_v15(tie_word_embeddings=True)
    file = made.folder / "model.safetensors"
    state = load_file(file)
    del state["lm_head.weight"]
    save_file(state, file)
    model = opened(read_published(made.folder))
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
