"""LLaVA in Hugging Face's layout, of every age: the same logits, the same pictures, the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.published.names import classic_name
from llavamed_cli.model.published.read import read_published
from llavamed_cli.model.published.reading import Reading
from llavamed_cli.records import Turn

QUESTION = (Turn(speaker="human", text="<image>\nWhat is it?"),)
LLAVA_HF = (
    "{% for message in messages %}{{ message['role'].upper() + ': '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As llava-hf publishes it (llava-1.5-7b-hf, chat_template.json), without its `generation` marks."""
CLIP_FILE = {
    "image_processor_type": "CLIPImageProcessor",
    "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16},
    "size": {"shortest_edge": 16},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


class Age:
    """One way to lay out the folder of a model: its names, its config, its processor's files."""

    @staticmethod
    def in_36(folder: Path, model: Any, tokenizer: Any) -> None:
        """Classic names with the buffers of the day, a config that says little, no processor file, no template."""
        state = classic(model)
        state["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        state["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
        save_file(state, folder / "model.safetensors")
        text, vision = (dict(part.to_dict()) for part in (model.config.text_config, model.config.vision_config))
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        config = {
            "model_type": "llava",
            "architectures": ["LlavaForConditionalGeneration"],
            "ignore_index": -100,
            "image_token_index": 259,
            "pad_token_id": 260,
            "projector_hidden_act": "gelu",
            "text_config": text,
            "vision_config": vision,
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": 320,
            "torch_dtype": "float16",
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "preprocessor_config.json").write_text(json.dumps({**CLIP_FILE, "crop_size": 16, "size": 16}))
        tokenizer.save_pretrained(folder)

    @staticmethod
    def in_45(folder: Path, model: Any, tokenizer: Any) -> None:
        """A processor_config.json that lacks the patch size, and llava-hf's template in a file of its own."""
        Age.in_36(folder, model, tokenizer)
        (folder / "processor_config.json").write_text(json.dumps({"processor_class": "LlavaProcessor"}))
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": LLAVA_HF}))

    @staticmethod
    def in_52(folder: Path, model: Any, tokenizer: Any) -> None:
        """A state dict as the model of 4.52 holds it, saved by someone's training script."""
        Age.in_45(folder, model, tokenizer)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        inner = "model.vision_tower.vision_model."
        save_file(
            {name.replace("model.vision_tower.", inner): tensor for name, tensor in state.items()},
            folder / "model.safetensors",
        )

    @staticmethod
    def in_5(folder: Path, model: Any, tokenizer: Any) -> None:
        """What today's transformers saves."""
        Age.in_45(folder, model, tokenizer)
        (folder / "chat_template.json").unlink()
        (folder / "preprocessor_config.json").unlink()
        model.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text(LLAVA_HF)
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": CLIP_FILE, "patch_size": 8}))


AGES = [Age.in_36, Age.in_45, Age.in_52, Age.in_5]


def classic(model: Any) -> dict[str, torch.Tensor]:
    kind = model.config.vision_config.model_type
    return {classic_name(name, kind): tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def tokenizer(words: Callable[[], Any]) -> Any:
    made = words()
    made.add_special_tokens({"extra_special_tokens": ["<image>"], "pad_token": "<pad>"})
    assert made.convert_tokens_to_ids(["<image>", "<pad>"]) in ([259, 260], [260, 259])
    return made


@pytest.fixture(scope="module")
def model(random_llava: Callable[..., Any]) -> Any:
    return random_llava("llama", rows=320)


@pytest.fixture
def stored(tmp_path: Path, model: Any, tokenizer: Any) -> Callable[[Any], Path]:
    """The folder of one age."""

    def make(age: Any) -> Path:
        model.config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
        age(tmp_path, model, tokenizer)
        settings = json.loads((tmp_path / "config.json").read_text())
        settings["image_token_index"] = model.config.image_token_index
        (tmp_path / "config.json").write_text(json.dumps(settings))
        return tmp_path

    return make


def chat_of(reading: Reading) -> ChatFormat:
    processor: Any = reading.processor
    return ChatFormat(processor.tokenizer, processor.chat_template)


@pytest.mark.parametrize("age", AGES)
def test_logits_are_the_models_own(
    stored: Callable[[Any], Path], model: Any, opened: Callable[..., Any], answered: Callable[..., Any], age: Any
) -> None:
    reading = read_published(stored(age))
    assert torch.equal(answered(opened(reading)), answered(model))
    assert reading.report.used == len(model.state_dict())
    assert not reading.report.added


@pytest.mark.parametrize("age", AGES)
def test_a_picture_takes_as_many_tokens_as_the_model_gives(stored: Callable[[Any], Path], age: Any) -> None:
    reading = read_published(stored(age))
    processor: Any = reading.processor
    picture = Image.new("RGB", (40, 20), "red")
    inputs = processor(text="<image>a", images=picture, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    assert (
        inputs["input_ids"][0].tolist().count(reading.config.image_token_index) == reading.config.image_seq_length == 4
    )


@pytest.mark.parametrize("age", AGES)
def test_pixels_are_clips(stored: Callable[[Any], Path], age: Any) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = Image.effect_noise((40, 20), 80).convert("RGB")
    processor: Any = read_published(stored(age)).processor
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    ours = processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs(images=picture, return_tensors="pt")["pixel_values"])


def test_a_folder_without_a_template_gets_its_familys(stored: Callable[[Any], Path]) -> None:
    reading = read_published(stored(Age.in_36))
    assert reading.report.choices["chat template"].value == "vicuna_v1"
    assert "USER: <image>\nWhat is it? ASSISTANT:" in chat_of(reading).render(QUESTION, open_answer=True)


@pytest.mark.parametrize("age", AGES[1:])
def test_a_template_for_typed_parts_takes_text_too(stored: Callable[[Any], Path], age: Any) -> None:
    reading = read_published(stored(age))
    assert reading.report.choices["chat template"].value == "own"
    chat = chat_of(reading)
    told = (*QUESTION, Turn(speaker="gpt", text="A lung."), Turn(speaker="human", text="Sure?"))
    assert chat.render(told, open_answer=True) == "USER: <image>\nWhat is it? ASSISTANT: A lung. USER: Sure? ASSISTANT:"
    typed = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    processor: Any = reading.processor
    whole = processor.apply_chat_template(typed, add_generation_prompt=True)
    assert whole == chat.render(QUESTION, open_answer=True)


def test_a_template_of_several_is_the_default(stored: Callable[[Any], Path]) -> None:
    folder = stored(Age.in_36)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    plain = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    settings["chat_template"] = [{"name": "default", "template": plain}, {"name": "tool_use", "template": "x"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert chat_of(read_published(folder)).render(QUESTION, open_answer=False) == "[<image>\nWhat is it?]"


@pytest.mark.parametrize("template", ["{% for message in messages", "{{ raise_exception('no') }}"])
def test_a_broken_template_is_named(stored: Callable[[Any], Path], template: str) -> None:
    folder = stored(Age.in_36)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="chat template"):
        read_published(folder)


def test_siglip_pictures_are_squeezed_not_cropped(
    tmp_path: Path, random_llava: Callable[..., Any], tokenizer: Any, opened: Callable[..., Any]
) -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    made = random_llava("llama", "siglip", rows=320)
    made.config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    theirs = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    theirs.save_pretrained(tmp_path)
    reading = read_published(tmp_path)
    processor: Any = reading.processor
    picture = Image.effect_noise((40, 20), 80).convert("RGB")
    ours = processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs(images=picture, return_tensors="pt")["pixel_values"])
    assert reading.config.image_seq_length == 4
    opened(reading)


@pytest.mark.parametrize("tower", ["vit", "dinov2"])
def test_other_towers(
    tmp_path: Path,
    random_llava: Callable[..., Any],
    tokenizer: Any,
    opened: Callable[..., Any],
    answered: Callable[..., Any],
    tower: str,
) -> None:
    made = random_llava("llama", tower, rows=320)
    made.config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP_FILE))
    assert torch.equal(answered(opened(read_published(tmp_path))), answered(made))


def test_a_model_written_by_us_comes_back_unchanged(tiny_model: Path, opened: Callable[..., Any]) -> None:
    from llavamed_cli.model.load import load_model

    ours: Any = load_model(str(tiny_model), device="cpu", precision="fp32")
    reading = read_published(tiny_model)
    state, again = ours.model.state_dict(), opened(reading).state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    processor: Any = reading.processor
    assert processor.tokenizer.get_vocab() == ours.processor.tokenizer.get_vocab()
    assert processor.tokenizer.pad_token == ours.processor.tokenizer.pad_token
    assert processor.chat_template == ours.processor.chat_template
    assert processor.image_processor.to_dict() == ours.processor.image_processor.to_dict()


def test_a_missing_image_token_gets_a_row(
    stored: Callable[[Any], Path], words: Callable[[], Any], model: Any, opened: Callable[..., Any]
) -> None:
    folder = stored(Age.in_36)
    for file in folder.glob("*token*"):
        file.unlink()
    words().save_pretrained(folder)
    reading = read_published(folder)
    assert (reading.config.image_token_index, reading.config.text_config.vocab_size) == (259, 320)
    opened(reading)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_token_index": 7}, "the token 7 stand for a picture, but <image> is"),
        ({"quantization_config": {"load_in_4bit": True}}, "the weights are quantised"),
        ({"vision_feature_select_strategy": "middle"}, "config.json makes no sense"),
        ({"vision_config": {"model_type": "pixtral"}}, "its vision tower is a pixtral"),
    ],
)
def test_what_is_refused(stored: Callable[[Any], Path], keys: dict[str, Any], message: str) -> None:
    folder = stored(Age.in_36)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **keys}))
    with pytest.raises(ModelError, match=message):
        read_published(folder)


