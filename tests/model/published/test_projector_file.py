"""Projectors saved on their own, in the forms that LLaVA's and LLaVA-Med's trainers leave."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.published.complete import complete
from llavamed_cli.model.published.projector_file import find_projector, read_projector, read_projector_file
from llavamed_cli.records import Turn

TEXT, VISION = 16, 6
WEIGHT, BIAS = torch.randn(TEXT, VISION), torch.randn(TEXT)
TWO_LAYERS = {"0.weight": WEIGHT, "0.bias": BIAS, "2.weight": torch.randn(TEXT, TEXT), "2.bias": torch.randn(TEXT)}


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


def saved(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    torch.save(tensors, folder / "mm_projector.bin")
    return folder / "mm_projector.bin"


@pytest.mark.parametrize("prefix", ["model.mm_projector.", "base_model.model.model.mm_projector.", "mm_projector.", ""])
def test_a_two_layer_projector_maps_name_for_name(tmp_path: Path, prefix: str) -> None:
    found = read_projector(saved(tmp_path, {prefix + name: tensor for name, tensor in TWO_LAYERS.items()}))
    assert (found.projector.kind, found.projector.vision_width, found.projector.text_width) == (
        "mlp2x_gelu",
        VISION,
        TEXT,
    )
    read = {name: lazy.read() for name, lazy in found.projector.tensors.items()}
    assert torch.equal(read["multi_modal_projector.linear_1.weight"], WEIGHT)
    assert torch.equal(read["multi_modal_projector.linear_2.bias"], TWO_LAYERS["2.bias"])
    assert len(read) == 4


@pytest.mark.parametrize("prefix", ["model.mm_projector.", ""])
def test_a_linear_projector_becomes_two_layers(tmp_path: Path, prefix: str) -> None:
    found = read_projector(saved(tmp_path, {f"{prefix}weight": WEIGHT, f"{prefix}bias": BIAS}))
    assert found.projector.kind == "linear"
    first = found.projector.tensors["multi_modal_projector.linear_1.weight"].read()
    assert torch.equal(first[:VISION], torch.eye(VISION))
    assert torch.equal(first[VISION : 2 * VISION], -torch.eye(VISION))


@pytest.mark.parametrize("rows", [2, 50])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "gpt_neox.embed_in.weight"])
def test_the_boundary_tokens_rows_are_the_tables_last(tmp_path: Path, rows: int, name: str) -> None:
    table = torch.randn(rows, TEXT)
    found = read_projector(
        saved(tmp_path, {"model.mm_projector.weight": WEIGHT, "model.mm_projector.bias": BIAS, name: table})
    )
    assert found.table_rows == rows
    assert found.boundary_rows is not None
    assert torch.equal(found.boundary_rows.read(), table[-2:])


def test_a_tower_beside_it_is_named_as_left_out(tmp_path: Path) -> None:
    tower = "model.vision_tower.vision_tower.vision_model.post_layernorm.weight"
    stored = {f"model.mm_projector.{name}": tensor for name, tensor in TWO_LAYERS.items()} | {tower: torch.ones(3)}
    assert read_projector(saved(tmp_path, stored)).ignored == (tower,)


LINEAR = {"model.mm_projector.weight": WEIGHT, "model.mm_projector.bias": BIAS}
REFUSED = {
    "one row of words": (LINEAR | {"model.embed_tokens.weight": torch.zeros(1, TEXT)}, r"shape \[1, 16\]"),
    "words of another width": (LINEAR | {"model.embed_tokens.weight": torch.zeros(9, 5)}, r"shape \[9, 5\]"),
    "three layers": (
        {f"mm_projector.{name}": tensor for name, tensor in TWO_LAYERS.items()}
        | {"mm_projector.4.weight": torch.zeros(TEXT, TEXT), "mm_projector.4.bias": torch.zeros(TEXT)},
        "neither linear nor mlp2x_gelu",
    ),
    "no bias": ({"model.mm_projector.weight": WEIGHT}, "neither linear nor mlp2x_gelu"),
    "none at all": ({"model.embed_tokens.weight": torch.zeros(9, TEXT)}, "no projector"),
    "a language model": ({"model.norm.weight": torch.zeros(9)}, "model.norm.weight belongs to no projector"),
    "layers that do not fit": (
        {f"mm_projector.{name}": tensor for name, tensor in TWO_LAYERS.items()}
        | {"mm_projector.2.bias": torch.zeros(3)},
        "do not fit",
    ),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_no_projector_is_refused_with_the_files_name(tmp_path: Path, which: str) -> None:
    stored, said = REFUSED[which]
    with pytest.raises(ModelError, match=said) as raised:
        read_projector(saved(tmp_path, stored))
    assert raised.value.where is not None
    assert raised.value.where.endswith("mm_projector.bin")


def test_the_final_file_goes_before_steps_and_the_latest_step_before_others(tmp_path: Path) -> None:
    assert find_projector(tmp_path) is None
    (tmp_path / "mm_projector").mkdir()
    for step in (900, 1000, 80):
        (tmp_path / "mm_projector" / f"checkpoint-{step}.bin").touch()
    (tmp_path / "mm_projector" / "optimizer.bin").touch()
    assert find_projector(tmp_path) == tmp_path / "mm_projector" / "checkpoint-1000.bin"
    (tmp_path / "mm_projector.bin").touch()
    assert find_projector(tmp_path) == tmp_path / "mm_projector.bin"


# ---- a LLaVA of a projector alone and its language model


@pytest.fixture(scope="module")
def language_model(v1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Llama inside the whole checkpoint, without the tokens that LLaVA added."""
    folder = tmp_path_factory.mktemp("llama")
    weights = torch.load(v1_folder / "pytorch_model.bin", weights_only=True)
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    kept = {name: tensor for name, tensor in weights.items() if "mm_projector" not in name}
    bare = {name: tensor[: v1.BASE_WORDS] if name in tables else tensor for name, tensor in kept.items()}
    config = json.loads((v1_folder / "config.json").read_text())
    text = {key: value for key, value in config.items() if not key.startswith("mm_")}
    v1.save(folder, bare, {**text, "model_type": "llama", "vocab_size": v1.BASE_WORDS})
    v1.save_tokenizer(folder, ())
    return folder


