"""A LLaVA from parts as others save them: four kinds of tower, language models with tokenizers of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from llavamed_cli.errors import ModelError
from llavamed_cli.model.assemble import assemble, assemble_on
from llavamed_cli.model.chat_templates import builtin_template
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.save import save_model
from llavamed_cli.records import Turn
from llavamed_cli.training.features import tower_features

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 8,
}
WORDS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def clip_of_both_sides() -> CLIPModel:
    text = CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=CLIPVisionConfig(**SIZE).to_dict()))


TOWERS: dict[str, tuple[Callable[[], Any], bool]] = {
    "CLIP": (lambda: CLIPVisionModel(CLIPVisionConfig(**SIZE)), True),
    "CLIP with its text half": (clip_of_both_sides, True),
    "SigLIP": (lambda: SiglipVisionModel(SiglipVisionConfig(**SIZE)), False),
    "DINOv2": (lambda: Dinov2Model(Dinov2Config(**SIZE)), True),
    "ViT": (lambda: ViTModel(ViTConfig(**SIZE)), True),
}


def save_tower(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    TOWERS[name][0]().eval().save_pretrained(folder)
    return folder


def save_language_model(folder: Path, *, template: str | None = None, **changes: Any) -> Path:
    """A small language model with a byte-pair tokenizer trained on one sentence."""
    core = ByteLevelBPETokenizer()
    core.train_from_iterator(["The lungs are clear. There is no effusion in the left lung."] * 4, vocab_size=300)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core._tokenizer, chat_template=template)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    if template:
        tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    if changes.pop("kind", "llama") == "qwen2":
        Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **WORDS, **changes)).save_pretrained(folder)
    else:
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **WORDS, **changes)).save_pretrained(folder)
    return folder


def made_and_reopened(language_model: str, tower: str, folder: Path, **more: Any) -> tuple[LoadedModel, LoadedModel]:
    options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "seed": 0, "image_size": None, **more}
    made = assemble_on(language_model, tower, **options)
    save_model(made.model, made.processor, folder)
    return made, load_model(str(folder), device="cpu", precision="fp32")


def same_weights(one: Any, other: Any) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_gives_the_tokens_it_should(name: str, tmp_path: Path) -> None:
    tower = save_tower(name, tmp_path / "tower")
    made, reopened = made_and_reopened(
        "tiny", str(tower), tmp_path / "llava", **({"image_size": 24} if name == "DINOv2" else {})
    )
    assert same_weights(made.model, reopened.model)
    assert reopened.image_length == 9
    model: Any = reopened.model
    pixels = reopened.pixels([Image.new("RGB", (40, 30), "red"), Image.new("RGB", (9, 30), "blue")])
    assert pixels.shape == (2, 3, 24, 24)
    features = tower_features(model, pixels)
    assert features.shape == (2, 9, 32)
    with torch.no_grad():
        projected = model.model.multi_modal_projector(features)
        by_hugging_face = model.get_image_features(pixel_values=pixels).pooler_output
    assert torch.equal(projected, torch.stack(list(by_hugging_face)))


@pytest.mark.parametrize("name", TOWERS)
def test_the_second_to_last_layer_of_the_saved_tower_is_read_without_its_class_token(name: str, tmp_path: Path) -> None:
    """Against the tower as transformers opens it by itself."""
    from transformers import AutoModel

    folder = save_tower(name, tmp_path / "tower")
    made = assemble("tiny", str(folder), dtype=torch.float32, seed=0, image_size=24)
    pixels = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    alone: Any = AutoModel.from_pretrained(folder).eval()
    alone = getattr(alone, "vision_model", alone)
    with torch.no_grad():
        states = alone(pixels, output_hidden_states=True).hidden_states
    expected = states[-2][:, 1:] if TOWERS[name][1] else states[-2]
    assert torch.allclose(tower_features(made.model, pixels), expected, atol=1e-6)


def test_a_tower_that_takes_any_size(tmp_path: Path) -> None:
    tower = save_tower("DINOv2", tmp_path / "tower")
    _, reopened = made_and_reopened("tiny", str(tower), tmp_path / "llava", image_size=40)
    assert reopened.image_length == 25
    model: Any = reopened.model
    assert tower_features(model, reopened.pixels([Image.new("RGB", (8, 8))])).shape == (1, 25, 32)


def test_a_preprocessors_own_numbers_are_used(tmp_path: Path) -> None:
    tower = save_tower("CLIP", tmp_path / "tower")
    (tower / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 4], "crop_size": {"height": 24, "width": 24}}'
    )
    made = assemble("tiny", str(tower), dtype=torch.float32, seed=0)
    loaded = LoadedModel(made.model, made.processor, "cpu", {})
    black = loaded.pixels([Image.new("RGB", (24, 24), "black")])[0, :, 0, 0]
    assert black.tolist() == pytest.approx([-0.1, -0.1, -0.075])


def test_a_picture_is_padded_to_a_square_and_never_cropped(tmp_path: Path) -> None:
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=0)
    picture = Image.new("RGB", (128, 64), "black")
    picture.paste("white", (0, 0, 8, 64))
    picture.paste("white", (120, 0, 128, 64))
    pixels = LoadedModel(made.model, made.processor, "cpu", {}).pixels([picture])[0, 0]
    assert pixels.shape == (64, 64)
    assert (pixels[20:44, [1, 62]] > 0.9).all()  # both edges are there
    assert (pixels[20:44, 10:54] < -0.9).all()
    assert pixels[[2, 61]].abs().max() < 0.02  # above and below: the mean colour, 0 after normalising


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_language_model_with_a_byte_pair_tokenizer(kind: str, tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words", kind=kind, tie_word_embeddings=kind == "qwen2")
    made, reopened = made_and_reopened(str(words), "tiny", tmp_path / "llava")
    assert made.choices["chat template"].value == "vicuna_v1"
    assert same_weights(made.model, reopened.model)
    tokenizer: Any = reopened.processor.tokenizer
    model: Any = reopened.model
    rows = model.get_input_embeddings().weight.shape[0]
    assert rows % 64 == 0
    assert rows >= len(tokenizer)
    assert model.config.text_config.vocab_size == rows
    assert reopened.chat.end_token_id == tokenizer.convert_tokens_to_ids("</s>")
    assert model.generation_config.eos_token_id == reopened.chat.end_token_id
    prompt = Prompt(turns=(Turn(speaker="human", text="<image>\nWhat?"),), pictures=(Image.new("RGB", (9, 9)),))
    asked = [answer_batch(which, [prompt], max_new_tokens=6)[0] for which in (made, reopened)]
    assert asked[0] == asked[1]


def test_the_language_model_says_without_a_picture_what_it_said_before(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words")
    made = assemble(str(words), "tiny", dtype=torch.float32, seed=0)
    alone: Any = LlamaForCausalLM.from_pretrained(words).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    joined: Any = made.model
    with torch.no_grad():
        before, after = alone(ids).logits, joined(ids).logits
    known = before.shape[-1]
    assert torch.allclose(after[..., :known], before, atol=1e-5)
    assert (after[..., known:].amax(-1) < before.amax(-1)).all()  # a row added for <image> or padding never wins


def test_a_tokenizers_own_chat_template_is_kept(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words", template=builtin_template("chatml"))
    made, reopened = made_and_reopened(str(words), "tiny", tmp_path / "llava")
    assert made.choices["chat template"].value == "own"
    prompt = (Turn(speaker="human", text="Hi"),)
    assert reopened.chat.render(prompt, open_answer=True) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    tokenizer: Any = reopened.processor.tokenizer
    model: Any = reopened.model
    both = {tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "</s>")}
    assert set(model.generation_config.eos_token_id) == both


def test_another_chat_template_may_be_asked_for(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words", template=builtin_template("chatml"))
    made = assemble(str(words), "tiny", dtype=torch.float32, seed=0, template="vicuna_v1")
    chat = LoadedModel(made.model, made.processor, "cpu", {}).chat
    assert chat.render((Turn(speaker="human", text="Hi"),), open_answer=True).endswith(" USER: Hi ASSISTANT:")
    assert chat.end_token_id == chat.tokenizer.convert_tokens_to_ids("</s>")


def test_the_seed_decides_the_tiny_parts_and_the_projector() -> None:
    first, again, other = (assemble("tiny", "tiny", dtype=torch.float32, seed=seed).model for seed in (3, 3, 4))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_assembling_leaves_the_global_seed_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    assemble("tiny", "tiny", dtype=torch.float32, seed=5)
    assert torch.equal(torch.rand(3), expected)


# ---- parts that cannot be used


def message(language_model: str, tower: str, **more: Any) -> str:
    with pytest.raises(ModelError) as error:
        assemble(language_model, tower, dtype=torch.float32, seed=0, **more)
    return str(error.value)


def test_a_language_model_without_a_tokenizer(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words")
    for file in words.glob("tokenizer*"):
        file.unlink()
    assert "no tokenizer could be loaded" in message(str(words), "tiny")
    assert str(words) in message(str(words), "tiny")


def test_a_language_model_without_weights(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words")
    (words / "model.safetensors").unlink()
    assert "no language model could be loaded" in message(str(words), "tiny")


def test_a_language_model_that_lacks_a_tensor(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words")
    drop_tensor(words / "model.safetensors", "model.layers.1.mlp.up_proj.weight")
    assert "model.layers.1.mlp.up_proj.weight" in message(str(words), "tiny")


@pytest.mark.parametrize("where", ["./absent", "/absent/model", "a/b/c", "absent.gguf"])
def test_a_language_model_that_is_not_there(where: str) -> None:
    assert where in message(where, "tiny")


def test_a_gguf_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF, not really")
    assert "model.gguf" in message(str(tmp_path / "model.gguf"), "tiny")


def test_an_empty_folder_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in message(str(tmp_path / "empty"), "tiny")
    assert str(tmp_path / "empty") in message("tiny", str(tmp_path / "empty"))


def test_a_tower_that_is_none(tmp_path: Path) -> None:
    words = save_language_model(tmp_path / "words")
    assert "a llama model is no vision tower" in message("tiny", str(words))


def test_a_tower_that_lacks_a_tensor(tmp_path: Path) -> None:
    tower = save_tower("SigLIP", tmp_path / "tower")
    name = drop_tensor(tower / "model.safetensors", "encoder.layers.0.mlp.fc1.weight")
    assert name.removeprefix("vision_model.") in message("tiny", str(tower))


def test_a_size_that_a_tower_cannot_take(tmp_path: Path) -> None:
    assert "takes 64 pixels, not 32" in message("tiny", "tiny", image_size=32)
    tower = save_tower("DINOv2", tmp_path / "tower")
    assert "no whole number of 8-pixel patches" in message("tiny", str(tower), image_size=25)


def drop_tensor(file: Path, ending: str) -> str:
    """Remove the tensor whose name ends so from a safetensors file; return its name."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    (name,) = [name for name in tensors if name.endswith(ending)]
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    return name
