"""A process that teaches, to be killed:  python teacher_driver.py URL JOURNAL COUNT CONCURRENCY BUDGET [--batch]

Says "ready" on stdout when it begins, and at the end one line of JSON: the first answer of every figure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.screening.captions import CaptionQuality
from llavamed_cli.corpus.teacher.open_model import open_model_teacher
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.errors import LlavamedError
from llavamed_cli.progress import Silent
from llavamed_cli.records import Figure, Source


def main() -> int:
    """0 done, 1 a fault that is told on stderr, 130 stopped by a signal."""
    url, journal, count, concurrency, budget, *flags = sys.argv[1:]
    figures = [
        Figure(id=f"f{number}", picture=Path("x.png"), caption=f"CT of patient {number}.", source=Source(kind="pairs"))
        for number in range(int(count))
    ]
    candidates = [
        Candidate(figure=figure, image="x.png", sha256="0" * 64, quality=CaptionQuality(1.0, {})) for figure in figures
    ]
    options = TeacherOptions(
        name="scripted",
        base_url=url,
        price=(2.0, 8.0),
        budget=float(budget),
        concurrency=int(concurrency),
        batch="--batch" in flags,
    )
    import openai  # noqa: F401  # before it says that it is ready

    try:
        with open_model_teacher(
            options,
            lambda figure: [{"role": "user", "content": figure.caption}],
            lambda text, figure: Taught((("all", text),)),
            Path(journal),
            Silent(),
            patience=Patience(poll=(0.02, 0.02), first_wait=0.02),
        ) as teacher:
            print("ready", flush=True)
            answers = [taught.exchanges[0][1] for _, taught in teacher.teach(candidates)]
    except LlavamedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(answers), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