def projector_folder(v1_folder: Path, folder: Path, *, rows: int | None, added: bool) -> Path:
    """As the first stage leaves it: projector, config, `rows` of the word embeddings, and its tokenizer or none."""
    weights = torch.load(v1_folder / "pytorch_model.bin", weights_only=True)
    stored = {name: tensor for name, tensor in weights.items() if "mm_projector" in name}
    if rows is not None:
        stored["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][-rows:].clone()
    folder.mkdir()
    torch.save(stored, folder / "mm_projector.bin")
    config = json.loads((v1_folder / "config.json").read_text()) | {"mm_vision_tower": str(v1_folder.parent / "clip")}
    (folder / "config.json").write_text(json.dumps(config))
    if added:
        v1.save_tokenizer(folder, v1.ADDED)
    return folder


@pytest.mark.parametrize("rows", [2, 263])
def test_a_projector_and_its_language_model_answer_as_the_whole_checkpoint(
    v1_folder: Path, language_model: Path, tmp_path: Path, rows: int
) -> None:
    assert rows in (2, v1.BASE_WORDS + len(v1.ADDED))
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=rows, added=True)
    reading = complete(read_projector_file(folder, base=language_model), "here")
    model, _ = LlavaForConditionalGeneration.from_pretrained(
        None, config=reading.config, state_dict=dict(reading.tensors), dtype=torch.float32, output_loading_info=True
    )
    processor: Any = reading.processor
    picture = Image.effect_noise((40, 40), 80).convert("RGB")
    pixels = processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
    chat = ChatFormat(processor.tokenizer, processor.chat_template)
    ids = torch.tensor(
        [chat.encode_prompt((Turn(speaker="human", text="<image>\nwhy"),), [reading.config.image_seq_length])]
    )
    with torch.no_grad():
        ours = model.eval()(input_ids=ids, pixel_values=pixels).logits[..., : v1.BASE_WORDS]
        expected = v1.plain_logits(v1_folder, ids, pixels, reading.config.image_token_id)[..., : v1.BASE_WORDS]
    assert (ours - expected).abs().max() < 1e-5


