"""Which attention kernel a model uses: flash attention on CUDA where it is installed, PyTorch's own otherwise."""

from __future__ import annotations

from llavamed_cli.model.precision import Choice


def choose_attention(device: str, precision: str) -> Choice:
    """`flash_attention_2` or `sdpa`, with the reason. Flash attention computes in bf16 and fp16 alone."""
    from transformers.utils import is_flash_attn_2_available

    if device != "cuda":
        return Choice("sdpa", f"flash attention needs CUDA, this is {device}")
    if precision == "fp32":
        return Choice("sdpa", "flash attention has no fp32")
    if not is_flash_attn_2_available():
        return Choice("sdpa", "flash-attn is not installed (pip install 'llavamed[flash]')")
    return Choice("flash_attention_2", "flash-attn is installed and the device is CUDA")
