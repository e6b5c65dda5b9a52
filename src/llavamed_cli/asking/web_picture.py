"""A picture by its address: https alone, from a public host, in a bounded number of bytes and seconds.

An address may be anything that somebody else wrote, so it must not reach what only this machine can: every host is
looked up once, refused if any of its addresses is not public, and connected to by the address that was checked, also
after each redirect. Proxies are not used, since they look hosts up themselves.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from llavamed_cli import __version__
from llavamed_cli.errors import FetchError, LlavamedError, PictureError, UsageError, first_line

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 256 * 2**20
MAX_REDIRECTS = 5
SECONDS = 120.0
"""For all of it: a server that sends a byte a minute does not hold a terminal for ever."""
STEP_SECONDS = 15.0
SAVE_IT = "Save it to a file with a browser or curl, and name that."
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]


def fetch_picture(
    url: str, *, resolve: Resolve | None = None, transport: httpx.BaseTransport | None = None, limit: int = MAX_BYTES
) -> bytes:
    """The bytes at an https address, at most `limit` of them.

    Args:
        resolve: looks up a host's addresses. transport: what carries requests. Both are the system's but in tests.

    Raises:
        UsageError: no https address. FetchError: a host that is not public, or that does not serve the picture.
        PictureError: more bytes than the limit.
    """
    import httpx

    deadline = time.monotonic() + SECONDS
    headers = {
        "User-Agent": f"llavamed/{__version__}",
        "Accept": "image/*, application/dicom",
        "Accept-Encoding": "identity",
    }
    timeout = httpx.Timeout(STEP_SECONDS)
    with httpx.Client(headers=headers, timeout=timeout, trust_env=False, transport=transport) as client:
        here = url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with closing(_get(client, here, resolve or _addresses)) as response:
                    if response.is_redirect:
                        here = urljoin(here, response.headers.get("Location", ""))
                        continue
                    return _body(response, told(here), limit, deadline)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise FetchError(f"cannot be fetched: {first_line(error)}", where=told(here), hint=SAVE_IT) from error
    raise FetchError(f"more than {MAX_REDIRECTS} redirects", where=told(url), hint=SAVE_IT)


def told(url: str) -> str:
    """An address without what may be secret in it: a password, a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _get(client: httpx.Client, url: str, resolve: Resolve) -> httpx.Response:
    """Ask the address that was checked, by the host's name in TLS and in the request."""
    import httpx

    host, port = _host_and_port(url)
    addresses = resolve(host, port)
    if not addresses or not all(_is_public(address) for address in addresses):
        raise FetchError(
            "this host is not a public one; pictures are not fetched from within a network", where=told(url)
        )
    failure: httpx.HTTPError | None = None
    for address in addresses:
        asked = httpx.URL(url).copy_with(host=address)
        name = httpx.URL(url).netloc.decode("ascii")
        request = client.build_request("GET", asked, headers={"Host": name}, extensions={"sni_hostname": host})
        try:
            return client.send(request, stream=True)
        except httpx.ConnectError as error:  # the next address may be reached
            failure = error
    assert failure is not None
    raise failure


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        named = (host or "").encode("idna").decode("ascii")  # a label that is empty or too long is no name
    except ValueError:
        raise UsageError("a picture's address cannot be read: expected https://host/path") from None
    if parts.scheme != "https" or not host:
        raise UsageError(
            f"pictures are fetched by https alone, not {parts.scheme or 'this'}", where=told(url), hint=SAVE_IT
        )
    if parts.username or parts.password:
        raise UsageError("an address with a password in it is not used", where=told(url), hint=SAVE_IT)
    return named, port or 443


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise FetchError(
            f"the host {host} is not known here: {error.strerror or error}", hint="Is there a network?"
        ) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_public(address: str) -> bool:
    """Whether an address is one that anybody can reach, also where it wraps another one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return _is_public(str(ip.ipv4_mapped))
        if ip in NAT64:
            return _is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour is not None or ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


def _body(response: httpx.Response, where: str, limit: int, deadline: float) -> bytes:
    if response.status_code != 200:
        raise FetchError(
            f"the server answers {response.status_code} {response.reason_phrase}", where=where, hint=SAVE_IT
        )
    too_much: LlavamedError = PictureError(
        f"more than the {limit // 2**20} MiB that are fetched", where=where, hint=SAVE_IT
    )
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_much
    body = bytearray()
    for block in response.iter_raw():
        body += block
        if len(body) > limit:
            raise too_much
        if time.monotonic() > deadline:
            raise FetchError(f"the server is too slow: not done after {SECONDS:.0f} seconds", where=where, hint=SAVE_IT)
    if length.isdecimal() and len(body) < int(length):
        raise FetchError("the picture breaks off", where=where, hint=SAVE_IT)
    return bytes(body)
