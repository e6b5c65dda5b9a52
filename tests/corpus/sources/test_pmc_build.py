"""From ids to a finished data set, against a server that behaves as PMC's cloud: undisturbed, rehearsed, killed."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

KILLS, LATE_KILLS = 20, 4
CAPTIONS = (
    "Axial CT of the chest showing a round nodule of {n} mm in the left upper lobe (arrow).",
    "Sagittal MRI of the brain showing a bright lesion of {n} mm in the right temporal lobe.",
    "Bar graph of the number of visits in each month of the year {n}.",
)


@pytest.fixture
def articles(pmc: Any, tmp_path: Path) -> Path:
    """Eight articles of three figures, one of them a chart; two that may not be used; the file of their ids."""
    for number in range(1, 11):
        figures = "".join(
            f'<fig id="F{place}"><label>Figure {place}</label><caption><p>{caption.format(n=10 * number + place)}</p>'
            f'</caption><graphic xlink:href="g{place}"/></fig>'
            for place, caption in enumerate(CAPTIONS, start=1)
        )
        xml = (
            '<article xmlns:xlink="http://www.w3.org/1999/xlink"><body><p>The lesion is seen in the picture (<xref '
            f'ref-type="fig" rid="F2">Figure 2</xref>).</p>{figures}</body></article>'
        )
        pictures = {f"g{place}.jpg": noise(31 * number + place) for place in range(1, len(CAPTIONS) + 1)}
        told = {9: {"is_retracted": True}, 10: {"license_code": "CC BY-NC"}}.get(number, {})
        pmc.add_article(number, xml.encode(), pictures, **told)
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"PMC{number}\n" for number in range(1, 11)), encoding="utf-8")
    return ids


def noise(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("L", (256, 256), random.Random(seed).randbytes(256 * 256)).save(stream, "JPEG")
    return stream.getvalue()


def arguments(pmc: Any, ids: Path, out: Path, *more: str) -> list[str]:
    return ["build-data", f"pmc:{ids}", "--pmc-url", pmc.url, "--license", "commercial", "--out", str(out), *more]


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != "run.json")
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def test_ids_to_a_data_set(pmc: Any, articles: Path, tmp_path: Path, llavamed: Callable[..., Any]) -> None:
    built = llavamed(*arguments(pmc, articles, tmp_path / "out"), "--json")
    assert built.code == 0, built.stderr
    figures = json.loads(built.stdout)
    assert figures["kept"] == 16 and figures["licenses"] == {"CC BY": 16}
    assert figures["modalities"] == {"CT": 8, "MRI": 8}
    reasons = {"caption: chart or schematic": 8, "metadata: licence not accepted": 1, "metadata: retracted article": 1}
    assert figures["reasons"] == reasons
    asked = pmc.asked()
    assert not [key for key in asked if key.endswith("g3.jpg")], "a chart's picture was fetched"
    assert not [key for key in asked if key.startswith(("PMC9.", "PMC10.")) and "metadata" not in key]
    records = [json.loads(line) for line in (tmp_path / "out" / "align.jsonl").read_text().splitlines()]
    assert {record["source"]["pmcid"] for record in records} == {f"PMC{number}" for number in range(1, 9)}
    assert {record["source"]["kind"] for record in records} == {"pmc"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "align.jsonl",
        "images",
        "instruct.jsonl",
        "rejected.jsonl",
        "report.html",
        "run.json",
    ]


def test_a_dry_run_fetches_no_picture(pmc: Any, articles: Path, tmp_path: Path, llavamed: Callable[..., Any]) -> None:
    told = llavamed(*arguments(pmc, articles, tmp_path / "out", "--dry-run", "--json"))
    assert told.code == 0, told.stderr
    plan = json.loads(told.stdout)
    assert (plan["figures"], plan["passed"], plan["to_fetch"]) == (24, 16, 16)
    assert not [key for key in pmc.asked() if key.endswith(".jpg")] and not (tmp_path / "out").exists()


def test_twenty_kills_change_no_byte(pmc: Any, fault: Any, articles: Path, tmp_path: Path) -> None:
    undisturbed, code = run(arguments(pmc, articles, tmp_path / "whole"))
    assert code == 0, undisturbed
    generator = random.Random(7)
    pmc.log.clear()
    pmc.pause = 0.001
    verified: list[tuple[int, set[str]]] = []
    for number in range(KILLS):
        pmc.fail(generator.choice(list(pmc.objects)), fault(cut=generator.randrange(2_000)))
        command = arguments(pmc, articles, tmp_path / "out")
        if number < KILLS - LATE_KILLS:
            said, code = run(command, pmc=pmc, kill_after_blocks=generator.randint(1, 40))
        else:
            said, code = run(command, kill_after_seconds=generator.uniform(0.3, 1.5))
        assert code in (0, -signal.SIGKILL), said
        verified.append((len(pmc.log), whole_objects(tmp_path / "out")))
        if code == 0:  # a late kill came too late
            break
    said, code = run(arguments(pmc, articles, tmp_path / "out"))
    assert code == 0, said
    assert len(verified) > KILLS - LATE_KILLS
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert max(len(keys) for _, keys in verified) > len(verified[0][1])
    for log_length, keys in verified:
        assert not keys & set(pmc.asked(since=log_length)), "fetched again after it was verified"


def whole_objects(out: Path) -> set[str]:
    """The keys of the objects that lie verified in the cache of an unfinished run."""
    objects = out / ".scratch" / "pmc" / "objects"
    return {file.relative_to(objects).as_posix().partition("/")[2] for file in objects.rglob("*") if file.is_file()}


def run(
    command: list[str],
    *,
    pmc: Any = None,
    kill_after_blocks: int | None = None,
    kill_after_seconds: float | None = None,
) -> tuple[str, int]:
    """Run llavamed, killed when the server has sent so many blocks or so much time is over; what it said, its code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llavamed_cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    sent = 0

    def count() -> None:
        nonlocal sent
        sent += 1
        if sent == kill_after_blocks:
            os.kill(process.pid, signal.SIGKILL)

    if pmc is not None:
        pmc.on_block = count
    try:
        _, said = process.communicate(timeout=kill_after_seconds or 120)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    if pmc is not None:
        pmc.on_block = lambda: None
    return said, process.returncode
