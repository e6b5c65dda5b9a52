"""Figures from a JATS article (Z39.96, and the NLM format before it), with everything the article says of them.

Untrusted input: entities and DTD are never resolved, size and number of nodes are bounded before anything is parsed.
A figure whose picture is absent is still yielded, and set aside in screening.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.corpus.sources.article_folders import XML_ENDINGS, OnFault, walk
from llavamed_cli.corpus.sources.jats_front import Front, read_front
from llavamed_cli.corpus.sources.jats_mentions import find_mentions
from llavamed_cli.corpus.sources.jats_rights import figure_license
from llavamed_cli.corpus.sources.jats_text import ancestor, attribute, child, descendants, flatten, local_name
from llavamed_cli.corpus.sources.picture_files import find_picture, picture_index, picture_name
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Figure, Source

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_XML_BYTES = 64 * 2**20
"""The longest articles are a tenth of that."""
MAX_XML_NODES = 4_000_000
"""Tags, attributes and entities, at about 120 bytes of memory each. The longest articles have a tenth of that."""


def read_jats(source: Path, images: Path | None, on_fault: OnFault) -> Iterator[Figure]:
    """Yield the figures of every article in `source`, a file or a folder, in this process; `articles` has batches.

    Args:
        images: where pictures are sought when they do not lie beside their article.
        on_fault: is told of every article that cannot be parsed and every figure that names no picture.
    """
    elsewhere = picture_index(images) if images else {}
    for folder, names in walk(source, XML_ENDINGS, on_fault):
        pictures = ChainMap(picture_index(folder), elsewhere)
        for name in names:
            yield from read_article_file(folder / name, pictures, on_fault)


def read_article_file(
    file: Path, pictures: Mapping[str, Path], on_fault: OnFault, *, origin: Path | None = None
) -> Iterator[Figure]:
    """Yield the figures of one XML file.

    Args:
        pictures: as `picture_index` gives them. A picture that is not among them is said to lie beside the article.
        origin: the file to name as their source, if it was unpacked from one.
    """
    origin = origin or file
    try:
        articles = parse_articles(file)
    except DataError as error:
        on_fault(Fault(where=str(origin), reason=error.what))
        return
    for number, article in enumerate(articles, start=1):
        name = file.stem if len(articles) == 1 else f"{file.stem}-{number}"
        figures = _by_key(article)
        if figures:
            front = read_front(article, name)
            yield from _ArticleReader(article, figures, front, pictures, file.parent, str(origin), on_fault).read()


def parse_articles(file: Path) -> list[_Element]:
    """The `article` elements of a file (one; several in what PMC's efetch returns).

    Raises:
        DataError: not XML, too large, or no JATS article. Entities stay unresolved and nothing is fetched.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(_read(file), parser)
    except etree.XMLSyntaxError as error:
        told = " ".join((error.msg or "").split())
        raise DataError(f"not well-formed XML: {told}", where=str(file)) from error
    articles = [root] if local_name(root) == "article" else list(descendants(root, "article"))
    if not articles:
        raise DataError(f"no JATS article: the root is <{local_name(root)}>", where=str(file))
    return articles


def _read(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        data = b"" if size > MAX_XML_BYTES else file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
    if size > MAX_XML_BYTES:
        raise DataError(f"more than {MAX_XML_BYTES // 2**20} MiB of XML, more than any article", where=str(file))
    if size > MAX_XML_NODES and sum(map(data.count, (b"<", b"=", b"&"))) > MAX_XML_NODES:
        raise DataError(f"more than {MAX_XML_NODES:,} tags and attributes, more than any article", where=str(file))
    return data


def _by_key(article: _Element) -> dict[str, _Element]:
    """The figures by their own id, which mentions name; by their place where they have none or share one."""
    figures: dict[str, _Element] = {}
    for number, figure in enumerate(descendants(article, "fig"), start=1):
        key = figure.get("id")
        figures[key if key and key not in figures else f"fig{number}"] = figure
    return figures


@dataclass(frozen=True)
class _ArticleReader:
    article: _Element
    figures: Mapping[str, _Element]
    front: Front
    pictures: Mapping[str, Path]
    folder: Path
    origin: str
    on_fault: OnFault

    def read(self) -> Iterator[Figure]:
        labels = {key: _label(figure) for key, figure in self.figures.items()}
        mentions = find_mentions(self.article, self.figures, labels)
        for key, figure in self.figures.items():
            yield from self._figure(key, figure, labels[key], mentions[key])

    def _figure(self, key: str, element: _Element, label: str | None, mentions: tuple[str, ...]) -> Iterator[Figure]:
        """A figure as often as it has pictures."""
        identity = f"{self.front.name}-{key}"
        hrefs = self._graphics(element)
        if not hrefs:
            where = f"{self.origin}:{element.sourceline}"
            self.on_fault(Fault(where=where, reason="the figure names no picture", record_id=identity))
            return
        caption = _caption(element)
        source = Source(
            kind="jats",
            file=self.origin,
            line=element.sourceline,
            pmcid=self.front.pmcid,
            version=self.front.version,
            figure=label or key,
            license=figure_license(element, caption, self.front.license, self.article),
            citation=self.front.citation,
        )
        for number, href in enumerate(hrefs, start=1):
            yield Figure(
                id=identity if number == 1 else f"{identity}-{number}",
                picture=find_picture(href, self.pictures) or self.folder / picture_name(href),
                caption=caption,
                source=source,
                label=label,
                mentions=mentions,
            )

    def _graphics(self, figure: _Element) -> list[str]:
        """The pictures a figure shows. Of `alternatives`, the same one in several forms: the first that is there, or
        the first. A thumbnail is none."""
        forms: dict[_Element, list[str]] = {}
        for graphic in descendants(figure, "graphic"):
            href = (attribute(graphic, "href") or "").strip()
            if href and ancestor(graphic, "fig") is figure and not _is_thumbnail(graphic):
                alternatives = ancestor(graphic, "alternatives")
                forms.setdefault(graphic if alternatives is None else alternatives, []).append(href)
        return list(dict.fromkeys(self._at_hand(same) for same in forms.values()))

    def _at_hand(self, hrefs: list[str]) -> str:
        if len(hrefs) == 1:
            return hrefs[0]
        return next((href for href in hrefs if find_picture(href, self.pictures)), hrefs[0])


def _label(figure: _Element) -> str | None:
    label = _of_figure_or_group(figure, "label")
    return flatten(label).rstrip(".:") or None if label is not None else None


def _caption(figure: _Element) -> str:
    """The figure's caption; its group's where it has none."""
    caption = _of_figure_or_group(figure, "caption")
    return "" if caption is None else flatten(caption)


def _of_figure_or_group(figure: _Element, name: str) -> _Element | None:
    found = child(figure, name)
    group = figure.getparent()
    if found is None and group is not None and local_name(group) == "fig-group":
        found = child(group, name)
    return found


def _is_thumbnail(graphic: _Element) -> bool:
    return any("thumb" in (graphic.get(name) or "") for name in ("content-type", "specific-use"))
