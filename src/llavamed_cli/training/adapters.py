"""Low-rank additions (LoRA) to the language model: put in, saved alone as peft saves them, folded into the weights.

Beside a quantised language model (QLoRA, arXiv 2305.14314) they learn to correct the weights as these were rounded. So
they are folded into the rounded weights, unpacked, and not into those the rounding was made from: what is written then
says what was trained, but for the rounding of the sum to the folder's number format.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.files import umask
from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import LlavaForConditionalGeneration

NAME = "default"
"""What peft calls an adapter that was given no name; parameters carry it."""
QUANTISED_LAYERS = ("Linear4bit", "Linear8bitLt")
HOW_TO_USE = """# What a language model learned, as low-rank additions

Made by `llavamed`, in the format of peft; what else learned (the projector) is in it whole. It needs the model that it
was trained on, {base}, as a Hugging Face folder (`llavamed convert` makes one of any published layout):

```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText

model = AutoModelForImageTextToText.from_pretrained("{base}"{loading})
model = PeftModel.from_pretrained(model, "this/folder")
```

`model.merge_and_unload()` folds it in{folding}.
"""
LOADING_QUANTISED = ', quantization_config=..., device_map="auto"'
FOLDING_QUANTISED = (
    ".\nIt was trained beside weights of {bits} bits, and is right beside those: load them so, with\n"
    "`transformers.BitsAndBytesConfig({options})`. `llavamed tune` with `merge = true` writes the sum"
)
BITS_AND_BYTES = {
    "4bit": 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True',
    "8bit": "load_in_8bit=True",
}


def linear_names(model: LlavaForConditionalGeneration) -> list[str]:
    """The linear layers of the language model, quantised or not, by their names in the whole model."""
    import torch

    net: Any = model
    words = net.model.language_model
    return [f"model.language_model.{name}" for name, part in words.named_modules() if isinstance(part, torch.nn.Linear)]


def add_adapters(model: LlavaForConditionalGeneration, recipe: Recipe, seed: int) -> None:
    """Put low-rank layers beside every linear layer of the language model (QLoRA, section 4), and freeze all else.

    Raises:
        ModelError: the language model has no linear layer.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    names = linear_names(model)
    if not names:
        raise ModelError("this language model has no linear layers, so nothing for low-rank additions to stand beside")
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_scale,
        lora_dropout=recipe.lora_dropout,
        target_modules=_pattern(names),
    )
    net: Any = model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, net)


def _pattern(names: list[str]) -> str:
    """One regular expression for layers' names, whichever number they have: short, and blind to the vision tower."""
    kinds = {r"\.".join(r"\d+" if piece.isdigit() else re.escape(piece) for piece in name.split(".")) for name in names}
    return "|".join(sorted(kinds))


def save_adapters(
    model: LlavaForConditionalGeneration,
    folder: Path,
    *,
    base: str,
    quantise: str = "none",
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write what was trained as a folder that `peft.PeftModel.from_pretrained` opens on the model it was trained on.

    The folder is whole or absent. Layers that learned whole, the projector's for one, are in it as peft's
    `modules_to_save`.

    Args:
        base: the folder or hub name of that model. quantise: how its language model was held while this was trained.
        state: the model's whole state dict, where its own parameters are shards of it.
    """
    from safetensors.torch import save_file

    net: Any = model
    held = net.state_dict() if state is None else state
    whole = _whole_layers(net)
    tensors = {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in held.items()
        if f".{NAME}." in name or name.startswith(tuple(f"{layer}." for layer in whole))
    }
    config = net.peft_config[NAME]
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o777 & ~umask())
        save_file(tensors, staging / "adapter_model.safetensors", metadata={"format": "pt"})
        saved = type(config)(**{**config.to_dict(), "base_model_name_or_path": base, "modules_to_save": whole or None})
        saved.inference_mode = True
        saved.save_pretrained(str(staging))
        (staging / "README.md").write_text(_how_to_use(base, quantise), encoding="utf-8")
        for file in staging.iterdir():
            file.chmod(0o666 & ~umask())
        shutil.rmtree(folder, ignore_errors=True)
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _whole_layers(net: Any) -> list[str]:
    """The layers of which more than low-rank additions learned; none of them inside another."""
    trained = [name for name, parameter in net.named_parameters(remove_duplicate=False) if parameter.requires_grad]
    owners = sorted({name.rpartition(".")[0] for name in trained if f".{NAME}." not in name})
    kept: list[str] = []
    for owner in owners:  # sorted: what holds a layer comes before it
        if not any(owner.startswith(f"{other}.") for other in kept):
            kept.append(owner)
    return kept


def _how_to_use(base: str, quantise: str) -> str:
    if quantise == "none":
        return HOW_TO_USE.format(base=base, loading="", folding="")
    folding = FOLDING_QUANTISED.format(bits=quantise.removesuffix("bit"), options=BITS_AND_BYTES[quantise])
    return HOW_TO_USE.format(base=base, loading=LOADING_QUANTISED, folding=folding)


def plain_linear(layer: Any, dtype: torch.dtype) -> torch.nn.Linear | None:
    """A layer with its low-rank additions folded in and its quantised weight unpacked; None for one with neither.

    A weight is summed in fp32 and rounded once: to its own number format, or to `dtype` where it was quantised. Those
    lie in main memory then, where there is room for them: beside a model in 4 bits a GPU may have none.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    adapted = isinstance(layer, LoraLayer)
    base: Any = layer.get_base_layer() if adapted else layer
    quantised = type(base).__name__ in QUANTISED_LAYERS
    if not adapted and not quantised:
        return None
    with torch.no_grad():
        weight = _unpacked(base) if quantised else base.weight
        total = weight.float()
        if adapted:
            total = total + layer.get_delta_weight(NAME).float()
        total = total.to("cpu" if quantised else weight.device, dtype if quantised else weight.dtype)
        bias = None if base.bias is None else base.bias.detach().to(total.device, total.dtype)
    plain = torch.nn.Linear(base.in_features, base.out_features, bias=bias is not None, device="meta")
    plain.weight = torch.nn.Parameter(total, requires_grad=False)
    if bias is not None:
        plain.bias = torch.nn.Parameter(bias, requires_grad=False)
    return plain


def _unpacked(layer: Any) -> torch.Tensor:
    """The numbers that a bitsandbytes layer stands for."""
    from peft.utils.integrations import dequantize_bnb_weight

    weight: torch.Tensor = dequantize_bnb_weight(layer.weight, state=getattr(layer, "state", None))
    return weight
