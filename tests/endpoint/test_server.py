from __future__ import annotations

import pytest

from llavamed_cli.endpoint.requests import OPENAI_URL
from llavamed_cli.endpoint.server import Endpoint, record_fault, require_key, resolve_url
from llavamed_cli.errors import UsageError


def test_the_address_is_the_one_given_or_the_environments_or_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert resolve_url(None) == OPENAI_URL
    assert resolve_url("http://localhost:1/v1/") == "http://localhost:1/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert resolve_url(None) == "http://elsewhere/v1"
    assert resolve_url("http://localhost:1/v1") == "http://localhost:1/v1"


def test_a_password_in_the_address_is_not_told() -> None:
    assert Endpoint(None, "https://me:secret@host:8443/v1", "m", "none").told == "host:8443"  # type: ignore[arg-type]
    assert Endpoint(None, "https://host/v1", "m", "none").told == "host"  # type: ignore[arg-type]
    assert Endpoint(None, "http://[::1]:8000/v1", "m", "none").told == "[::1]:8000"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["http://localhost:abc/v1", "http://localhost:99999/v1", "http://[::1/v1", "ftp://x", "x", "http://me:pw@h:x/"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError) as told:
        require_key("m", url)
    assert "pw" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "code", "said", "is_records"),
    [
        (400, "", "This model's maximum context length is 2048 tokens", True),
        (400, "context_length_exceeded", "x", True),
        (400, "content_filter", "x", True),
        (413, "", "x", True),
        (400, "", "Unsupported value: 'temperature'", False),
        (401, "content_filter", "x", False),
        (500, "", "context length", False),
    ],
)
def test_which_errors_are_one_records(status: int, code: str, said: str, is_records: bool) -> None:
    assert (record_fault(status, code, said) is not None) == is_records
