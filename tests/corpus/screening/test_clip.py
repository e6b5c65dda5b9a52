from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
)

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening import clip
from llavamed_cli.corpus.screening.clip import ClipScorer, load_clip
from llavamed_cli.errors import ModelError
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.published.towers import read_tower
from llavamed_cli.model.vision_tower import build_tower

Draw = Callable[..., Path]
LONGEST = 12


@pytest.fixture(scope="module")
def folder(tiny_clip: Path) -> Path:
    return tiny_clip


@pytest.fixture(scope="module")
def scorer(folder: Path, domain: Domain) -> ClipScorer:
    return load_clip(folder, domain, device="cpu")


@pytest.fixture
def pairs(tmp_path: Path, draw: Draw) -> list[tuple[Path, str]]:
    captions = ["a chest x-ray", "ct scan of the left lung with nodule", "a slide", "mri", "right lobe and lung in the"]
    sizes = [(32, 32), (80, 40), (33, 90), (200, 200), (41, 41)]
    return [
        (draw(tmp_path / f"{n}.png", size=size, seed=n), text)
        for n, (text, size) in enumerate(zip(captions, sizes, strict=True))
    ]


def plain(folder: Path, pairs: list[tuple[Path, str]], texts: list[str]) -> Any:
    """What transformers' own model says, one picture at a time."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    rows = []
    for path, _ in pairs:
        inputs = processor(
            text=texts,
            images=open_picture(path),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=LONGEST,
        )
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            rows.append(model(**inputs).logits_per_image[0])
    return torch.stack(rows), model.logit_scale.exp().item()


def test_similarities_are_transformers_own(scorer: ClipScorer, folder: Path, pairs: list[tuple[Path, str]]) -> None:
    logits, scale = plain(folder, pairs, [caption for _, caption in pairs])
    expected = (logits.diagonal() / scale).tolist()
    assert [score.similarity for score in scorer.score(pairs)] == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_modalities_are_the_nearest_of_the_domains_phrases(
    scorer: ClipScorer, folder: Path, pairs: list[tuple[Path, str]], domain: Domain
) -> None:
    logits, _ = plain(folder, pairs, [modality.phrase for modality in domain.modalities])
    shares, best = logits.softmax(-1).max(-1)
    scores = scorer.score(pairs)
    assert [score.modality for score in scores] == [domain.modalities[index].name for index in best]
    assert [score.share for score in scores] == pytest.approx(shares.tolist(), abs=1e-5)


def test_the_size_of_a_batch_does_not_show(
    scorer: ClipScorer, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = scorer.score(pairs)
    for size in (1, 2):
        monkeypatch.setattr(clip, "PAIRS_AT_ONCE", size)
        alone = scorer.score(pairs)
        assert [s.similarity for s in alone] == pytest.approx([s.similarity for s in together], abs=1e-5)
        assert [s.modality for s in alone] == [s.modality for s in together]
    assert scorer.score([]) == []


def test_long_captions_are_cut_and_counted(folder: Path, domain: Domain, pairs: list[tuple[Path, str]]) -> None:
    scorer = load_clip(folder, domain, device="cpu")
    fits = " ".join(["lung"] * (LONGEST - 2))
    path = pairs[0][0]
    scores = scorer.score([(path, fits), (path, f"{fits} mri"), (path, f"{fits} ct")])
    assert [score.truncated for score in scores] == [False, True, True]
    assert scorer.truncated == 2
    assert scores[0].similarity == pytest.approx(scores[1].similarity, abs=1e-5)


def test_what_is_no_clip_is_said_so(folder: Path, domain: Domain, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no CLIP in Hugging Face's or open_clip's layout"):
        load_clip(tmp_path, domain)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (copy / name).unlink()
    with pytest.raises(ModelError, match="image settings"):
        load_clip(copy, domain)
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"missing: vision_model\.encoder\.layers\.2"):
        load_clip(copy, domain)
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="expected a CLIP, found a bert model"):
        load_clip(copy, domain)


def test_a_folders_own_code_is_not_run(folder: Path, domain: Domain, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    config["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_clip(copy, domain)
    assert not (tmp_path / "was_run").exists()


def test_pickled_weights_are_read_as_weights_alone(folder: Path, domain: Domain, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "was_run",)

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").unlink()
    weights = CLIPModel.from_pretrained(folder).state_dict()
    torch.save(weights, copy / "pytorch_model.bin")
    load_clip(copy, domain, device="cpu")
    torch.save({**weights, "evil": Evil()}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_clip(copy, domain)
    assert not (tmp_path / "was_run").exists()


def test_a_published_clip_without_its_tokenizer_is_refused(shared: Path, domain: Domain) -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        load_clip(shared / "oracle" / "towers" / "pubmedclip_tiny", domain, device="cpu")


def test_biomed_clip_scores_as_its_two_halves_do(
    biomed_clip: Path, domain: Domain, pairs: list[tuple[Path, str]]
) -> None:
    """The halves by transformers' own models, from the published tensors, one picture and one text at a time."""
    scorer = load_clip(biomed_clip, domain, device="cpu")
    scores = scorer.score(pairs)
    pictures, captions = halves_by_hand(biomed_clip, [path for path, _ in pairs], [text for _, text in pairs])
    expected = (pictures * captions).sum(-1).tolist()
    assert [score.similarity for score in scores] == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.05
    _, phrases = halves_by_hand(biomed_clip, [], [modality.phrase for modality in domain.modalities])
    scale = torch.load(biomed_clip / "open_clip_pytorch_model.bin", weights_only=True)["logit_scale"].exp()
    shares, best = (scale * pictures @ phrases.T).softmax(-1).max(-1)
    assert [score.modality for score in scores] == [domain.modalities[index].name for index in best]
    assert [score.share for score in scores] == pytest.approx(shares.tolist(), abs=1e-5)


