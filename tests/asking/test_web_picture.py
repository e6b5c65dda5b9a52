"""Pictures by address: public hosts alone, checked again at every redirect, in bounded bytes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from llavamed_cli.asking import web_picture
from llavamed_cli.asking.web_picture import fetch_picture
from llavamed_cli.errors import FetchError, LlavamedError, PictureError, UsageError

PUBLIC = "93.184.215.14"
PRIVATE = [
    "127.0.0.1",
    "10.0.0.8",
    "192.168.1.1",
    "172.16.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "100.64.0.1",
    "224.0.0.1",
]
PRIVATE_IPV6 = [
    "::1",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "ff02::1",
]


def body(content: bytes, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    """An answer that comes as a stream, as from a network."""
    return lambda request: httpx.Response(200, content=iter([content]), headers=headers)


class Served:
    """Answers by the host's name; notes where it was asked."""

    def __init__(self, answers: dict[str, httpx.Response | Callable[[httpx.Request], httpx.Response]]) -> None:
        self.answers = answers
        self.asked: list[httpx.Request] = []

    def fetch(self, url: str, addresses: dict[str, list[str]] | None = None, limit: int = 1000) -> bytes:
        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            found = self.answers[request.headers["Host"]]
            return found(request) if callable(found) else found

        known = addresses or {}
        return fetch_picture(
            url,
            resolve=lambda host, port: known.get(host, [PUBLIC]),
            transport=httpx.MockTransport(answer),
            limit=limit,
        )


def test_the_checked_address_is_asked_by_the_hosts_name() -> None:
    served = Served({"example.org": body(b"pixels")})
    assert served.fetch("https://example.org/a.png?signature=s") == b"pixels"
    request = served.asked[0]
    assert (request.url.host, request.extensions["sni_hostname"]) == (PUBLIC, "example.org")
    assert request.url.raw_path == b"/a.png?signature=s"


@pytest.mark.parametrize("address", [*PRIVATE, *PRIVATE_IPV6])
def test_what_only_this_machine_can_reach_is_not_asked(address: str) -> None:
    served = Served({})
    with pytest.raises(FetchError, match="not a public one"):
        served.fetch("https://example.org/a.png", {"example.org": [PUBLIC, address]})
    assert not served.asked


def test_a_redirect_is_followed_as_far_as_it_stays_public_and_encrypted() -> None:
    def to(where: str) -> httpx.Response:
        return httpx.Response(302, headers={"Location": where})

    served = Served({"a.org": to("https://b.org/b.png"), "b.org": body(b"pixels")})
    assert served.fetch("https://a.org/a.png") == b"pixels"
    with pytest.raises(FetchError, match="not a public one"):
        served.fetch("https://a.org/a.png", {"b.org": ["10.0.0.1"]})
    with pytest.raises(UsageError, match="https alone"):
        Served({"a.org": to("http://b.org/b.png")}).fetch("https://a.org/a.png")
    with pytest.raises(FetchError, match="more than 5 redirects"):
        Served({"a.org": lambda request: to("https://a.org/a.png")}).fetch("https://a.org/a.png")
    assert Served({"a.org": lambda r: to("/b") if r.url.path == "/a" else body(b"x")(r)}).fetch("https://a.org/a")


def test_bytes_are_bounded_whether_told_or_not() -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(b"x" * 100 for _ in range(10**9)))

    for answer in (endless, body(b"x", **{"Content-Length": "2000"})):
        with pytest.raises(PictureError, match="more than the"):
            Served({"a.org": answer}).fetch("https://a.org/a.png")


def test_seconds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_picture, "SECONDS", -1.0)
    with pytest.raises(FetchError, match="too slow"):
        Served({"a.org": body(b"x")}).fetch("https://a.org/a.png")


@pytest.mark.parametrize(
    ("url", "fault", "said"),
    [
        ("http://example.org/a.png", UsageError, "https alone"),
        ("https://user:secret@example.org/a.png", UsageError, "password"),
        ("https:///a.png", UsageError, "https alone"),
        ("https://example.org:port/a.png", UsageError, "address cannot be read"),
        ("https://absent.org/a.png?key=secret", FetchError, "answers 404"),
    ],
)
def test_refusals_quote_no_secret(url: str, fault: type[LlavamedError], said: str) -> None:
    with pytest.raises(fault, match=said) as caught:
        Served({"absent.org": httpx.Response(404), "example.org": httpx.Response(200)}).fetch(url)
    assert "secret" not in str(caught.value)


def test_no_network_is_a_sentence() -> None:
    with pytest.raises(FetchError, match=r"host no-such-host\.invalid is not known"):
        fetch_picture("https://no-such-host.invalid/a.png")
    with pytest.raises(FetchError, match="not a public one"):
        fetch_picture("https://localhost/a.png")
    with pytest.raises(FetchError, match="breaks off"):
        Served({"a.org": body(b"half", **{"Content-Length": "9"})}).fetch("https://a.org/a.png")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://" + 70 * "a" + ".org/a.png", UsageError),
        ("https://exämple..org/a.png", UsageError),
        ("https://[::1/a.png", UsageError),
        ("https://example.org:99999/a.png", UsageError),
        ("https://example.org/\x01a.png", FetchError),
    ],
)
def test_an_address_that_is_none_is_said_to_be(url: str, kind: type[LlavamedError]) -> None:
    with pytest.raises(kind, match="cannot be"):
        Served({}).fetch(url)


def test_a_redirect_to_no_address_ends_in_a_sentence() -> None:
    served = Served({"example.org": httpx.Response(302, headers={"Location": "https://a..b/\x7f"})})
    with pytest.raises(LlavamedError, match="cannot be"):
        served.fetch("https://example.org/a.png")
