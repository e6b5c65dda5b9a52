"""Fetch VQA-RAD from the hub into the layout of its original distribution:  python fetch_vqa_rad.py OUT [NAME]

The hub's copy has pictures, questions and answers, in a train and a test split, and nothing else: a question is taken
for closed when its answer is yes or no, and its organ and type stay unknown. Exits with 1 where there is no network.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

HUB_NAME = "flaviagiammarino/vqa-rad"


def rows(split: Any, phrase_type: str, images: Path, start: int) -> list[dict[str, Any]]:
    """One split's questions; its pictures are written into `images` under the hash of their pixels."""
    found = []
    for number, record in enumerate(split):
        picture = record["image"].convert("RGB")
        name = hashlib.sha256(picture.tobytes()).hexdigest()[:16] + ".png"
        if not (images / name).exists():
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            (images / name).write_bytes(stream.getvalue())
        closed = str(record["answer"]).strip().lower() in ("yes", "no")
        found.append(
            {
                "qid": start + number,
                "phrase_type": phrase_type,
                "image_name": name,
                "question": record["question"],
                "answer": record["answer"],
                "answer_type": "CLOSED" if closed else "OPEN",
            }
        )
    return found


def main(out: Path, name: str) -> int:
    """Write OUT whole, or not at all."""
    from datasets import load_dataset

    try:
        data = load_dataset(name)
    except Exception as error:
        print(f"VQA-RAD could not be fetched from the hub ({type(error).__name__})", file=sys.stderr)
        return 1
    part = out.with_name(out.name + ".part")
    images = part / "images"
    images.mkdir(parents=True, exist_ok=True)
    train = rows(data["train"], "freeform", images, 0)
    test = rows(data["test"], "test_freeform", images, len(train))
    (part / "VQA_RAD Dataset Public.json").write_text(json.dumps(train + test), encoding="utf-8")
    part.rename(out)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else HUB_NAME))