def halves_by_hand(folder: Path, paths: list[Path], texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of pictures and of texts, by open_clip's rules (timm_model.py, hf_model.py); texts of 20 tokens."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    stored = torch.load(folder / "open_clip_pytorch_model.bin", weights_only=True)
    tower = build_tower(read_tower(folder), torch.float32, "")
    pictures = []
    for path in paths:
        pixels = CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size=48)(open_picture(path))["pixel_values"]
        with torch.no_grad():
            block = tower(torch.as_tensor(pixels[0])[None], output_hidden_states=True).hidden_states[-1][0, 0]
        norm = (stored["visual.trunk.norm.weight"], stored["visual.trunk.norm.bias"])
        pictures.append(stored["visual.head.proj.weight"] @ torch.nn.functional.layer_norm(block, (32,), *norm, 1e-6))
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 80}
    bert = BertModel(BertConfig(**sizes, vocab_size=60, max_position_embeddings=24), add_pooling_layer=False).eval()
    prefix = "text.transformer."
    bert.load_state_dict({name[len(prefix) :]: value for name, value in stored.items() if name.startswith(prefix)})
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    features = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        with torch.no_grad():
            first = bert(input_ids=tokens["input_ids"]).last_hidden_state[0, 0]
        features.append(stored["text.proj.2.weight"] @ torch.nn.functional.gelu(stored["text.proj.0.weight"] @ first))
    return (
        torch.nn.functional.normalize(torch.stack(pictures), dim=-1) if paths else torch.empty(0),
        torch.nn.functional.normalize(torch.stack(features), dim=-1),
    )


def test_biomed_clip_cuts_texts_at_its_context(
    biomed_clip: Path, domain: Domain, pairs: list[tuple[Path, str]]
) -> None:
    scorer = load_clip(biomed_clip, domain, device="cpu")
    path, fits = pairs[0][0], " ".join("abcdefghijklmnopqr")  # 18 letters, and two ends
    scores = scorer.score([(path, fits), (path, f"{fits} x")])
    assert [score.truncated for score in scores] == [False, True]
    assert scores[0].similarity == pytest.approx(scores[1].similarity, abs=1e-5)
