"""Questions in a data set of the Hugging Face Hub, or in a local folder laid out like one, streamed by `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.counts import counts_note
from llavamed_cli.benchmarks.fields import canonical, choose_fields
from llavamed_cli.benchmarks.jsonl import decided
from llavamed_cli.benchmarks.picture_store import PictureStore
from llavamed_cli.benchmarks.reading import BenchmarkRead, KnownAnswer, Record, Split, answers_of
from llavamed_cli.benchmarks.split_files import other_part_notes, part_named
from llavamed_cli.benchmarks.tables import placed, table_questions
from llavamed_cli.errors import UsageError
from llavamed_cli.hub_data import HubName, fetched, open_split, peeked, told, undecoded

UNSEEN = "Whether its training split shares pictures is not looked for: all of it would have to be fetched."
UNSEEN_PICTURE = "not fetched"
MAX_CARD_BYTES = 2**22


def read_hub(name: HubName, store: Path | None, split: Split, named: Mapping[str, str] | None = None) -> BenchmarkRead:
    """Read one split's questions.

    Args:
        name: if it names a split, that one is read; of a split that is called a test one nothing is learned.
        store: where pictures are written; None where they are not needed, and then they are not fetched.
        named: columns that go by names of their own.

    Raises:
        UsageError: no such data set, split or column, or test questions would be learned from.
        DataError: `datasets` cannot read it. FetchError: the Hub does not serve.
    """
    if split == "train" and part_named(name.split or "") == "test":
        raise UsageError(
            "these are test questions: data to learn from are built from training questions alone", where=name.where
        )
    chosen, records = open_split(name, usual=split)
    where = name.where_split(chosen)
    rows = list(_rows(records, name, where, store, named or {}))
    part = part_named(chosen) or split
    questions, faults = table_questions(rows, part)
    notes = [f"{where}: {counts_note(questions, None, len(faults))}", *other_part_notes(where, part, split)]
    if split == "test":
        notes.append(UNSEEN)
    return BenchmarkRead(
        questions=questions,
        faults=tuple(faults),
        notes=(*notes, *decided(record for _, record in rows)),
        license=_license(name),
        citation=f"{where} of the Hugging Face Hub",
    )


def hub_answers(name: HubName, named: Mapping[str, str] | None = None) -> tuple[KnownAnswer, ...]:
    """The answers of a data set's training split; its pictures are not fetched. Raises as `read_hub`."""
    return answers_of(read_hub(HubName(name.name, name.revision, name.config), None, "train", named).questions)


def _rows(
    records: Any, name: HubName, where: str, folder: Path | None, named: Mapping[str, str]
) -> Iterator[tuple[str, Record]]:
    if records.features is None:  # told only by its first row
        records, schema = peeked(records, where)
        columns = choose_fields(schema.names, named, where)
    else:
        columns = choose_fields(list(records.features), named, where)
        records = _selected(records, columns, folder)
    store = PictureStore(folder, images=name.folder)
    number = 0
    try:
        for record in records:
            row = (
                {**record, columns["image"]: UNSEEN_PICTURE}
                if folder is None
                else fetched(record, columns["image"], name)
            )
            yield f"{where}, row {number}", placed(canonical(row, named), store)
            number += 1
    except Exception as error:  # whatever a data set's files and the network between lead to
        raise told(error, f"{where}, row {number}") from error


def _selected(records: Any, columns: Mapping[str, str], folder: Path | None) -> Any:
    """The records with the columns that are read: without the pictures, where these are not needed."""
    wanted = [name for name in columns.values() if folder is not None or name != columns["image"]]
    chosen = records.select_columns(list(dict.fromkeys(wanted)))
    return chosen if folder is None else undecoded(chosen, columns["image"])


def _license(name: HubName) -> str | None:
    """What the data set's card states; None if there is none, or it cannot be had."""
    from huggingface_hub import DatasetCard, HfApi

    try:
        if name.folder is not None:
            card = name.folder / "README.md"
            if not card.is_file() or card.stat().st_size > MAX_CARD_BYTES:
                return None
            text = card.read_text(encoding="utf-8", errors="replace")
            stated = DatasetCard(text, ignore_metadata_errors=True).data.get("license")
        else:
            found = HfApi().dataset_info(name.name, revision=name.revision).card_data
            stated = found.get("license") if found else None
    except Exception:  # a mirror without cards, or a header that is no YAML: nothing is stated
        return None
    listed = stated if isinstance(stated, list) else [stated]
    return " / ".join(item for item in listed if isinstance(item, str)) or None
