"""JATS elements flattened to clean text: captions and paragraphs as a person would read them out.

Numeric citations, formulas' TeX twins, DOIs and markup go; the words, signs and letters of MathML stay. Entities are
never resolved: HTML's named characters are known without a DTD, any other is dropped.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxml.etree import _Element

FIGURE_REFERENCE = "\x01"
"""Stands before each `xref ref-type="fig"` in a `marked_text`; XML forbids it in any text."""

MARKUP = frozenset(["tex-math", "annotation", "annotation-xml", "object-id", "permissions", "alt-text", "long-desc"])
FLOATS = frozenset(["fig", "fig-group", "table-wrap", "table-wrap-group", "boxed-text", "supplementary-material"])
SKIPPED = MARKUP | FLOATS | frozenset(["label", "fn", "graphic", "inline-graphic", "media"])
BLOCKS = frozenset(["p", "title", "list-item", "def", "disp-quote", "subtitle", "break", "sec", "td", "th"])
BREAKING = ("p", "title", "subtitle")
"""Blocks that end a sentence even where no full stop is written."""

_DOI_LINE = re.compile(r"\s*DOI:?\s", re.I)
_EMPTY_BRACKETS = re.compile(r"[(\[][ ,;–—-]*[)\]]")
_TWO_STOPS = re.compile(r"(?<!\.)\. *\.(?!\.)")
"""What "Ref. [3]." leaves."""
_SPACE_BEFORE = re.compile(r" ([,.;:!?)\]%])")
_DIGITS = re.compile(r"[-−–+]?\d+")
_MEANT = re.compile(r"[^\W_]|[-−–+*†‡§°′]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff\ue000-\uf8ff]")


def local_name(element: _Element) -> str:
    """An element's name without its namespace; "" for a comment, a processing instruction or an entity."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""
    return tag.rpartition("}")[2] if tag[0] == "{" else tag


def attribute(element: _Element, name: str) -> str | None:
    """An attribute by its local name: `href` finds `xlink:href` under any prefix."""
    for key, value in element.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return None


def descendants(element: _Element, *names: str) -> Iterator[_Element]:
    """The element itself and all below it that bear one of `names`, in document order, in any namespace."""
    return element.iter(*_in_any_namespace(names))


def ancestor(element: _Element, *names: str) -> _Element | None:
    """The nearest element above that bears one of `names`."""
    return next(element.iterancestors(*_in_any_namespace(names)), None)


@cache
def _in_any_namespace(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{{*}}{name}" for name in names)


def child(element: _Element, name: str) -> _Element | None:
    """The first child of that name."""
    return next(element.iterchildren(f"{{*}}{name}"), None)


def flatten(element: _Element) -> str:
    """The text of `element` on one line, tidy."""
    return tidy(_content(element, mark=False))


def marked_text(element: _Element) -> str:
    """The text of a paragraph, not tidy yet, with FIGURE_REFERENCE before every figure reference, to be found again in
    its sentences. Paragraphs inside this one (in a list) are left out: they are read by themselves."""
    return _collapse(_content(element, mark=True))


def tidy(text: str) -> str:
    """White space collapsed, none before a comma or after a bracket, and no bracket that a citation left empty; soft
    hyphens, zero-width and private characters gone; in Unicode's composed form."""
    text = _collapse(text)
    if not text.isascii():
        if not text.isprintable():  # few are not, and to be told so is quick
            text = _collapse(_INVISIBLE.sub("", text))
        text = unicodedata.normalize("NFC", text)
    if "(" in text or "[" in text:
        text, emptied = _EMPTY_BRACKETS.subn("", text)
        if emptied:
            text = _collapse(_TWO_STOPS.sub(".", text))
        text = text.replace("( ", "(").replace("[ ", "[")
    return _SPACE_BEFORE.sub(r"\1", text).strip()


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _content(element: _Element, mark: bool) -> str:
    """What stands between an element's tags, read out."""
    if not len(element):
        return element.text or ""
    pieces = [element.text or ""]
    for item in element:
        if piece := _read_out(item, pieces[-1], mark):
            pieces.append(piece)
        if tail := item.tail:
            pieces.append(tail)
    return "".join(pieces)


def _read_out(element: _Element, before: str, mark: bool) -> str:
    """An element inside a text, of which `before` is what was read last."""
    name = local_name(element)
    if not name:
        return _entity(element)
    if name in SKIPPED or (mark and name == "p"):
        return ""
    text = _content(element, mark)
    if name == "xref":
        return _reference(element.get("ref-type"), text, mark)
    if name == "sup":
        return _superscript(text, before)
    if name not in BLOCKS:
        return text
    if name in BREAKING:
        return "" if _DOI_LINE.match(text) else f" {_ended(text)} "
    return f" {text.strip()} "


def _ended(text: str) -> str:
    """A title or paragraph with a full stop, so that the next one starts a new sentence."""
    text = text.strip()
    return f"{text}." if text and (text[-1].isalnum() or text[-1] in ")]%\"'”’") else text


def _superscript(text: str, before: str) -> str:
    """10<sup>5</sup> is 10^5, not 105; Ca<sup>2+</sup> and <sup>18</sup>F stay; bare commas of citations go."""
    if not _MEANT.search(text):
        return ""
    written = before.rstrip(FIGURE_REFERENCE)
    return f"^{text.strip()}" if _DIGITS.fullmatch(text.strip()) and written[-1:].isdigit() else text


def _reference(kind: str | None, text: str, mark: bool) -> str:
    """A citation that is only numbers is not read out; "Smith et al., 2004" and "Figure 2" are."""
    if kind in ("bibr", "fn", "table-fn") and not any(map(str.isalpha, text)):
        return ""
    return FIGURE_REFERENCE + text if mark and kind == "fig" else text


def _entity(node: Any) -> str:
    """An unresolved `&alpha;` by HTML's table; nothing for a comment, or for an entity that the document declares."""
    name = getattr(node, "name", None)
    text = node.text or ""
    if name is None or not text.startswith("&"):
        return ""
    character = html.unescape(text)
    return "" if character == text else character
