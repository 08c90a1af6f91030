"""Accounts over the database: every call to a language model is on record before anything is made of its answer.

The calls of all threads go through one gate. Whoever comes to it first writes what has gathered there in one
transaction, while later ones gather for the next; each waits until its own call is committed. So a call costs a
fraction of a transaction when there are many, and no thread runs in the background that could be cut off with calls in
hand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import store
from explainers.llm.accounts import NoAccountError, charged_to, current_account
from explainers.llm.types import Call, Usage
from store.records import LlmCallRecord


@dataclass
class _Waiting:
    """A call at the gate."""

    investigation_id: int | None
    call: LlmCallRecord
    written: bool = False
    error: BaseException | None = None


class StoreAccounts:
    """The accounts of a campaign's investigations, and of what is asked outside of any.

    Args:
        db: Where calls are kept.
        campaign_id: The campaign, in `db`; None where there is none.
        replay_from: A database in which a campaign of the same name was run before: answers are those that it met, and
            only those.
    """

    def __init__(self, db: store.Database, campaign_id: int | None, replay_from: store.Database | None = None) -> None:
        self._db = db
        self._source = replay_from
        self._campaign_id = campaign_id
        self._gathering = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[_Waiting] = []

    def of(
        self, investigation_id: int | None, salt: int = 0, *, polarity: str | None = None, asker: str | None = None
    ) -> StoreAccount:
        """The account of one attempt at an investigation.

        Args:
            investigation_id: In the campaign; None for what belongs to none, such as a conversation.
            salt: How many attempts at it failed before this one (`store.work.Investigation.failures`).
            polarity: Of the claim that is worked on; None where it is the unit as a whole.
            asker: Name of the explainer, predictor or scorer that will ask; see `StoreAccount.by` to change it.
        """
        if self._source is None or investigation_id is None:
            return StoreAccount(self, investigation_id, salt, salt, investigation_id, polarity, asker)
        replayed = store.counterpart(self._db, investigation_id, self._source)
        first, before = (None, 0) if replayed is None else (replayed.investigation_id, replayed.failures)
        return StoreAccount(self, investigation_id, salt, before + salt, first, polarity, asker)

    def write(self, investigation_id: int | None, call: LlmCallRecord) -> None:
        """Keeps a call; returns once it is committed.

        Raises:
            StoreError: The database cannot be written.
        """
        mine = _Waiting(investigation_id, call)
        with self._gathering:
            self._waiting.append(mine)
        with self._writing:
            if not mine.written and mine.error is None:
                self._write_gathered()
        if mine.error is not None:
            raise mine.error

    def _write_gathered(self) -> None:
        with self._gathering:
            batch, self._waiting = self._waiting, []
        try:
            store.record_calls(self._db, [(one.investigation_id, one.call) for one in batch])
        except BaseException as error:
            for one in batch:
                one.error = error
            if not isinstance(error, Exception):
                raise
        else:
            for one in batch:
                one.written = True

    def find(self, request_hash: str, first: int | None) -> LlmCallRecord | None:
        """What is on record of a request; `first` is the investigation whose own record goes before others'."""
        if self._source is None:
            return store.find_call(self._db, request_hash, first=first)
        return store.find_replayed(self._source, request_hash, first=first)


@dataclass(frozen=True)
class StoreAccount:
    """Who a call is for: an attempt at an investigation, one of its claims, and what asks. See `StoreAccounts.of`."""

    _accounts: StoreAccounts = field(repr=False)
    investigation_id: int | None
    failures: int
    """Attempts at the investigation that failed before this one."""
    salt: int
    """As `failures`; of a replay, that of the attempt that is replayed."""
    _first: int | None = field(repr=False)
    """Whose record of a request goes before others'."""
    polarity: str | None = None
    asker: str | None = None

    def by(self, asker: str) -> StoreAccount:
        """The same account, for something else that asks."""
        return replace(self, asker=asker)

    def known(self, request_hash: str) -> Call | None:
        """What is on record of a request: its answer, from any investigation; or, when replaying, that it had none."""
        found = self._accounts.find(request_hash, self._first)
        if found is None:
            return None
        return Call(
            purpose=found.purpose,
            model=found.model,
            request_hash=found.request_hash,
            request=found.request,
            response=found.response,
            status=found.status,
            error=found.error,
            usage=Usage(found.prompt_tokens, found.completion_tokens, found.cached_tokens),
            seconds=found.seconds,
            cost_usd=found.cost_usd,
            attempts=found.attempts,
            cached=found.cached,
        )

    def record(self, call: Call) -> None:
        """Keeps a call for good.

        Raises:
            StoreError: The database cannot be written.
        """
        self._accounts.write(
            self.investigation_id,
            LlmCallRecord(
                purpose=call.purpose,
                model=call.model,
                request_hash=call.request_hash,
                request=call.request,
                response=call.response,
                status=call.status,
                error=call.error,
                asker=self.asker,
                polarity=self.polarity,
                salt=self.failures,
                cached=call.cached,
                attempts=call.attempts,
                prompt_tokens=call.usage.prompt_tokens,
                completion_tokens=call.usage.completion_tokens,
                cached_tokens=call.usage.cached_tokens,
                seconds=call.seconds,
                cost_usd=call.cost_usd,
            ),
        )


@contextmanager
def asking(name: str) -> Iterator[None]:
    """Calls made within, in this thread, are on record as asked by `name`; elsewhere than in a campaign they are not
    told apart."""
    try:
        account = current_account()
    except NoAccountError:
        account = None
    with charged_to(account.by(name)) if isinstance(account, StoreAccount) else nullcontext():
        yield
