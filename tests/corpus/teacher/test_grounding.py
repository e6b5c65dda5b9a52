from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Exchange
from llavamed_cli.corpus.screening.modality import find_modality
from llavamed_cli.corpus.sources.jats import read_jats
from llavamed_cli.corpus.teacher import grounding
from llavamed_cli.corpus.teacher.grounding import check_dialogue, read_seen
from llavamed_cli.corpus.teacher.rules import teach
from llavamed_cli.records import Figure, Source

CAPTION = (
    "Axial CT of the chest of a 61-year-old woman shows a spiculated mass of 5 cm in the left upper lobe (arrow). "
    "The right lung is clear. There is no pleural effusion."
)
MENTIONS = ("CT revealed enlarged lymph nodes at the left hilum (Fig. 2) [14].", "The nodes measured 12-15 mm.")


def checked(exchanges: list[Exchange], domain: Domain) -> tuple[list[Exchange], list[str]]:
    figure = Figure(id="f", picture=Path("x"), caption=CAPTION, mentions=MENTIONS, source=Source(kind="pairs"))
    kept, drops = check_dialogue(exchanges, figure, domain)
    return kept, [drop.reason for drop in drops]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is shown?", "The image is an axial CT scan of the chest with a mass in the left upper lobe."),
        ("How large is it?", "The mass measures about 50 mm."),
        ("How large are the nodes?", "They are between 1.2 and 1.5 cm."),
        ("Is there an effusion?", "No, there is no pleural effusion."),
        ("Is there any pleural effusion?", "No."),
        ("Does the image show a mass?", "Yes."),
        ("Is the mass small?", "No, it is large."),
        ("Is the right lung clear?", "Yes, it appears clear in the image."),
        ("Where do the enlarged nodes lie?", "They lie at the left hilum."),
        ("What could it be?", "A health professional should judge what it means."),
    ],
)
def test_what_the_text_bears_out_passes(question: str, answer: str, domain: Domain) -> None:
    assert checked([(question, answer)], domain) == ([(question, answer)], [])


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("How large is it?", "The mass measures 5 mm.", grounding.MEASUREMENT),
        ("How large is it?", "The mass measures 4.9 cm.", grounding.MEASUREMENT),
        ("How many nodes are there?", "There are three nodes.", grounding.NUMBER),
        ("How many?", "There are 14.", grounding.NUMBER),  # a citation's number
        ("How many?", "There are 2.", grounding.NUMBER),  # a figure's number
        ("What is shown?", "The mass is dark on T2-weighted images.", grounding.NUMBER),
        ("What is the 7 cm mass?", "It is a mass in the left upper lobe.", grounding.MEASUREMENT),
        ("What is shown?", "This is an MRI scan of the chest.", grounding.MODALITY),
        ("Where is the mass?", "It is in the right upper lobe.", grounding.OTHER_SIDE),
        ("Which lung is clear?", "The left lung is clear.", grounding.OTHER_SIDE),
        ("Are they on one side?", "No, they are bilateral.", None),
        ("What else is seen?", "There is also a pneumothorax.", grounding.FINDING),
        ("Is there a fracture?", "No.", grounding.FINDING),
        ("Where is the rib fracture?", "It is near the arrow.", grounding.FINDING),
        ("What else is seen?", "A pleural effusion is seen.", grounding.CONTRADICTION),
        ("Is there a pleural effusion?", "Yes.", grounding.CONTRADICTION),
        ("Is there a mass?", "No, the lung shows no mass.", grounding.CONTRADICTION),
        ("Is there a mass?", "No.", grounding.CONTRADICTION),
        ("What is shown?", "I'm sorry, but I cannot see the image.", grounding.REFUSAL),
        ("How old is it?", "That can’t be determined from the image.", grounding.REFUSAL),
        ("What does the caption say?", "It says that there is a mass.", grounding.SOURCE_TALK),
        ("What is shown?", "A mass, as mentioned in the caption.", grounding.SOURCE_TALK),
        ("What is shown?", "A mass.<|im_end|>", grounding.TEMPLATE_TOKEN),
        (
            "What is shown?",
            "Several galaxies with bright spiral structure surround another cluster.",
            grounding.ELSEWHERE,
        ),
    ],
)
def test_what_it_does_not_is_dropped_with_its_reason(
    question: str, answer: str, reason: str | None, domain: Domain
) -> None:
    assert checked([(question, answer)], domain) == (([], [reason]) if reason else ([(question, answer)], []))


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("According to the caption, CT shows a mass.", "CT shows a mass."),
        ("Based on the information provided, the image shows a mass.", "The image shows a mass."),
        ("The caption states that the mass is on the left.", "The mass is on the left."),
        ("AS MENTIONED, a mass is seen.", "A mass is seen."),
        ("From the text: axial CT.", "Axial CT."),
    ],
)
def test_an_opening_is_cut_and_the_rest_keeps_its_case(said: str, left: str, domain: Domain) -> None:
    assert checked([("What is shown?", said)], domain) == ([("What is shown?", left)], [])


