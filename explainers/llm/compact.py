"""Answers that are not chat, kept small: log-probabilities of a prompt's tokens, and embeddings.

What is read out of an answer is always read out of what is kept of it, so that a recorded answer gives the same values
as a fresh one.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from explainers.llm.types import TokenLogprobs
from explainers.llm.wire import InvalidAnswerError
from tools.types import FloatArray

#: Digits of a log-probability that are kept.
_DIGITS = 5


def compact_reading(response: Mapping[str, Any]) -> dict[str, Any]:
    """A completion with `prompt_logprobs`, as it is kept: without the generated token, packed.

    vLLM gives one entry a token, None for the first, else {token id: {logprob, rank, decoded_token}}; the token that
    is there comes first, then the likeliest.

    Raises:
        InvalidAnswerError: There are none.
    """
    try:
        entries = response["choices"][0].get("prompt_logprobs")
        entries = response.get("prompt_logprobs") if entries is None else entries
        tokens = [None if entry is None else _entry(list(entry.values())) for entry in entries or ()]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise InvalidAnswerError("its prompt_logprobs cannot be read.") from None
    if not tokens:
        raise InvalidAnswerError("it has no prompt_logprobs.")
    packed = base64.b64encode(zlib.compress(json.dumps(tokens, separators=(",", ":")).encode(), 6)).decode()
    return {**_head(response), "prompt_logprobs": packed, "packed": "base64 of zlib of JSON: [token, logprob, top]"}


def _entry(found: list[Mapping[str, Any]]) -> list[Any]:
    """[token, logprob, {token: logprob}]; of two tokens that read the same, the likelier counts."""
    top: dict[str, float] = {}
    for one in found:
        text, logprob = one["decoded_token"], round(one["logprob"], _DIGITS)
        top[text] = max(logprob, top.get(text, logprob))
    return [found[0]["decoded_token"], round(found[0]["logprob"], _DIGITS), top]


def read_logprobs(kept: Mapping[str, Any], prompt: str) -> tuple[TokenLogprobs, ...]:
    """The log-probabilities of a prompt's tokens, out of what `compact_reading` keeps.

    The text of the first token, of which endpoints say nothing, is what the others leave of the prompt; it is empty
    where the endpoint put a token of its own in front.
    """
    entries = json.loads(zlib.decompress(base64.b64decode(kept["prompt_logprobs"])))
    tokens = [
        TokenLogprobs("", None, {}) if entry is None else TokenLogprobs(entry[0], entry[1], entry[2])
        for entry in entries
    ]
    rest = "".join(token.token for token in tokens)
    if tokens[0].logprob is None and prompt.endswith(rest):
        tokens[0] = TokenLogprobs(prompt[: len(prompt) - len(rest)], None, {})
    return tuple(tokens)


def compact_embeddings(response: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Embeddings as they are kept: single precision, packed.

    Args:
        response: As it came.
        n: How many there must be.

    Raises:
        InvalidAnswerError: There are not so many, of one width, all numbers.
    """
    try:
        items = sorted(response["data"], key=lambda item: item["index"])
        vectors = np.array([item["embedding"] for item in items], np.float32)
    except (KeyError, TypeError, ValueError):
        raise InvalidAnswerError("its embeddings cannot be read.") from None
    if vectors.ndim != 2 or len(vectors) != n or not vectors.shape[1] or not np.isfinite(vectors).all():
        raise InvalidAnswerError(f"it has embeddings of shape {vectors.shape}, not {n} finite ones of one width.")
    packed = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
    return {**_head(response), "embeddings": packed, "shape": list(vectors.shape), "packed": "base64 of float32"}


def read_embeddings(kept: Mapping[str, Any]) -> FloatArray:
    """Embeddings out of what `compact_embeddings` keeps: [n, width]."""
    flat = np.frombuffer(base64.b64decode(kept["embeddings"]), "<f4").astype(np.float32)
    return flat.reshape(kept["shape"])


def _head(response: Mapping[str, Any]) -> dict[str, Any]:
    return {key: response[key] for key in ("id", "object", "model", "usage") if key in response}
