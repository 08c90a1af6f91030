"""What the tests of the client share: a form, a mind that fills it in, requests, and clients that retry quickly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from explainers.llm.client import LlmClient
from explainers.llm.endpoints import Endpoint, parse_endpoint
from explainers.llm.retry import Backoff
from explainers.llm.types import Message, Request
from tests.serving import Chat, Competent

QUICK = Backoff(base=0.01, cap=0.05)


class Number(BaseModel):
    """What the tests ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: int
    note: str | None = Field(default=None, max_length=50)


class Echo(Competent):
    """Answers with the number in the question."""

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        return {"value": int(chat.body["messages"][1]["content"].split()[-1]), "note": None}


def request(number: int = 1, purpose: str = "explain", **more: Any) -> Request:
    """A request that `Echo` answers with the number."""
    messages = (Message("system", "You repeat numbers."), Message("user", f"Repeat {number}"))
    return Request(purpose, messages, **more)


def endpoint(url: str, kind: str = "vllm", model: str = "test-model") -> Endpoint:
    """An endpoint on this machine."""
    return parse_endpoint(f"{kind}:{model}@{url}")


def client(*urls: str, **settings: Any) -> LlmClient:
    """A client that retries quickly."""
    return LlmClient([endpoint(url) for url in urls], **{"timeout": 5.0, "backoff": QUICK, **settings})