def test_the_boundary_tokens_are_added_to_a_base_that_lacks_them(
    v1_folder: Path, language_model: Path, tmp_path: Path
) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=2, added=False)
    reading = read_projector_file(folder, base=language_model)
    processor: Any = reading.processor
    places = processor.tokenizer.convert_tokens_to_ids(["<im_start>", "<im_end>"])
    assert places == [v1.BASE_WORDS, v1.BASE_WORDS + 1]
    table = reading.tensors["language_model.model.embed_tokens.weight"].read()
    trained = torch.load(v1_folder / "pytorch_model.bin", weights_only=True)["model.embed_tokens.weight"][-2:]
    assert torch.equal(table[places], trained)


def test_a_whole_llava_serves_as_the_language_model(v1_folder: Path, tmp_path: Path) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=2, added=True)
    reading = read_projector_file(folder, base=v1_folder)
    names = {"model.mm_projector.weight", "model.mm_projector.bias"}
    assert names in [set(found) for found in reading.report.ignored.values()]


def test_a_file_of_an_intermediate_step_finds_the_config_one_folder_up(
    v1_folder: Path, language_model: Path, tmp_path: Path
) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=2, added=True)
    (folder / "mm_projector").mkdir()
    step = folder / "mm_projector" / "checkpoint-1000.bin"
    (folder / "mm_projector.bin").rename(step)
    found = [read_projector_file(where, base=language_model).config.to_dict() for where in (folder, step)]
    assert found[0] == found[1]


def test_a_table_of_another_vocabulary_is_refused(v1_folder: Path, language_model: Path, tmp_path: Path) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=100, added=True)
    with pytest.raises(ModelError, match="100 rows; expected 2, or the 263"):
        read_projector_file(folder, base=language_model)


def test_boundary_tokens_without_their_embeddings_are_refused(
    v1_folder: Path, language_model: Path, tmp_path: Path
) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=None, added=True)
    with pytest.raises(ModelError, match="neither this file nor the base"):
        read_projector_file(folder, base=language_model)


def test_a_projector_without_its_config_is_refused(language_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json beside"):
        read_projector_file(saved(tmp_path, LINEAR), base=language_model)


def test_a_projector_for_another_language_model_is_refused(
    v1_folder: Path, language_model: Path, tmp_path: Path
) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=None, added=True)
    torch.save(
        {"mm_projector.weight": torch.zeros(48, v1.VISION), "mm_projector.bias": torch.zeros(48)},
        folder / "mm_projector.bin",
    )
    config = json.loads((folder / "config.json").read_text()) | {"mm_use_im_start_end": False}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="width 48, but the language model's is 64"):
        read_projector_file(folder, base=language_model)


def test_a_two_layer_projector_is_a_llava_of_version_1_5(v1_folder: Path, language_model: Path, tmp_path: Path) -> None:
    folder = projector_folder(v1_folder, tmp_path / "stage1", rows=None, added=False)
    shapes = {
        "0.weight": (v1.TEXT, v1.VISION),
        "0.bias": (v1.TEXT,),
        "2.weight": (v1.TEXT, v1.TEXT),
        "2.bias": (v1.TEXT,),
    }
    layers = {f"model.mm_projector.{name}": torch.randn(shape) for name, shape in shapes.items()}
    torch.save(layers, folder / "mm_projector.bin")
    config = json.loads((folder / "config.json").read_text()) | {"mm_use_im_start_end": False}
    (folder / "config.json").write_text(json.dumps(config))
    reading = complete(read_projector_file(folder, base=language_model), "here")
    assert reading.report.choices["chat template"].value == "vicuna_v1"
    read = reading.tensors["multi_modal_projector.linear_2.weight"].read()
    assert torch.equal(read, layers["model.mm_projector.2.weight"])
