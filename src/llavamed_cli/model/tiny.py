"""The `tiny` parts: a language model and a vision tower made from nothing, for CI and for tests.

They know nothing until they are trained, take seconds a step on one core, and go through every code path that a real
model does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, ViTModel

TINY = "tiny"
IMAGE_SIZE = 64
PATCH_SIZE = 8
WIDTH = 3 * PATCH_SIZE**2
PHANTOMS_READ = 400
POSITION_SCALE = 0.5


def byte_tokenizer(words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without any file: the 256 bytes, ChatML's control tokens, and `words` whole.

    Any text goes through it and comes back. A word is one token, with the space before it where there is one.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in ("<|pad|>", "<|im_start|>", "<|im_end|>")])
    whole = [text for word in sorted(set(words)) for text in (word, f" {word}")]
    core.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>", model_max_length=2048
    )


def phantom_words() -> set[str]:
    """The words that phantoms are asked about and described in, and the two roles of ChatML.

    A model made from nothing meets questions without being taught to read: only answers are supervised. Whole words
    spare it the spelling.
    """
    from llavamed_cli.phantoms import caption, draw_phantoms, questions

    words = {"user", "assistant"}
    for phantom in draw_phantoms(PHANTOMS_READ, split="train", seed=0):
        texts = [caption(phantom)]
        for question in questions(phantom):
            texts += [question.text, question.answer]
        words.update(re.findall(r"[A-Za-z][A-Za-z-]+", " ".join(texts)))
    return words


def tiny_language_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama of 4 layers, width 128, about 1 M parameters, from `seed`.

    Weights start with standard deviation 1 / sqrt(width): Llama's own 0.02 suits widths in the thousands, and leaves
    a model this narrow so faint that it takes long to begin to learn.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        initializer_range=128**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def tiny_vision_tower(seed: int) -> ViTModel:
    """A ViT of one layer, width 192, on 64 x 64 pixels: 64 patches and a class token.

    LLaVA reads the second-to-last layer, here the patch embedding itself: a random linear map of a patch's 192 numbers
    to 192, and its position. Nothing is lost in it, so the projector can learn what an untrained tower cannot know.
    (CLIP would normalise each patch first, and make a bright one and a dark one alike.)
    """
    import torch
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tower = ViTModel(config)
        embeddings = tower.embeddings
        torch.nn.init.normal_(embeddings.patch_embeddings.projection.weight, std=WIDTH**-0.5)
        embeddings.position_embeddings[:, 1:] = POSITION_SCALE * patch_positions()
    return tower.eval()


def patch_positions() -> Tensor:
    """Where each patch lies, (64, 192): sines and cosines of its column and of its row, counted from the middle.

    After the fixed two-dimensional embedding of MAE (He et al. 2022, appendix A.1). Counted from the middle, the sign
    of a slow sine says left or right, above or below, which a random embedding tells to nobody who was not taught.
    """
    import torch

    side = IMAGE_SIZE // PATCH_SIZE
    along = torch.arange(side) - (side - 1) / 2
    rates = torch.logspace(0, -2, WIDTH // 4)
    angles = along[:, None] * rates
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
