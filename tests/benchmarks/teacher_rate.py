"""How near 64 teacher calls in flight come to the ideal rate:  python tests/benchmarks/teacher_rate.py

A local server, a process of its own, answers each request one second after it came. 20 rounds of 64 would take 20
seconds if asking, journaling and reading cost nothing; that time over ours is printed. The aim: at least 0.95.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.screening.captions import CaptionQuality
from llavamed_cli.corpus.teacher.open_model import open_model_teacher
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.progress import Silent
from llavamed_cli.records import Figure, Source

IN_FLIGHT, ROUNDS, SECONDS = 64, 20, 1.0
SERVER = Path(__file__).parents[1] / "endpoint" / "openai_server.py"
PROMPT = [{"role": "system", "content": "Write a dialogue about the figure. " * 300}]
"""As long as instructions with a handful of examples: 10 KB."""


def candidate(number: int) -> Candidate:
    """A figure with a caption of its own."""
    figure = Figure(id=f"f{number}", picture=Path("x.png"), caption=f"CT {number}.", source=Source(kind="pairs"))
    return Candidate(figure=figure, image="x.png", sha256="0" * 64, quality=CaptionQuality(1.0, {}))


def teach(url: str, count: int) -> float:
    """Seconds from the first candidate to the last answer, with a journal and a budget."""
    options = TeacherOptions(name="scripted", base_url=url, price=(2.0, 8.0), budget=1e3, concurrency=IN_FLIGHT)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        open_model_teacher(
            options,
            lambda figure: [*PROMPT, {"role": "user", "content": figure.caption}],
            lambda text, figure: Taught((("all", text),)),
            Path(folder) / "journal.sqlite",
            Silent(),
        ) as teacher,
    ):
        began = time.perf_counter()
        taught = sum(bool(answer.exchanges) for _, answer in teacher.teach(map(candidate, range(count))))
        seconds = time.perf_counter() - began
    assert taught == count
    return seconds


def main() -> None:
    """Print the time, the ideal one, and their ratio."""
    os.environ.pop("OPENAI_API_KEY", None)
    command = [sys.executable, str(SERVER), "--seconds", str(SECONDS)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        teach(url, IN_FLIGHT)  # connections of the client are made anew each time; imports are not
        seconds, ideal = teach(url, IN_FLIGHT * ROUNDS), ROUNDS * SECONDS
    finally:
        server.terminate()
    print(f"{IN_FLIGHT * ROUNDS} requests, {IN_FLIGHT} in flight: {seconds:.2f} s; ideal {ideal:.2f} s")
    print(f"ratio {ideal / seconds:.3f}")


if __name__ == "__main__":
    main()
