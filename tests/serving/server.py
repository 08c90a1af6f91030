"""An OpenAI-compatible server for tests: a mind answers, and every token is accounted for.

    with ProgrammableServer() as server:
        server.faults = Faults(0.3)
        ...
        server.billed.prompt_tokens

It runs on 127.0.0.1 in a thread; `tests.serving.process` has it in a process of its own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving.answers import Answer, answer_chat, answer_completion, answer_embeddings
from tests.serving.chat import Chat
from tests.serving.faults import TRANSPORT, Faults
from tests.serving.minds import Competent, Mind
from tests.serving.tokens import PrefixCache, token_id

ABILITIES = frozenset({"json_schema", "choice", "logprobs", "prompt_logprobs", "tools", "streaming", "embeddings"})


@dataclass(frozen=True)
class Bill:
    """What was delivered in full and so is paid for."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompts', those known from the beginning of an earlier prompt."""

    def dollars(self, prompt: float, completion: float, cached: float | None = None) -> float:
        """The price, from prices in USD for a million tokens."""
        plain = self.prompt_tokens - self.cached_tokens
        cached_price = prompt if cached is None else cached
        return (plain * prompt + self.cached_tokens * cached_price + self.completion_tokens * completion) / 1e6


@dataclass(frozen=True)
class Seen:
    """One request as it came, and what became of it."""

    path: str
    body: Mapping[str, Any]
    attempt: int
    """How often the very same body came before."""
    fault: str | None
    status: int
    delivered: bool
    """Whether an answer arrived in full."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def dollars(self, prompt: float, completion: float, cached: float | None = None) -> float:
        """The price of this one; see `Bill.dollars`."""
        return Bill(1, self.prompt_tokens, self.completion_tokens, self.cached_tokens).dollars(
            prompt, completion, cached
        )


class ProgrammableServer:
    """The server; use it as a context manager.

    Args:
        mind: What answers.
        model: The one name that it serves.
        latency: Seconds that each answer takes.
        faults: What goes wrong.
        key: Required as `Authorization: Bearer KEY`; None asks for none.
        abilities: What it offers; without 'prompt_logprobs' they are left out in silence, as servers do.
        context: Tokens of prompt and answer that it says it takes, and takes.
        port: 0 for any that is free.
        keep: Requests kept in `requests`, the latest.
    """

    def __init__(
        self,
        mind: Mind | None = None,
        *,
        model: str = "test-model",
        latency: float = 0.0,
        faults: Faults | None = None,
        key: str | None = None,
        abilities: frozenset[str] = ABILITIES,
        context: int = 32_768,
        port: int = 0,
        keep: int = 1_000_000,
    ) -> None:
        self.mind: Mind = mind if mind is not None else Competent()
        self.model, self.latency, self.key = model, latency, key
        self.faults = faults if faults is not None else Faults()
        self.abilities, self.context = abilities, context
        self.billed = Bill()
        self.requests: deque[Seen] = deque(maxlen=keep)
        self.in_flight, self.most_in_flight = 0, 0
        self.dies_after: int | None = None
        """Answers after which it dies: connections break off, new ones are refused, until `start`."""
        self._port = port
        self._attempts: Counter[int] = Counter()
        self._cache = PrefixCache()
        self._storm = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it is, with `/v1`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> Self:
        """Begins to listen; on the port that it had before, when it was stopped."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        config = uvicorn.Config(self.app(), log_level="critical", access_log=False, lifespan="off", backlog=4096)
        server = uvicorn.Server(config)
        self._server, self.in_flight = server, 0
        self._thread = threading.Thread(target=server.run, args=([listening],), name="programmable-server", daemon=True)
        self._thread.start()
        while not server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server for tests did not start")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """Breaks off all connections and listens no more."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join(10)
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def chats(self) -> list[Chat]:
        """The chat requests that came, for a look at their prompts."""
        return [Chat(seen.body, seen.attempt) for seen in list(self.requests) if seen.path == "/v1/chat/completions"]

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/health", self._health),
                Route("/stats", self._stats),
                Route("/v1/chat/completions", self._answer, methods=["POST"]),
                Route("/v1/completions", self._answer, methods=["POST"]),
                Route("/v1/embeddings", self._answer, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> Response:
        if not self._may(request):
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        one = {"id": self.model, "object": "model", "owned_by": "tests", "max_model_len": self.context}
        return JSONResponse({"object": "list", "data": [one]})

    async def _health(self, request: Request) -> Response:
        return Response()

    async def _stats(self, request: Request) -> Response:
        bill = {name: getattr(self.billed, name) for name in Bill.__dataclass_fields__}
        return JSONResponse({**bill, "in_flight": self.in_flight, "most_in_flight": self.most_in_flight})

    def _may(self, request: Request) -> bool:
        return self.key is None or request.headers.get("authorization") == f"Bearer {self.key}"

    async def _answer(self, request: Request) -> Response:
        path, raw = request.url.path, await request.body()
        if not self._may(request):
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        try:
            body = await request.json()
        except ValueError:
            return _error(400, "The body is not JSON.", "invalid_request_error")
        if body.get("model") != self.model:
            return _error(404, f"The model `{body.get('model')}` does not exist.", "model_not_found")
        same = token_id(f"{path} {raw.decode()}")
        attempt = self._attempts[same]
        self._attempts[same] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        seen = Seen(path, body, attempt, self._fault(path, body, attempt), 0, False)
        try:
            return await self._deliver(request, seen)
        except BaseException:
            self._done(seen)
            raise

    def _fault(self, path: str, body: Mapping[str, Any], attempt: int) -> str | None:
        fault = self.faults.of(path, body, attempt)
        if self._storm > 0:
            self._storm -= 1
            return "429"
        if fault == "429":
            self._storm = self.faults.storm - 1
        return fault

    async def _deliver(self, request: Request, seen: Seen) -> Response:
        if seen.fault == "429":
            self._done(replace(seen, status=429))
            response = _error(429, "Rate limit reached.", "rate_limit_exceeded")
            response.headers["Retry-After"] = f"{self.faults.retry_after:g}"
            return response
        if seen.fault == "hang":
            until = time.monotonic() + self.faults.hang
            while time.monotonic() < until and not await request.is_disconnected():
                await asyncio.sleep(0.02)
            self._done(seen)
            return _Broken(b"")
        if self.latency:
            await asyncio.sleep(self.latency)
        if seen.fault == "500":
            self._done(replace(seen, status=500))
            return _error(500, "Internal server error.", "server_error")
        answer = self._made(seen)
        if answer.status != 200:
            self._done(replace(seen, status=answer.status))
            return _error(answer.status, str(answer.content), "invalid_request_error")
        if seen.fault == "reset":
            self._done(seen)
            return _Broken(answer.body(), answer.media_type)
        return _Delivery(self, request, seen, answer)

    def _made(self, seen: Seen) -> Answer:
        fault = None if seen.fault in TRANSPORT else seen.fault
        if seen.path == "/v1/chat/completions":
            return answer_chat(
                self.mind, Chat(seen.body, seen.attempt), fault, self.abilities, self.context, self._cache
            )
        if seen.path == "/v1/completions":
            return answer_completion(self.mind, seen.body, fault, self.abilities, self.context)
        return answer_embeddings(seen.body, fault, self.abilities)

    def delivered(self, seen: Seen, answer: Answer) -> None:
        """Bills an answer that has been sent in full."""
        bill = self.billed
        self.billed = Bill(
            bill.answers + 1, bill.prompt_tokens + answer.prompt_tokens,
            bill.completion_tokens + answer.completion_tokens, bill.cached_tokens + answer.cached_tokens,
        )  # fmt: skip
        self._done(
            replace(
                seen, status=200, delivered=True, prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens, cached_tokens=answer.cached_tokens,
            )
        )  # fmt: skip
        if self.dies_after is not None and self.billed.answers >= self.dies_after and self._server is not None:
            self.dies_after = None
            self._server.should_exit = self._server.force_exit = True

    def gone(self, seen: Seen) -> None:
        """Notes that a client did not wait for its answer."""
        self._done(seen)

    def _done(self, seen: Seen) -> None:
        self.in_flight -= 1
        self.requests.append(seen)


class _Delivery(Response):
    """Sends an answer, and bills it when the client was there to the end."""

    def __init__(self, server: ProgrammableServer, request: Request, seen: Seen, answer: Answer) -> None:
        super().__init__()
        self._parts = (server, request, seen, answer)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        server, request, seen, answer = self._parts
        if await request.is_disconnected():
            return server.gone(seen)
        body = answer.body()
        headers = [(b"content-type", answer.media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # Billed before the last byte leaves: whoever has read the answer finds it on the bill.
        server.delivered(seen, answer)
        await send({"type": "http.response.body", "body": body})
        return None


class _Broken(Response):
    """Promises a body, sends half of it and breaks off the connection."""

    def __init__(self, body: bytes, media_type: str = "application/json") -> None:
        super().__init__()
        self._body, self._type = body, media_type

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length = str(len(self._body) + 100).encode()
        headers = [(b"content-type", self._type.encode()), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body[: len(self._body) // 2], "more_body": True})
        # Returning before the body is whole makes uvicorn close the connection.


def _error(status: int, message: str, code: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": code, "code": code, "param": None}}, status)
