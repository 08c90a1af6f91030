"""What an endpoint can do, found out by trying: one small request of each shape that this work sends.

Every request asks for something that no model says unasked, so that a server which takes a schema, a choice or a tool
and passes over it is told from one that heeds it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explainers.llm.compact import compact_embeddings, compact_reading, read_logprobs
from explainers.llm.endpoints import Endpoint, EndpointNameError, parse_endpoint
from explainers.llm.retry import Kind, NotJsonError, fault_of
from explainers.llm.types import Abilities, EndpointError
from explainers.llm.wire import InvalidAnswerError, read_answer, read_text, strict_schema

_CHOICES = ("basalt", "quartz")
_PROMPT = "One, two, three, four."
_LIMIT = 256
"""Tokens of an answer, at most."""


class _Stone(BaseModel):
    """What is asked for under a schema: nobody says this by chance."""

    model_config = ConfigDict(extra="forbid")
    stone: Literal["basalt", "quartz"]
    weight: int = Field(ge=0, le=9)


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    name: str
    """A field of `Abilities`, or 'models' or 'chat'."""
    works: bool
    told: str
    """What came back, or why it does not work; one line."""
    sent: Mapping[str, Any] = field(default_factory=dict)
    """The body that was sent."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """What an endpoint was seen to do."""

    url: str
    model: str
    abilities: Abilities
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether it answers chat requests at all, without which nothing can be asked of it."""
        return any(f.name == "chat" and f.works for f in self.findings)

    def of(self, name: str) -> Finding:
        """The finding of that name."""
        return next(f for f in self.findings if f.name == name)


class _FailedError(Exception):
    """A trial did not come out as it should; the message says why."""


class _Trial:
    """Requests to one endpoint."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        if endpoint.url is None:
            raise EndpointError(f"{endpoint} names no URL: it has to be started first, or write {endpoint}@URL.")
        self.url = endpoint.url
        self.model = endpoint.model
        self._key = endpoint.key()
        http = None
        if endpoint.local:
            # On this machine no proxy stands between, and plain HTTP needs no certificates, which take long to load.
            http = openai.DefaultHttpxClient(trust_env=False, verify=endpoint.url.startswith("https:"))
        self.client = openai.OpenAI(
            api_key=self._key or "none", base_url=endpoint.url, max_retries=0, timeout=timeout, http_client=http
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def clean(self, text: str) -> str:
        """One line, without the key."""
        line = " ".join(text.split())
        return line if self._key is None else line.replace(self._key, "***")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a body."""
        return _object(self.client.post(path, cast_to=str, body=body))

    def models(self) -> list[dict[str, Any]]:
        """What it serves.

        Raises:
            EndpointError: Nothing answers, or it does not accept the key.
        """
        try:
            listed = _object(self.client.get("/models", cast_to=str)).get("data")
        except (openai.OpenAIError, NotJsonError) as error:
            fault = fault_of(error)
            if fault.kind is Kind.DENIED:
                told = self.clean(fault.message)
                raise EndpointError(f"{self.url} does not accept the key, or asks for one ({told}).") from None
            if fault.kind in (Kind.UNREACHABLE, Kind.SLOW):
                raise EndpointError(f"Nothing answers at {self.url}: {self.clean(fault.message)}.") from None
            raise _FailedError(self.clean(fault.message)) from None
        return [m for m in listed if isinstance(m, dict) and "id" in m] if isinstance(listed, list) else []


def list_models(url: str, *, timeout: float = 10.0) -> list[dict[str, Any]]:
    """Models at a URL, as the endpoint tells them; 'id' is the name, 'max_model_len' (vLLM) the context.

    Raises:
        EndpointError: Nothing answers, it does not accept the key, or it lists none.
    """
    with _Trial(_endpoint(url), timeout) as trial:
        try:
            found = trial.models()
        except _FailedError as error:
            raise EndpointError(f"{trial.url} lists no models: {error}.") from None
    if not found:
        raise EndpointError(f"{trial.url} lists no models.")
    return found