def test_another_tower_and_no_stock_one(
    stored: Callable[[Any], Path], random_llava: Callable[..., Any], opened: Callable[..., Any], tmp_path: Path
) -> None:
    folder = stored(Age.in_36)
    other = random_llava(seed=5).model.vision_tower
    other.save_pretrained(tmp_path / "other")
    reading = read_published(folder, vision_tower=str(tmp_path / "other"))
    state = opened(reading).model.vision_tower.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())
    assert any("replaced" in reason for reason in reading.report.ignored)
    with pytest.raises(ModelError, match="names no stock vision tower"):
        read_published(folder, vision_tower="stock")


def test_a_tower_without_a_class_token_in_place_of_a_clip(
    stored: Callable[[Any], Path], random_llava: Callable[..., Any], opened: Callable[..., Any], tmp_path: Path
) -> None:
    folder = stored(Age.in_36)
    random_llava(tower="siglip").model.vision_tower.save_pretrained(tmp_path / "siglip")
    reading = read_published(folder, vision_tower=str(tmp_path / "siglip"))
    config: Any = opened(reading).config
    assert (config.vision_feature_select_strategy, config.image_seq_length) == ("full", 4)
    processor: Any = reading.processor
    ids = processor(text="<image>", images=Image.new("RGB", (16, 16)), return_tensors="pt")["input_ids"][0].tolist()
    assert ids.count(config.image_token_index) == 4


def test_a_tensor_missing(stored: Callable[[Any], Path]) -> None:
    folder = stored(Age.in_36)
    state = load_file(folder / "model.safetensors")
    del state["multi_modal_projector.linear_2.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 missing: multi_modal_projector\.linear_2\.bias"):
        read_published(folder)


def test_end_tokens_of_its_own_are_kept(stored: Callable[[Any], Path]) -> None:
    folder = stored(Age.in_36)
    own = {"eos_token_id": [2, 9], "do_sample": True, "temperature": 0.2}
    (folder / "generation_config.json").write_text(json.dumps(own))
    config: Any = read_published(folder).generation_config
    assert (config.eos_token_id, config.do_sample, config.temperature) == ([2, 9], False, None)