def test_a_question_that_leans_on_a_dropped_turn_goes_with_it(domain: Domain) -> None:
    exchanges = [
        ("What is shown?", "A fracture."),
        ("Where is it?", "In the left upper lobe."),
        ("What does this finding suggest?", "A mass."),
        ("Which technique made this image?", "Axial CT."),
        ("What else can be seen?", "A spiculated mass."),
    ]
    assert checked(exchanges, domain) == (exchanges[3:], [grounding.FINDING, grounding.LEANS, grounding.LEANS])


@pytest.fixture(scope="module")
def taught(shared: Path, domain: Domain) -> list[tuple[Figure, tuple[Exchange, ...]]]:
    """What the offline teacher says about every figure of 135 real articles."""
    figures = list(read_jats(shared / "data" / "pmc_jats", None, lambda fault: None))
    found = [find_modality(figure.caption, figure.mentions, domain) for figure in figures]
    return [
        (figure, teach(figure, modality, domain, random.Random(figure.id)))
        for figure, modality in zip(figures, found, strict=True)
    ]


@pytest.mark.parametrize(
    "piece", ["left ", "left, ", "right kidney ", "mass ", "no ", "5 mm, ", "(A) ", "Fig. 1,2", "1,"]
)
def test_a_hostile_text_is_checked_in_time(piece: str, domain: Domain) -> None:
    caption = (piece * 20_000)[:20_000]
    figure = Figure(id="f", picture=Path("x"), caption=caption, source=Source(kind="pairs"))
    begun = time.process_time()
    check_dialogue([(caption[:300], caption[:3000])], figure, domain)
    assert time.process_time() - begun < 5


def test_how_many_panels_there_are_may_be_told(domain: Domain) -> None:
    source = Source(kind="pairs")
    figure = Figure(id="f", picture=Path("x"), caption="CT of the liver. (A) Axial. (B) Coronal.", source=source)
    exchange = ("What do the two panels show?", "An axial and a coronal CT.")
    assert check_dialogue([exchange], figure, domain) == ([exchange], [])
    assert check_dialogue([("What do the three panels show?", "CT.")], figure, domain)[1][0].reason == grounding.NUMBER


Lessons = list[tuple[Figure, Exchange]]


@pytest.fixture(scope="module")
def lessons(taught: list[tuple[Figure, tuple[Exchange, ...]]]) -> Lessons:
    return [(figure, exchange) for figure, exchanges in taught for exchange in exchanges]


def test_answers_taken_from_a_real_text_all_pass(
    taught: list[tuple[Figure, tuple[Exchange, ...]]], domain: Domain
) -> None:
    dropped = [drop for figure, exchanges in taught for drop in check_dialogue(exchanges, figure, domain)[1]]
    assert sum(len(exchanges) for _, exchanges in taught) > 1000
    assert dropped == []


