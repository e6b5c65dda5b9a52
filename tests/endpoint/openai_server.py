"""A scripted OpenAI-compatible server: chat completions, files and batches; it counts what it is asked and what it
charges, honours Idempotency-Key, and misbehaves on demand. Also a program:  python openai_server.py --seconds 1
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """How a request is answered instead. body: an object, or text as it is. close: the connection, half-way.

    charged: it is paid for all the same. Otherwise the next request with its key is looked at anew.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    seconds: float = 0.0
    close: bool = False
    charged: bool = False


@dataclass
class Charge:
    read: int = 0
    written: int = 0


Script = Callable[[dict[str, Any], int], Fault | None]
"""From a request's body, and how often this key has come, from 1."""


def error(status: int, message: str, code: str | None = None, **headers: str) -> Fault:
    """An error as OpenAI words it."""
    body = {"error": {"message": message, "type": "scripted", "code": code, "param": None}}
    return Fault(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def words_of(content: Any) -> str:
    """A message's words; a picture beside them is `[picture]`."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] if part["type"] == "text" else "[picture]" for part in content)


def dialogue(body: dict[str, Any]) -> str:
    """What the server answers: two exchanges that quote the last message."""
    asked = words_of(body["messages"][-1]["content"])
    return f"User: What is seen?\nAssistant: {asked}\n\nUser: Anything else?\nAssistant: Nothing else of note."


class ScriptedServer:
    """See the module. honours_keys: a key that was answered is answered again for nothing."""

    def __init__(self, script: Script | None = None, *, seconds: float = 0.0, honours_keys: bool = True) -> None:
        self.script: Script = script or (lambda body, times: None)
        self.batch_script: Callable[[int], str] = lambda number: "completed"
        self.line_script: Callable[[dict[str, Any], int], Fault | None] = lambda body, batch: None
        self.reply: Callable[[dict[str, Any]], str] = dialogue
        self.usage = True
        self.stream_cut: int | None = None
        self.stream_seconds = 0.0
        self.events: Callable[[dict[str, Any]], Iterable[Any]] | None = None
        """What a stream sends instead: objects, bytes as they are, or seconds to wait."""
        self.wire: list[bytes] = []
        """All that came, line by line: a request's first line, its headers, its body."""
        self.polls_until_done = 1
        self.seconds = seconds
        self.honours_keys = honours_keys
        self.charges: list[tuple[str, Charge]] = []
        self.batch_charges: list[tuple[str, Charge]] = []
        self.sent: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.seen_headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.call_script: Callable[[str, int], Fault | None] = lambda call, times: None
        self._answers: dict[str, str] = {}
        self._busy: set[str] = set()
        self.lock = threading.Condition()
        self._http = _HttpServer(("127.0.0.1", 0), _Handler)
        self._http.scripted = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @contextmanager
    def running(self) -> Iterator[ScriptedServer]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()

    def charged(self) -> Counter[str]:
        """How often each key was charged."""
        return Counter(key for key, _ in [*self.charges, *self.batch_charges])

    def cost(self, read: float, written: float) -> float:
        """US dollars, at prices per million tokens, batches at half."""
        full = sum(charge.read * read + charge.written * written for _, charge in self.charges)
        half = sum(charge.read * read + charge.written * written for _, charge in self.batch_charges)
        return (full + half / 2) / 1e6

    def complete(self, body: dict[str, Any]) -> tuple[dict[str, Any], Charge]:
        text = self.reply(body)
        read = sum(len(words_of(message["content"]).encode()) for message in body["messages"]) // 4 + 8
        most = body.get("max_tokens") or body["max_completion_tokens"]
        charge = Charge(read, min(most, len(text.encode()) // 4 + 1))
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }
        if self.usage:
            completion["usage"] = {
                "prompt_tokens": charge.read,
                "completion_tokens": charge.written,
                "total_tokens": charge.read + charge.written,
            }
        return completion, charge

    def chat(self, body: dict[str, Any], key: str) -> Fault:
        """Answer a chat call. A key under way is waited for; one that was answered costs nothing again."""
        with self.lock:
            self.sent[key] += 1
            self.bodies[key] = body
            times = self.sent[key]
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            if self.honours_keys:
                self.lock.wait_for(lambda: key not in self._busy)
                if key in self._answers:
                    self.in_flight -= 1
                    return Fault(200, self._answers[key])
                self._busy.add(key)
        try:
            fault = self.script(body, times)
            if fault is None:
                completion, charge = self.complete(body)
                with self.lock:
                    self.charges.append((key, charge))
                time.sleep(self.seconds)
                fault = Fault(200, json.dumps(completion))
                with self.lock:
                    self._answers[key] = fault.body
            else:
                if fault.charged:
                    with self.lock:
                        self.charges.append((key, self.complete(body)[1]))
                time.sleep(fault.seconds)
            return fault
        finally:
            with self.lock:
                self.in_flight -= 1
                self._busy.discard(key)
                self.lock.notify_all()

    def create_batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        number = len(self.batches)
        status = self.batch_script(number)
        made: dict[str, Any] = {
            "id": f"batch_{number}",
            "object": "batch",
            "status": "validating",
            "polls": 0,
            "becomes": status,
            "created_at": number,
            "endpoint": wanted["endpoint"],
            "completion_window": wanted["completion_window"],
            "input_file_id": wanted["input_file_id"],
            "metadata": wanted.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
        }
        self.batches[made["id"]] = made
        if status == "failed":
            failure = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
            made["errors"] = {"object": "list", "data": [failure]}
            return made
        output, errors = [], []
        lines = [json.loads(line) for line in self.files[wanted["input_file_id"]][1].splitlines()]
        stop = len(lines) // 2 if status in ("expired", "cancelled") else len(lines)
        for place, line in enumerate(lines):
            key = line["custom_id"]
            self.bodies[key] = line["body"]
            record: dict[str, Any] = {"id": f"r{place}", "custom_id": key, "response": None, "error": None}
            if place >= stop:
                record["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append(json.dumps(record))
                continue
            self.sent[key] += 1
            fault = self.line_script(line["body"], number)
            if fault is None:
                completion, charge = self.complete(line["body"])
                self.batch_charges.append((key, charge))
                record["response"] = {"status_code": 200, "request_id": "q", "body": completion}
                output.append(json.dumps(record))
                continue
            if fault.charged:
                self.batch_charges.append((key, self.complete(line["body"])[1]))
            record["response"] = {"status_code": fault.status, "request_id": "q", "body": fault.body}
            text = json.dumps(record)
            (output if fault.status == 200 else errors).append(text[: len(text) // 2] if fault.close else text)
        for name, written in (("output", output), ("error", errors)):
            if written:
                made[f"{name}_file_id"] = f"file-{name}-{number}"
                self.files[f"file-{name}-{number}"] = (f"{name}.jsonl", "\n".join(written).encode())
        return made

    def call(self, method: str, path: str, body: bytes, kind: str) -> Fault:
        """Answer anything but a chat call."""
        name = f"{method} {re.sub(r'(batch_|file-)[^/]+', 'ID', path)}"
        with self.lock:
            self.calls[name] += 1
            fault = self.call_script(name, self.calls[name])
            if fault is not None and not fault.charged:
                return fault
            answer = self._call(method, path, body, kind)
            return fault or answer  # a fault that is charged: done all the same

    def _call(self, method: str, path: str, body: bytes, kind: str) -> Fault:
        if path == "/v1/files" and method == "POST":
            name, content = _uploaded(body, kind)
            made = f"file-{len(self.files)}"
            self.files[made] = (name, content)
            return Fault(200, _file(made, name, content))
        if path == "/v1/files":
            found = [_file(made, *file) for made, file in reversed(self.files.items())]
            return Fault(200, {"object": "list", "data": found, "has_more": False})
        if (match := re.fullmatch(r"/v1/files/([^/]+)/content", path)) and match[1] in self.files:
            return Fault(200, self.files[match[1]][1].decode(), kind="application/octet-stream")
        if path == "/v1/batches" and method == "POST":
            return Fault(200, _shown(self.create_batch(json.loads(body))))
        if path == "/v1/batches":
            found = [_shown(made) for made in reversed(self.batches.values())]
            return Fault(200, {"object": "list", "data": found, "has_more": False})
        if (match := re.fullmatch(r"/v1/batches/([^/]+)", path)) and match[1] in self.batches:
            made = self.batches[match[1]]
            made["polls"] += 1
            if made["polls"] > self.polls_until_done:
                made["status"] = made["becomes"]
            return Fault(200, _shown(made))
        return error(404, f"no such thing: {path}")


def _file(made: str, name: str, content: bytes) -> dict[str, Any]:
    about = {"bytes": len(content), "created_at": 0, "purpose": "batch", "status": "processed"}
    return {"id": made, "object": "file", "filename": name, **about}


def _shown(made: dict[str, Any]) -> dict[str, Any]:
    done = made["status"] == made["becomes"]
    hidden = {"polls", "becomes"} | (set() if done else {"output_file_id", "error_file_id", "errors"})
    return {name: value for name, value in made.items() if name not in hidden}


def _uploaded(body: bytes, kind: str) -> tuple[str, bytes]:
    boundary = re.search(r'boundary="?([^";]+)', kind)
    assert boundary
    for part in body.split(b"--" + boundary[1].encode()):
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb'filename="([^"]+)"', head):
            return name[1].decode(), content.removesuffix(b"\r\n")
    raise AssertionError("no file in the upload")


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    scripted: ScriptedServer

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        scripted = self.server.scripted
        with scripted.lock:
            scripted.seen_headers.append({name.lower(): value for name, value in self.headers.items()})
            scripted.wire.append(f"{self.requestline}\n{self.headers}".encode() + body)
        if path == "/v1/chat/completions":
            asked = json.loads(body)
            fault = scripted.chat(asked, self.headers.get("Idempotency-Key") or repr(asked))
            if asked.get("stream") and fault.status == 200 and isinstance(fault.body, str) and fault.body[:1] == "{":
                if scripted.events is not None:
                    self._send_events(scripted.events(asked))
                else:
                    self._stream(json.loads(fault.body), scripted, logprobs=asked.get("logprobs", False))
            else:
                self._answer(fault)
        else:
            self._answer(scripted.call("POST", path, body, self.headers.get("Content-Type", "")))

    def do_GET(self) -> None:
        self._answer(self.server.scripted.call("GET", urlsplit(self.path).path, b"", ""))

    def _answer(self, fault: Fault) -> None:
        text = fault.body if isinstance(fault.body, str) else "" if fault.body is None else json.dumps(fault.body)
        content = text.encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", fault.kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault.close else content)
        if fault.close:
            self.wfile.flush()
            self.close_connection = True

    def _stream(self, completion: dict[str, Any], scripted: ScriptedServer, *, logprobs: bool) -> None:
        """A completion as server-sent events, a word each; `stream_cut` ends it there, without an end."""
        self._begin_stream()
        text = completion["choices"][0]["message"]["content"]
        words = re.findall(r"\S+\s*", text)
        for number, word in enumerate(words):
            if number == scripted.stream_cut:
                return
            choice: dict[str, Any] = {"index": 0, "delta": {"content": word}, "finish_reason": None, "logprobs": None}
            if logprobs:
                top = [
                    {"token": "Yes", "logprob": -0.25, "bytes": None},
                    {"token": " no", "logprob": -2.0, "bytes": None},
                ]
                choice["logprobs"] = {"content": [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": top}]}
            self._event({**completion, "object": "chat.completion.chunk", "choices": [choice]})
            time.sleep(scripted.stream_seconds)
        last = {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}
        self._event({**completion, "object": "chat.completion.chunk", "choices": [last]})
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _send_events(self, events: Iterable[Any]) -> None:
        self._begin_stream()
        for event in events:
            if isinstance(event, float):
                time.sleep(event)
            elif isinstance(event, bytes):
                self.wfile.write(b"data: " + event + b"\n\n")
                self.wfile.flush()
            else:
                self._event(event)

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        return


def main() -> None:
    """Serve until stopped; the first line on stdout is the address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0)
    server = ScriptedServer(seconds=parser.parse_args().seconds)
    print(server.url, flush=True)
    with server.running():
        threading.Event().wait()


if __name__ == "__main__":
    main()
