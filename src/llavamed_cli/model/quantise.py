"""4-bit and 8-bit weights by bitsandbytes, in the language model alone; tower, projector and head stay as they are.

4-bit is NF4 with double quantisation (QLoRA, arXiv 2305.14314), 8-bit is LLM.int8() (arXiv 2208.07339).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, UsageError, first_line
from llavamed_cli.model.precision import QUANTISED

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration, PreTrainedConfig

UNQUANTISED = ("model.vision_tower", "vision_tower", "model.multi_modal_projector", "multi_modal_projector", "lm_head")
"""Small, and every later number rests on what they compute. transformers 5 matches names from their start, and older
ones know the parts without `model.`."""


def has_bitsandbytes() -> bool:
    """Whether bitsandbytes is installed (there is none for macOS)."""
    return importlib.util.find_spec("bitsandbytes") is not None


def quantisation(precision: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How transformers is to quantise while it loads, computing in `dtype`; None for bf16, fp16 and fp32.

    Raises:
        UsageError: bitsandbytes is not installed. ModelError: it is, and does not run here.
    """
    if precision not in QUANTISED:
        return None
    from transformers import BitsAndBytesConfig

    need_bitsandbytes(precision)
    common: dict[str, Any] = {"llm_int8_skip_modules": list(UNQUANTISED)}
    if precision == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, **common)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        **common,
    )


def need_bitsandbytes(precision: str) -> None:
    """Raise what `quantisation` raises where bitsandbytes cannot be used."""
    if not has_bitsandbytes():
        raise UsageError(
            f"{precision} needs bitsandbytes, which is not installed",
            hint="pip install bitsandbytes (there is none for macOS), or use bf16 or fp32.",
        )
    try:
        importlib.import_module("bitsandbytes")
    except Exception as error:  # a compiled library: what fails to load says so in its own way
        raise ModelError(f"bitsandbytes does not run here: {first_line(error)}", hint="Use bf16 or fp32.") from error


def stored_precision(config: PreTrainedConfig, where: str) -> str | None:
    """`4bit` or `8bit` where a folder's weights are stored so, None where they are plain numbers.

    Raises:
        ModelError: they are quantised by something else.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    values = stored if isinstance(stored, dict) else stored.to_dict()
    method = str(values.get("quant_method", "an unnamed method"))
    if method == "bitsandbytes" and (values.get("load_in_4bit") or values.get("load_in_8bit")):
        return "4bit" if values.get("load_in_4bit") else "8bit"
    raise ModelError(
        f"the weights are quantised by {method}; of quantised weights, bitsandbytes' 4-bit and 8-bit are read",
        where=where,
        hint="Name the model that these were made from, with --precision 4bit.",
    )


def settle(model: LlavaForConditionalGeneration, dtype: torch.dtype) -> None:
    """Let a model's 4-bit layers compute in `dtype` here, and answer without changing what they hold.

    On CPUs with AVX512-BF16 the first answer repacks the weights of bitsandbytes 0.50. Saved after that, weights
    without double quantisation are garbage; and a layer whose outputs are no multiple of 32 fails in an assertion.
    """
    net: Any = model
    for layer in net.modules():
        if type(layer).__name__ == "Linear4bit":
            layer.compute_dtype = dtype
            layer.support_avx512bf16_for_cpu = False
