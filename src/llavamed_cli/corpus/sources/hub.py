"""Figures from a data set of the Hugging Face Hub, or a local folder laid out like one: one split, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.sources.cards import folder_license, stated_license
from llavamed_cli.corpus.sources.rows import Columns, Row, RowBatch, choose_columns, in_batches, read_row
from llavamed_cli.hub_data import HubName, fetched, open_split, peeked, told, undecoded, without_queries
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault


def hub_batches(
    name: HubName, columns: tuple[str | None, str | None], scratch: Path, progress: Progress
) -> Iterator[Batch]:
    """Yield the rows of one split of a data set.

    Args:
        columns: the picture's and the caption's, where they are known.

    Raises:
        UsageError: no such data set, split or column, or several that could be meant.
        DataError: `datasets` cannot read it, or asks which configuration is meant.
        FetchError: the Hub does not serve, at once or in the middle.
    """
    source = _open(name, columns)
    if source.columns.several:
        progress.note(f"{source.where}: {source.columns.caption} may hold several captions; the first is taken")
    license = _license(name, progress)
    stem = f"{Path(name.name).name}-{source.split}"
    for group in in_batches(source.rows()):
        yield RowBatch(rows=group, kind="hub", file=source.where, stem=stem, license=license, scratch=scratch)


@dataclass(frozen=True)
class _Split:
    """One split, opened. records: with pictures as they are stored."""

    name: HubName
    split: str
    columns: Columns
    records: Any

    @property
    def where(self) -> str:
        return self.name.where_split(self.split)

    def rows(self) -> Iterator[Row | Fault]:
        folder = self.name.folder
        number = 0
        try:
            for record in self.records:
                number += 1
                yield read_row(fetched(record, self.columns.image, self.name), self.columns, number, self.where, folder)
        except Exception as error:  # whatever a data set's files and the network between lead to
            raise told(error, f"{self.where}, row {number + 1}") from error


def _open(name: HubName, columns: tuple[str | None, str | None]) -> _Split:
    split, records = open_split(name)
    where = f"{name.where}:{split}"
    if records.features is None:  # told only by its first row
        records, schema = peeked(records, name.where)
        return _Split(name, split, choose_columns(schema, columns, where), records)
    chosen = choose_columns(records.features.arrow_schema, columns, where)
    return _Split(name, split, chosen, undecoded(records.select_columns(chosen.names), chosen.image))


def _license(name: HubName, progress: Progress) -> str | None:
    """What the data set's card states."""
    if name.folder is not None:
        return folder_license(name.folder)
    from huggingface_hub import HfApi

    try:
        card = HfApi().dataset_info(name.name, revision=name.revision).card_data
    except Exception as error:  # the rows may be served from a mirror or a cache without it
        progress.note(f"the licence of hub:{name.name} cannot be asked for: {without_queries(error)}")
        return None
    return stated_license(card.get("license")) if card else None
