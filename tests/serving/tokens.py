"""How the programmable server counts tokens, and what a prefix cache would keep of them.

The pieces are about as long as those of a real tokenizer (a word of up to seven letters with its space, up to three
digits, up to three signs), and put together they are the text again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

BLOCK = 16
"""Tokens that vLLM's prefix cache keeps or drops together."""
PER_MESSAGE = 4
"""Tokens that a chat template puts around each message."""

_PIECE = re.compile(r" ?[^\W\d_]{1,7}|\d{1,3}|_| ?[^\w\s]{1,3}|\s+|.", re.DOTALL)


def pieces(text: str) -> list[str]:
    """The tokens of a text."""
    return _PIECE.findall(text)


def chat_tokens(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tokens of a conversation, those of its template among them."""
    tokens: list[str] = []
    for message in messages:
        tokens += ["<|", str(message.get("role")), "|>", *pieces(str(message.get("content") or "")), "<|end|>"]
    return tokens


def token_id(piece: str) -> int:
    """A number that stands for a piece."""
    return int.from_bytes(hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


class PrefixCache:
    """Which tokens of a prompt are known from the beginning of an earlier one, by vLLM's rule.

    A block of 16 tokens is known when a block with the same tokens and the same blocks before it was seen. Blocks that
    are not full are never kept, and a prompt's last token is always computed. Nothing is ever dropped, so this is the
    most that a server can take from its cache.
    """

    def __init__(self) -> None:
        self._blocks: set[bytes] = set()

    def seen(self, tokens: Sequence[str] | Sequence[int]) -> int:
        """How many of a prompt's tokens come from the cache; afterwards all its full blocks are in it."""
        known, before, unbroken = 0, b"", True
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            block = "\0".join(map(str, tokens[start : start + BLOCK])).encode("utf-8", "surrogatepass")
            before = hashlib.blake2b(before + block, digest_size=16).digest()
            unbroken = unbroken and before in self._blocks
            known += BLOCK if unbroken else 0
            self._blocks.add(before)
        return min(known, max(0, len(tokens) - 1) // BLOCK * BLOCK)
