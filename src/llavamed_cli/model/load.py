"""Open a LLaVA folder or hub name: every tensor accounted for, or an error that lists them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import LlavamedError, ModelError, UsageError, first_line
from llavamed_cli.garbage import collection_put_off
from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.free_memory import free_memory
from llavamed_cli.model.hub import locate
from llavamed_cli.model.memory_plan import MemoryPlan, ModelShape, plan_memory
from llavamed_cli.model.precision import (
    Choice,
    candidates,
    check_precision,
    choose_device,
    choose_precision,
    compute_dtype,
    fit_precision,
)
from llavamed_cli.model.published.read import read_published
from llavamed_cli.model.published.reading import LoadReport, Reading
from llavamed_cli.model.published.tower_settings import read_settings
from llavamed_cli.model.quantise import has_bitsandbytes, need_bitsandbytes, quantisation, settle, stored_precision
from llavamed_cli.progress import Progress, Silent

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

TENSORS_LISTED = 8


@dataclass(frozen=True)
class LoadedModel:
    """A LLaVA ready to train or to answer.

    choices: what was chosen automatically ("device", "precision", "attention") and why.
    plan: what it takes in memory while it answers; None where it was loaded to be trained.
    report: what became of every tensor of a published checkpoint.
    """

    model: LlavaForConditionalGeneration = field(repr=False)
    processor: LlavaProcessor = field(repr=False)
    device: str
    choices: dict[str, Choice]
    plan: MemoryPlan | None = None
    report: LoadReport | None = None

    @cached_property
    def chat(self) -> ChatFormat:
        """How this model writes conversations."""
        return _chat(self.processor)

    def pixels(self, pictures: list[Image]) -> torch.Tensor:
        """Pictures as the tower takes them: float [n, 3, height, width]."""
        processor: Any = self.processor
        pixels: torch.Tensor = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        return pixels

    @cached_property
    def image_length(self) -> int:
        """How many tokens one picture takes."""
        return picture_tokens(self.processor)


def _chat(processor: Any) -> ChatFormat:
    return ChatFormat(processor.tokenizer, processor.chat_template or processor.tokenizer.chat_template)


def picture_tokens(processor: LlavaProcessor) -> int:
    """How many tokens one picture takes, by what the processor makes of one."""
    from PIL import Image

    feeder: Any = processor
    pixels = feeder.image_processor(images=[Image.new("RGB", (8, 8))], return_tensors="pt")["pixel_values"]
    height, width = pixels.shape[-2:]
    patches = (height // feeder.patch_size) * (width // feeder.patch_size)
    return int(patches + feeder.num_additional_image_tokens - (feeder.vision_feature_select_strategy == "default"))


@collection_put_off()
def load_model(
    where: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    for_training: bool = False,
    quantise: str = "none",
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a LLaVA, of any published layout, from a folder or hub name onto a device.

    Args:
        precision: `auto` takes the widest that fits the memory free now; 4bit and 8bit quantise while loading. A folder
            that is stored quantised is opened so.
        for_training: choose by the device alone, and refuse weights that cannot learn.
        quantise: with `for_training`, hold the language model in 4bit or 8bit, where it is frozen or learns by low-rank
            additions; `precision` is then what everything is computed in. A folder that is stored so is taken as it is.
        progress: told what was found and chosen before any weight is read.

    Raises:
        ModelError: no model there, another kind of model, no tokenizer or processor, tensors missing or left over, or
            nothing fits the memory. UsageError: a device or precision that cannot be had.
    """
    folder = locate(where)
    if _is_quantised(folder):
        source = _Source(where, load_config(folder), load_processor(folder), folder)
        return _load(
            source, device, precision, for_training=for_training, quantise=quantise, progress=progress or Silent()
        )
    reading = read_published(folder)
    return load_reading(
        reading,
        where,
        device=device,
        precision=precision,
        for_training=for_training,
        quantise=quantise,
        progress=progress,
    )


def load_reading(
    reading: Reading,
    where: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    for_training: bool = False,
    quantise: str = "none",
    progress: Progress | None = None,
) -> LoadedModel:
    """Load what a reader of published checkpoints found at `where`, tensor by tensor. As `load_model` otherwise."""
    source = _Source(where, reading.config, reading.processor, reading)
    return _load(source, device, precision, for_training=for_training, quantise=quantise, progress=progress or Silent())


@dataclass(frozen=True)
class _Source:
    """A model known and not yet loaded. weights: what a reader found, or a folder that is stored quantised."""

    where: str
    config: LlavaConfig
    processor: LlavaProcessor
    weights: Reading | Path


