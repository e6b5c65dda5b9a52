"""Training data on the way in: records become token ids and masks, once; faults are collected before step one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llavamed_cli.conversation_format import read_samples
from llavamed_cli.corpus.engine import Processes
from llavamed_cli.errors import DataError
from llavamed_cli.files import file_sha256, fingerprint
from llavamed_cli.json_list import read_json_list
from llavamed_cli.model.chat import ChatFormat, picture_first
from llavamed_cli.model.rendering import Renderer
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault, Sample
from llavamed_cli.training.data_files import DataFile, find_data
from llavamed_cli.training.example_store import EncodedSample, open_store
from llavamed_cli.training.examples import Example, ExampleSet
from llavamed_cli.training.picture_check import check_pictures
from llavamed_cli.training.store_writer import StoreWriter, cache_folder, new_store

__all__ = ["DataFile", "Example", "ExampleSet", "find_data", "read_examples", "show_sample"]

BLOCK = 512
"""Records encoded at a time."""
RECORDS_ALONE = 4_096
"""Beyond these, every processor helps: to start them takes as long as to encode some thousands of records."""
MOST_WORKERS = 32
SIZE_TOLD = 10 * 2**20
PICTURES_SEEN = "pictures.seen"

Record = tuple[str, Sample, DataFile]
"""Where it stands, what it says, and the file it came from."""


def read_examples(
    files: Sequence[DataFile],
    chat: ChatFormat,
    *,
    image_length: int,
    context: int,
    progress: Progress,
    cache: Path | None = None,
) -> ExampleSet:
    """Read, check and encode every sample, and open every picture once, so that no fault waits for step 10,000.

    The second time, what was encoded is found again, and only pictures that changed are opened.

    Args:
        image_length: tokens of a picture. context: the most tokens the model can read.
        cache: the folder of encoded samples; None for `cache_folder()`.

    Raises:
        UsageError, DataError: a file that is absent or no JSON; a cache that cannot be written.
    """
    files = [DataFile(path=file.path, images=file.images.absolute()) for file in files]
    encoder = Encoder(chat, image_length, context)
    folder = (cache or cache_folder()) / _key(files, encoder)
    store = open_store(folder)
    if store is None:
        with new_store(folder, image_token=chat.image_token_id, image_length=image_length) as writer:
            _write(writer, files, encoder, progress)
        store = open_store(folder)
        if store is None:
            raise DataError("encoded samples were written and cannot be read again", where=str(folder))
        if store.size > SIZE_TOLD:
            progress.note(f"{store.size / 2**20:,.0f} MB of encoded samples are kept in {folder}")
    return ExampleSet(store, check_pictures(store.pictures, folder / PICTURES_SEEN, progress))


@dataclass(frozen=True)
class Encoder:
    """What turns records into samples for one model; it may be sent to other processes."""

    chat: ChatFormat
    image_length: int
    context: int

    def encode_block(self, block: Sequence[Record | Fault]) -> list[EncodedSample | Fault]:
        """Encode records in order; one that cannot be becomes a fault, and faults stay as they are."""
        return [one if isinstance(one, Fault) else self._sample_or_fault(*one) for one in block]

    def _sample_or_fault(self, where: str, sample: Sample, file: DataFile) -> EncodedSample | Fault:
        try:
            return self._encode(where, sample, file)
        except DataError as error:
            return Fault(where=where, record_id=sample.id, reason=error.what)

    def _encode(self, where: str, sample: Sample, file: DataFile) -> EncodedSample:
        import numpy

        encoded = self.chat.encode([picture_first(turn) for turn in sample.turns], [1] * len(sample.images))
        ids = numpy.asarray(encoded.input_ids, dtype="<i4")
        learned = numpy.asarray(encoded.supervised, dtype=bool)
        unfolded = len(sample.images) * (self.image_length - 1)
        length = len(ids) + unfolded
        if length > self.context:
            raise DataError(f"{length} tokens, more than the model's context of {self.context}")
        places = numpy.flatnonzero(ids == self.chat.image_token_id)
        prefix = int(places[-1]) + 1 if len(places) else 0
        return EncodedSample(
            id=sample.id,
            where=where,
            tokens=numpy.where(learned, ~ids, ids).tobytes(),
            length=length,
            prefix=prefix + unfolded if prefix and not learned[:prefix].any() else 0,
            supervised=int(learned[1:].sum()),
            pictures=tuple(str(file.picture(name)) for name in sample.images),
        )


def _write(writer: StoreWriter, files: Sequence[DataFile], encoder: Encoder, progress: Progress) -> None:
    blocks = _blocks(_read(files))
    with progress.bar("encoding samples", None) as bar:
        for block in chain(map(encoder.encode_block, islice(blocks, RECORDS_ALONE // BLOCK)), _shared(blocks, encoder)):
            for one in block:
                if isinstance(one, Fault):
                    writer.fault(one)
                else:
                    writer.add(one)
            bar.advance(len(block))


def _read(files: Sequence[DataFile]) -> Iterator[Record | Fault]:
    """Records and faults in the order of the files."""
    for file in files:
        faults: list[Fault] = []
        for where, sample in read_samples(file.path, faults.append):
            yield from faults
            faults.clear()
            yield where, sample, file
        yield from faults


def _blocks(records: Iterator[Record | Fault]) -> Iterator[list[Record | Fault]]:
    while block := list(islice(records, BLOCK)):
        yield block


def _shared(blocks: Iterator[list[Record | Fault]], encoder: Encoder) -> Iterator[list[EncodedSample | Fault]]:
    """Encode what is left in several processes, if anything is. The tokenizer reaches each through a file, once."""
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    block = next(blocks, None)
    if block is None:
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "encoder"
        file.write_bytes(pickle.dumps(encoder))
        yield from Processes(workers).map(partial(_encode_block, file), chain([block], blocks))


def _encode_block(encoder: Path, block: list[Record | Fault]) -> list[EncodedSample | Fault]:
    return _opened(encoder).encode_block(block)


@lru_cache(maxsize=1)
def _opened(encoder: Path) -> Encoder:
    found: Encoder = pickle.loads(encoder.read_bytes())
    return found


def _key(files: Sequence[DataFile], encoder: Encoder) -> str:
    """A name for what would be encoded: data, picture folders, tokenizer, template, sizes, and the code at work."""
    tokenizer: Any = encoder.chat.tokenizer
    code = (sys.modules[one.__module__] for one in (read_samples, read_json_list, ChatFormat, Renderer, Encoder))
    told = [
        [[str(file.path), str(file.images), fingerprint(file.path)] for file in files],
        [tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, encoder.chat.template],
        [encoder.image_length, encoder.context, version("tokenizers"), version("transformers")],
        [file_sha256(Path(module.__file__)) for module in code if module.__file__],
    ]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:32]


def show_sample(example: Example, decode: Callable[[list[int]], str]) -> list[tuple[str, bool]]:
    """An example as pieces of text, each supervised or not, in order; a picture's tokens are one piece."""
    pieces: list[tuple[str, bool]] = []
    start = 0
    flags = example.supervised
    for index in range(1, len(flags) + 1):
        if index == len(flags) or flags[index] != flags[start]:
            pieces.append((decode(example.input_ids[start:index].tolist()), bool(flags[start])))
            start = index
    return pieces
