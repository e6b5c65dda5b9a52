"""Which weights learn: parts by name and parameters by pattern; the rest is frozen. And back to a plain LLaVA."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import UsageError
from llavamed_cli.training.adapters import QUANTISED_LAYERS, add_adapters, linear_names, plain_linear
from llavamed_cli.training.recipe import Recipe, is_pattern

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import LlavaForConditionalGeneration

PATTERNS = {
    "projector": ("model.multi_modal_projector.*",),
    "lm": ("model.language_model.*", "lm_head.*"),
    "vision_tower": ("model.vision_tower.*",),
    "lm_head": ("lm_head.*",),
}
"""Parts as patterns of parameter names; the word table's name is its language model's own."""


def prepare_parts(model: LlavaForConditionalGeneration, recipe: Recipe, seed: int) -> LlavaForConditionalGeneration:
    """Freeze everything but what the recipe's `train` names; put LoRA layers into the language model where it asks.

    Trained weights are held in fp32, whatever the model's precision: bf16 would round small updates away.

    Raises:
        UsageError: a pattern that matches nothing, or weights that cannot learn (quantised, or never read).
    """
    import torch

    net: Any = model
    whole = _whole_parameters(net, recipe)
    net.requires_grad_(False)
    if recipe.lora_rank:
        add_adapters(model, recipe, seed)
    for parameter in whole:
        parameter.requires_grad_(True)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    net.model.vision_tower.eval()
    if recipe.gradient_checkpointing:
        for part in (net.model.language_model, *([net.model.vision_tower] if tower_learns(model) else [])):
            # transformers 5.23 gave it the first name; the second warns from then on
            enable = getattr(part, "activation_checkpointing_enable", None) or part.gradient_checkpointing_enable
            enable({"use_reentrant": False})
    return model


def trained_parameters(model: LlavaForConditionalGeneration) -> dict[str, Parameter]:
    """The parameters that learn, by name, in a fixed order."""
    net: Any = model
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def tower_learns(model: LlavaForConditionalGeneration) -> bool:
    """Whether the vision tower changes as it is trained: then what it sees has a gradient, and cannot be kept."""
    net: Any = model
    return any(parameter.requires_grad for parameter in net.model.vision_tower.parameters())


def count(parameters: dict[str, Parameter]) -> int:
    """How many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters.values())


def merge_parts(model: LlavaForConditionalGeneration) -> None:
    """Leave a plain LLaVA: LoRA layers folded into the weights they stand beside, quantised weights unpacked.

    What learned is still in fp32, and what was quantised in the model's own number format, in main memory.
    """
    net: Any = model
    for name, part in list(net.named_modules()):
        inside = name.endswith(".base_layer")  # of a layer with additions, which is replaced as one
        plain = None if inside else plain_linear(part, net.config.dtype)
        if plain is not None:
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, plain)
    for leftover in ("peft_config", "hf_quantizer", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        if leftover in vars(net):
            delattr(net, leftover)
    if getattr(net.config, "quantization_config", None) is not None:
        del net.config.quantization_config


def _whole_parameters(net: Any, recipe: Recipe) -> list[Parameter]:
    """The parameters whose own numbers learn, each once."""
    named = dict(net.named_parameters(remove_duplicate=False))  # a head tied to the word table has two names
    unread = _unread_parameters(net) if any(_reaches_tower(name) for name in recipe.train) else set()
    adapted = set(linear_names(net)) if recipe.lora_rank else set()
    chosen: dict[int, Parameter] = {}
    for part in recipe.train:
        if part == "lm" and recipe.lora_rank:
            continue
        names = _matches(net, part, named)
        clash = next((name for name in names if name.rpartition(".")[0] in adapted), None)
        if clash is not None:
            raise _cannot_learn(part, f"{clash} learns by low-rank additions already", "Give lora_rank = 0.")
        packed = next((name for name in names if type(_owner(net, name)).__name__ in QUANTISED_LAYERS), None)
        if packed is not None:
            raise _cannot_learn(part, f"{packed} is quantised, and cannot learn", 'Give quantise = "none".')
        read = [name for name in names if name not in unread]
        if not read:
            raise _cannot_learn(part, f"nothing reads {names[0]}: the projector is fed from an earlier layer", None)
        chosen.update((id(named[name]), named[name]) for name in read)
    return list(chosen.values())


def _owner(net: Any, name: str) -> Any:
    """The layer that a parameter belongs to."""
    return net.get_submodule(name.rpartition(".")[0])


def _matches(net: Any, part: str, named: dict[str, Any]) -> list[str]:
    if part == "embeddings":
        table = net.get_input_embeddings().weight
        return [name for name, parameter in named.items() if parameter is table]
    patterns = (part,) if is_pattern(part) else PATTERNS[part]
    found = [name for name in named if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not found:
        near = difflib.get_close_matches(part, named, n=1, cutoff=0)[0]
        raise _cannot_learn(part, "no parameter has such a name", f"The nearest is {near}.")
    return found


def _cannot_learn(part: str, why: str, hint: str | None) -> UsageError:
    return UsageError(f"train: {part!r} cannot learn: {why}", hint=hint)


def _reaches_tower(part: str) -> bool:
    return part == "vision_tower" or is_pattern(part)


def _unread_parameters(net: Any) -> set[str]:
    """Parameters of the tower that no feature depends on, by where gradients reach: LLaVA reads a layer before the
    last. To train them would change nothing, and processes that share gradients would wait for theirs forever."""
    import torch

    tower = net.model.vision_tower
    settings, layers = net.config.vision_config, net.config.vision_feature_layer
    size = settings.image_size if isinstance(settings.image_size, (list, tuple)) else [settings.image_size] * 2
    parameters = dict(tower.named_parameters())
    first = next(iter(parameters.values()))
    tower.requires_grad_(True)
    with torch.enable_grad():
        pixels = torch.zeros(1, getattr(settings, "num_channels", 3), *size, dtype=first.dtype, device=first.device)
        states = tower(pixels, output_hidden_states=True).hidden_states
        seen = sum(states[layer].sum() for layer in ([layers] if isinstance(layers, int) else layers))
        reached = torch.autograd.grad(seen, list(parameters.values()), allow_unused=True)
    tower.requires_grad_(False)
    return {
        f"model.vision_tower.{name}" for name, gradient in zip(parameters, reached, strict=True) if gradient is None
    }
