"""The report in headless Chromium, light and dark: nothing on the console, nothing asked of any server, nothing run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from llavamed_cli.cli.app import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
SCHEMES = {"dark": 0, "light": 1}
"""Chromium's own names of prefers-color-scheme."""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


class Asked(BaseHTTPRequestHandler):
    """Remembers what it is asked."""

    def do_GET(self) -> None:
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """What a hostile answer would reach."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as serving:
        serving.paths = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def attack(server: ThreadingHTTPServer) -> str:
    """An answer that, were it HTML, would run, write on the console and fetch."""
    address = f"http://127.0.0.1:{server.server_address[1]}"
    return (
        f"</bdi></table><img src={address}/picture><style>body {{ background: url({address}/style) }}</style>"
        f"<script>console.log('attacked'); document.title = 'attacked'; fetch('{address}/script')</script>"
    )


def open_page(page: Path, scheme: str, shot: Path) -> tuple[list[str], str]:
    """What a browser writes on its console, and the page's own markup afterwards."""
    assert BROWSER
    profile = page.parent / f"profile-{scheme}"
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
            "--window-size=1000,1400",
            f"--screenshot={shot}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return re.findall(r"CONSOLE[^\n]*", done.stderr), done.stdout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_quiet_and_follows_the_scheme(
    tmp_path: Path, server: ThreadingHTTPServer, attack: str, scheme: str
) -> None:
    Image.new("RGB", (30, 20), "gray").save(tmp_path / "a.png")
    asked = {"id": "1", "image": "a.png", "question": attack, "answer": attack, "question_type": attack[:60]}
    closed = {"id": "2", "image": "a.png", "question": "Is it?", "answer": "yes", "question_type": "PRES"}
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(record) + "\n" for record in (asked, closed)))
    answers = ({"question_id": "1", "text": attack + "x"}, {"question_id": "2", "text": attack})
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(record) + "\n" for record in answers))
    out = tmp_path / "out"
    command = ["eval", f"answers:{tmp_path / 'said.jsonl'}", "--on", str(tmp_path / "bench.jsonl"), "--out", str(out)]
    assert main(command) == 0
    console, markup = open_page(out / "report.html", scheme, tmp_path / "shot.png")
    assert console == []
    assert server.paths == []  # type: ignore[attr-defined]
    assert "<title>Evaluation:" in markup and "&lt;script&gt;" in markup
    corner = Image.open(tmp_path / "shot.png").convert("L").getpixel((2, 2))
    assert isinstance(corner, int) and (corner > 200) == (scheme == "light")


def test_the_attack_would_be_seen(tmp_path: Path, server: ThreadingHTTPServer, attack: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>Evaluation:</title><table><tr><td><bdi>{attack}</bdi>")
    console, markup = open_page(page, "light", tmp_path / "shot.png")
    assert any("attacked" in line for line in console) and "<title>attacked" in markup
    assert {"/picture", "/style"} <= set(server.paths)  # type: ignore[attr-defined]
