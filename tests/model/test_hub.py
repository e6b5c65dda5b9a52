"""Models by hub name: against a server that answers as the hub does, then without it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from llavamed_cli.errors import ModelError
from llavamed_cli.model.hub import hub_name, locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAFE = {
    "config.json": b"{}",
    "model.safetensors": b"tensors",
    "pytorch_model.bin": b"the same, pickled",
    "modeling_evil.py": b"raise SystemExit('ran')",
    "flax_model.msgpack": b"another framework's",
    "checkpoint-5/model.safetensors": b"on the way",
}
PICKLED = {"config.json": b"{}", "pytorch_model.bin": b"pickled", "tokenizer.model": b"words"}
REPOSITORIES = {"owner/safe": SAFE, "owner/pickled": PICKLED}


@dataclass
class Hub:
    """The part of the hub's protocol that a download uses; `asked` holds the files it sent."""

    address: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path).lstrip("/")
        if path.startswith("api/models/"):
            self._describe(handler, path.removeprefix("api/models/"))
            return
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        content = REPOSITORIES.get(name, {}).get(file)
        if content is None or revision not in ("main", "v1", COMMIT):
            self._refuse(handler, "EntryNotFound")
            return
        tag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}
        self._send(handler, 200, content, headers)
        if handler.command == "GET":
            self.asked.append(f"{name}/{file}")

    def _describe(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        owner, short, *rest = path.split("/")
        files = REPOSITORIES.get(f"{owner}/{short}")
        revision = rest[1] if len(rest) > 1 else "main"
        if files is None:
            self._refuse(handler, "GatedRepo" if short == "gated" else "RepoNotFound", 403 if short == "gated" else 404)
        elif revision not in ("main", "v1", COMMIT):
            self._refuse(handler, "RevisionNotFound")
        elif rest and rest[0] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            self._send(handler, 200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
        else:
            siblings = [{"rfilename": name} for name in files]
            told = {"id": f"{owner}/{short}", "sha": COMMIT, "siblings": siblings}
            self._send(handler, 200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _refuse(self, handler: BaseHTTPRequestHandler, code: str, status: int = 404) -> None:
        self._send(handler, status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield served
    server.shutdown()
    server.server_close()


def located(names: list[str], endpoint: str, cache: Path, by: str = "locate", **environment: str) -> list[str]:
    """What `locate` (or `is_here`) says of each name, in a process of its own: the hub's library reads its address
    once."""
    script = (
        "import sys\n"
        "from llavamed_cli.errors import ModelError\n"
        f"from llavamed_cli.model.hub import {by} as ask\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        print(ask(name))\n"
        "    except ModelError as error:\n"
        "        print(error.what)\n"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *names], env=kept | settings, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files_in(folder: str) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def test_a_name_is_fetched_once_without_code_and_found_again_without_a_network(hub: Hub, tmp_path: Path) -> None:
    first = located(["owner/safe", "owner/safe@v1", "owner/pickled"], hub.address, tmp_path)
    assert [Path(folder).name for folder in first] == [COMMIT] * 3
    assert files_in(first[0]) == {name: SAFE[name] for name in ("config.json", "model.safetensors")}
    assert files_in(first[2]) == PICKLED
    assert sorted(hub.asked) == sorted(
        ["owner/safe/config.json", "owner/safe/model.safetensors", *(f"owner/pickled/{name}" for name in PICKLED)]
    )
    nowhere = "http://127.0.0.1:9"
    assert located(["owner/safe", "owner/pickled"], nowhere, tmp_path) == [first[0], first[2]]
    assert located(["owner/safe@v1"], nowhere, tmp_path, HF_HUB_OFFLINE="1") == [first[1]]


def test_what_is_here_is_told_without_asking_anybody(hub: Hub, tmp_path: Path) -> None:
    names = ["owner/safe", "owner/pickled", str(tmp_path), str(tmp_path / "none")]
    assert located(names, hub.address, tmp_path / "hub", by="is_here") == ["False", "False", "True", "False"]
    assert not hub.asked
    located(["owner/safe", "owner/pickled"], hub.address, tmp_path / "hub")
    nowhere = "http://127.0.0.1:9"
    assert located(names[:2], nowhere, tmp_path / "hub", by="is_here") == ["True", "True"]
    next((tmp_path / "hub").rglob("snapshots/*/model.safetensors")).unlink()
    assert located(names[:1], nowhere, tmp_path / "hub", by="is_here") == ["False"]


def test_a_model_may_be_described_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fetch(name: str, *, allow_patterns: list[str], **others: object) -> str:
        asked.extend(allow_patterns)
        return str(tmp_path)

    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert locate("owner/safe", weights=False) == tmp_path
    assert "*.json" in asked and not any("safetensors" in pattern or "bin" in pattern for pattern in asked)


def test_what_the_hub_refuses_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    absent, gated, revision = located(["owner/none", "owner/gated", "owner/safe@v9"], hub.address, tmp_path)
    assert absent == "no such folder here, and no such model on the hub"
    assert gated == "the hub gives this model only to those who accepted its terms"
    assert revision == "the hub's owner/safe has no revision 'v9'"
    assert "the hub cannot be reached" in located(["owner/safe"], hub.address, tmp_path, HF_HUB_OFFLINE="1")[0]


def test_a_local_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name") == Path("owner/name")
    assert hub_name("owner/name") is None
    assert hub_name("owner/other@refs/pr/4") == ("owner/other", "refs/pr/4")


@pytest.mark.parametrize("where", ["./none", "/no/such/place", "~/none", "a/b/c", "one word", "", "../a/b", "tuned"])
def test_what_is_neither_path_nor_name(where: str) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        locate(where)
