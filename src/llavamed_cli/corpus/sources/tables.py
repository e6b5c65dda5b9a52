"""Figures from Parquet files with pictures in them, as the Hugging Face Hub stores them; a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.sources.article_folders import walk
from llavamed_cli.corpus.sources.cards import folder_license
from llavamed_cli.corpus.sources.rows import Row, RowBatch, choose_columns, in_batches, read_row
from llavamed_cli.errors import DataError, first_line
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault

ENDINGS = (".parquet",)
ROWS_AT_ONCE = 16


def holds_tables(folder: Path) -> bool:
    """Whether a folder, at any depth, holds a Parquet file."""
    return any(True for _ in walk(folder, ENDINGS, lambda fault: None))


def table_batches(
    source: Path, images: Path | None, columns: tuple[str | None, str | None], scratch: Path, progress: Progress
) -> Iterator[Batch]:
    """Yield the rows of a Parquet file, or of all in a folder.

    Args:
        images: the folder for pictures that are named in the table; the file's own if None.
        columns: the picture's and the caption's, where they are known.

    Raises:
        UsageError: the columns cannot be told. DataError: the only file is no Parquet file. One of several that is
            not is set aside, and so is what follows damage within a file.
    """
    folder = source if source.is_dir() else source.parent
    license = folder_license(folder)
    several = source.is_dir()
    unlisted: list[Fault] = []
    for place, names in walk(source, ENDINGS, unlisted.append):
        for name in names:
            rows = _rows(place / name, images, columns, progress, alone=not several)
            stem = (place / name).relative_to(folder).with_suffix("").as_posix()
            for group in in_batches(rows):
                yield RowBatch(
                    rows=group, kind="pairs", file=str(place / name), stem=stem, license=license, scratch=scratch
                )
    if unlisted:
        yield RowBatch(
            rows=tuple(unlisted), kind="pairs", file=str(source), stem=source.stem, license=None, scratch=scratch
        )


def _rows(
    file: Path, images: Path | None, wanted: tuple[str | None, str | None], progress: Progress, *, alone: bool
) -> Iterator[Row | Fault]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as table:
            columns = choose_columns(table.schema_arrow, wanted, str(file))
            if columns.several:
                progress.note(f"{file}: {columns.caption} may hold several captions a picture; the first is taken")
            for part in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns.names, use_threads=False):
                for row in range(part.num_rows):
                    number += 1
                    try:
                        record = {name: part.column(name)[row].as_py() for name in columns.names}
                    except UnicodeDecodeError:
                        yield Fault(where=f"{file}:{number}", reason="not UTF-8 text")
                        continue
                    yield read_row(record, columns, number, str(file), images or file.parent)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = f"not a readable Parquet file: {first_line(error)}"
        if alone and not number:
            raise DataError(reason, where=str(file)) from error
        yield Fault(where=f"{file}:{number + 1}", reason=reason)
