"""The tensors of a model folder by name, each read when it is wanted.

Safetensors are mapped; a PyTorch `.bin` is unpickled by `weights_only=True` alone: it builds tensors and runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.published.lazy_tensor import LazyTensor

if TYPE_CHECKING:
    import torch

SINGLE_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
UNFINISHED = ("*.incomplete", "*.part", "*.crdownload", "*.tmp")
NAMES_LISTED = 5


class TensorFiles(Mapping[str, LazyTensor]):
    """Every tensor under one folder (or in one file), by the name it is stored by. Made by `open`."""

    def __init__(self, where: Path, tensors: dict[str, LazyTensor], files: tuple[Path, ...]) -> None:
        self.where = where
        self.files = files
        self._tensors = tensors

    @classmethod
    def open(cls, where: Path) -> TensorFiles:
        """The tensors of a folder, or of one `.safetensors` or `.bin` file.

        Raises:
            ModelError: no weights there, a shard that the index names is missing or lacks its tensors, a download that
                is not finished, a damaged file, a pickle that holds more than tensors.
        """
        files = (where,) if where.is_file() else _weight_files(where)
        tensors: dict[str, LazyTensor] = {}
        for file in files:
            found = _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
            twice = next((name for name in found if name in tensors), None)
            if twice is not None:
                raise ModelError(f"the tensor {twice} stands in two files", where=str(file))
            tensors.update(found)
        if where.is_dir():
            _check_index(where, tensors)
        return cls(where, tensors, files)

    def __getitem__(self, name: str) -> LazyTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def has_weights(folder: Path) -> bool:
    """Whether weights in a known form lie in `folder`."""
    return any((folder / name).is_file() for name in (*SINGLE_FILES, *INDEXES))


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a folder's weights, safetensors before `.bin`, sharded before single."""
    for index, single in ((INDEXES[0], SINGLE_FILES[:2]), (INDEXES[1], SINGLE_FILES[2:])):
        if (folder / index).is_file():
            names = sorted(set(_index(folder / index).values()))
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                hint = "The download is not whole: fetch the folder again."
                raise ModelError(
                    f"{len(missing)} of {len(names)} weight files are missing: {_listed(missing)}",
                    where=str(folder),
                    hint=hint,
                )
            return tuple(folder / name for name in names)
        for name in single:
            if (folder / name).is_file():
                return (folder / name,)
    unfinished = sorted(found.name for pattern in UNFINISHED for found in folder.glob(pattern))
    if unfinished:
        raise ModelError(f"the download is not finished: {_listed(unfinished)}", where=str(folder))
    raise ModelError("no weights (model.safetensors or pytorch_model.bin) lie there", where=str(folder))


def _index(file: Path) -> dict[str, str]:
    """Tensor name to file name, as an index file says. No file outside its folder is ever named."""
    try:
        weights = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(shard) for name, shard in weights.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the index of weight files cannot be read: {first_line(error)}", where=str(file)) from error
    outside = next((shard for shard in names.values() if Path(shard).name != shard), None)
    if outside is not None:
        raise ModelError(f"the index names a file outside its folder: {outside}", where=str(file))
    return names


def _check_index(folder: Path, tensors: Mapping[str, LazyTensor]) -> None:
    """Refuse an index that promises tensors which its files do not hold."""
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    if index is None:
        return
    absent = sorted(name for name in _index(index) if name not in tensors)
    if absent:
        raise ModelError(
            f"{len(absent)} tensor(s) that the index promises are in no file: {_listed(absent)}", where=str(index)
        )


def _safetensors(file: Path) -> dict[str, LazyTensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            heads = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            shapes = {name: (tuple(head.get_shape()), _dtype(head.get_dtype(), file)) for name, head in heads.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the weights are damaged or cut short: {first_line(error)}", where=str(file)) from error

    def reader(name: str) -> Any:
        def read() -> torch.Tensor:
            with safe_open(file, framework="pt") as opened:
                tensor: torch.Tensor = opened.get_tensor(name)
            return tensor

        return read

    return {name: LazyTensor(shape, dtype, reader(name)) for name, (shape, dtype) in shapes.items()}


def _dtype(name: str, file: Path) -> torch.dtype:
    import torch

    known = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
    if name not in known:
        raise ModelError(f"tensors of the number format {name} are not read", where=str(file))
    return known[name]


def _pickled(file: Path) -> dict[str, LazyTensor]:
    """A PyTorch file, mapped into memory where its form allows (the zip form of torch 1.6 and later does)."""
    import pickle

    import torch

    def load(*, mapped: bool) -> Any:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)

    try:
        try:
            content = load(mapped=True)
        except RuntimeError:
            content = load(mapped=False)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "the file holds more than tensors, and was not opened: loading it could run a stranger's code",
            where=str(file),
            hint="Use a safetensors version of these weights.",
        ) from error
    except Exception as error:  # a damaged zip or pickle raises whatever it stumbles over
        raise ModelError(f"the weights are damaged or cut short: {first_line(error)}", where=str(file)) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError("expected tensors by name, found something else", where=str(file))
    return {str(name): LazyTensor.of(tensor) for name, tensor in content.items()}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMES_LISTED]) + (" ..." if len(names) > NAMES_LISTED else "")
