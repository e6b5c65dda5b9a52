"""A caption composed by rule from what a benchmark's annotations affirm, for want of a real one.

"Axial CT of the head. Findings: midline shift; mass (left lobe)." Modality, plane and region by the domain's words;
findings from questions answered with yes, places and counts. What is denied, or asked with a "not", is left out, and
so is what a knowledge graph adds: it cannot be seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening.modality import find_modality
from llavamed_cli.records import Question

Conventions = Mapping[str, tuple[str | None, str | None]]
"""Modality and plane that a benchmark's description gives for an organ, whatever its questions say."""

FINDINGS_SAID = 8
VQA_RAD: Conventions = {"CHEST": ("CXR", None), "ABD": ("CT", "axial"), "HEAD": (None, "axial")}
"""104 axial CTs or MRIs of the head, 107 chest X-rays, 104 axial CTs of the abdomen (Lau et al. 2018). The modalities
are named as in the biomedical domain."""

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
    r"^where (?:is|are|is/are(?! the abnormality)) (?:there |the |these |an? )*(?P<finding>.+?)(?: located)?"
    r"(?: in (?:this|the) (?:image|picture))?\s*\?*$",
    re.I,
)
_HOW_MANY = re.compile(
    r"^how many (?:existing )?(?P<finding>(?!kinds of).+?)(?: (?:are|is|can|were|in this|in the)\b.*)?\s*\?*$", re.I
)
_STATES = re.compile(
    r"^(?:is|are|was|were|does|do|has|have) (?:the |any of the |this patient's |the patient's )"
    r"(?P<finding>(?!(?:image|film|picture|scan|x-?ray|patient|study|section|abnormality|pathology)\b).+?)\s*\?*$",
    re.I,
)
"""Asked of a thing, and affirmed, it is said in the clipped manner of reports: "trachea midline"."""
_ASKS_WHAT_IS_FOUND = re.compile(
    r"^what\b.*\b(?:abnormal|abnormalit(?:y|ies)|findings?|patholog(?:y|ies)|lesions?|diagnosis|diseases?|happening)\b",
    re.I,
)
_LONG_WORD = re.compile(r"\w{4,}")
_DENIES = re.compile(r"\b(?:not|no|without|absent|neither|or)\b|n't\b", re.I)
_NOTHING = re.compile(r"^(?:no|none|nothing|not|n/?a|yes|unknown|normal|0|zero)\b", re.I)


def can_compose(questions: Sequence[Question]) -> bool:
    """Whether annotations in English say how the picture was made, or of what."""
    return any((question.modality or question.organ) and question.language == "en" for question in questions)


def compose_caption(questions: Sequence[Question], domain: Domain, conventions: Conventions) -> str:
    """A caption of what the annotations of one picture affirm, those in English."""
    questions = [question for question in questions if question.language == "en" and question.fact is None]
    modality = domain.modality(told_modality(questions, domain, conventions) or "")
    noun = modality.noun if modality else "image"
    plane = _plane(questions, domain, conventions)
    region = _region(questions, domain)
    title = f"{plane} {noun}" if plane else noun
    if region and region not in noun.lower():
        title += f" of the {region}"
    findings = _findings(questions)
    said = f" Findings: {'; '.join(findings)}." if findings else ""
    return f"{title[0].upper()}{title[1:]}.{said}"


def told_modality(questions: Sequence[Question], domain: Domain, conventions: Conventions) -> str | None:
    """As the benchmark states it, or its description for the organ; else by what is affirmed, then by what questions
    take for granted ("on this CT")."""
    if published := _published(questions, conventions)[0]:
        return published if domain.modality(published) else None
    if stated := next((question.modality for question in questions if question.modality), None):
        found = find_modality(f"{_region(questions, domain)} {stated.replace('_', ' ')}", [], domain)
        return found.name if found else None
    affirmed = " . ".join(_affirmed(questions, ["MODALITY"]))
    assumed = [
        question.text for question in questions if "MODALITY" not in question.question_types and not _is_no(question)
    ]
    found = find_modality(affirmed, assumed, domain)
    return found.name if found else None


def _region(questions: Sequence[Question], domain: Domain) -> str:
    organ = next((question.organ for question in questions if question.organ), "")
    return domain.regions.get(organ, organ.lower())


def _affirmed(questions: Iterable[Question], types: Iterable[str]) -> list[str]:
    """The texts that questions of some types affirm: open answers, and closed questions answered with yes."""
    texts = []
    for question in questions:
        if set(types) & {name.upper() for name in question.question_types} and not _DENIES.search(question.text):
            if question.answer_type == "open" and not _NOTHING.match(question.answer):
                texts.append(question.answer)
            elif _is_yes(question):
                texts.append(question.text)
    return texts


def _plane(questions: Sequence[Question], domain: Domain, conventions: Conventions) -> str | None:
    """The plane that is affirmed most; else as published for the organ."""
    affirmed = " . ".join(_affirmed(questions, ["PLANE"]))
    counts = {name: words.count(affirmed) for name, words in domain.planes.items()}
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] else _published(questions, conventions)[1]


def _published(questions: Sequence[Question], conventions: Conventions) -> tuple[str | None, str | None]:
    organ = next((question.organ for question in questions if question.organ), "")
    return conventions.get(organ, (None, None))


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