def another_number(figure: Figure, answer: str, domain: Domain, rng: random.Random) -> str | None:
    number = re.search(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", answer)
    if number is None:
        return None
    other = rng.choice([n for n in range(2, 999) if n != float(number[0])])
    return f"{answer[: number.start()]}{other}{answer[number.end() :]}"


def a_near_number(figure: Figure, answer: str, domain: Domain, rng: random.Random) -> str | None:
    number = re.search(r"(?<![\w.])\d+(?![\w.])", answer)
    if number is None:
        return None
    return f"{answer[: number.start()]}{int(number[0]) + rng.choice((1, 2, 3, 5))}{answer[number.end() :]}"


def the_other_side(figure: Figure, answer: str, domain: Domain, rng: random.Random) -> str | None:
    def swap(word: re.Match[str]) -> str:
        return {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}[word[0]]

    if re.search(r"\b(?:left|right)\S* and (?:left|right)", answer, re.I):
        return None  # "left and right" says the same as "right and left"
    swapped = re.sub(r"\b(?:[Ll]eft|[Rr]ight)\b", swap, answer)
    return swapped if swapped != answer else None


def a_finding_more(figure: Figure, answer: str, domain: Domain, rng: random.Random) -> str | None:
    assert domain.brief is not None
    groups = domain.brief.findings.groups
    absent = sorted(groups.keys() - read_seen(figure, domain).findings.keys())
    word = rng.choice(groups[rng.choice(absent)].entries).rstrip("*")
    return f"{answer} There is also {word}."


def a_finding_denied(figure: Figure, answer: str, domain: Domain, rng: random.Random) -> str | None:
    assert domain.brief is not None
    known = read_seen(figure, domain).findings
    for start, end, names in domain.brief.findings.named(answer):
        if not any(known[name].denied for name in names):
            return f"There is no {answer[start:end]}."
    return None


def another_modality(figure: Figure, answer: str, domain: Domain, rng: random.Random) -> str | None:
    assert domain.brief is not None
    named = set(read_seen(figure, domain).modalities)
    named.update(*(group for group in domain.brief.alike if group & named))
    phrase = rng.choice([modality.phrase for modality in domain.modalities if modality.name not in named])
    return domain.modality_answer.replace("{modality}", phrase)


TRIED = 100
Perturb = Callable[[Figure, str, Domain, random.Random], str | None]


@pytest.mark.parametrize(
    ("perturb", "floor"),
    [
        (another_number, 0.99),
        (a_near_number, 0.8),
        (the_other_side, 0.98),
        (a_finding_more, 1.0),
        (a_finding_denied, 0.98),
        (another_modality, 0.95),
    ],
)
def test_invented_answers_are_found_out(perturb: Perturb, floor: float, lessons: Lessons, domain: Domain) -> None:
    """Floors are a little under what was measured on all answers: 1.0, 0.90, 1.0, 1.0, 1.0 and 1.0."""
    rng = random.Random(0)
    found = []
    for figure, (question, answer) in rng.sample(lessons, len(lessons)):
        perturbed = perturb(figure, answer, domain, rng) if len(found) < TRIED else None
        if perturbed is not None:
            found.append(bool(check_dialogue([(question, perturbed)], figure, domain)[1]))
    assert len(found) == TRIED
    assert sum(found) / len(found) >= floor


def test_answers_about_another_article_are_found_out(lessons: Lessons, domain: Domain) -> None:
    """Whole true answers, each to a figure of another article. Measured on all: 0.93."""
    rng = random.Random(0)
    told = [lesson for lesson in lessons if lesson[1][0] not in domain.questions["modality"]]
    found = []
    for figure, (question, _) in told[::6]:
        other, (_, answer) = rng.choice(told)
        if other.source.file != figure.source.file:
            found.append(bool(check_dialogue([(question, answer)], figure, domain)[1]))
    assert len(found) > 120
    assert sum(found) / len(found) >= 0.88
