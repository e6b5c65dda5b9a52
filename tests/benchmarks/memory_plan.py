"""What the published 7B models take in memory, by their configs alone:  python tests/benchmarks/memory_plan.py

Nothing is loaded and no GPU is needed. Weights and cache are exact; one picture (576 tokens), 256 tokens of text around
it and 1,024 new ones.
"""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, MistralConfig

from llavamed_cli.model.memory_plan import MemoryPlan, ModelShape, plan_memory
from llavamed_cli.model.precision import GB

CLIP_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
CLIP_336 = CLIPVisionConfig(**CLIP_LARGE, patch_size=14, image_size=336)
CLIP_224 = CLIPVisionConfig(**CLIP_LARGE, patch_size=14, image_size=224)
WIDTHS = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
MISTRAL = MistralConfig(**WIDTHS, vocab_size=32064, intermediate_size=14336, num_key_value_heads=8)
LLAMA = LlamaConfig(**WIDTHS, vocab_size=32064, intermediate_size=11008)
MODELS = {
    "LLaVA-Med v1.5 7B (Mistral)": (LlavaConfig(text_config=MISTRAL, vision_config=CLIP_336), 576),
    "LLaVA v1.5 7B (Vicuna)": (LlavaConfig(text_config=LLAMA, vision_config=CLIP_336), 576),
    "LLaVA-Med v1.0 7B (LLaMA)": (LlavaConfig(text_config=LLAMA, vision_config=CLIP_224), 256),
}
"""Sizes as their config.json state them; the vocabulary with `<image>` and padding, in a multiple of 64."""
DTYPES = {"4bit": torch.bfloat16, "8bit": torch.bfloat16, "bf16": torch.bfloat16, "fp32": torch.float32}
"""What a GPU computes in."""


def plans() -> dict[str, list[MemoryPlan]]:
    """Each model in each precision."""
    shapes = {name: (ModelShape.of(config), tokens) for name, (config, tokens) in MODELS.items()}
    return {
        name: [plan_memory(shape, precision, dtype, picture_tokens=tokens) for precision, dtype in DTYPES.items()]
        for name, (shape, tokens) in shapes.items()
    }


def main() -> None:
    """Print a Markdown table, in GB of 10^9 bytes."""
    figures = "language model | vocabulary | projector | tower | weights | cache | activations | in all"
    print(f"| model | precision | {figures} |")
    print("|---" * 10 + "|")
    for name, rows in plans().items():
        for plan in rows:
            figures = [*plan.weights.values(), plan.weight_bytes, plan.cache, plan.activations, plan.total]
            print(f"| {name} | {plan.precision} | " + " | ".join(f"{figure / GB:.2f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
