"""Figures from local JATS articles (Z39.96, and the NLM format before it) with their picture files beside them.

A SOURCE is one .xml or .nxml file, a folder with an article and its pictures, a folder of such folders, or a flat
folder of articles and pictures. An article's entities and DTD are never resolved; a figure whose picture is absent is
still yielded, and set aside in screening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llavamed_cli.corpus.licenses import THIRD_PARTY, is_borrowed, normalise_license
from llavamed_cli.corpus.sources.jats_front import Front, license_of, read_front
from llavamed_cli.corpus.sources.jats_mentions import find_mentions
from llavamed_cli.corpus.sources.jats_text import attribute, child, descendants, flatten, local_name
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Figure, Source

if TYPE_CHECKING:
    from lxml.etree import _Element

XML_ENDINGS = (".xml", ".nxml")
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
"""In the order of preference: beside a .jpg, PMC's packages keep a .gif of the same name as its thumbnail."""
MAX_XML_BYTES = 64 * 2**20
"""The longest articles are a tenth of that."""

OnFault = Callable[[Fault], None]


def read_jats(source: Path, images: Path | None, on_fault: OnFault) -> Iterator[Figure]:
    """Yield the figures of every article in `source`, folders in alphabetical order.

    Args:
        images: where pictures are sought when they do not lie beside their article.
        on_fault: is told of every article that cannot be parsed and every figure that names no picture.
    """
    elsewhere = picture_index(images) if images else {}
    for folder, files in _articles(source):
        pictures = {**elsewhere, **picture_index(folder)}
        for file in files:
            yield from read_article_file(file, pictures, on_fault)


def holds_articles(folder: Path) -> bool:
    """Whether a folder, or one directly in it, holds XML."""
    return any(file.suffix.lower() in XML_ENDINGS for pattern in ("*", "*/*") for file in folder.glob(pattern))


def _articles(source: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder of articles with its XML files."""
    if source.is_file():
        yield source.parent, [source]
        return
    folders = [source, *sorted(path for path in source.rglob("*") if path.is_dir() and not path.name.startswith("."))]
    for folder in folders:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in XML_ENDINGS and file.is_file())
        if files:
            yield folder, files


def picture_index(folder: Path) -> dict[str, Path]:
    """The picture files of a folder, and of the folders below that hold no article, by lower-case name and stem."""
    index: dict[str, Path] = {}
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _has_xml(path)]
    files = [*folder.iterdir(), *(file for path in below for file in path.rglob("*"))]
    pictures = [file for file in files if file.suffix.lower() in PICTURE_ENDINGS and file.is_file()]
    for file in sorted(pictures, key=lambda file: (PICTURE_ENDINGS.index(file.suffix.lower()), file)):
        index.setdefault(file.name.lower(), file)
        index.setdefault(file.stem.lower(), file)
    return index


def _has_xml(folder: Path) -> bool:
    return any(file.suffix.lower() in XML_ENDINGS for file in folder.iterdir())


def read_article_file(
    file: Path, pictures: Mapping[str, Path], on_fault: OnFault, *, origin: Path | None = None
) -> Iterator[Figure]:
    """Yield the figures of one XML file. origin: the file to name as their source, if it was unpacked from one."""
    origin = origin or file
    try:
        articles = parse_articles(file)
    except DataError as error:
        on_fault(Fault(where=str(origin), reason=error.what))
        return
    for number, article in enumerate(articles):
        name = file.stem if len(articles) == 1 else f"{file.stem}-{number + 1}"
        reader = _ArticleReader(article, read_front(article, name), pictures, file.parent, str(origin), on_fault)
        yield from reader.figures()


def parse_articles(file: Path) -> list[_Element]:
    """The `article` elements of a file (one; several in what PMC's efetch returns).

    Raises:
        DataError: not XML, too large, or no JATS article. Entities stay unresolved and nothing is fetched.
    """
    from lxml import etree

    if file.stat().st_size > MAX_XML_BYTES:
        raise DataError(f"more than {MAX_XML_BYTES // 2**20} MiB of XML, more than any article", where=str(file))
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(file.read_bytes(), parser)
    except etree.XMLSyntaxError as error:
        raise DataError(f"not well-formed XML: {error.msg}", where=str(file)) from error
    articles = [root] if local_name(root) == "article" else list(descendants(root, "article"))
    if not articles:
        raise DataError(f"no JATS article: the root is <{local_name(root)}>", where=str(file))
    return articles


@dataclass(frozen=True)
class _ArticleReader:
    article: _Element
    front: Front
    pictures: Mapping[str, Path]
    folder: Path
    origin: str
    on_fault: OnFault

    def figures(self) -> Iterator[Figure]:
        elements = self._by_key()
        labels = {key: _label(element) for key, element in elements.items()}
        mentions = find_mentions(self.article, labels)
        for key, element in elements.items():
            hrefs = _graphics(element)
            identity = f"{self.front.name}-{key}"
            if not hrefs:
                where = f"{self.origin}:{element.sourceline}"
                self.on_fault(Fault(where=where, reason="the figure names no picture", record_id=identity))
            for number, href in enumerate(hrefs, start=1):
                yield Figure(
                    id=identity if number == 1 else f"{identity}-{number}",
                    picture=self._picture(href),
                    caption=_caption(element),
                    source=self._source(element, key),
                    label=labels[key],
                    mentions=mentions[key],
                )

    def _by_key(self) -> dict[str, _Element]:
        """The figures by their own id, which mentions name; by their place where they have none or share one."""
        elements: dict[str, _Element] = {}
        for number, element in enumerate(descendants(self.article, "fig"), start=1):
            key = element.get("id")
            elements[key if key and key not in elements else f"fig{number}"] = element
        return elements

    def _picture(self, href: str) -> Path:
        """The file a graphic names: only its last part counts, so that no article can point elsewhere."""
        name = PurePosixPath(href.replace("\\", "/")).name.lower()
        stem = name.rpartition(".")[0] if name.endswith(PICTURE_ENDINGS) else name
        return self.pictures.get(name) or self.pictures.get(stem) or self.folder / (name or "unnamed")

    def _source(self, element: _Element, key: str) -> Source:
        return Source(
            kind="jats",
            file=self.origin,
            line=element.sourceline,
            pmcid=self.front.pmcid,
            version=self.front.version,
            figure=_label(element) or key,
            license=_figure_license(element, self.front.license),
            citation=self.front.citation,
        )


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


def _graphics(figure: _Element) -> list[str]:
    """The pictures a figure shows; of `alternatives`, the same picture in several forms, the first."""
    hrefs: dict[str, None] = {}
    seen: set[_Element] = set()
    for graphic in descendants(figure, "graphic"):
        alternatives = next((up for up in graphic.iterancestors() if local_name(up) == "alternatives"), None)
        href = attribute(graphic, "href")
        if href and (alternatives is None or alternatives not in seen):
            hrefs[href.strip()] = None
            if alternatives is not None:
                seen.add(alternatives)
    return list(hrefs)


def _figure_license(figure: _Element, article_license: str | None) -> str | None:
    """Its own permissions or credit line override the article's licence: it may not be the article's to give."""
    for permissions in descendants(figure, "permissions"):
        return license_of(permissions) or THIRD_PARTY
    words = " ".join(flatten(part) for part in descendants(figure, "caption", "attrib"))
    if is_borrowed(words):
        return normalise_license(words) or THIRD_PARTY
    return article_license
