"""What is typed and cannot be done is said before any work starts; short names are safe names of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.answerers.answerer import parse_who
from llavamed_cli.evaluation.plan import EvalPlan, ServerOptions, name_answerers, name_benchmarks


def plan(*who: str, served: bool = False, **server: Any) -> EvalPlan:
    return EvalPlan(
        whos=name_answerers(who, served=served),
        benchmarks=name_benchmarks(["phantoms:2"]),
        out=Path("out"),
        images=None,
        train=None,
        limit=None,
        missing="error",
        max_new_tokens=8,
        batch_size=1,
        device="cpu",
        seed=0,
        server=ServerOptions(**server),
    )


@pytest.mark.parametrize(
    ("option", "value"), [("base_url", "http://127.0.0.1:1/v1"), ("budget", 1.0), ("price", (1.0, 1.0))]
)
def test_an_option_of_servers_where_none_is_asked_is_refused(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} is for servers"):
        plan("majority", **{option: value})
    assert getattr(plan("majority", "openai:m", **{option: value}).server, option) == value


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--budget is 0"):
        plan("openai:m", budget=0.0)


@pytest.mark.parametrize(
    ("text", "served", "kind", "target", "blind"),
    [
        ("openai:gpt-4o", False, "server", "gpt-4o", False),
        ("blind:openai:gpt-4o", False, "server", "gpt-4o", True),
        ("openai:Qwen/Qwen2.5-VL-7B:free", False, "server", "Qwen/Qwen2.5-VL-7B:free", False),
        ("llava", True, "server", "llava", False),
        ("someone/llava", True, "server", "someone/llava", False),
        ("someone/llava", False, "model", "someone/llava", False),
        ("blind:llava", True, "server", "llava", True),
        ("majority", True, "majority", "", False),
        ("nearest", True, "nearest", "", False),
    ],
)
def test_who_is_read(text: str, served: bool, kind: str, target: str, blind: bool) -> None:
    who = parse_who(text, served=served)
    assert (who.text, who.kind, who.target, who.blind) == (text, kind, target, blind)


def test_a_folder_here_stays_a_model_here_beside_a_server(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert parse_who(str(tmp_path), served=True).kind == "model"


@pytest.mark.parametrize("text", ["blind:majority", "blind:nearest", "blind:blind:openai:m", "openai:", "blind:", ":x"])
def test_what_is_no_answerer_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_who(text)


@pytest.mark.parametrize(
    "text", ["openai:..", "openai:../../etc", "openai:/", "openai:a/..", "openai:a b", "openai:.x"]
)
def test_a_short_name_is_a_name_of_one_folder(text: str) -> None:
    (name,) = name_answerers([text])
    assert Path("answers", name).parent == Path("answers") and name.strip(".") and not name.startswith(".")


def test_namesakes_are_numbered() -> None:
    assert list(name_answerers(["openai:a/m", "openai:b/m", "blind:openai:b/m"])) == ["m", "m-2", "blind:m"]
