"""VQA-RAD's training questions as lessons: conversations as they were asked, and a caption composed from the answers.

A question and its paraphrase never share a conversation, or the second would be answered by the first. Turns are
shuffled by the seed: in the file, a picture's questions follow an annotator's habits. Captions are composed by rule
from the same training annotations, for want of real ones, and their source says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Dialogue, Lesson, generator
from llavamed_cli.corpus.screening.licenses import normalise_license
from llavamed_cli.corpus.screening.modality import find_modality
from llavamed_cli.records import Question, Source

FINDINGS_SAID = 8
PUBLISHED = {"CHEST": ("CXR", None), "ABD": ("CT", "axial"), "HEAD": (None, "axial")}
"""Modality and plane by organ, as the data set is described: 104 axial CTs or MRIs of the head, 107 chest X-rays, 104
axial CTs of the abdomen (Lau et al. 2018). The modalities are named as in the biomedical domain."""

_PICTURE = r"(?:image|picture|film|scan|x-?ray|cxr|ct|mri|radiograph|section|study)"
_EVIDENCE = r"(?:evidence|signs?|presence|findings?|indications?) (?:of|for)"
_THERE_IS = re.compile(
    rf"^(?:is|are) there (?:any )?(?:{_EVIDENCE} )?(?:an?y? |the )?(?P<finding>.+?)"
    r"(?: (?:present|visible|seen|noted|shown|pictured|identified|visualized|observed))?"
    rf"(?: (?:in|on|from|within) (?:this|the) (?:\w+[ -]){{0,2}}?{_PICTURE})?"
    r"(?: (?:present|visible|seen|noted|shown))?\s*\?*$",
    re.I,
)
_WHERE_IS = re.compile(
    r"^where (?:is|are) (?:there |the |these |an? )*(?P<finding>.+?)(?: located)?(?: in (?:this|the) image)?\s*\?*$",
    re.I,
)
_HOW_MANY = re.compile(r"^how many (?P<finding>.+?)(?: (?:are|is|can|were)\b.*)?\s*\?*$", re.I)
_STATES = re.compile(
    r"^(?:is|are|was|were|does|do|has|have) (?:the |any of the |this patient's |the patient's )"
    r"(?P<finding>(?!(?:image|film|picture|scan|x-?ray|patient|study|section|abnormality|pathology)\b).+?)\s*\?*$",
    re.I,
)
"""Asked of a thing, and affirmed, it is said in the clipped manner of reports: "trachea midline"."""
_ASKS_WHAT_IS_FOUND = re.compile(
    r"^what\b.*\b(?:abnormal|abnormalit(?:y|ies)|findings?|patholog(?:y|ies)|lesions?|diagnosis|happening)\b", re.I
)
_LONG_WORD = re.compile(r"\w{4,}")
_DENIES = re.compile(r"\b(?:not|no|without|absent|neither|or)\b|n't\b", re.I)
_NOTHING = re.compile(r"^(?:no|none|nothing|not|n/?a|yes|unknown|normal|0|zero)\b", re.I)


def vqa_rad_lessons(read: BenchmarkRead, file: Path, domain: Domain, seed: int) -> Iterator[Lesson]:
    """Yield one lesson a picture, in the file's order of pictures.

    Args:
        read: the training split; test questions must not come here.
        domain: its words for modalities, planes and regions.
    """
    by_image: dict[str, list[Question]] = {}
    for question in read.questions:
        by_image.setdefault(question.image, []).append(question)
    source = Source(
        kind="vqa-rad",
        file=str(file),
        license=normalise_license(read.license or "") or read.license,
        citation=read.citation,
    )
    composed = replace(
        source, citation=f"Composed by rule from the training questions' annotations of: {read.citation}"
    )
    for image, questions in by_image.items():
        identity = f"vqa-rad-{Path(image).stem}"
        modality = _modality(questions, domain)
        yield Lesson(
            id=identity,
            picture=questions[0].picture,
            caption=compose_caption(questions, domain),
            dialogues=_dialogues(identity, questions, seed),
            source=source,
            caption_source=composed,
            modality=modality,
        )


def _dialogues(identity: str, questions: Iterable[Question], seed: int) -> tuple[Dialogue, ...]:
    """One conversation a phrasing, in an order that the seed decides."""
    by_phrasing: dict[str, list[Question]] = {}
    for question in questions:
        by_phrasing.setdefault(question.phrasing or "asked", []).append(question)
    dialogues = []
    for phrasing, asked in by_phrasing.items():
        generator(seed, phrasing, identity).shuffle(asked)
        dialogues.append(Dialogue(tuple((question.text, question.answer) for question in asked), name=phrasing))
    return tuple(dialogues)


def compose_caption(questions: Sequence[Question], domain: Domain) -> str:
    """A caption of what the annotations affirm: "Axial CT of the head. Findings: midline shift; mass (left lobe)."

    Modality, plane and region by the domain's words; findings from questions answered with yes, places and counts.
    What is denied, or asked with a "not", is left out.
    """
    modality = domain.modality(_modality(questions, domain) or "")
    noun = modality.noun if modality else "image"
    plane = _plane(questions, domain)
    organ = next((question.organ for question in questions if question.organ), None)
    region = domain.regions.get(organ or "", (organ or "").lower())
    title = f"{plane} {noun}" if plane else noun
    if region and region not in noun.lower():
        title += f" of the {region}"
    findings = _findings(questions)
    said = f" Findings: {'; '.join(findings)}." if findings else ""
    return f"{title[0].upper()}{title[1:]}.{said}"


def _affirmed(questions: Iterable[Question], types: Iterable[str]) -> list[str]:
    """The texts that questions of some types affirm: open answers, and closed questions answered with yes."""
    texts = []
    for question in questions:
        if set(types) & set(question.question_types) and not _DENIES.search(question.text):
            if question.answer_type == "open" and not _NOTHING.match(question.answer):
                texts.append(question.answer)
            elif _is_yes(question):
                texts.append(question.text)
    return texts


def _modality(questions: Sequence[Question], domain: Domain) -> str | None:
    """As published for the organ; else by what is affirmed, then by what questions take for granted ("on this CT")."""
    if published := _published(questions)[0]:
        return published if domain.modality(published) else None
    affirmed = " . ".join(_affirmed(questions, ["MODALITY"]))
    assumed = [
        question.text for question in questions if "MODALITY" not in question.question_types and not _is_no(question)
    ]
    found = find_modality(affirmed, assumed, domain)
    return found.name if found else None


def _plane(questions: Sequence[Question], domain: Domain) -> str | None:
    """The plane that is affirmed most; else as published for the organ."""
    affirmed = " . ".join(_affirmed(questions, ["PLANE"]))
    counts = {name: words.count(affirmed) for name, words in domain.planes.items()}
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] else _published(questions)[1]


def _published(questions: Sequence[Question]) -> tuple[str | None, str | None]:
    organ = next((question.organ for question in questions if question.organ), "")
    return PUBLISHED.get(organ, (None, None))


def _findings(questions: Iterable[Question]) -> list[str]:
    """The distinct findings, at most FINDINGS_SAID; paraphrases come last, for they mostly say what is said already."""
    findings: list[str] = []
    for question in sorted(questions, key=lambda question: question.phrasing == "para"):
        finding = _finding(question)
        if finding is not None and not any(_says_the_same(finding, said) for said in findings):
            findings.append(finding.strip(" .,").replace(";", ",").replace(" appear ", " "))
    return findings[:FINDINGS_SAID]


def _says_the_same(finding: str, said: str) -> bool:
    """Whether most words of a finding, the short ones left out, stand in one that was said."""
    words, known = (set(_LONG_WORD.findall(text.lower())) for text in (finding, said))
    return 2 * len(words & known) >= len(words) if words else finding.lower() in said.lower()


def _finding(question: Question) -> str | None:
    if _DENIES.search(question.text):
        return None
    if question.answer_type == "closed":
        stated = _THERE_IS.match(question.text) or _STATES.match(question.text)
        return stated["finding"] if stated and _is_yes(question) else None
    if _NOTHING.match(question.answer):
        return None
    if where_is := _WHERE_IS.match(question.text):
        return f"{where_is['finding']} ({question.answer})"
    if how_many := _HOW_MANY.match(question.text):
        return f"{question.answer} {how_many['finding']}"
    return question.answer if _ASKS_WHAT_IS_FOUND.search(question.text) else None


def _is_yes(question: Question) -> bool:
    return question.answer.lower().startswith("yes")


def _is_no(question: Question) -> bool:
    return question.answer.lower().startswith("no")
