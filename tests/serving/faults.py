"""What goes wrong on purpose.

Whether a request meets a fault, and which, is decided by a hash of its body, of how often that body came before, and of
the seed. So a mix of faults is the same in every run, whatever the order of requests, and a request that is sent again
may succeed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTENT = ("truncated", "wrong types", "refusal", "empty", "ignores schema", "extra keys")
"""The answer arrives, and is paid for, but is not what was asked for."""
TRANSPORT = ("429", "500", "hang", "reset")
"""No answer arrives, and none is paid for."""
READING = ("no logprobs", "empty")
"""For requests that ask for log-probabilities or embeddings, where there is no form to break."""
KINDS = (*CONTENT, "no logprobs", *TRANSPORT)


@dataclass(frozen=True)
class Faults:
    """A mix of faults."""

    share: float = 0.0
    """Of requests that meet one."""
    kinds: tuple[str, ...] = KINDS
    """Those that may happen, equally often."""
    seed: int = 0
    storm: int = 1
    """Requests in a row that a 429 turns away, the one that began it among them."""
    retry_after: float = 0.05
    """Seconds that a 429 asks to wait."""
    hang: float = 60.0
    """Seconds after which a hanging connection is closed; clients should have given up before."""

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"unknown faults {sorted(unknown)}; known: {KINDS}")

    def of(self, path: str, body: Mapping[str, Any], attempt: int) -> str | None:
        """The fault that a request meets at its n-th attempt (from 0), if any."""
        fitting = [kind for kind in self.kinds if kind in TRANSPORT or kind in _possible(path, body)]
        if not self.share or not fitting:
            return None
        text = json.dumps([self.seed, path, body, attempt], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if int.from_bytes(digest[:8], "big") / 2**64 >= self.share:
            return None
        return fitting[int.from_bytes(digest[8:], "big") % len(fitting)]


def _possible(path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
    if path == "/v1/chat/completions":
        return (*CONTENT, "no logprobs") if body.get("logprobs") else CONTENT
    if path == "/v1/completions":
        return ("no logprobs",) if body.get("prompt_logprobs") is not None else ()
    return ("empty",)


def spoil(fault: str | None, answer: Any, text: str) -> str | None:
    """The content of an answer with a fault in it; None where there is no content at all.

    Args:
        fault: One of `CONTENT`; others leave the answer as it is.
        answer: As a value.
        text: As it would be sent.
    """
    if fault == "truncated":
        return text[: max(1, len(text) // 2)]
    if fault == "wrong types":
        return json.dumps(_wrong(answer))
    if fault == "refusal":
        return None
    if fault == "empty":
        return ""
    if fault == "ignores schema":
        return "Sure! I think this unit is about words in general. Let me know if you need anything else."
    if fault == "extra keys" and isinstance(answer, dict):
        return json.dumps({**answer, "confidence": 0.93, "notes": ["made up"]})
    return text


def _wrong(value: Any) -> Any:
    """The value with each leaf of another type than it should be."""
    if isinstance(value, dict):
        return {key: _wrong(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_wrong(part) for part in value] or "none"
    return ["?"] if isinstance(value, str) else "many"
