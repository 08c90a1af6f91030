"""The one client of language models: every call of the project goes through it.

A call is made on an event loop in a thread of its own; whoever asks waits in their own thread. Each turn is reported to
the account (see `accounts`) before anything is made of its answer, and answers that the account knows are not asked for
again. Identical requests that are in flight at once are sent once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np
import openai

from explainers.llm.accounts import current_account
from explainers.llm.budget import Meter, Price, Reservation
from explainers.llm.compact import compact_embeddings, compact_reading, read_embeddings, read_logprobs
from explainers.llm.endpoints import Endpoint
from explainers.llm.flights import Flights, LoopThread
from explainers.llm.lanes import Lane, Lanes
from explainers.llm.limits import ClientStats, Limit
from explainers.llm.retry import Backoff
from explainers.llm.transport import Sent, Transport, given_up
from explainers.llm.types import (
    Abilities,
    Account,
    AnswerError,
    Call,
    CallError,
    EndpointError,
    Form,
    LlmError,
    NotRecordedError,
    RejectedError,
    Reply,
    Request,
    TokenLogprobs,
    Usage,
    request_hash,
)  # fmt: skip
from explainers.llm.wire import (
    InvalidAnswerError,
    chat_body,
    most_tokens,
    read_answer,
    read_reply,
    read_usage,
    repair_body,
    talk_body,
)
from tools.types import FloatArray

T = TypeVar("T")

#: Texts in one request for embeddings.
EMBED_BATCH = 64
#: Seconds that closing waits for calls that were sent, so that what they cost is known.
GRACE = 2.0


@dataclass(frozen=True)
class _Turn(Generic[T]):
    """One body, and what is made of its answer."""

    purpose: str
    path: str
    body: Mapping[str, Any]
    read: Callable[[Mapping[str, Any]], T]
    """Raises InvalidAnswerError."""
    final: Callable[[str], str] | None = None
    """The message of the AnswerError when the answer is invalid; None: a repair turn follows."""
    compact: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """What is kept of an answer. Raises InvalidAnswerError."""
    optional: bool = False


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    call: Call
    value: T | InvalidAnswerError | LlmError


class LlmClient:
    """Asks language models; implements `Llm`. Used from many threads at once.

    Args:
        endpoints: Where one model is served; they share the load. In replay only the model's name counts.
        concurrency: Calls in flight at most at each endpoint; fewer when it is overloaded.
        timeout: Seconds that one attempt may take.
        retries: Further attempts after an endpoint's faults.
        meter: Counts what is spent and stops at limits; None: nothing is limited.
        price: What the endpoints charge; None: costs are not known.
        abilities: What the endpoints were seen to do; None: what their kind can do.
        replay: Answers come from the account alone; nothing is sent.
        backoff: Waits between attempts.

    Raises:
        EndpointError: No endpoint, several models, one that was not started, or a limit in USD without a price.
        KeyMissingError: An endpoint needs a key and the environment has none.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        concurrency: int = 32,
        timeout: float = 120.0,
        retries: int = 6,
        meter: Meter | None = None,
        price: Price | None = None,
        abilities: Abilities | None = None,
        replay: bool = False,
        backoff: Backoff = Backoff(),
    ) -> None:
        models = {endpoint.model for endpoint in endpoints}
        if len(models) != 1:
            found = ", ".join(sorted(models)) or "none"
            raise EndpointError(f"All endpoints of one client must serve the same model; these name {found}.")
        self.model = models.pop()
        self._abilities = abilities or endpoints[0].abilities()
        self._own_service = any(_is_openai(endpoint) for endpoint in endpoints)
        self._price = price
        self._meter = meter or Meter()
        self._replay = replay
        if self._meter.limits.dollars is not None and price is None and not replay:
            raise EndpointError("A limit in USD needs the endpoint's price: set llm.price in the spec.")
        self._thread = LoopThread(max(1, min(32, concurrency)))
        self._lanes = Lanes(
            [] if replay else [_lane(endpoint, concurrency, timeout) for endpoint in endpoints], retries, backoff
        )
        self._transport = Transport(self._lanes, timeout, retries, backoff)
        self._flights = Flights()
        self._gate = asyncio.Lock()
        self._calls = 0

    @property
    def abilities(self) -> Abilities:
        """What the endpoint can do, as it was given or as its kind does."""
        return self._abilities

    @property
    def stats(self) -> ClientStats:
        """What was done so far."""

        async def now() -> None:
            self._lanes.tick()

        if self._thread.running:
            self._thread.run(now())
        clock = self._lanes.clock
        return ClientStats(
            self._calls, self._transport.retried, self._lanes.throttled, clock.in_flight_seconds, clock.limit_seconds
        )

    def ask(self, request: Request, form: type[Form]) -> Form:
        """The answer, in the form asked for; see `Llm`."""
        return self._thread.run(self._ask(current_account(), request, form))

    def ask_all(self, requests: Sequence[Request], form: type[Form]) -> list[Form | LlmError]:
        """Answers to several requests at once, in their order; see `Llm`."""
        account = current_account()
        return self._all([self._ask(account, request, form) for request in requests])

    def talk(self, request: Request, tools: Sequence[Mapping[str, Any]] = ()) -> Reply:
        """The next turn of a conversation in which tools may be asked for; see `Talker`."""
        return self._thread.run(self._talk(current_account(), request, tools))

    def read(self, purpose: str, prompts: Sequence[str], top: int = 20) -> list[tuple[TokenLogprobs, ...] | LlmError]:
        """Log-probabilities over the tokens of each prompt; see `Llm`."""
        if not self._abilities.prompt_logprobs:
            raise AnswerError(f"The endpoint of {self.model} does not offer prompt_logprobs.")
        account = current_account()
        return self._all([self._read(account, purpose, prompt, top) for prompt in prompts])

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Embeddings, [n_texts, width]; see `Llm`.

        Raises:
            AnswerError, CallError: A batch could not be had.
        """
        account = current_account()
        if not texts:
            return np.zeros((0, 0), np.float32)
        batches = [list(texts[at : at + EMBED_BATCH]) for at in range(0, len(texts), EMBED_BATCH)]
        vectors = []
        for outcome in self._all([self._embed(account, batch) for batch in batches]):
            if isinstance(outcome, LlmError):
                raise outcome
            vectors.append(outcome)
        return np.concatenate(vectors)

    def close(self) -> None:
        """Ends calls that were not sent, waits a little for those that were, and closes connections."""

        async def last() -> None:
            await self._flights.close(GRACE)
            for lane in self._lanes.lanes:
                await lane.client.close()

        self._thread.close(last)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all(self, coroutines: Sequence[Any]) -> list[Any]:
        """Results in order, errors of single calls in their places; another error is raised once all have ended."""

        async def together() -> list[Any]:
            return await asyncio.gather(*coroutines, return_exceptions=True)

        outcomes = self._thread.run(together())
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, AnswerError | CallError):
                raise outcome
        return outcomes

    async def _ask(self, account: Account, request: Request, form: type[Form]) -> Form:
        def read(response: Mapping[str, Any]) -> Form:
            return read_answer(response, form, request.max_tokens)

        body = chat_body(
            self.model, request, form, json_schema=self._abilities.json_schema, own_service=self._own_service
        )
        first = _Turn(request.purpose, "/chat/completions", body, read)
        value = await self._turn(account, first)
        if not isinstance(value, InvalidAnswerError):
            return value
        again = replace(
            first, body=repair_body(body, value), final=lambda why: f"No usable answer, even after a repair turn: {why}"
        )
        value = await self._turn(account, again)
        assert not isinstance(value, InvalidAnswerError)
        return value

    async def _talk(self, account: Account, request: Request, tools: Sequence[Mapping[str, Any]]) -> Reply:
        body = talk_body(self.model, request, tools, own_service=self._own_service)
        turn = _Turn(
            request.purpose, "/chat/completions", body, read_reply, final=lambda why: f"No usable answer: {why}"
        )
        value = await self._turn(account, turn)
        assert not isinstance(value, InvalidAnswerError)
        return value

    async def _read(self, account: Account, purpose: str, prompt: str, top: int) -> tuple[TokenLogprobs, ...]:
        body = {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": top}
        turn = _Turn(
            purpose, "/completions", body, lambda kept: read_logprobs(kept, prompt),
            final=lambda why: f"No log-probabilities of the prompt: {why}", compact=compact_reading, optional=True,
        )  # fmt: skip
        value = await self._turn(account, turn)
        assert not isinstance(value, InvalidAnswerError)
        return value

    async def _embed(self, account: Account, batch: list[str]) -> FloatArray:
        body = {"model": self.model, "input": batch, "encoding_format": "float"}
        turn = _Turn(
            "embed", "/embeddings", body, read_embeddings, final=lambda why: f"No embeddings: {why}",
            compact=lambda response: compact_embeddings(response, len(batch)), optional=True,
        )  # fmt: skip
        value = await self._turn(account, turn)
        assert not isinstance(value, InvalidAnswerError)
        return value

    async def _turn(self, account: Account, turn: _Turn[T]) -> T | InvalidAnswerError:
        """What a turn's answer says, or what is wrong with it when a repair turn may follow."""
        key = request_hash(turn.body, account.salt)
        outcome, mine = await self._flights.share(key, lambda: self._lead(account, turn, key))
        if not mine:
            await self._thread.off(account.record, _cached(outcome.call, turn.purpose))
        if isinstance(outcome.value, LlmError):
            raise type(outcome.value)(str(outcome.value))
        return outcome.value

    async def _lead(self, account: Account, turn: _Turn[T], key: str) -> _Outcome[T]:
        """Makes a turn, for all who wait for it, and records it for the first of them."""
        known = await self._thread.off(account.known, key)
        if known is not None and (known.response is not None or self._replay):
            outcome = _judged(_cached(known, turn.purpose), turn)
            await self._thread.off(account.record, outcome.call)
        elif self._replay:
            raise NotRecordedError(
                f"Replay: no answer is recorded for a '{turn.purpose}' request to {self.model} (hash {key[:12]}…).\n"
                "A prompt, the model or a setting has changed since."
            )
        else:
            async with self._sent(turn, key) as call:
                outcome = _judged(call, turn)
                await self._thread.record(account.record, outcome.call)
        return outcome

    @asynccontextmanager
    async def _sent(self, turn: _Turn[T], key: str) -> AsyncIterator[Call]:
        """A call that was made; it is to be put on record in the block, and keeps its slot at the endpoint so long."""
        reservation = await self._reserve(turn.body)
        sending = self._transport.sent(
            turn.path, turn.body, optional=turn.optional, on_sent=lambda: self._flights.sent(key)
        )
        try:
            async with sending as sent:
                usage = read_usage(sent.response or {})
                cost = None if self._price is None or _uncounted(sent) else self._price.of(usage)
                reservation.settle(usage, cost)
                self._calls += 1
                error = None if sent.fault is None else given_up(sent)
                yield Call(
                    purpose=turn.purpose, model=self.model, request_hash=key, request=turn.body, response=sent.response,
                    status="done" if error is None else "failed", error=None if error is None else _named(error),
                    usage=usage, seconds=sent.seconds, cost_usd=cost, attempts=sent.attempts,
                )  # fmt: skip
        finally:
            reservation.release()

    async def _reserve(self, body: Mapping[str, Any]) -> Reservation:
        """Room in the budget. One call at a time waits for it, the others behind."""
        prompt, answer = most_tokens(body)
        dollars = 0.0 if self._price is None else self._price.of(Usage(prompt, answer))
        async with self._gate:
            while True:
                reservation = self._meter.reserve(prompt + answer, dollars)
                if reservation is not None:
                    return reservation
                await asyncio.sleep(0.01)


