"""The language model of a conversation: served if need be, asked by the one client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agent.llm import reachable
from agent.llm_settings import LlmSettings
from agent.progress import Observer
from explainers.llm.budget import Limits, Meter, Price
from explainers.llm.client import LlmClient


@contextmanager
def open_talker(
    settings: LlmSettings, *, limits: Limits, logs: Path, told: Observer | None = None
) -> Iterator[LlmClient]:
    """A client for conversations. A `vllm:MODEL` is started here and stopped at the end.

    Args:
        settings: Which model, where, and what it charges.
        limits: Where spending stops.
        logs: Folder for the log of a server that is started.
        told: Is told that a server is started.

    Raises:
        LlmError: The endpoint's name cannot be understood, its key is missing, or its server does not come up.
    """
    price = None
    if settings.price is not None:
        price = Price(settings.price.prompt, settings.price.completion, settings.price.cached)
    with ExitStack() as stack:
        endpoints = [
            reachable(name, settings, stack, subject=None, logs=logs, told=told or Observer())
            for name in settings.endpoints
        ]
        yield stack.enter_context(
            LlmClient(
                endpoints, concurrency=1, timeout=settings.timeout, retries=settings.retries, meter=Meter(limits),
                price=price,
            )
        )  # fmt: skip