def check(url: str, model: str | None = None, *, timeout: float = 120.0) -> Report:
    """Tries everything, one after another.

    Args:
        url: The endpoint's base, with or without /v1. Its key is taken from the environment.
        model: Which of its models. None: the first it lists.
        timeout: Seconds that each request may take.

    Raises:
        EndpointError: Nothing answers, the key is not accepted, or there is no such model.
    """
    with _Trial(_endpoint(url, model), timeout) as trial:
        findings: list[Finding] = []
        names: tuple[str, ...] = ()
        context: int | None = None
        began = time.monotonic()
        try:
            found = trial.models()
        except _FailedError as error:
            if model is None:
                raise EndpointError(f"{trial.url} lists no models ({error}): name one with --model.") from None
            findings.append(Finding("models", False, str(error), {"GET": "/models"}, time.monotonic() - began))
        else:
            names = tuple(str(m["id"]) for m in found)
            if not names or (model is not None and model not in names):
                there = ", ".join(names[:5]) or "none"
                raise EndpointError(f"{trial.url} has no model '{model or ''}'. It has: {there}.")
            trial.model = model or names[0]
            told = next((m.get("max_model_len") for m in found if m["id"] == trial.model), None)
            context = told if isinstance(told, int) else None
            many = f"{len(names)} models, " if len(names) > 1 else ""
            length = f"context {context:,} tokens" if context else "its context length is not told"
            text = f"{many}{trial.model}: {length}"
            findings.append(Finding("models", True, text, {"GET": "/models"}, time.monotonic() - began))
        findings += [_try(trial, name, body, path, judge) for name, path, body, judge in _trials()]
        findings.append(_try_streaming(trial))
    works = {f.name: f.works for f in findings}
    abilities = Abilities(
        models=names, context=context, json_schema=works["json_schema"], choice=works["choice"],
        logprobs=works["logprobs"], prompt_logprobs=works["prompt_logprobs"], tools=works["tools"],
        streaming=works["streaming"], embeddings=works["embeddings"],
    )  # fmt: skip
    return Report(trial.url, trial.model, abilities, tuple(findings))


def _endpoint(url: str, model: str | None = None) -> Endpoint:
    if "@" in url:  # which would be taken for the end of the model's name, and shown
        raise EndpointNameError("The URL must hold no user or password: keys come from the environment.")
    return parse_endpoint(f"openai:{model or 'any'}@{url}")


Judge = Callable[[dict[str, Any]], str]
"""What an answer shows; raises `_FailedError`, `InvalidAnswerError` or the errors of looking into it."""


def _trials() -> list[tuple[str, str, dict[str, Any], Judge]]:
    schema = {"name": "stone", "strict": True, "schema": strict_schema(_Stone)}
    tool = {
        "name": "weigh", "description": "Weighs a stone.", "parameters": strict_schema(_Stone), "strict": True,
    }  # fmt: skip
    return [
        ("chat", "/chat/completions", {**_chat("Say hello."), "max_tokens": 8}, _has_text),
        ("json_schema", "/chat/completions",
         {**_chat("Say hello."), "response_format": {"type": "json_schema", "json_schema": schema}}, _fits_schema),
        ("choice", "/chat/completions",
         {**_chat("Say hello."), "structured_outputs": {"choice": list(_CHOICES)}}, _is_choice),
        ("logprobs", "/chat/completions",
         {**_chat("Say hello."), "max_tokens": 4, "logprobs": True, "top_logprobs": 5}, _has_logprobs),
        ("prompt_logprobs", "/completions",
         {"prompt": _PROMPT, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 5}, _has_prompt_logprobs),
        # At temperature 1: a model that has not learned to call tools gets out of loops that way.
        ("tools", "/chat/completions",
         {**_chat("Weigh the stone: it is quartz."), "temperature": 1.0, "seed": 0,
          "tools": [{"type": "function", "function": tool}],
          "tool_choice": {"type": "function", "function": {"name": "weigh"}}}, _calls_tool),
        ("embeddings", "/embeddings", {"input": ["one", "two"], "encoding_format": "float"}, _has_embeddings),
    ]  # fmt: skip


