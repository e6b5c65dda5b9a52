"""Does a LLaVA folder open in older transformers too?  python tests/benchmarks/other_transformers.py FOLDER

Each version is installed beside this environment (its own torch and numpy are used), into a temporary folder; the model
answers one prompt about one picture there, in a process that cannot import llavamed. Needs a package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = {
    "4.49.0": ("tokenizers==0.21.4", "huggingface_hub==0.30.2"),
    "4.57.3": ("tokenizers==0.22.1", "huggingface_hub==0.36.0"),
}
"""The first whose LLaVA image processor pads, and the last of version 4, with what each asks for."""

OPEN = """
import json, sys
sys.modules["llavamed_cli"] = None
import torch, transformers
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
transformers.logging.set_verbosity_error()
folder = sys.argv[1]
options = {"torch_dtype": torch.float32, "output_loading_info": True}
model, report = LlavaForConditionalGeneration.from_pretrained(folder, **options)
amiss = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in report[kind]]
processor = AutoProcessor.from_pretrained(folder, use_fast=False)
parts = [{"type": "image"}, {"type": "text", "text": "Is there a fracture?"}]
text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
inputs = processor(images=Image.linear_gradient("L").resize((90, 60)).convert("RGB"), text=text, return_tensors="pt")
with torch.inference_mode():
    logits = model.eval()(**inputs).logits[0, -1]
seen = {"amiss": amiss, "ids": inputs.input_ids[0].tolist(), "logits": logits.tolist()}
print(json.dumps({"version": transformers.__version__, "pixels": float(inputs.pixel_values.sum()), **seen}))
"""


def opened(folder: Path, packages: Path | None) -> dict[str, object]:
    """What the transformers in `packages` (None: this environment's) makes of the folder."""
    environment = dict(os.environ) if packages is None else {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def difference(first: dict[str, object], second: dict[str, object]) -> float:
    """The largest difference of any logit."""
    pairs = zip(first["logits"], second["logits"], strict=True)  # type: ignore[call-overload]
    return max(abs(a - b) for a, b in pairs)


def main(folder: Path) -> int:
    here = opened(folder, None)
    print(f"transformers {here['version']}: {len(here['amiss'])} tensors amiss")  # type: ignore[arg-type]
    worst = 0
    for version, beside in VERSIONS.items():
        with tempfile.TemporaryDirectory() as place:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place]
            subprocess.run([*install, f"transformers=={version}", *beside], check=True, stderr=subprocess.DEVNULL)
            there = opened(folder, Path(place))
        same = "the same token ids" if there["ids"] == here["ids"] else "OTHER token ids"
        print(
            f"transformers {there['version']}: {len(there['amiss'])} tensors amiss, {same}, "  # type: ignore[arg-type]
            f"largest difference of a logit {difference(here, there):.1e}"
        )
        worst += bool(there["amiss"]) + (there["ids"] != here["ids"]) + (difference(here, there) > 1e-4)
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
