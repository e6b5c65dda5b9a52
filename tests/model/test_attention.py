"""The attention kernel: flash attention only where it can run, and the reason why not elsewhere."""

from __future__ import annotations

import pytest

from llavamed_cli.model.attention import choose_attention


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An Ampere GPU with flash-attn, as far as the choice can see."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 6))
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("precision", ["bf16", "fp16", "8bit", "4bit"])
def test_flash_attention_where_it_runs(precision: str, gpu: pytest.MonkeyPatch) -> None:
    assert choose_attention("cuda", precision).value == "flash_attention_2"


@pytest.mark.parametrize(
    ("device", "precision", "reason"),
    [
        ("cpu", "bf16", "flash attention needs CUDA, this is cpu"),
        ("mps", "fp16", "flash attention needs CUDA, this is mps"),
        ("cuda", "fp32", "flash attention has no fp32"),
    ],
)
def test_where_it_cannot(device: str, precision: str, reason: str, gpu: pytest.MonkeyPatch) -> None:
    choice = choose_attention(device, precision)
    assert (choice.value, choice.reason) == ("sdpa", reason)


def test_a_gpu_that_is_too_old(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr("torch.cuda.get_device_capability", lambda: (7, 5))
    choice = choose_attention("cuda", "fp16")
    assert (choice.value, choice.reason) == (
        "sdpa",
        "flash attention needs compute capability 8.0, this GPU has 7.5",
    )


def test_flash_attn_is_not_installed(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr("transformers.utils.is_flash_attn_2_available", lambda: False)
    choice = choose_attention("cuda", "4bit")
    assert choice.value == "sdpa"
    assert "pip install" in choice.reason