def _chat(text: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": "You answer in few words."}, {"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": _LIMIT, "temperature": 0.0}


def _try(trial: _Trial, name: str, body: Mapping[str, Any], path: str, judge: Judge) -> Finding:
    sent = {"model": trial.model, **body}
    began = time.monotonic()
    try:
        works, told = True, judge(trial.post(path, sent))
    except (openai.OpenAIError, NotJsonError) as error:
        works, told = False, fault_of(error).message
    except (_FailedError, InvalidAnswerError) as error:
        works, told = False, str(error)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        works, told = False, f"the answer has not the form of OpenAI's ({type(error).__name__}: {error})"
    return Finding(name, works, trial.clean(told), {"POST": path, **sent}, time.monotonic() - began)


def _try_streaming(trial: _Trial) -> Finding:
    body = {**_chat("Say hello."), "max_tokens": 16}
    sent = {"POST": "/chat/completions", "model": trial.model, **body, "stream": True}
    began = time.monotonic()
    try:
        events = trial.client.chat.completions.create(
            model=trial.model, messages=body["messages"], max_tokens=16, temperature=0.0, stream=True
        )
        pieces, finish = 0, None
        for event in events:
            for choice in event.choices[:1]:
                pieces += bool(choice.delta.content)
                finish = choice.finish_reason or finish
        works = finish is not None
        told = f"{pieces} pieces" if works else f"the stream broke off after {pieces} pieces"
    except openai.OpenAIError as error:
        works, told = False, fault_of(error).message
    except (ValueError, TypeError, AttributeError) as error:
        works, told = False, f"what came is no stream of events ({type(error).__name__})"
    return Finding("streaming", works, trial.clean(told), sent, time.monotonic() - began)


def _has_text(answer: dict[str, Any]) -> str:
    content = answer["choices"][0]["message"]["content"]
    if not isinstance(content, str):
        raise _FailedError("the answer has no text")
    usage = answer.get("usage") or {}
    if not usage:
        return "it answers, but does not count tokens: costs will not be known"
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return "it answers and counts tokens" + ("" if cached is None else ", those of cached prompts too")


def _fits_schema(answer: dict[str, Any]) -> str:
    try:
        return f"answered {read_answer(answer, _Stone, _LIMIT).model_dump_json()}"
    except InvalidAnswerError as error:
        raise _FailedError(f"took the schema, but answered {_said(answer)}: {error}") from None


def _is_choice(answer: dict[str, Any]) -> str:
    said = read_text(answer, _LIMIT).strip()
    if said not in _CHOICES:
        raise _FailedError(f"answered {_said(answer)} instead of one of {', '.join(_CHOICES)}")
    return f"answered '{said}'"


def _has_logprobs(answer: dict[str, Any]) -> str:
    told = answer["choices"][0].get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    if not content or not content[0].get("top_logprobs"):
        raise _FailedError("answered, but without log-probabilities")
    return f"the {len(content[0]['top_logprobs'])} likeliest of each token"


def _has_prompt_logprobs(answer: dict[str, Any]) -> str:
    tokens = read_logprobs(compact_reading(answer), _PROMPT)
    if len(tokens) < 2 or any(token.logprob is None for token in tokens[1:]):
        raise _FailedError("log-probabilities of some of the prompt's tokens are missing")
    return f"of all {len(tokens)} tokens of a prompt"


def _calls_tool(answer: dict[str, Any]) -> str:
    calls = answer["choices"][0]["message"].get("tool_calls") or []
    if not calls:
        raise _FailedError(f"answered {_said(answer)} instead of calling the tool")
    function = calls[0]["function"]
    try:
        _Stone.model_validate_json(function["arguments"])
    except ValidationError:
        raise _FailedError(
            f"called {function['name']} with {str(function['arguments'])[:80]!r}, which does not fit"
        ) from None
    return f"called {function['name']}({function['arguments']})"


def _has_embeddings(answer: dict[str, Any]) -> str:
    return f"of width {compact_embeddings(answer, 2)['shape'][1]}"


def _said(answer: dict[str, Any]) -> str:
    content = answer["choices"][0]["message"].get("content")
    return repr(content[:60]) if content else "nothing"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise NotJsonError("what came is not JSON") from None
    if not isinstance(value, dict):
        raise NotJsonError("what came is not a JSON object")
    return value
