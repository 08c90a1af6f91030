"""A finished campaign's calls to language models, and how many of their tokens a prefix cache would know.

The rule is vLLM's: blocks of 16 tokens that an earlier prompt of the same campaign began with, too. Calls are taken in
the order in which they were answered. Nothing is ever dropped from the cache, so a small cache reaches less.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

import store
from store import schema
from tests.serving.tokens import PrefixCache, chat_tokens, pieces


class Tokenizer(Protocol):
    """Counts tokens of prompts."""

    name: str

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[str] | Sequence[int]:
        """Tokens of a conversation, those of its template among them."""
        ...

    def text(self, text: str) -> Sequence[str] | Sequence[int]:
        """Tokens of a text."""
        ...


class Served:
    """As the programmable server counts."""

    name = "pieces of the programmable server"

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """See `Tokenizer.chat`."""
        return chat_tokens(messages)

    def text(self, text: str) -> Sequence[str]:
        """See `Tokenizer.text`."""
        return pieces(text)


class Folder:
    """A tokenizer of transformers, with its chat template where it has one."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.name = folder.name
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """See `Tokenizer.chat`."""
        if self._tokenizer.chat_template:
            shown = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        else:
            shown = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return self.text(shown)

    def text(self, text: str) -> Sequence[int]:
        """See `Tokenizer.text`."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


class Tekken:
    """Mistral's tokenizer of 131,072 tokens, which the package mistral-common brings along."""

    name = "tekken (mistral-common)"

    def __init__(self) -> None:
        import mistral_common
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer

        file = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
        self._tokenizer = Tekkenizer.from_file(file)

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """See `Tokenizer.chat`. A turn's beginning and end are a token each, which numbers below zero stand for."""
        out: list[int] = [-1]
        for message in messages:
            out += [-2, *self.text(str(message["content"])), -3]
        return out

    def text(self, text: str) -> Sequence[int]:
        """See `Tokenizer.text`."""
        return list(self._tokenizer.encode(text, bos=False, eos=False))


def tokenizer_of(name: str | None) -> Tokenizer:
    """The tokenizer that is meant: None for the server's, 'tekken', or a folder."""
    if name is None:
        return Served()
    return Tekken() if name == "tekken" else Folder(Path(name))


@dataclass(frozen=True)
class CallTokens:
    """One call that was sent."""

    investigation: int | None
    polarity: str | None
    control: bool
    purpose: str
    asker: str
    prompt: int
    """Tokens of its prompt, by the tokenizer that was chosen."""
    cacheable: int
    """Of these, those that an earlier prompt of the campaign began with."""
    completion: int
    billed: int
    """Tokens of prompt and answer as the endpoint counted them, all attempts together."""
    failed: bool


def calls_of(db: store.Database, campaign: str, tokenizer: Tokenizer) -> Iterator[CallTokens]:
    """All calls that a campaign sent, in the order in which they were answered."""
    call, job = schema.LlmCall, schema.Investigation
    query = (
        sa.select(call, job.control)
        .join(job, job.id == call.investigation_id)
        .where(job.campaign_id == store.get_campaign(db, campaign).id, call.attempts > 0)
        .order_by(call.id)
    )
    cache = PrefixCache()
    with db.session() as session:
        for row, control in session.execute(query).yield_per(500):
            tokens = _prompt(row.request, tokenizer)
            answer = tokenizer.text(_answer(row.response))
            yield CallTokens(
                row.investigation_id, row.polarity, control is not None, row.purpose, row.asker or "", len(tokens),
                cache.seen(tokens), len(answer), row.prompt_tokens + row.completion_tokens, row.status == "failed",
            )  # fmt: skip


def _prompt(body: Mapping[str, Any], tokenizer: Tokenizer) -> Sequence[str] | Sequence[int]:
    if "messages" in body:
        return tokenizer.chat(body["messages"])
    texts = body.get("prompt", body.get("input", ""))
    return tokenizer.text(texts if isinstance(texts, str) else "\n".join(map(str, texts)))


def _answer(response: Mapping[str, Any] | None) -> str:
    if not response or "choices" not in response:
        return ""
    parts = [choice.get("message", {}).get("content") or choice.get("text") or "" for choice in response["choices"]]
    return "".join(part if isinstance(part, str) else json.dumps(part) for part in parts)
