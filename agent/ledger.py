"""What one investigation did to the subject, and what it cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agent.plain import plain
from tools.subject import Subject

#: What a unit of work costs; all are summed over the steps of an investigation.
COSTS = ("tool_calls", "forward_passes", "seconds")


class PassCounter:
    """Counts forward passes of a subject, and the tokens in them, per thread, whoever asks for them."""

    def __init__(self, subject: Subject) -> None:
        self._counts = threading.local()
        # Every forward pass embeds its tokens first.
        self._handle = subject.model.get_input_embeddings().register_forward_pre_hook(self._count)

    def _count(self, _: Any, given: tuple[Any, ...]) -> None:
        self._counts.value = self.value + 1
        self._counts.tokens = self.tokens + (given[0].numel() if given else 0)

    @property
    def value(self) -> int:
        """Forward passes so far in this thread."""
        return int(getattr(self._counts, "value", 0))

    @property
    def tokens(self) -> int:
        """Tokens run so far in this thread, with padding."""
        return int(getattr(self._counts, "tokens", 0))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Passes made within, for many units at once, are nobody's: who happens to need them first must not matter."""
        before = self.value, self.tokens
        try:
            yield
        finally:
            self._counts.value, self._counts.tokens = before

    def charge(self, passes: int, tokens: int) -> None:
        """Count what this thread ran of another model as well."""
        self._counts.value, self._counts.tokens = self.value + passes, self.tokens + tokens

    def close(self) -> None:
        """Take the hook away."""
        self._handle.remove()


class Ledger:
    """Keeps what an explainer reports during one step, and counts tool calls, forward passes and seconds.

    It is the `Recorder` that explainers are given.
    """

    def __init__(self, passes: PassCounter) -> None:
        self._passes = passes
        self._first_pass = passes.value
        self._began = time.perf_counter()
        self._calls = 0
        self.events: list[dict[str, Any]] = []

    def event(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Something that an explainer did."""
        self.events.append({"kind": kind, **plain(payload)})

    def count(self, calls: int = 1) -> None:
        """That many more calls of tools on the subject or its index."""
        self._calls += calls

    @property
    def cost(self) -> dict[str, float]:
        """What this step used so far; see `COSTS`."""
        return {
            "tool_calls": self._calls,
            "forward_passes": self._passes.value - self._first_pass,
            "seconds": time.perf_counter() - self._began,
        }


def add_costs(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """Sum by name."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in COSTS}
