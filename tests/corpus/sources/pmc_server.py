"""A local server that behaves as the PMC Cloud Service and NCBI's ESearch do, with faults on demand, and a log.

Serves what it was given: `put` an object, `add_article`, `add_inventory`; `fail` queues faults for a key. A listing's
key is "?prefix=PREFIX", the search's is "esearch.fcgi".
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from typing_extensions import Self

BUCKET = "pmc-oa-opendata"
BLOCK = 1024
INVENTORIES = f"inventory-reports/{BUCKET}/metadata/"


@dataclass(frozen=True, kw_only=True)
class ServedFault:
    """What goes wrong with one answer.

    cut: bytes after which the connection is closed. wrong: the body's first byte is another one. pause: seconds
    between blocks. body: in the place of the object's.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    wrong: bool = False
    pause: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """A line of the log. form: what was posted. at: seconds, of the monotonic clock."""

    key: str
    status: int
    headers: Mapping[str, str]
    form: Mapping[str, str]
    at: float


class PmcServer:
    """Runs from `with` to its end. resumes: whether it honours Range; on_block: called after each block it sends."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.log: list[Request] = []
        self.found: list[int] = []
        self.page = 1_000
        self.resumes = True
        self.on_block: Callable[[], None] = lambda: None
        self.pause = 0.0
        self._faults: defaultdict[str, deque[ServedFault]] = defaultdict(deque)
        self._forever: dict[str, ServedFault] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler, self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, key: str, data: bytes) -> str:
        """Add an object; returns its address as metadata gives it."""
        self.objects[key] = data
        self.etags[key] = hashlib.md5(data).hexdigest()
        return f"s3://{BUCKET}/{key}?md5={self.etags[key]}"

    def add_article(
        self, number: int, xml: bytes, pictures: Mapping[str, bytes], *, version: int = 1, **metadata: Any
    ) -> str:
        """Add an article version with its files; returns its name, e.g. "PMC7.1". metadata: overrides."""
        name = f"PMC{number}.{version}"
        record = {
            "pmcid": f"PMC{number}",
            "version": version,
            "pmid": None,
            "doi": None,
            "title": "A title",
            "citation": f"Journal of {number}",
            "license_code": "CC BY",
            "is_pmc_openaccess": True,
            "is_manuscript": False,
            "is_historical_ocr": False,
            "is_retracted": False,
            "xml_url": self.put(f"{name}/{name}.xml", xml),
            "pdf_url": None,
            "text_url": None,
            "media_urls": [self.put(f"{name}/{file}", data) for file, data in pictures.items()],
        }
        data = json.dumps(record | metadata).encode()
        self.put(f"metadata/{name}.json", data)
        self.put(f"{name}/{name}.json", data)
        return name

    def add_inventory(self, stamp: str, *shards: list[str]) -> None:
        """Add an inventory whose shards list these keys."""
        files = []
        for number, keys in enumerate(shards):
            rows = "".join(f'"{BUCKET}","{key}","2026-11-01T00:00:00.000Z","{number:032x}"\n' for key in keys)
            packed = gzip.compress(rows.encode(), mtime=0)
            key = f"{INVENTORIES}data/{stamp}-{number}.csv.gz"
            self.put(key, packed)
            files.append({"key": key, "size": len(packed), "MD5checksum": hashlib.md5(packed).hexdigest()})
        manifest = {
            "sourceBucket": BUCKET,
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, LastModifiedDate, ETag",
            "files": files,
        }
        self.put(f"{INVENTORIES}{stamp}/manifest.json", json.dumps(manifest).encode())
        self.put(f"{INVENTORIES}hive/dt={stamp}/symlink.txt", b"")

    def fail(self, key: str, *faults: ServedFault, forever: bool = False) -> None:
        """Let the next answers for `key` go wrong, one after the other; or all, as the first of `faults` says."""
        if forever:
            self._forever[key] = faults[0]
        else:
            self._faults[key].extend(faults)

    def asked(self, since: int = 0) -> Counter[str]:
        """How often each key was asked for, from that place of the log on."""
        return Counter(request.key for request in self.log[since:])

    def next_fault(self, key: str) -> ServedFault:
        with self._lock:
            waiting = self._faults[key]
            return waiting.popleft() if waiting else self._forever.get(key, ServedFault(pause=self.pause))

    def listing(self, prefix: str, token: str | None) -> bytes:
        """ListObjectsV2 with delimiter=/, a page of it."""
        below = {key[: key.index("/", len(prefix)) + 1] for key in self.objects if _is_below(key, prefix)}
        folders = sorted(folder for folder in below if token is None or folder > token)
        page, more = folders[: self.page], folders[self.page :]
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in page)
        next_page = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{next_page}{prefixes}"
            "</ListBucketResult>"
        ).encode()

    def search(self, form: Mapping[str, str]) -> bytes:
        """ESearch: whatever the term, `found`, a page of it."""
        start = int(form.get("retstart", 0))
        page = self.found[start : start + min(int(form.get("retmax", 20)), self.page)]
        result = {"count": str(len(self.found)), "retstart": str(start), "idlist": [str(number) for number in page]}
        return json.dumps({"header": {"type": "esearch"}, "esearchresult": result}).encode()


def _is_below(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and "/" in key[len(prefix) :]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], pmc: PmcServer) -> None:
        super().__init__(address, handler)
        self.pmc = pmc

    def handle_error(self, *_: Any) -> None:
        return  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if query.get("list-type") == "2":
            token = query.get("continuation-token")
            self._answer(f"?prefix={query['prefix']}", self.server.pmc.listing(query["prefix"], token), {})
        else:
            key = unquote(address.path.removeprefix("/"))
            self._answer(key, self.server.pmc.objects.get(key), {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        key = self.path.removeprefix("/")
        self._answer(key, self.server.pmc.search(form) if key == "esearch.fcgi" else None, form)

    def _answer(self, key: str, data: bytes | None, form: dict[str, str]) -> None:
        pmc = self.server.pmc
        fault = pmc.next_fault(key)
        data = data if fault.body is None else fault.body
        status = 404 if data is None and fault.status == 200 else fault.status
        headers, start = dict(fault.headers), 0
        if status == 200 and data is not None:
            etag = f'"{pmc.etags[key]}"' if key in pmc.etags else None
            if etag:
                headers.setdefault("ETag", etag)
            start = self._start(etag) if pmc.resumes else 0
            if start >= len(data) > 0:
                status, data = 416, b""
            elif start:
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
        pmc.log.append(Request(key=key, status=status, headers=dict(self.headers), form=form, at=time.monotonic()))
        body = (data or b"")[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(bytes([body[0] ^ 1]) + body[1:] if fault.wrong else body, fault)

    def _start(self, etag: str | None) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(asked[1]) if asked and self.headers.get("If-Range") in (None, etag) else 0

    def _send(self, body: bytes, fault: ServedFault) -> None:
        stream = io.BytesIO(body if fault.cut is None else body[: fault.cut])
        while block := stream.read(BLOCK):
            self.wfile.write(block)
            self.wfile.flush()
            self.server.pmc.on_block()
            time.sleep(fault.pause)
        if fault.cut is not None:
            self.close_connection = True
