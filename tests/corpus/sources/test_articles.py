from __future__ import annotations

import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources import articles
from llavamed_cli.corpus.sources.articles import ArticleFile, Package, article_batches
from llavamed_cli.records import Figure


def pack(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as stream:
        stream.add(folder, arcname="PMC77")
    return archive


def read(source: Path, scratch: Path, images: Path | None = None) -> list[Figure | Rejection]:
    """Every batch, sent to another process as far as pickle goes."""
    batches = [pickle.loads(pickle.dumps(batch)) for batch in article_batches(source, images, scratch)]
    return [item for batch in batches for item in batch.read()]


def test_every_article_and_package_is_a_batch_in_one_order(article_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(article_folder, source / "b")
    pack(article_folder, source / "a.tar.gz")
    pack(article_folder, source / "b" / "c.tgz")
    batches = list(article_batches(source, None, tmp_path / "scratch"))
    assert batches == [
        Package(source / "a.tar.gz", tmp_path / "scratch"),
        ArticleFile(source / "b" / "article.nxml"),
        Package(source / "b" / "c.tgz", tmp_path / "scratch"),
    ]
    for batch in batches:
        items = []
        for item in batch.read():
            items.append(item.id)
            assert isinstance(item, Rejection) or item.picture.is_file()
        assert items == ["PMC77-F1", "PMC77-F2", "PMC77-F3"]
    assert not list((tmp_path / "scratch").glob("*"))


def test_packages_of_one_name_are_unpacked_apart(article_folder: Path, tmp_path: Path) -> None:
    names = (pack(article_folder, tmp_path / "source" / folder / "p.tar.gz") for folder in "ab")
    streams = [Package(name, tmp_path / "scratch").read() for name in names]
    for first, second in zip(*streams, strict=True):
        assert isinstance(first, Rejection) or isinstance(second, Rejection) or first.picture != second.picture


def test_a_package_half_unpacked_by_a_killed_run_is_read_again(article_folder: Path, tmp_path: Path) -> None:
    package = Package(pack(article_folder, tmp_path / "p.tar.gz"), tmp_path / "scratch")
    killed = package.read()
    next(killed)
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "scratch", left)
    killed.close()  # type: ignore[attr-defined]
    shutil.copytree(left, tmp_path / "scratch", dirs_exist_ok=True)
    assert [item.id for item in package.read()] == ["PMC77-F1", "PMC77-F2", "PMC77-F3"]


def test_a_large_flat_folder_is_listed_once(article_folder: Path, tmp_path: Path, draw: Callable[..., Path]) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    text = (article_folder / "article.nxml").read_text(encoding="utf-8")
    for number in range(articles.FEW_ARTICLES + 1):
        name = f"g{number:02}"
        changed = text.replace("fx1", name).replace(">77<", f">{number}<")
        (flat / f"{number:02}.xml").write_text(changed, encoding="utf-8")
        draw(flat / f"{name}.png")
    batches = list(article_batches(flat, article_folder, tmp_path / "scratch"))
    assert len({batch.beside for batch in batches if isinstance(batch, ArticleFile)}) == 1
    assert all(len(pickle.dumps(batch)) < 1000 for batch in batches)
    draw(flat / "late.png")
    for number, batch in enumerate(batches):
        first, second, third = batch.read()
        assert isinstance(first, Figure) and first.picture == flat / f"g{number:02}.png"
        assert isinstance(second, Figure) and second.picture == article_folder / "fx2.png"  # from --images
        assert isinstance(third, Rejection)


def test_an_articles_own_picture_comes_before_one_elsewhere(
    article_folder: Path, tmp_path: Path, draw: Callable[..., Path]
) -> None:
    draw(tmp_path / "images" / "deep" / "fx1.jpg")
    figure = read(article_folder, tmp_path / "scratch", tmp_path / "images")[0]
    assert isinstance(figure, Figure) and figure.picture == article_folder / "fx1.jpg"
    (article_folder / "fx1.jpg").unlink()
    figure = read(article_folder / "article.nxml", tmp_path / "scratch", tmp_path / "images")[0]
    assert isinstance(figure, Figure) and figure.picture == tmp_path / "images" / "deep" / "fx1.jpg"


def test_what_cannot_be_read_is_a_rejection_in_its_place(article_folder: Path, tmp_path: Path) -> None:
    (article_folder / "a.xml").write_text("<article>", encoding="utf-8")
    (article_folder / "z.tar.gz").write_bytes(b"no archive")
    items = read(article_folder, tmp_path / "scratch")
    assert [item.id for item in items] == [None, "PMC77-F1", "PMC77-F2", "PMC77-F3", None]
    assert [item.detail for item in items if isinstance(item, Rejection)][1] == "the figure names no picture"
