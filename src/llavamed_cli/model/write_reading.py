"""Write a published checkpoint, as read, into a plain Hugging Face folder: one shard of it in memory at a time.

Shards are put in place whole, config.json last. A write that was interrupted goes on behind the shards that stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.files import atomic_place, write_json
from llavamed_cli.model.portable import make_portable
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.reading import Reading
from llavamed_cli.progress import Progress

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 2 * 2**30
INDEX = "model.safetensors.index.json"


def write_reading(
    reading: Reading, folder: Path, *, dtype: torch.dtype | None, progress: Progress, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write weights (safetensors), config, generation config, tokenizer, processor and chat template into `folder`.

    Args:
        dtype: the number format of the weights; None keeps each as it is stored.
        shard_bytes: the most a file of weights holds, unless one tensor alone is larger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(reading.tensors, dtype, shard_bytes)
    with progress.bar("writing", len(reading.tensors)) as bar:
        for file, names in shards.items():
            if not (folder / file).is_file():
                _write_shard(folder / file, {name: reading.tensors[name] for name in names}, dtype)
            bar.advance(len(names))
    if len(shards) > 1:
        total = sum(_bytes(tensor, dtype) for tensor in reading.tensors.values())
        places = {name: file for file, names in shards.items() for name in names}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))})
    processor: Any = reading.processor
    processor.save_pretrained(folder)
    reading.generation_config.save_pretrained(folder)
    config: Any = reading.config
    config.architectures = ["LlavaForConditionalGeneration"]
    config.dtype = dtype or _common_format(reading.tensors)
    config.save_pretrained(folder)
    make_portable(folder)


def _shards(
    tensors: Mapping[str, LazyTensor], dtype: torch.dtype | None, shard_bytes: int
) -> dict[str, tuple[str, ...]]:
    """File name to the tensors in it, in the order of the checkpoint."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        size = _bytes(tensor, dtype)
        if groups[-1] and filled + size > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    if len(groups) == 1:
        return {"model.safetensors": tuple(groups[0])}
    return {
        f"model-{number:05d}-of-{len(groups):05d}.safetensors": tuple(names)
        for number, names in enumerate(groups, start=1)
    }


def _write_shard(file: Path, tensors: Mapping[str, LazyTensor], dtype: torch.dtype | None) -> None:
    from safetensors.torch import save_file

    held = {name: _cast(tensor.read(), dtype) for name, tensor in tensors.items()}
    with atomic_place(file) as staged:
        save_file(held, staged, metadata={"format": "pt"})


def _cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """In `dtype` where it is a number with a fraction, and in memory of its own, which safetensors asks for."""
    changed = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
    if changed.is_contiguous() and changed.untyped_storage().nbytes() == changed.nbytes:
        return changed
    return changed.contiguous().clone()


def _bytes(tensor: LazyTensor, dtype: torch.dtype | None) -> int:
    if dtype is None or not tensor.dtype.is_floating_point:
        return tensor.bytes
    return tensor.bytes // tensor.dtype.itemsize * dtype.itemsize


def _common_format(tensors: Mapping[str, LazyTensor]) -> torch.dtype:
    """The number format that most of the weights are stored in."""
    held: dict[torch.dtype, int] = {}
    for tensor in tensors.values():
        held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.bytes
    return max(held, key=lambda dtype: held[dtype])
