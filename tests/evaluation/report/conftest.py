"""A finished evaluation of hostile answers, made once: two answer files and majority on a benchmark of 12 pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from llavamed_cli.cli.app import main

HOSTILE = (
    "<script>document.title='owned'</script><img src=http://127.0.0.1:1/x.png onerror=alert(1)>"
    "</bdi></td></table></style><style>body{background:url(http://127.0.0.1:1/y.png)}</style>"
)
TURNED = "no \u202efracture \ud800 seen"
LONG = "it is white " * 100


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `out`, beside the benchmark and its pictures."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "images").mkdir()
    questions, good, poor = [], [], []
    for number in range(12):
        white = number % 2 == 0
        name = f"<b>{number}</b>.png" if number == 3 else f"{number}.png"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (255 if white else 0, 10 * number, 0)).save(folder / "images" / name)
        asked = (
            ("Is it white?", "yes" if white else "no", "closed", "PRES"),
            ("What colour is it?", "white" if white else "black", "open", "COLOR & <i>"),
        )
        for text, answer, kind, types in asked:
            identity = f"{number}-{kind}"
            record = {"id": identity, "image": name, "question": text, "answer": answer, "answer_type": kind}
            questions.append({**record, "question_type": types, "organ": "CHEST" if number < 6 else "HEAD"})
            said = answer if number % 3 else (HOSTILE, TURNED, LONG)[number // 3 % 3]
            good.append({"question_id": identity, "text": said, "confidence": round(0.5 + number / 100, 2)})
            poor.append({"question_id": identity, "text": "yes" if kind == "closed" else HOSTILE})
    for name, records in (("bench", questions), ("train", questions[:6]), ("good", good), ("poor", poor)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    whos = [f"answers:{folder / 'good.jsonl'}", f"answers:{folder / 'poor.jsonl'}", "majority"]
    train = ["--train", str(folder / "train.jsonl")]
    assert main(["eval", *whos, "--on", str(folder / "bench.jsonl"), *train, "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture(scope="session")
def page(evaluated: Path) -> str:
    """Its report.html."""
    return (evaluated / "out" / "report.html").read_text(encoding="utf-8")
