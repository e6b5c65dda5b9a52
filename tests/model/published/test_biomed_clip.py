from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.biomed_clip import is_open_clip, load_biomed_clip


def test_a_folder_is_open_clips_by_its_config_and_names(biomed_clip: Path, pubmed_clip: Path, tmp_path: Path) -> None:
    assert is_open_clip(biomed_clip)
    assert not is_open_clip(pubmed_clip)
    assert not is_open_clip(tmp_path / "absent")
    both = tmp_path / "both"  # as laion's hub folders are: the same model in two layouts, Hugging Face's weights first
    shutil.copytree(pubmed_clip, both)
    shutil.copyfile(biomed_clip / "open_clip_config.json", both / "open_clip_config.json")
    assert not is_open_clip(both)


@pytest.mark.parametrize("widths", [(40,), ()])
def test_both_halves_end_in_one_space(widths: tuple[int, ...], biomed_clip: Path, tmp_path: Path) -> None:
    """With a projection of two matrices, as published, or of one."""
    folder = shutil.copytree(biomed_clip, tmp_path / "copy")
    if not widths:
        settings = json.loads((folder / "open_clip_config.json").read_text())
        settings["model_cfg"]["text_cfg"]["hf_proj_type"] = "linear"
        (folder / "open_clip_config.json").write_text(json.dumps(settings))
        stored = torch.load(folder / "open_clip_pytorch_model.bin", weights_only=True)
        joined = stored.pop("text.proj.2.weight") @ stored.pop("text.proj.0.weight")
        torch.save({**stored, "text.proj.weight": joined}, folder / "open_clip_pytorch_model.bin")
    loaded = load_biomed_clip(folder)
    assert loaded.longest == 20
    with torch.no_grad():
        assert loaded.model.get_image_features(torch.zeros(2, 3, 48, 48)).shape == (2, 16)
        ids = torch.tensor([[2, 5, 6, 3, 0], [2, 5, 6, 3, 0]])
        features = loaded.model.get_text_features(ids, (ids != 0).long())
        alone = loaded.model.get_text_features(ids[:1, :4], torch.ones(1, 4, dtype=torch.long))
    assert features.shape == (2, 16)
    assert torch.allclose(features[:1], alone, atol=1e-5), "padding shows"


def test_a_biomed_clip_that_lacks_a_part_is_refused(biomed_clip: Path, tmp_path: Path) -> None:
    def refused(said: str) -> None:
        with pytest.raises(ModelError, match=said):
            load_biomed_clip(copy)

    def changed(**values: Any) -> None:
        settings = json.loads((biomed_clip / "open_clip_config.json").read_text())
        settings["model_cfg"]["text_cfg"].update(values)
        (copy / "open_clip_config.json").write_text(json.dumps(settings))

    copy = tmp_path / "copy"
    shutil.copytree(biomed_clip, copy)
    (copy / "vocab.txt").unlink()
    refused(r"no tokenizer lies there \(tokenizer\.json or vocab\.txt\)")
    (copy / "vocab.txt").write_text("\n".join(f"word{number}" for number in range(99)))
    refused("the tokenizer has .* tokens, the model 60")
    changed(hf_pooler_type="mean_pooler")
    refused("hf_pooler_type is 'mean_pooler'")
    changed(hf_proj_type="linear")
    refused(r"1 missing: text\.proj\.weight; 2 unexpected: text\.proj\.0\.weight, text\.proj\.2\.weight")
    changed()
    stored = torch.load(copy / "open_clip_pytorch_model.bin", weights_only=True)
    name = "text.transformer.encoder.layer.0.output.dense.bias"
    torch.save({key: value for key, value in stored.items() if key != name}, copy / "open_clip_pytorch_model.bin")
    refused(f"1 missing: {name}")
    words = "text.transformer.embeddings.word_embeddings.weight"
    torch.save({key: value for key, value in stored.items() if key != words}, copy / "open_clip_pytorch_model.bin")
    refused("its text half is no BERT")


def test_features_against_open_clip_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where open_clip and timm are installed: both halves' features."""
    pytest.importorskip("timm")
    hf_model, model = pytest.importorskip("open_clip.hf_model"), pytest.importorskip("open_clip.model")
    from transformers import BertConfig

    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    bert = BertConfig(**sizes, vocab_size=60, max_position_embeddings=40)
    monkeypatch.setattr(hf_model.AutoConfig, "from_pretrained", lambda *_, **__: bert)
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear"}
    text = {"hf_model_name": "bert", "hf_tokenizer_name": "bert", "hf_model_pretrained": False, "hf_proj_type": "mlp"}
    text["hf_pooler_type"] = "cls_last_hidden_state_pooler"
    torch.manual_seed(0)
    made = model.CustomTextCLIP(64, vision_cfg=vision, text_cfg=text).eval()
    torch.save(made.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    config = {"model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    ours = load_biomed_clip(tmp_path).model
    pixels, ids = torch.randn(1, 3, 224, 224), torch.randint(5, 60, (2, 12))
    ids[0, 7:] = 0
    with torch.no_grad():
        assert torch.allclose(ours.get_image_features(pixels), made.encode_image(pixels), atol=1e-5)
        found = ours.get_text_features(ids, (ids != 0).long())
        assert torch.allclose(found, made.encode_text(ids), atol=1e-5)
