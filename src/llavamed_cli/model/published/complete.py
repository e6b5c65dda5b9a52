"""Every tensor accounted for: what was read is held against a LLaVA of the same config, made without weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llavamed_cli.model.published.names import TOWER, classic_name
from llavamed_cli.model.published.reading import Reading
from llavamed_cli.model.published.tensor_shapes import check_shapes
from llavamed_cli.model.published.tower_tensors import UNREAD, ZEROS, zeros
from llavamed_cli.model.published.vocabulary import HEAD

if TYPE_CHECKING:
    from transformers import LlavaConfig


def model_shapes(config: LlavaConfig) -> dict[str, tuple[int, ...]]:
    """What `LlavaForConditionalGeneration` holds, by classic name. Takes no memory for weights, also at 7B."""
    import torch
    from transformers import LlavaForConditionalGeneration
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():  # drawing numbers for tensors without any takes a third of a second
        model = LlavaForConditionalGeneration(config)
    tower = config.vision_config.model_type
    return {classic_name(name, tower): tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def complete(reading: Reading, where: str) -> Reading:
    """The same reading, if its tensors are exactly the model's; parts that LLaVA never reads may be absent.

    Raises:
        ModelError: tensors are missing, unexpected or of another shape; the message lists them.
    """
    expected = model_shapes(reading.config)
    tensors = dict(reading.tensors)
    if reading.config.tie_word_embeddings:
        expected.pop(HEAD, None)
        tensors.pop(HEAD, None)
    dtype = next(iter(tensors.values())).dtype
    unread = {name: shape for name, shape in expected.items() if name not in tensors and _unread(name)}
    tensors.update({name: zeros(shape, dtype) for name, shape in unread.items()})
    check_shapes(expected, tensors, "the tensors are not those that config.json asks for", where)
    added = {**reading.report.added, **dict.fromkeys(unread, ZEROS)}
    report = replace(reading.report, added=added, used=sum(name not in added for name in tensors))
    return replace(reading, tensors={name: tensors[name] for name in expected}, report=report)


def _unread(name: str) -> bool:
    return name.startswith(TOWER) and UNREAD.fullmatch(name[len(TOWER) :]) is not None
