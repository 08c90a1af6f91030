"""What is asked of a language model, what comes back, and what is told of each call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel

from tools.errors import NeuroglossError
from tools.types import FloatArray

Form = TypeVar("Form", bound=BaseModel)


class LlmError(NeuroglossError):
    """A language model gave no usable answer."""


class AnswerError(LlmError):
    """It answered, but not with what was asked for, even after the repair turn; or it refused. A fault of this call
    alone: others go on."""


class CallError(LlmError):
    """This call got no answer: it timed out, was cut off or was turned away, each time it was tried."""


class RejectedError(CallError):
    """The endpoint says that it can never answer this call: it is too long, or has something that it does not know."""


class EndpointError(LlmError):
    """No call can succeed: the endpoint is down, has no such model, or does not accept the key. The campaign stops."""


class SpentError(LlmError):
    """The budget for calls, tokens or money leaves no room for this call. The campaign stops."""


class NotRecordedError(LlmError):
    """Replay asks for an answer that was never recorded: a prompt, a model or a setting has changed."""


@dataclass(frozen=True)
class ToolCall:
    """What a language model asks a tool for."""

    id: str
    """By which the tool's result names it."""
    name: str
    arguments: str
    """A JSON object, if the model is right; nobody has checked it."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    """'system', 'user', 'assistant', or 'tool' for a tool's result."""
    content: str
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant: the tools that it asks for."""
    result_of: str | None = None
    """Of a tool's result: the id of the call."""


@dataclass(frozen=True)
class Reply:
    """What a language model says in a conversation: words, calls of tools, or both."""

    text: str
    """Empty where it only calls tools, or says nothing."""
    calls: tuple[ToolCall, ...] = ()
    cut: bool = False
    """Whether it was cut off at the limit of tokens."""


@dataclass(frozen=True)
class Request:
    """A chat request for an answer in a given form. Its hash is of what is sent; see `request_hash`."""

    purpose: str
    """What for, as the ledger shows it: 'explain', 'predict', 'detection', …"""
    messages: tuple[Message, ...]
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    """Tells apart samples of one request (best-of-n): each has a seed and so a hash of its own."""
    prompt_digest: str = ""
    """Of the prompt file that the messages were made from."""


@dataclass(frozen=True)
class TokenLogprobs:
    """The model's distribution over the token at one place of a text, as far as the endpoint tells it."""

    token: str
    """The token that is there."""
    logprob: float | None
    """Its log-probability; None for a text's first token."""
    top: Mapping[str, float]
    """Log-probabilities of the likeliest tokens there, by their text."""


@dataclass(frozen=True)
class Abilities:
    """What an endpoint was seen to do."""

    models: tuple[str, ...] = ()
    context: int | None = None
    """Tokens of prompt and answer together, where the endpoint tells."""
    json_schema: bool = False
    choice: bool = False
    logprobs: bool = False
    prompt_logprobs: bool = False
    tools: bool = False
    streaming: bool = False
    embeddings: bool = False


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the endpoint counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's, those that the endpoint took from its prefix cache."""


@dataclass(frozen=True)
class Call:
    """One answered (or given up) call, for the ledger."""

    purpose: str
    model: str
    request_hash: str
    request: Mapping[str, Any]
    """The body that was sent, without any key."""
    response: Mapping[str, Any] | None
    """The answer as it came; None when none came."""
    status: str
    """'done' or 'failed'."""
    error: str | None
    usage: Usage
    seconds: float
    cost_usd: float | None
    """None where no price is known."""
    attempts: int = 1
    """Times it was sent: more than one after a 429, a 5xx, a timeout or a dropped connection."""
    cached: bool = False
    """The answer was known already; nothing was sent and nothing spent."""


class Account(Protocol):
    """Who a call is for. The agent makes one for each attempt at an investigation; the client reports to it.

    It is also where answers that are known already come from. All methods are called from any thread.
    """

    @property
    def salt(self) -> int:
        """Part of each request's hash: the number of attempts that failed before this one, so that a new attempt does
        not meet the very answer that made the last one fail."""
        ...

    def known(self, request_hash: str) -> Call | None:
        """The recorded call of that hash, from any earlier investigation; None when there is none. Of several, one
        that had an answer."""
        ...

    def record(self, call: Call) -> None:
        """Keeps a call for good before anything is made of its answer."""
        ...


@runtime_checkable
class Llm(Protocol):
    """A language model, as explainers, predictors and scorers meet it. Blocking calls, from any thread."""

    model: str

    @property
    def abilities(self) -> Abilities: ...

    def ask(self, request: Request, form: type[Form]) -> Form:
        """The answer, in the form asked for.

        Raises:
            AnswerError: No answer in that form, even after the repair turn.
            CallError, EndpointError, SpentError, NotRecordedError: No answer.
        """
        ...

    def ask_all(self, requests: Sequence[Request], form: type[Form]) -> list[Form | LlmError]:
        """Answers to several requests at once, in their order. An `AnswerError` or `CallError` of one stands in its
        place; any other error is raised."""
        ...

    def read(self, purpose: str, prompts: Sequence[str], top: int = 20) -> list[tuple[TokenLogprobs, ...] | LlmError]:
        """The model's log-probabilities over the tokens of each prompt (`prompt_logprobs`), as `ask_all` gives them.

        Raises:
            AnswerError: The endpoint does not offer them (see `abilities`).
        """
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Embeddings, [n_texts, width], from the same endpoint's `/v1/embeddings`."""
        ...


@runtime_checkable
class Talker(Protocol):
    """A language model, as conversations meet it. Blocking calls, from any thread."""

    model: str

    @property
    def abilities(self) -> Abilities: ...

    def talk(self, request: Request, tools: Sequence[Mapping[str, Any]] = ()) -> Reply:
        """The next turn: words, or calls of the tools that are offered (in OpenAI's format).

        Raises:
            RejectedError: The endpoint does not take the call; it may know no tools.
            AnswerError, CallError, EndpointError, SpentError, NotRecordedError: No answer.
        """
        ...

    def ask(self, request: Request, form: type[Form]) -> Form:
        """The answer, in the form asked for; see `Llm`."""
        ...


def request_hash(body: Mapping[str, Any], salt: int = 0) -> str:
    """SHA-256 (hex) of everything that decides an answer: the body that is sent, model included, and the salt."""
    text = json.dumps([dict(body), salt] if salt else dict(body), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class MemoryAccount:
    """An account that keeps its calls in memory: for tests, benchmarks and single questions."""

    salt: int = 0
    calls: list[Call] = field(default_factory=list)

    def known(self, request_hash: str) -> Call | None:
        """The first call of that hash that had an answer, else the first."""
        calls = [call for call in self.calls if call.request_hash == request_hash]
        return next((call for call in calls if call.response is not None), calls[0] if calls else None)

    def record(self, call: Call) -> None:
        """Keeps it."""
        self.calls.append(call)