def _judged(call: Call, turn: _Turn[T]) -> _Outcome[T]:
    """A call with its status and with what is kept of its answer, and what that says."""
    if call.response is None or (call.cached and (call.error or "").startswith(AnswerError.__name__)):
        return _Outcome(call, _recorded_error(call))
    kept = call.response
    try:
        kept = kept if call.cached else turn.compact(kept)
        value = turn.read(kept)
        return _Outcome(replace(call, response=kept, status="done", error=None), value)
    except InvalidAnswerError as wrong:
        if turn.final is None:
            return _Outcome(replace(call, status="failed", error=f"invalid answer: {wrong}"), wrong)
        error = AnswerError(turn.final(str(wrong)))
        return _Outcome(replace(call, response=kept, status="failed", error=_named(error)), error)


def _cached(call: Call, purpose: str) -> Call:
    """A call whose answer was had without sending anything."""
    return replace(call, purpose=purpose, usage=Usage(), seconds=0.0, cost_usd=0.0, attempts=0, cached=True)


def _named(error: LlmError) -> str:
    return f"{type(error).__name__}: {error}"


def _recorded_error(call: Call) -> LlmError:
    """The error that a call without an answer ended with."""
    name, _, message = (call.error or "").partition(": ")
    known = {kind.__name__: kind for kind in (AnswerError, CallError, RejectedError)}
    return known[name](message) if name in known else CallError(call.error or "No answer.")


def _uncounted(sent: Sent) -> bool:
    return sent.response is not None and "usage" not in sent.response


def _is_openai(endpoint: Endpoint) -> bool:
    host = urlsplit(endpoint.url or "").hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _lane(endpoint: Endpoint, concurrency: int, timeout: float) -> Lane:
    if endpoint.url is None:
        raise EndpointError(f"{endpoint} names no URL: it has to be started first, or write {endpoint}@URL.")
    key = endpoint.key()
    http = None
    if endpoint.local:
        # On this machine no proxy stands between, and plain HTTP needs no certificates, which take long to load.
        secure = endpoint.url.startswith("https:")
        http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=secure, follow_redirects=False)
    client = openai.AsyncOpenAI(
        api_key=key or "none", base_url=endpoint.url, max_retries=0, timeout=timeout, http_client=http
    )
    return Lane(endpoint, client, key, Limit(concurrency))
