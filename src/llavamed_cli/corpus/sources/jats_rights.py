"""Under which licence an article gives its figures, and which of them are not its own to give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llavamed_cli.corpus.screening.licenses import THIRD_PARTY, is_borrowed, is_credited, normalise_license
from llavamed_cli.corpus.sources.jats_text import attribute, child, descendants, flatten, local_name

if TYPE_CHECKING:
    from lxml.etree import _Element

_WORDS = re.compile(r"[^\W_]+")
_NOBODY = re.compile(r"the|authors?|c|copyright|s|by|and|et|al|all|rights|reserved|(?:19|20)\d\d")
"""A word of a copyright line that names nobody but the authors."""


def license_of(element: _Element) -> str | None:
    """The licence that `article-meta` or a figure's `permissions` names, by the nearest evidence: an address, a code,
    the licence's prose, and last the copyright statement, where old articles put it."""
    for text in _license_evidence(element):
        if found := normalise_license(text):
            return found
    return None


def figure_license(figure: _Element, caption: str, article_license: str | None, article: _Element) -> str | None:
    """A figure's own permissions or credit line, or its group's, override the article's licence."""
    group = figure.getparent()
    owners = [figure] if group is None or local_name(group) != "fig-group" else [figure, group]
    for owner in owners:
        permissions = child(owner, "permissions")
        if permissions is not None:
            return license_of(permissions) or (article_license if _are_its_own(permissions, article) else THIRD_PARTY)
    if is_borrowed(caption):
        return normalise_license(caption) or THIRD_PARTY
    for owner in owners:
        for line in descendants(owner, "attrib"):
            words = flatten(line)
            if is_borrowed(words) or is_credited(words):
                return normalise_license(words) or THIRD_PARTY
    return article_license


def _are_its_own(permissions: _Element, article: _Element) -> bool:
    """Whether a figure's permissions only repeat the article's: they name no holder of rights, or the same."""
    holders = _holders(permissions)
    if not holders or any(is_borrowed(flatten(item)) for item in descendants(permissions, "license")):
        return False
    meta = next(descendants(article, "article-meta"), article)
    return holders <= {frozenset[str](), *_holders(meta)}


def _holders(element: _Element) -> set[frozenset[str]]:
    """Who holds the rights, by the words of each line that says so: none for "© 2020 The Author(s)"."""
    lines = descendants(element, "copyright-statement", "copyright-holder")
    words = [_WORDS.findall(flatten(line).lower()) for line in lines]
    return {frozenset(word for word in line if not _NOBODY.fullmatch(word)) for line in words}


def _license_evidence(element: _Element) -> Iterator[str]:
    licenses = list(descendants(element, "license"))
    for item in licenses:
        yield from (flatten(reference) for reference in descendants(item, "license_ref"))
        yield attribute(item, "href") or ""
    yield from (flatten(reference) for reference in descendants(element, "license_ref"))
    for item in licenses:
        yield f"{attribute(item, 'license-type') or ''} {attribute(item, 'specific-use') or ''}"
        yield flatten(item)
        yield from (attribute(link, "href") or "" for link in descendants(item, "ext-link", "uri"))
    yield from (flatten(statement) for statement in descendants(element, "copyright-statement"))
