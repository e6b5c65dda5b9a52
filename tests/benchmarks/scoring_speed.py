"""How long 500,000 answers take to score both ways, with every stratum and interval, and what memory that needs.

    python tests/benchmarks/scoring_speed.py [ANSWERS] [--distinct]

The questions are made up after SLAKE and PathVQA: 11 about a picture, 40% closed, references of one to five words, nine
question types, organs, modalities, and 4,000 training answers for the nearest of them. Answers are short, half of them
right; with --distinct every open answer is a sentence of its own, so that nothing can be remembered. Prints seconds by
the clock and of one core, and the most resident memory above that of the questions and answers themselves.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from pathlib import Path

from llavamed_cli.evaluation.scores import compare, score_answers, summarise
from llavamed_cli.records import Answer, Question

QUESTIONS_A_PICTURE = 11
TYPES = ("Organ", "Abnormality", "Position", "Modality", "Quantity", "Size", "Plane", "Color", "Shape")
ORGANS = ("Lung", "Head", "Abdomen", "Chest", "Pelvis", "Neck")
MODALITIES = ("CT", "MRI", "X-Ray")
WORDS = [f"{first}{last}" for first in ("car", "neo", "hep", "pul", "ren", "cor", "gas", "ost") for last in range(60)]


def make(count: int, *, distinct: bool) -> tuple[list[Question], dict[str, Answer], tuple[str, ...]]:
    """Questions, answers, and training answers."""
    rng = random.Random(0)
    known = tuple(dict.fromkeys(" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(4000)))
    questions, answers = [], {}
    for number in range(count):
        closed = rng.random() < 0.4
        right = rng.choice(("Yes", "No")) if closed else rng.choice(known)
        wrong = rng.choice(("Yes.", "No, it is not")) if closed else rng.choice(known)
        said = right if rng.random() < 0.5 else wrong
        if distinct and not closed:
            said = f"The picture, number {number}, shows {said}; {' '.join(rng.choices(WORDS, k=8))}."
        picture = number // QUESTIONS_A_PICTURE
        questions.append(
            Question(
                id=str(number),
                image=f"{picture}.png",
                picture=Path("x.png"),
                text="Is it there?" if closed else "What is it?",
                answer=right,
                answer_type="closed" if closed else "open",
                question_types=(rng.choice(TYPES),),
                organ=ORGANS[picture % len(ORGANS)],
                modality=MODALITIES[picture % len(MODALITIES)],
            )
        )
        answers[str(number)] = Answer(question_id=str(number), text=said, confidence=0.5)
    return questions, answers, known


def resident() -> float:
    """The most memory that was resident, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", nargs="?", type=int, default=500_000)
    parser.add_argument("--distinct", action="store_true")
    options = parser.parse_args()
    import numpy  # noqa: F401  (its memory is not the scores')

    questions, answers, known = make(options.answers, distinct=options.distinct)
    before, start = resident(), time.perf_counter()
    working = time.process_time()
    scored = score_answers(questions, answers, known)
    rated = time.perf_counter()
    scores = summarise(scored, seed=0)
    summed, worked = time.perf_counter(), time.process_time() - working
    after = resident()
    compare(scored, scored, seed=0)
    compared = time.perf_counter()
    print(
        f"{options.answers:,} answers about {scores['overall']['pictures']:,} pictures, {scores['strata']['n']} strata"
    )
    print(f"scored     {rated - start:6.1f} s")
    print(f"intervals  {summed - rated:6.1f} s")
    print(f"together   {summed - start:6.1f} s, aim 30 s; {worked:.1f} s of one core")
    print(f"compared with another {compared - summed:.1f} s more")
    print(f"memory     {after - before:6.0f} MB above the {before:.0f} MB of the questions and answers")


if __name__ == "__main__":
    main()
