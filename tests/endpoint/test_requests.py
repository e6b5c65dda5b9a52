from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.endpoint.requests import OPENAI_URL, RequestForm
from llavamed_cli.records import Figure, Source


def form(text: str = "", url: str = "http://x/v1", **options: Any) -> Any:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    figure = Figure(id="f", picture=Path("p"), caption=text, source=Source(kind="pairs"))
    return RequestForm(
        **{
            "model": "m",
            "url": url,
            "messages": lambda _: messages,
            "most_written": 1024,
            "likely_written": 350,
            **options,
        }
    ).request(figure)


def test_the_key_is_of_what_shapes_the_answer() -> None:
    keys = {
        form("a").key,
        form("b").key,
        form("a", url="http://y/v1").key,
        form("a", model="n").key,
        form("a", reasoning=True).key,
    }
    assert len(keys) == 5
    assert form("a").key == form("a").key


def test_a_reasoning_model_takes_no_temperature_and_has_room_to_think() -> None:
    body = form("a", reasoning=True).body
    assert "temperature" not in body and "max_tokens" not in body
    assert body["max_completion_tokens"] == form("a", reasoning=True).bound.written > 4096
    assert "max_tokens" not in form("a", url=OPENAI_URL).body


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A byte-level BPE with no merges at all: no tokenizer of that kind makes more tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    return made


@given(text=st.text(max_size=300))
def test_the_bound_holds_for_the_worst_tokenizer(tokenizer: Any, text: str) -> None:
    request = form(text)
    sent = [message["content"] for message in request.body["messages"]]
    assert sum(len(tokenizer.encode(content).ids) for content in sent) <= request.bound.read
