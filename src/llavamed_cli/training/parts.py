"""Which weights learn: freezing by part, and low-rank additions to the language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch.nn import Parameter
    from transformers import LlavaForConditionalGeneration


def prepare_parts(model: LlavaForConditionalGeneration, recipe: Recipe, seed: int) -> LlavaForConditionalGeneration:
    """Freeze everything but the recipe's parts; put LoRA layers into the language model where it asks for them.

    Trained weights are held in fp32, whatever the model's precision: bf16 would round small updates away.
    """
    import torch

    net: Any = model
    net.requires_grad_(False)
    if "language_model" in recipe.train:
        if recipe.lora_rank:
            _add_lora(net, recipe, seed)
        else:
            net.model.language_model.requires_grad_(True)
            net.lm_head.requires_grad_(True)
    if "projector" in recipe.train:
        net.model.multi_modal_projector.requires_grad_(True)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    net.model.vision_tower.eval()
    if recipe.gradient_checkpointing:
        words = net.model.language_model
        # transformers 5.23 gave it the first name; the second warns from then on
        enable = getattr(words, "activation_checkpointing_enable", None) or words.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        if "projector" not in recipe.train:
            net.enable_input_require_grads()
    return model


def _add_lora(model: Any, recipe: Recipe, seed: int) -> None:
    """Low-rank layers beside every linear layer of the language model (QLoRA, arXiv 2305.14314, section 4)."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_scale,
        lora_dropout=recipe.lora_dropout,
        target_modules=_linear_names(model.model.language_model),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.model.language_model)


def _linear_names(module: Any) -> list[str]:
    import torch

    return sorted(name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear))


def merge_parts(model: LlavaForConditionalGeneration) -> None:
    """Fold LoRA layers into the weights they stand beside, leaving a plain LLaVA."""
    from peft.tuners.lora import LoraLayer

    net: Any = model
    for name, part in list(net.named_modules()):
        if isinstance(part, LoraLayer):
            part.merge()
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, part.get_base_layer())
    if hasattr(net.model.language_model, "peft_config"):
        del net.model.language_model.peft_config


def trained_parameters(model: LlavaForConditionalGeneration) -> dict[str, Parameter]:
    """The parameters that learn, by name, in a fixed order."""
    net: Any = model
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def count(parameters: dict[str, torch.nn.Parameter]) -> int:
    """How many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters.values())
