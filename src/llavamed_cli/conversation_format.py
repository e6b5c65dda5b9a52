"""The training-data format, read and written in one place: LLaVA's JSON (a list, or one record a line).

    {"id", "image", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", "value": "..."}],
     "modality", "quality", "source": {...}}

Also read: the key `conversatons` as LLaVA-Med's own files misspell it, integer values (VQA files), several images as a
list, and chat records: {"messages": [{"role": "user", "content": ...}, ...]} in OpenAI's and Hugging Face's styles.
Records that break a rule are handed to `on_fault` with file, line and id; the good ones go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from llavamed_cli.errors import DataError
from llavamed_cli.files import read_jsonl
from llavamed_cli.json_list import read_json_list
from llavamed_cli.records import IMAGE_MARKER, Fault, Sample, Source, Speaker, Turn

SPEAKERS: dict[str, Speaker] = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}


def sample_to_json(sample: Sample) -> dict[str, Any]:
    """The record as it stands in align.jsonl and instruct.jsonl; unknown fields are left out."""
    record: dict[str, Any] = {"id": sample.id}
    if sample.images:
        record["image"] = sample.images[0] if len(sample.images) == 1 else list(sample.images)
    record["conversations"] = [{"from": turn.speaker, "value": turn.text} for turn in sample.turns]
    if sample.modality is not None:
        record["modality"] = sample.modality
    if sample.quality is not None:
        record["quality"] = round(sample.quality, 4)
    if sample.source is not None:
        record["source"] = {name: value for name, value in asdict(sample.source).items() if value is not None}
    return record


def read_samples(path: Path, on_fault: Callable[[Fault], None]) -> Iterator[tuple[str, Sample]]:
    """Yield (where, sample) for the good samples of a JSON or JSON Lines file; hand every other record to `on_fault`.

    where: `file:line`, or `file, record N` in a JSON list, for what is found wrong with the sample later.

    Raises:
        UsageError: the file is absent. DataError: a .json file that is no JSON, or no list.
    """
    for where, record in _records(path, on_fault):
        identity = record.get("id")
        try:
            yield where, parse_sample(record)
        except DataError as error:
            on_fault(Fault(where=where, reason=error.what, record_id=None if identity is None else str(identity)))


def parse_sample(record: Mapping[str, Any]) -> Sample:
    """Check one record and turn it into a Sample. Raises DataError with the rule it breaks."""
    turns, images = _chat_turns(record["messages"]) if "messages" in record else (_llava_turns(record), ())
    images = images or _images(record)
    _check_turns(turns)
    _check_markers(turns, images)
    identity, quality = record.get("id"), record.get("quality")
    return Sample(
        id=str(identity) if identity is not None else "".join(images[:1]),
        images=images,
        turns=turns,
        modality=record.get("modality"),
        quality=float(quality) if isinstance(quality, (int, float)) else None,
        source=_source(record.get("source")),
    )


def _records(path: Path, on_fault: Callable[[Fault], None]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() != ".json":
        for line, record in read_jsonl(path, on_fault):
            yield f"{path}:{line}", record
        return
    for index, record in enumerate(read_json_list(path, "training data")):
        where = f"{path}, record {index}"
        if isinstance(record, dict):
            yield where, record
        else:
            on_fault(Fault(where=where, reason=f"expected an object, found {type(record).__name__}"))


def _llava_turns(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    conversation = record.get("conversations", record.get("conversatons"))
    if not isinstance(conversation, list) or not conversation:
        raise DataError("no conversation: expected a list under `conversations` (or chat `messages`)")
    turns = []
    for number, entry in enumerate(conversation, start=1):
        if not isinstance(entry, dict) or "from" not in entry or "value" not in entry:
            raise DataError(f"turn {number}: expected an object with `from` and `value`")
        turns.append(Turn(speaker=_speaker(entry["from"], number), text=_text(entry["value"], number)))
    return tuple(turns)


def _chat_turns(messages: Any) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """Turns and pictures of a chat record; a leading system message is refused, the model's template has its own."""
    if not isinstance(messages, list) or not messages:
        raise DataError("no conversation: `messages` must be a list of messages")
    turns: list[Turn] = []
    images: list[str] = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise DataError(f"message {number}: expected an object with `role` and `content`")
        text, pictures = _content(message["content"], number)
        images.extend(pictures)
        turns.append(Turn(speaker=_speaker(message["role"], number), text=text))
    return tuple(turns), tuple(images)


def _content(content: Any, number: int) -> tuple[str, list[str]]:
    if not isinstance(content, list):
        return _text(content, number), []
    parts: list[str] = []
    images: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            parts.append(_text(part.get("text"), number))
        elif kind in ("image", "image_url"):
            parts.append(IMAGE_MARKER)
            images.extend(_picture_names(part, number))
        else:
            raise DataError(f"message {number}: a content part must have type text, image or image_url")
    return "\n".join(parts), images


def _picture_names(part: Mapping[str, Any], number: int) -> list[str]:
    """The file a content part names; none where the record's own `image` field names it (Hugging Face's style)."""
    url = part.get("image_url")
    name = part.get("image") or part.get("path") or (url.get("url") if isinstance(url, dict) else url)
    if name is None:
        return []
    if not isinstance(name, str) or "://" in name or name.startswith("data:"):
        raise DataError(f"message {number}: a picture must be named by a file, not by an address or its bytes")
    return [name]


def _speaker(name: Any, number: int) -> Speaker:
    speaker = SPEAKERS.get(name) if isinstance(name, str) else None
    if speaker is None:
        raise DataError(f"turn {number}: unknown role {name!r}, expected human or gpt (or user, assistant)")
    return speaker


def _text(value: Any, number: int) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"turn {number}: expected text, found {type(value).__name__}")
    text = str(value).strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"turn {number}: half of a surrogate pair, which is no character") from error
    return text


def _images(record: Mapping[str, Any]) -> tuple[str, ...]:
    value = record.get("image", record.get("images"))
    if value is None:
        return ()
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise DataError("`image` must be a file name, or a list of file names")
    return tuple(names)


def _check_turns(turns: tuple[Turn, ...]) -> None:
    for number, turn in enumerate(turns, start=1):
        expected = "human" if number % 2 else "gpt"
        if turn.speaker != expected:
            raise DataError(f"turn {number}: expected {expected}, found {turn.speaker} (turns alternate, human first)")
        if not turn.text.replace(IMAGE_MARKER, "").strip():
            if turn.speaker == "gpt":
                raise DataError(f"turn {number}: empty answer")
            if IMAGE_MARKER not in turn.text:
                raise DataError(f"turn {number}: empty question")
        if turn.speaker == "gpt" and IMAGE_MARKER in turn.text:
            raise DataError(f"turn {number}: an answer holds {IMAGE_MARKER}")
    if len(turns) % 2:
        raise DataError("the last question has no answer")


def _check_markers(turns: tuple[Turn, ...], images: tuple[str, ...]) -> None:
    markers = sum(turn.text.count(IMAGE_MARKER) for turn in turns)
    if markers != len(images):
        raise DataError(f"{len(images)} image(s) but {markers} {IMAGE_MARKER} marker(s): each image needs exactly one")


def _source(value: Any) -> Source | None:
    if not isinstance(value, dict):
        return None
    known = {field.name for field in fields(Source)}
    kept = {name: item for name, item in value.items() if name in known}
    return Source(**{"kind": "unknown", **kept})