def _load(
    source: _Source, wanted_device: str, wanted: str, *, for_training: bool, quantise: str, progress: Progress
) -> LoadedModel:
    device = choose_device(wanted_device)
    check_precision(wanted)
    _chat(
        source.processor
    )  # a template that asks for tokens which are not there is refused before the weights are read
    report = None if isinstance(source.weights, Path) else source.weights.report
    if report is not None:
        for note in report.notes:
            progress.note(note)
    if for_training:
        precision, plan = _trainable(source, wanted, device.value, quantise), None
    else:
        precision, plan = _planned(source, wanted, device.value)
    progress.note(f"precision: {precision.value} ({precision.reason})")
    attention = choose_attention(device.value, precision.value)
    held = precision.value if quantise == "none" else quantise
    dtype = compute_dtype(precision.value, device.value)
    model = _load_weights(source, device.value, held, dtype, attention.value)
    settle(model, dtype)
    choices = {"device": device, "precision": precision, "attention": attention}
    if quantise != "none":
        choices["quantise"] = Choice(quantise, "asked for; the language model's own weights stay as they are")
    return LoadedModel(model.eval(), source.processor, device.value, choices, plan, report)


def _trainable(source: _Source, wanted: str, device: str, quantise: str) -> Choice:
    stored = stored_precision(source.config, source.where)
    if stored not in (None, quantise):
        raise UsageError(
            f"the weights are stored in {stored}, in which they can answer, not learn",
            where=source.where,
            hint="Name the model that it was made from.",
        )
    return choose_precision(wanted, device)


def _planned(source: _Source, wanted: str, device: str) -> tuple[Choice, MemoryPlan]:
    """The precision to answer in, and what it takes."""
    free = free_memory(device)
    stored = stored_precision(source.config, source.where)
    if stored is not None and wanted not in ("auto", stored):
        raise UsageError(
            f"--precision {wanted} was asked for, and the weights are stored in {stored}",
            where=source.where,
            hint="Leave --precision out, or name the model that it was made from.",
        )
    shape = ModelShape.of(source.config)
    picture = picture_tokens(source.processor)

    def plan(precision: str) -> MemoryPlan:
        return plan_memory(shape, precision, compute_dtype(precision, device), picture_tokens=picture)

    if stored is None and wanted == "auto":
        choice = fit_precision(candidates(device, quantised=has_bitsandbytes()), plan, free, source.where)
    else:
        planned = plan(stored or wanted)
        why = "the folder is stored so" if stored else "asked for"
        choice = Choice(planned.precision, f"{why}; {planned.sentence()}; {free.sentence()}")
    return choice, plan(choice.value)


def _is_quantised(folder: Path) -> bool:
    file = folder / "config.json"
    return file.is_file() and bool(read_settings(file).get("quantization_config"))


def load_processor(folder: Path) -> Any:
    """The processor of a folder in Hugging Face's layout. Raises ModelError where it has none that fits."""
    from transformers import AutoProcessor, LlavaProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(
            f"no processor (tokenizer and image settings) could be loaded: {first_line(error)}", where=str(folder)
        ) from error
    if not isinstance(processor, LlavaProcessor):
        raise ModelError(
            f"expected a LLaVA processor with a tokenizer, found {type(processor).__name__}", where=str(folder)
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise ModelError("the tokenizer has no chat template", where=str(folder))
    return processor


def load_config(folder: Path) -> LlavaConfig:
    """The config of a folder in Hugging Face's layout. Raises ModelError where it is another model's."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:
        raise ModelError(f"config.json cannot be read: {first_line(error)}", where=str(folder)) from error
    if config.model_type != "llava" or not hasattr(config, "vision_config"):
        raise ModelError(
            f"expected a LLaVA in Hugging Face's layout, found a {config.model_type} model", where=str(folder)
        )
    return config


def _load_weights(source: _Source, device: str, precision: str, dtype: torch.dtype, attention: str) -> Any:
    """Weights go to the device one tensor at a time, quantised on the way where that is asked for."""
    import torch
    from transformers import LlavaForConditionalGeneration

    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": attention,
        "device_map": {"": torch.cuda.current_device() if device == "cuda" else device},
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # so that they are reported, and refused below by name
    }
    if stored_precision(source.config, source.where) is None:
        options["quantization_config"] = quantisation(precision, dtype)
    else:
        need_bitsandbytes(precision)
    found = source.weights
    try:
        if isinstance(found, Path):
            model, report = LlavaForConditionalGeneration.from_pretrained(found, use_safetensors=True, **options)
        else:
            model, report = LlavaForConditionalGeneration.from_pretrained(
                None, config=found.config, state_dict=dict(found.tensors), **options
            )
            model.generation_config = found.generation_config
    except LlavamedError:
        raise
    except Exception as error:
        raise ModelError(f"the weights cannot be loaded: {first_line(error)}", where=source.where) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(found if isinstance(found, str) else found[0] for found in report.get(what) or ())
        if names:
            listed = ", ".join(names[:TENSORS_LISTED]) + (" ..." if len(names) > TENSORS_LISTED else "")
            raise ModelError(f"{len(names)} tensor(s) {what.split('_')[0]}: {listed}", where=source.where)
    return model
