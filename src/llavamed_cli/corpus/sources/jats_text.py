"""JATS elements flattened to clean text: captions and paragraphs as a person would read them out.

Numeric citations, formulas' TeX twins, DOIs and markup go; the words, signs and letters of MathML stay. Entities are
never resolved: HTML's named characters are known without a DTD, any other is dropped.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxml.etree import _Element

FIGURE_REFERENCE = "\ue000"
"""Stands before each `xref ref-type="fig"` in `flatten(..., mark_references=True)`; no text of an article holds it."""

MARKUP = frozenset(["tex-math", "annotation", "annotation-xml", "object-id", "permissions", "alt-text", "long-desc"])
FLOATS = frozenset(["fig", "fig-group", "table-wrap", "table-wrap-group", "boxed-text", "supplementary-material"])
SKIPPED = MARKUP | FLOATS | frozenset(["label", "fn", "graphic", "inline-graphic", "media"])
BLOCKS = frozenset(["p", "title", "list-item", "def", "disp-quote", "subtitle", "break", "sec", "td", "th"])
BREAKING = ("p", "title", "subtitle")
"""Blocks that end a sentence even where no full stop is written."""

_DOI_LINE = re.compile(r"\s*DOI:?\s", re.I)
_EMPTY_BRACKETS = re.compile(r"\s*[(\[][\s,;–—-]*[)\]]")
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?)\]%])")
_SPACE_AFTER = re.compile(r"([(\[])\s+")
_DIGITS = re.compile(r"[-−–+]?\d+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff\ue000-\uf8ff\x00-\x08\x0b\x0c\x0e-\x1f]")


def local_name(element: _Element) -> str:
    """An element's name without its namespace; "" for a comment, a processing instruction or an entity."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: _Element, name: str) -> str | None:
    """An attribute by its local name: `href` finds `xlink:href` under any prefix."""
    for key, value in element.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return None


def descendants(element: _Element, *names: str) -> Iterator[_Element]:
    """The element itself and all below it that bear one of `names`, in document order, in any namespace."""
    for found in element.iter():
        if local_name(found) in names:
            yield found


def child(element: _Element, name: str) -> _Element | None:
    """The first child of that name."""
    return next((item for item in element if local_name(item) == name), None)


def flatten(element: _Element, *, mark_references: bool = False) -> str:
    """The text of `element` on one line.

    mark_references: put FIGURE_REFERENCE before every figure reference, to be found again in the sentences, and leave
        out paragraphs inside this one (in a list), which are read by themselves.
    """
    pieces: list[str] = []
    _collect(element, pieces, mark_references, top=True)
    return tidy(unicodedata.normalize("NFC", "".join(pieces)))


def tidy(text: str) -> str:
    """White space collapsed, none before a comma or after a bracket, and no bracket that a citation left empty."""
    text = " ".join(_EMPTY_BRACKETS.sub("", " ".join(text.split())).split())
    return _SPACE_AFTER.sub(r"\1", _SPACE_BEFORE.sub(r"\1", text)).strip()


def _collect(element: _Element, pieces: list[str], mark: bool, *, top: bool = False) -> None:
    name = local_name(element)
    if not name:
        pieces.append(_entity(element))
    elif top or not (name in SKIPPED or (mark and name == "p")):
        _collect_element(element, name, pieces, mark, top)
    if not top and element.tail:
        pieces.append(_INVISIBLE.sub("", element.tail))


def _collect_element(element: _Element, name: str, pieces: list[str], mark: bool, top: bool) -> None:
    if name == "xref" and not _is_read_out(element):
        return
    if not top and name in ("p", "title") and _DOI_LINE.match("".join(_plain(element))):
        return
    inner: list[str] = []
    if element.text:
        inner.append(_INVISIBLE.sub("", element.text))
    for item in element:
        _collect(item, inner, mark)
    text = "".join(inner)
    if name == "sup":
        text = _superscript(text, pieces)
    if mark and name == "xref" and element.get("ref-type") == "fig":
        text = FIGURE_REFERENCE + text
    if name in BLOCKS and not top:
        text = f" {_ended(text) if name in BREAKING else text.strip()} "
    pieces.append(text)


def _ended(text: str) -> str:
    """A title or paragraph with a full stop, so that the next one starts a new sentence."""
    text = text.strip()
    return f"{text}." if text and (text[-1].isalnum() or text[-1] in ")]%\"'”’") else text


def _superscript(text: str, before: list[str]) -> str:
    """10<sup>5</sup> is 10^5, not 105; Ca<sup>2+</sup> and <sup>18</sup>F stay; bare commas of citations go."""
    if not any(letter.isalnum() or letter in "+-−–*†‡§°′" for letter in text):
        return ""
    written = "".join(before[-1:]).rstrip(FIGURE_REFERENCE)
    return f"^{text.strip()}" if _DIGITS.fullmatch(text.strip()) and written[-1:].isdigit() else text


def _is_read_out(xref: _Element) -> bool:
    """A citation that is only numbers is not; "Smith et al., 2004" and "Figure 2" are."""
    if xref.get("ref-type") not in ("bibr", "fn", "table-fn"):
        return True
    return any(letter.isalpha() for letter in "".join(_plain(xref)))


def _plain(element: _Element) -> Iterator[str]:
    """Its text pieces, entities left out."""
    if element.text and isinstance(element.tag, str):
        yield element.text
    for item in element:
        yield from _plain(item)
        if item.tail:
            yield item.tail


def _entity(node: Any) -> str:
    """An unresolved `&alpha;` by HTML's table; nothing for a comment, or for an entity that the document declares."""
    name = getattr(node, "name", None)
    text = node.text or ""
    if name is None or not text.startswith("&"):
        return ""
    character = html.unescape(text)
    return "" if character == text else character
