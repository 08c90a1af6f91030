"""A server whose every answer a test writes out: status, headers and bytes. For what happens below the answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Hit:
    """A request as it came."""

    number: int
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Before it is sent."""
    cut: bool = False
    """Whether the connection breaks in the middle of the body."""


def says(content: Any, *, finish: str = "stop", usage: Any = (7, 3), **message: Any) -> Reply:
    """A chat completion."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    body: dict[str, Any] = {
        "id": "1", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }  # fmt: skip
    body["choices"][0]["message"] |= message
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Reply(body=json.dumps(body).encode())


def fails(status: int, message: str = "no", **headers: str) -> Reply:
    """An error, as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "t", "code": None, "param": None}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class ScriptedServer:
    """Answers each request by a function of it."""

    def __init__(self, script: Callable[[Hit], Reply]) -> None:
        self.script = script
        self.hits: list[Hit] = []
        self.in_flight = self.most_in_flight = 0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    hit = Hit(
                        len(outer.hits),
                        self.path,
                        body,
                        {k.lower(): v for k, v in self.headers.items()},
                        time.monotonic(),
                    )
                    outer.hits.append(hit)
                    outer.in_flight += 1
                    outer.most_in_flight = max(outer.most_in_flight, outer.in_flight)
                try:
                    reply = outer.script(hit)
                    outer.stopping.wait(reply.seconds)
                    self.reply(reply)
                except OSError:
                    self.close_connection = True
                finally:
                    with lock:
                        outer.in_flight -= 1

            def reply(self, reply: Reply) -> None:
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply.body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
                self.close_connection = reply.cut or self.close_connection

            def log_message(self, *_: object) -> None:
                pass

        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
