"""Writing a checkpoint as read: the same weights, in shards, opened by plain transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.reading import LoadReport, Reading
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.write_reading import INDEX, write_reading
from llavamed_cli.progress import Silent


@pytest.fixture
def reading(tiny_model: Path) -> Reading:
    return Reading(
        config=AutoConfig.from_pretrained(tiny_model),
        processor=AutoProcessor.from_pretrained(tiny_model),
        generation_config=GenerationConfig.from_pretrained(tiny_model),
        tensors=dict(TensorFiles.open(tiny_model)),
        report=LoadReport("a LLaVA", {}, 1),
    )


def logits(folder: Path) -> torch.Tensor:
    """What plain transformers makes of one prompt."""
    model: Any
    model, report = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(text="<image>\nIs it so?", images=[picture()], return_tensors="pt")
    with torch.inference_mode():
        found: torch.Tensor = model.float().eval()(**inputs).logits
    return found


def picture() -> Any:
    from PIL import Image

    return Image.linear_gradient("L").convert("RGB")


def write(reading: Reading, folder: Path, **options: Any) -> Path:
    write_reading(reading, folder, **{"dtype": None, "progress": Silent(), **options})
    return folder


def test_one_file_holds_the_same_model(reading: Reading, tiny_model: Path, tmp_path: Path) -> None:
    folder = write(reading, tmp_path / "out")
    assert not (folder / INDEX).exists()
    assert torch.equal(logits(folder), logits(tiny_model))


def test_shards_stay_below_their_size(reading: Reading, tiny_model: Path, tmp_path: Path) -> None:
    size = 400_000
    folder = write(reading, tmp_path / "out", shard_bytes=size)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3
    largest = max(tensor.bytes for tensor in reading.tensors.values())
    assert all(shard.stat().st_size < max(size, largest) + 20_000 for shard in shards)
    index = json.loads((folder / INDEX).read_text())
    assert set(index["weight_map"]) == set(reading.tensors)
    assert index["metadata"]["total_size"] == sum(tensor.bytes for tensor in reading.tensors.values())
    assert torch.equal(logits(folder), logits(tiny_model))


def test_a_number_format_asked_for(reading: Reading, tmp_path: Path) -> None:
    folder = write(reading, tmp_path / "out", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in TensorFiles.open(folder).values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_interrupted_write_goes_on(reading: Reading, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    read: list[str] = []

    def counted(name: str, tensor: LazyTensor, last: str | None) -> LazyTensor:
        def act() -> torch.Tensor:
            if name == last:
                raise KeyboardInterrupt
            read.append(name)
            return tensor.read()

        return LazyTensor(tensor.shape, tensor.dtype, act)

    def watched(last: str | None) -> Reading:
        tensors = {name: counted(name, tensor, last) for name, tensor in reading.tensors.items()}
        return Reading(reading.config, reading.processor, reading.generation_config, tensors, reading.report)

    names = list(reading.tensors)
    with pytest.raises(KeyboardInterrupt):
        write(watched(names[-1]), folder, shard_bytes=400_000)
    assert not (folder / "config.json").exists()
    assert not list(folder.glob(".*.part"))
    before = len(read)
    write(watched(None), folder, shard_bytes=400_000)
    assert len(read) - before < len(names) / 2
    assert torch.equal(logits(folder), logits(tiny_model))


MEASURE = """
import json, struct, sys
from pathlib import Path
import torch
from transformers import AutoConfig, AutoProcessor, GenerationConfig
from llavamed_cli.model.published.reading import LoadReport, Reading
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.write_reading import write_reading
from llavamed_cli.progress import Silent
tiny, scratch = Path(sys.argv[1]), Path(sys.argv[2])
side, count = 1024, 100  # a hundred matrices of 4 MiB, none of which is on disk yet
size = 4 * side * side
places = {f"m{n}": [n * size, (n + 1) * size] for n in range(count)}
head = {name: {"dtype": "F32", "shape": [side, side], "data_offsets": place} for name, place in places.items()}
text = json.dumps(head).encode()
with (scratch / "sparse.safetensors").open("wb") as stream:
    stream.write(struct.pack("<Q", len(text)) + text)
    stream.truncate(8 + len(text) + count * size)
def most():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
parts = AutoConfig.from_pretrained(tiny), AutoProcessor.from_pretrained(tiny), GenerationConfig.from_pretrained(tiny)
found = TensorFiles.open(scratch / "sparse.safetensors")
before = most()
reading = Reading(*parts, found, LoadReport("sparse", {}, count))
write_reading(reading, scratch / "out", dtype=torch.bfloat16, progress=Silent(), shard_bytes=20 * 2**20)
print(most() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is measured by Linux's /proc")
def test_memory_is_bounded_by_a_shard(tiny_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tiny_model, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 100 * 1024  # KiB: of 400 MiB read, 200 MiB written, 20 a shard


def test_views_of_one_tensor_are_written_apart(reading: Reading, tmp_path: Path) -> None:
    """As the three parts of a fused attention matrix are, read from a mapped `.bin`."""
    whole = torch.arange(12.0).reshape(6, 2)
    parts = {f"part{n}": LazyTensor.of(whole[2 * n : 2 * n + 2]) for n in range(3)}
    fused = Reading(reading.config, reading.processor, reading.generation_config, parts, reading.report)
    written = TensorFiles.open(write(fused, tmp_path / "out"))
    assert torch.equal(torch.cat([written[f"part{n}"].read() for n in range(3)]), whole)
