"""What a diagnostic's calls came to, counted on their way to the account that they are charged to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from explainers.llm.accounts import NoAccountError, charged_to, current_account
from explainers.llm.types import Account, Call


class Bill:
    """Passes calls on to an account and adds them up."""

    def __init__(self, account: Account | None) -> None:
        self._account = account
        self._lock = threading.Lock()
        self.began = time.perf_counter()
        self.calls = 0
        self.tokens = 0

    @property
    def salt(self) -> int:
        """The account's."""
        return self._account.salt if self._account else 0

    def known(self, request_hash: str) -> Call | None:
        """What the account knows."""
        return self._account.known(request_hash) if self._account else None

    def record(self, call: Call) -> None:
        """Keeps the call in the account. One whose answer was known already was paid for elsewhere."""
        if self._account:
            self._account.record(call)
        if not call.cached:
            with self._lock:
                self.calls += 1
                self.tokens += call.usage.prompt_tokens + call.usage.completion_tokens

    @property
    def cost(self) -> Mapping[str, float]:
        """'calls' that were made and 'tokens' (of prompts and answers), as far as there is an account."""
        return {"calls": float(self.calls), "tokens": float(self.tokens)} if self._account else {}


@contextmanager
def billed() -> Iterator[Bill]:
    """Counts the calls made within, in this thread."""
    try:
        bill = Bill(current_account())
    except NoAccountError:
        # A model that keeps no accounts, as in a test: nothing is known of its calls.
        yield Bill(None)
        return
    with charged_to(bill):
        yield bill
