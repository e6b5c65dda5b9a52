"""LLaVA-Med 1.0's layout: the reference's ids, pixels, features, logits and answers, whole and as a delta."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.chat_templates import template_for
from llavamed_cli.model.published.complete import complete
from llavamed_cli.model.published.llava_v1 import read_llava_v1
from llavamed_cli.model.published.reading import Reading
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.records import Turn

PROMPTS = range(5)
PATCHES = 16


def makers() -> Any:
    """v1_checkpoints.py, which lies beside this file and is no test."""
    spec = importlib.util.spec_from_file_location("v1_checkpoints", Path(__file__).with_name("v1_checkpoints.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


v1 = makers()


@pytest.fixture(scope="module")
def v1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint, its tower in the folder `clip` beside it."""
    made: Path = v1.make_v1(tmp_path_factory.mktemp("v1"))
    return made


@pytest.fixture(scope="module")
def delta_and_base(v1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same checkpoint as a delta, and what it is a delta to."""
    made: tuple[Path, Path] = v1.make_delta(v1_folder, tmp_path_factory.mktemp("delta"))
    return made


def read(folder: Path, **options: Any) -> Reading:
    return read_llava_v1(folder, TensorFiles.open(folder), json.loads((folder / "config.json").read_text()), **options)


def opened(reading: Reading) -> Any:
    model, found = LlavaForConditionalGeneration.from_pretrained(
        None,
        config=reading.config,
        state_dict=dict(reading.tensors),
        dtype=torch.float32,
        output_loading_info=True,
    )
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert not found["mismatched_keys"]
    return model.eval()


@pytest.fixture(scope="module")
def oracle(shared: Path) -> Path:
    return shared / "oracle" / "v10"


@pytest.fixture(scope="module", params=["whole", "delta"])
def reading(request: pytest.FixtureRequest, oracle: Path) -> Reading:
    if request.param == "whole":
        return read(oracle / "applied-llava")
    return read(oracle / "delta", base=oracle / "base")


@pytest.fixture(scope="module")
def model(reading: Reading) -> Any:
    return opened(reading)


def prompt(oracle: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((oracle / "prompts.json").read_text(encoding="utf-8"))[number]
    return found


def reference_ids(given: dict[str, Any], image_token: int, patch_token: int = 513) -> list[int]:
    return [image_token if token == patch_token else token for token in given["input_ids"]]


def our_ids(oracle: Path, given: dict[str, Any], reading: Reading) -> tuple[int, ...]:
    """The ids of the prompt as the reference's script asks it, by its template."""
    processor: Any = reading.processor
    template = template_for(given["conv_mode"], processor.tokenizer, wrapped=given["use_im_start_end"])
    chat = ChatFormat(processor.tokenizer, template)
    pictures = 1 if given["image"] else 0
    text = given["question"] + ("\n<image>" if pictures else "")
    return chat.encode_prompt((Turn(speaker="human", text=text),), [PATCHES] * pictures)


@pytest.mark.parametrize("number", PROMPTS)
def test_the_ids_are_the_references(oracle: Path, reading: Reading, number: int) -> None:
    given = prompt(oracle, number)
    ids, expected = list(our_ids(oracle, given, reading)), reference_ids(given, reading.config.image_token_id)
    assert ids[: len(expected)] == expected
    processor: Any = reading.processor
    cue = " ASSISTANT:" if given["conv_mode"] == "llava_v1" else ""  # which the reference's script leaves out
    assert processor.tokenizer.decode(ids[len(expected) :]) == cue.strip()


@pytest.mark.parametrize("number", PROMPTS)
def test_pixels_features_logits_and_answers_are_the_references(
    oracle: Path, reading: Reading, model: Any, number: int
) -> None:
    given = prompt(oracle, number)
    expected = load_file(oracle / "outputs.safetensors")
    inputs = {"input_ids": torch.tensor([reference_ids(given, reading.config.image_token_id)])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if given["image"]:
        processor: Any = reading.processor
        picture = Image.open(oracle / given["image"]).convert("RGB")
        inputs["pixel_values"] = processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
        assert (inputs["pixel_values"] - expected[f"pixel_values.{number}"]).abs().max() < 1e-5
    with torch.no_grad():
        if given["image"]:
            features = model.get_image_features(inputs["pixel_values"]).pooler_output[0]
            assert (features - expected[f"image_features.{number}"][0]).abs().max() < 1e-4
        logits = model(**inputs).logits[0, given["logits_from_position"] :, : model.config.text_config.vocab_size]
        difference = (logits[:, :516] - expected[f"logits.{number}"]).abs().max()
        generated = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert difference < 1e-4
    assert logits[:, 516:].max() < logits[:, :516].max(dim=1).values.min(), "a row that was added wins nowhere"
    assert generated[0, inputs["input_ids"].shape[1] :].tolist() == given["generated_new_ids"]


# ---- a checkpoint made here, wide enough for the exact projector


def picture_prompt(reading: Reading) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and pixels of a question about a picture, by the checkpoint's own template: [1, T] and [1, 3, side, side]."""
    processor: Any = reading.processor
    picture = Image.effect_noise((90, 60), 80).convert("RGB")
    chat = ChatFormat(processor.tokenizer, processor.chat_template)
    patches = reading.config.image_seq_length
    ids = chat.encode_prompt((Turn(speaker="human", text="<image>\nIs there a lesion?"),), [patches])
    return torch.tensor([ids]), processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]


def changed_config(folder: Path, copy: Path, **changes: Any) -> Path:
    """A copy with some of its config's keys changed, or dropped (None); the tower's folder is named in full."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text()) | {"mm_vision_tower": str(folder.parent / "clip")} | changes
    kept = {key: value for key, value in config.items() if value is not None or key not in changes}
    (copy / "config.json").write_text(json.dumps(kept))
    return copy


def test_logits_are_those_of_a_plain_llama_fed_the_projected_features(v1_folder: Path) -> None:
    reading = read(v1_folder)
    model = opened(reading)
    ids, pixels = picture_prompt(reading)
    with torch.no_grad():
        ours = model(input_ids=ids, pixel_values=pixels).logits
        expected = v1.plain_logits(v1_folder, ids, pixels, reading.config.image_token_id)
    assert reading.report.notes == (), "the exact identity has nothing to say"
    assert (ours[..., : expected.shape[-1]] - expected).abs().max() < 1e-5


def test_half_precision_files_stay_half(v1_folder: Path) -> None:
    tensors = read(v1_folder).tensors
    assert {tensor.dtype for name, tensor in tensors.items() if "vision_tower" not in name} == {torch.float16}


def test_every_tensor_of_the_model_is_read_and_none_is_left_over(v1_folder: Path) -> None:
    whole = complete(read(v1_folder), "here")
    assert whole.tensors.keys() == read(v1_folder).tensors.keys()


def test_added_tokens_keep_their_ids_and_the_picture_comes_after_them(v1_folder: Path) -> None:
    reading = read(v1_folder)
    words: Any = reading.processor
    vocabulary = words.tokenizer.get_vocab()
    first = vocabulary["[PAD]"]
    added = ("[PAD]", "<im_patch>", "<im_start>", "<im_end>", "<image>")
    assert [vocabulary[token] for token in added] == list(range(first, first + 5))
    assert reading.config.image_token_id == first + 4
    assert reading.config.pad_token_id == words.tokenizer.pad_token_id == first
    rows = reading.tensors["language_model.model.embed_tokens.weight"].shape[0]
    assert rows % 64 == 0
    assert rows == reading.config.text_config.vocab_size > first + 4


def test_pictures_stand_between_their_tokens_where_the_config_says_so(v1_folder: Path, tmp_path: Path) -> None:
    turns = (Turn(speaker="human", text="<image>\nwhy"),)
    texts = {}
    for wrapped in (True, False):
        folder = changed_config(v1_folder, tmp_path / str(wrapped), mm_use_im_start_end=wrapped)
        processor: Any = read(folder).processor
        texts[wrapped] = ChatFormat(processor.tokenizer, processor.chat_template).render(turns, open_answer=True)
    assert "<im_start><image><im_end>" in texts[True]
    assert "<image>" in texts[False]
    assert "<im_start>" not in texts[False]


def test_pictures_are_cut_to_their_middle_square_as_its_trainer_did(v1_folder: Path) -> None:
    processor: Any = read(v1_folder).processor
    assert not processor.image_processor.do_pad
    assert processor.image_processor.do_center_crop


def test_a_delta_gives_the_whole_models_logits(v1_folder: Path, delta_and_base: tuple[Path, Path]) -> None:
    delta, base = delta_and_base
    whole, added = read(v1_folder), read(delta, base=base)
    ids, pixels = picture_prompt(whole)
    with torch.no_grad():
        one, other = (opened(reading)(input_ids=ids, pixel_values=pixels).logits for reading in (whole, added))
    assert (one - other).abs().max() < 1e-3, "a sum in fp16 is within its rounding"
    assert any("made from this base" in note for note in added.report.notes)


def test_a_delta_alone_says_what_it_needs(delta_and_base: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError, match=r"are a delta.*\n.*--base"):
        read(delta_and_base[0])


def test_a_delta_with_another_base_is_refused_by_the_bases_name(
    delta_and_base: tuple[Path, Path], tmp_path: Path
) -> None:
    delta, base = delta_and_base
    stranger = tmp_path / "stranger"
    shutil.copytree(base, stranger)
    weights = torch.load(stranger / "pytorch_model.bin", weights_only=True)
    shuffled = {name: tensor.flatten().flip(0).view_as(tensor) for name, tensor in weights.items()}
    torch.save(shuffled, stranger / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not made from this base") as raised:
        read(delta, base=stranger)
    assert raised.value.where == str(stranger)


def test_a_whole_model_takes_no_base(v1_folder: Path, delta_and_base: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError, match="whole, not a delta"):
        read(v1_folder, base=delta_and_base[1])


def test_a_tower_of_another_width_is_refused(v1_folder: Path, tmp_path: Path) -> None:
    v1.make_clip(tmp_path / "clip", width=32)
    with pytest.raises(ModelError, match=r"width 24, but the vision tower .* gives 32"):
        read(v1_folder, vision_tower=str(tmp_path / "clip"))


def test_a_layer_that_the_config_does_not_name_is_the_last_as_in_the_reference(v1_folder: Path, tmp_path: Path) -> None:
    folder = changed_config(v1_folder, tmp_path / "unsaid", mm_vision_select_layer=None)
    assert (read(v1_folder).config.vision_feature_layer, read(folder).config.vision_feature_layer) == (-2, -1)


def test_boundary_tokens_missing_from_the_tokenizer_are_an_error(v1_folder: Path, tmp_path: Path) -> None:
    folder = changed_config(v1_folder, tmp_path / "bare")
    v1.save_tokenizer(folder, ())
    with pytest.raises(ModelError, match="<im_start>"):
        read(folder)
