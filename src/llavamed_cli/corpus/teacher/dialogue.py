"""Reads a conversation out of a teacher's answer, strictly: what is not a question and its answer is dropped.

A turn begins on a line of its own with who speaks: User, Human or Question; Assistant or Answer; where none of these
stands, Q and A (in an answer, "A: axial view" may be a panel). Around that name, Markdown's emphasis, headings,
bullets, quotes and numbers are passed over, as are code fences. In running text, only "User:" and "Assistant:" after
the end of a sentence begin a turn.
"""

from __future__ import annotations

import re

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Exchange
from llavamed_cli.corpus.teacher.grounding import check_dialogue
from llavamed_cli.corpus.teacher.teaching import Drop, Taught
from llavamed_cli.records import Figure

NO_DIALOGUE, NO_ANSWER, NO_QUESTION, EMPTY_TURN, REPEATED = (
    "no conversation in the answer",
    "a question without an answer",
    "an answer without a question",
    "an empty turn",
    "a turn that was there before",
)
QUOTED = 160

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w-]*[ \t]*$\n?", re.M)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*$\n?", re.M)
_BEFORE = r"^(?:[>#*_\-• \t]|\(?\d{1,2}[.):])*"
_AFTER = r"[ \t]*\d{0,2}[ \t]*[*_]{0,3}:[*_]{0,3}[ \t]*"
_SPEAKER = re.compile(
    rf"{_BEFORE}(?:(?P<asks>user|human|question)|(?:assistant|answer)){_AFTER}"
    r"|(?<=[.?!][ \t])(?-i:(?P<asks_there>User)|Assistant):[ \t]*",
    re.I | re.M,
)
_SPEAKER_IN_SHORT = re.compile(rf"{_BEFORE}(?:(?P<asks>Q)|A){_AFTER}", re.M)
_MARKER = re.compile(r"<\s*/?\s*image\s*>", re.I)


def read_dialogue(text: str, figure: Figure, domain: Domain) -> Taught:
    """What a teacher's answer about `figure` teaches: parsed, then checked against the text that the teacher saw."""
    exchanges, unread = parse_dialogue(text)
    kept, dropped = check_dialogue(exchanges, figure, domain)
    return Taught(tuple(kept), (*unread, *dropped))


def parse_dialogue(text: str) -> tuple[list[Exchange], list[Drop]]:
    """The exchanges in a teacher's answer, in order, and what in it was none. What comes before the first turn is cut.

    An image's marker that the teacher typed is taken out: the picture's place is decided elsewhere.
    """
    turns = _turns(text)
    exchanges: list[Exchange] = []
    drops = [] if turns else [Drop(NO_DIALOGUE, _short(text))]
    waiting: str | None = None
    for asks, said in turns:
        if asks:
            if waiting is not None:
                drops.append(Drop(NO_ANSWER, _short(waiting)))
            waiting = said
        elif waiting is None:
            drops.append(Drop(NO_QUESTION, _short(said)))
        else:
            fault = _fault(waiting, said, exchanges)
            if fault:
                drops.append(Drop(fault, _short(f"{waiting} {said}")))
            else:
                exchanges.append((waiting, said))
            waiting = None
    if waiting is not None:
        drops.append(Drop(NO_ANSWER, _short(waiting)))
    return exchanges, drops


def _turns(text: str) -> list[tuple[bool, str]]:
    """Whether each turn asks, and what it says."""
    text = _RULE.sub("", _FENCE.sub("", text.replace("\r\n", "\n")))
    speakers = list(_SPEAKER.finditer(text)) or list(_SPEAKER_IN_SHORT.finditer(text))
    ends = [match.start() for match in speakers[1:]] + [len(text)]
    return [(any(match.groups()), _said(text[match.end() : end])) for match, end in zip(speakers, ends, strict=False)]


def _said(text: str) -> str:
    """A turn's text without image markers, also those that taking out others would make, and without outer emphasis."""
    while _MARKER.search(text):
        text = _MARKER.sub("", text)
    text = re.sub(r"[ \t]+", " ", re.sub(r"\n\s*\n+", "\n", text)).strip()
    if text.endswith("**") and text.count("**") == 1:  # "**User: Where is it?**"
        return text[:-2].rstrip()
    return text.strip("*_").strip() if re.fullmatch(r"([*_]{1,3})[^*_]+\1", text) else text


def _fault(question: str, answer: str, before: list[Exchange]) -> str | None:
    if not re.search(r"\w", question) or not re.search(r"\w", answer):
        return EMPTY_TURN
    if any(question.lower() == asked.lower() for asked, _ in before):
        return REPEATED
    return None


def _short(text: str) -> str:
    return " ".join(text.split())[:QUOTED]
