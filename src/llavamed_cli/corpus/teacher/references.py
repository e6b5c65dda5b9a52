"""Takes out of a sentence what points elsewhere in its article: figures by number, panels, citations.

Who reads an answer sees the picture, not its number.
"""

from __future__ import annotations

import re

_NOT_MEASURED = r"(?![\w.]*\d)(?!\s?-?(?:[%°]|[munkcµμ]?[mgsl]\b|h\b|(?:hour|day|week|month|year)s?\b))"
_FIGURE = (
    r"(?i:fig(?:ure)?s?)\.?\s*\d+(?:[A-Za-z]{1,3}|\s?[A-Z])?(?!\w)"
    rf"(?:(?:\s*[,;&/–—-]\s*(?:(?:and|&)\s+)?|\s+(?:and|to)\s+)(?:\d+[A-Za-z]{{0,3}}(?!\w){_NOT_MEASURED}|[A-Zb-z](?!\w)))*"
)
"""A figure, or several: "Figure 2A", "Figs. 2-4", "Fig. 2a, b and c"; not "Fig. 2, a mass", nor "Fig. 2; 5 mm"."""
_BRACKETED = re.compile(rf"\s*[(\[](?:(?i:see|as in|e\.g\.,?)\s+)*{_FIGURE}[^()\[\]]*[)\]]")
_LOOKED_AT = re.compile(rf"\b{_FIGURE}")
_PANEL = re.compile(r"\(\s?[A-Za-z](?:\s?[,&–-]\s?[A-Za-z]|\s+and\s+[A-Za-z])*\s?\)|^[A-H][.:,)]\s+|^[a-h]\)\s*")
_NUMBERED_CITATION = re.compile(r"\s*\[\d[\d,;\s–-]*\]")
_LEFTOVER = re.compile(r"^[\s,;:.)\]–—-]+")
_EMPTY_BRACKETS = re.compile(r"\s*[(\[][\s,;–—-]*[)\]]")
_PLAIN_WORD = re.compile(r"[a-z]+(?:[-'’][a-z]+)*(?![\w-])")


def clean_sentence(sentence: str) -> str:
    """A sentence without brackets that point at figures, panels or citations, begun with a capital, ended with a stop.

    "Figure 2 shows" becomes "The image shows".
    """
    text = _NUMBERED_CITATION.sub("", _BRACKETED.sub("", " ".join(sentence.split())))
    text = _LOOKED_AT.sub("the image", _PANEL.sub(" ", text))
    text = _LEFTOVER.sub("", _EMPTY_BRACKETS.sub("", text))
    text = re.sub(r"\s+([,.;:])", r"\1", " ".join(text.split()))
    if not text:
        return ""
    return capitalised(text) + ("" if text[-1] in ".!?" else ".")


def without_references(text: str) -> str:
    """`text` without the numbers that name figures and citations: those say nothing about a picture."""
    return _LOOKED_AT.sub("the image", _NUMBERED_CITATION.sub("", text))


def capitalised(text: str) -> str:
    """`text` with a capital first where a plain word begins it; "mRNA", "p53" and "CT" stay as they are."""
    return text[0].upper() + text[1:] if _PLAIN_WORD.match(text) else text
