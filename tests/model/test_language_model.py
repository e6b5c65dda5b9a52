"""Language models as others hand them out: a GGUF file gives the weights and the words it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from llavamed_cli.model.assemble import assemble
from llavamed_cli.model.language_model import load_language_model
from llavamed_cli.model.load import load_model
from llavamed_cli.model.save import save_model

HEADS, LAYERS, WIDTH, INNER = 2, 2, 32, 64
WORDS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>", "<unk>", "ab"]
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleaved(weight: numpy.ndarray) -> numpy.ndarray:
    """llama.cpp rotates neighbouring rows of a head, transformers its two halves."""
    rows, width = weight.shape
    return weight.reshape(HEADS, 2, rows // HEADS // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(model: Any, path: Path) -> None:
    """The model and a byte-pair tokenizer of one merge, unquantised."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3 if word in ("<s>", "</s>", "<unk>") else 1 for word in WORDS])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(WORDS.index("<s>"))
    writer.add_eos_token_id(WORDS.index("</s>"))
    writer.add_unk_token_id(WORDS.index("<unk>"))
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = interleaved(values)
        for theirs, ours in GGUF_NAMES.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, numpy.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(model, path)
    return path, model


def test_a_gguf_file_says_what_its_model_says(written: tuple[Path, Any]) -> None:
    path, original = written
    found = load_language_model(str(path), dtype=torch.float32, seed=0)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    model: Any = found.model
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits[..., : len(WORDS)], original(ids).logits)
    tokenizer: Any = found.tokenizer
    assert tokenizer("ab c")["input_ids"] == [WORDS.index("ab"), WORDS.index("Ġ"), WORDS.index("c")]
    assert tokenizer.eos_token == "</s>"
    assert found.chosen_template.value == "vicuna_v1"


def test_a_model_from_a_gguf_file_is_saved_and_opened_again(written: tuple[Path, Any], tmp_path: Path) -> None:
    made = assemble(str(written[0]), "tiny", dtype=torch.float32, seed=0)
    save_model(made.model, made.processor, tmp_path / "llava")
    reopened: Any = load_model(str(tmp_path / "llava"), device="cpu").model
    expected: Any = made.model
    for name, tensor in expected.state_dict().items():
        assert torch.equal(reopened.state_dict()[name], tensor), name
