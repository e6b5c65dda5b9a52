"""What a step can fail with, as sentences that say what to change: memory, and numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence

from llavamed_cli.errors import TrainingError
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.recipe import Recipe

IDS_NAMED = 8
SIGNS_OF_NO_MEMORY = ("not enough memory", "out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: CUDA has an exception for it, the CPU's and MPS's allocators only words."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS_OF_NO_MEMORY)


def memory_fault(step: int, recipe: Recipe, saved: str) -> TrainingError:
    """Memory ran out in step `step`. saved: where the steps before it are, as a sentence."""
    cures = [f"a lower --max-tokens (now {recipe.max_tokens:,})"]
    if not recipe.gradient_checkpointing:
        cures.append("gradient_checkpointing = true in the recipe")
    others = []
    if recipe.quantise == "none":
        others.append("QLoRA (--lora-rank 64 --quantise 4bit)" if "lm" in recipe.train else "--quantise 4bit")
    if recipe.optimizer == "adamw":
        others.append("--optimizer adamw8bit")
    begin = f" Or begin anew in another --out with {' or '.join(others)}." if others else ""
    return TrainingError(
        f"memory ran out in step {step}",
        hint=f"{saved} Go on with {' or '.join(cures)}.{begin} --plan says what each takes.",
    )


def number_fault(what: str, value: float, step: int, examples: ExampleSet, samples: Sequence[int]) -> TrainingError:
    """A loss, or the length of its gradient, that is no finite number; the samples of the step are named."""
    ids = examples.example_ids(samples[:IDS_NAMED])
    more = f" and {len(samples) - IDS_NAMED} more" if len(samples) > IDS_NAMED else ""
    return TrainingError(
        f"the {what} of step {step} is {value}; its samples are {', '.join(ids)}{more}",
        hint="A lower --lr or --precision fp32 usually helps; the last checkpoint is kept.",
    )
