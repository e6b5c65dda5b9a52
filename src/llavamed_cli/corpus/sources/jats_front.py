"""What an article says about itself: its names, how to cite it, and under which licence it gives its figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.corpus.sources.jats_rights import license_of
from llavamed_cli.corpus.sources.jats_text import child, descendants, flatten

if TYPE_CHECKING:
    from lxml.etree import _Element

AUTHORS_NAMED = 3

_PMCID = re.compile(r"PMC(\d+)(?:\.(\d+))?", re.I)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Front:
    """An article's names. name: the PMCID, else the DOI's suffix, else the file's stem; it begins its figures' ids."""

    name: str
    pmcid: str | None
    version: int | None
    license: str | None
    citation: str | None


def read_front(article: _Element, file_stem: str) -> Front:
    """Read the front matter of `article`. file_stem: names the article where nothing else does."""
    meta = next(descendants(article, "article-meta"), article)
    ids = {item.get("pub-id-type"): flatten(item) for item in meta if str(item.tag).endswith("article-id")}
    pmcid, version = _pmcid(ids, file_stem)
    doi = ids.get("doi")
    name = pmcid or (doi.partition("/")[2] if doi else "") or file_stem
    return Front(
        name=_UNSAFE.sub("_", name),
        pmcid=pmcid,
        version=version,
        license=license_of(meta),
        citation=_citation(article, meta, doi),
    )


def _pmcid(ids: dict[str | None, str], file_stem: str) -> tuple[str | None, int | None]:
    for kind in ("pmcid-ver", "pmcid", "pmc"):
        value = ids.get(kind)
        if value and (found := _PMCID.fullmatch(value if value.upper().startswith("PMC") else f"PMC{value}")):
            return f"PMC{found[1]}", int(found[2]) if found[2] else None
    found = _PMCID.match(file_stem)
    return (f"PMC{found[1]}", int(found[2]) if found[2] else None) if found else (None, None)


def _citation(article: _Element, meta: _Element, doi: str | None) -> str | None:
    """ "Leone TC et al. Title. PLoS Biology (2005). doi:10.1371/..." as far as it is known."""
    title = next(descendants(meta, "article-title"), None)
    journal = next(descendants(article, "journal-title"), None)
    year = next((flatten(item) for date in descendants(meta, "pub-date") for item in descendants(date, "year")), None)
    parts = [_authors(meta), "" if title is None else flatten(title).rstrip(".")]
    place = "" if journal is None else flatten(journal)
    parts.append(f"{place} ({year})".strip() if year else place)
    parts.append(f"doi:{doi}" if doi else "")
    return ". ".join(part for part in parts if part) or None


def _authors(meta: _Element) -> str:
    names = []
    for contributor in descendants(meta, "contrib"):
        name = next(descendants(contributor, "name"), None)
        surname = child(name, "surname") if name is not None else None
        if name is not None and surname is not None and contributor.get("contrib-type", "author") == "author":
            given = child(name, "given-names")
            initials = (
                "" if given is None else "".join(part[0] for part in re.split(r"[\s.-]+", flatten(given)) if part)
            )
            names.append(f"{flatten(surname)} {initials}".strip())
            if len(names) > AUTHORS_NAMED:
                break
    return f"{', '.join(names[:AUTHORS_NAMED])} et al" if len(names) > AUTHORS_NAMED else ", ".join(names)
