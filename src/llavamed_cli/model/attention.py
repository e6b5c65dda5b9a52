"""Which attention kernel a model uses: flash attention on CUDA where it is installed, PyTorch's own otherwise."""

from __future__ import annotations

from llavamed_cli.model.precision import Choice

FLASH_CAPABILITY = (8, 0)
"""Ampere: flash-attn 2 has no kernels for older NVIDIA GPUs."""


def choose_attention(device: str, precision: str) -> Choice:
    """`flash_attention_2` or `sdpa`, with the reason. Quantised models attend in bf16 or fp16, as flash attention does.

    transformers would fetch a kernel from the hub where flash-attn is not installed; what runs here is what was
    installed here, so that is not asked for.
    """
    import torch
    from transformers.utils import is_flash_attn_2_available

    if device != "cuda":
        return Choice("sdpa", f"flash attention needs CUDA, this is {device}")
    if precision == "fp32":
        return Choice("sdpa", "flash attention has no fp32")
    found = torch.cuda.get_device_capability()
    if found < FLASH_CAPABILITY:
        return Choice("sdpa", f"flash attention needs compute capability 8.0, this GPU has {found[0]}.{found[1]}")
    if not is_flash_attn_2_available():
        return Choice("sdpa", "flash-attn is not installed (pip install 'llavamed[flash]')")
    return Choice("flash_attention_2", "flash-attn is installed and the device is CUDA")
