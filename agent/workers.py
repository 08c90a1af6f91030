"""The workers of a campaign in one process: they lease investigations, run them and commit what was found."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from langgraph.checkpoint.sqlite import SqliteSaver
from threadpoolctl import threadpool_limits

import store
from agent.accounts import StoreAccounts
from agent.bench import Bench
from agent.budget import Exceeded, Rate, Spent, StoppedError, exceeded
from agent.cast import Cast
from agent.checkpoints import thread_id
from agent.desk import Desk
from agent.investigation import build_graph, investigate
from agent.ledger import add_costs
from agent.owner import this_process
from agent.progress import Observer, Tally
from agent.results import cost_of, events_of, result_of
from agent.spec import Budget
from agent.tape import Playing, Recording, Source, Tape
from explainers.llm.accounts import charged_to
from explainers.llm.types import EndpointError, NotRecordedError, SpentError
from store.work import CampaignProgress, Investigation
from tools.errors import IndexDataError
from tools.index import Opening, SplitView
from tools.types import Split

#: How long a lease holds without a heartbeat. Long enough for a machine that swaps, short enough not to wait for.
LEASE_SECONDS = 90.0

#: Errors that are not a unit's fault: all others would meet them too.
_NOT_THE_UNITS = (
    StoppedError, SpentError, EndpointError, NotRecordedError, store.StoreError, IndexDataError, OSError,
)  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass
class Crew:
    """The workers of this process on one campaign."""

    db: store.Database
    campaign_id: int
    bench: Bench
    """Of the real units."""
    cast: Cast
    """Who gives each investigation its bench."""
    saver: SqliteSaver
    accounts: StoreAccounts
    """Who pays for calls to language models."""
    observer: Observer
    stop: threading.Event
    """Set from outside: no new units, and those in hand are put back after the step in flight."""
    source: Source | None = None
    """Where the campaign was done before, when it is replayed."""
    reached: Exceeded | None = None
    """The limit of the budget that ended the work, if one did."""
    _held: dict[int, tuple[Investigation, Desk]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rate: Rate = field(default_factory=Rate)
    _halt: threading.Event = field(default_factory=threading.Event)
    """Set from inside: a Ctrl-C, or an error that is not one investigation's."""

    def run(self) -> None:
        """Works until there is nothing left to take, the budget is used up, or it is stopped.

        Raises:
            Exception: What a worker met outside of any investigation (the database is gone, say).
        """
        graph = build_graph(self.saver)
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(over,), name="heartbeat", daemon=True)
        heart.start()
        try:
            crew = self.bench.spec.crew
            with ThreadPoolExecutor(crew, thread_name_prefix="investigation") as pool:
                futures = [pool.submit(self._work, graph) for _ in range(crew)]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                except KeyboardInterrupt:
                    # Leaving the pool waits for the steps in flight; a second Ctrl-C breaks that off.
                    self._halt.set()
            for future in futures:
                future.result()
        finally:
            over.set()
            heart.join()

    @property
    def stopping(self) -> bool:
        """Whether the work is to end before it is done."""
        return self.stop.is_set() or self._halt.is_set()

    def tally(self) -> Tally:
        """How the campaign stands."""
        return tally_of(store.progress(self.db, self.campaign_id), self._rate.per_second)

    def _work(self, graph: Any) -> None:
        try:
            while (investigation := self._take()) is not None:
                self._do(graph, investigation)
        except BaseException:
            self._halt.set()
            raise

    def _take(self) -> Investigation | None:
        """The next investigation, within the budget. One at a time, so that the workers of a process share it."""
        with self._lock:
            if self.stopping or self.reached is not None:
                return None
            now = store.progress(self.db, self.campaign_id)
            units = sum(held.control is None for held, _ in self._held.values())
            limit = over_budget(self.bench.spec.budget, now, units)
            if limit is not None:
                if now.left - len(self._held) > 0:
                    self.reached = limit
                return None
            taken = store.lease_next(self.db, self.campaign_id, this_process(), LEASE_SECONDS)
            if taken is not None:
                self._held[taken.id] = (taken, self._desk(taken))
            return taken

    def _desk(self, investigation: Investigation) -> Desk:
        bench, unit = self.cast.part(investigation)

        def record(opening: Opening) -> None:
            # Recorded and committed first: a seal that was broken is on record whatever happens next. An attempt that
            # was killed after this line opens the same claim again when it is resumed, which is the same opening; it
            # cannot have learnt from it, since the claim is fixed and known by its digest.
            store.record_opening(
                self.db, investigation, claim=opening.claim, polarity=opening.polarity, split=str(opening.split),
                predictions=opening.predictions,
            )  # fmt: skip

        keeper = bench.index.keeper(record)
        scorer = "sequential" if bench.spec.scoring == "sequential" else bench.spec.scorer

        def open_sealed(claim: str, polarity: str, predictions: str | None) -> SplitView:
            return bench.shown(
                keeper.open(Split.SCORE, claim=claim, polarity=polarity, by=scorer, predictions=predictions)
            )

        def charged(polarity: str, to: str) -> AbstractContextManager[object]:
            salt = investigation.failures
            return charged_to(self.accounts.of(investigation.id, salt=salt, polarity=polarity, asker=to))

        return Desk(bench, unit, open_sealed, lambda: self.stopping, charged, tape=self._tape(investigation))

    def _tape(self, investigation: Investigation) -> Tape | None:
        if self.source is not None and self.source.exact:
            played = store.counterpart(self.db, investigation.id, self.source.db)
            assert played is not None, "what is replayed is a campaign of the source"
            return Playing(self.source.db, played.investigation_id, played.failures + investigation.failures)
        if not self.bench.spec.recording:
            return None
        return Recording(self.db, investigation.id, investigation.failures)

    def _do(self, graph: Any, investigation: Investigation) -> None:
        desk = self._held[investigation.id][1]
        thread = thread_id(self.campaign_id, investigation.id)
        told = investigation.control is None  # a control's result is nobody's news before the campaign closes
        if told:
            self.observer.unit_started(investigation.unit)
        try:
            try:
                state = investigate(graph, desk, thread)
                result = result_of(state, desk.bench, desk.unit, kept_as=investigation.unit)
            except (
                StoppedError,
                SpentError,
                EndpointError,
                NotRecordedError,
                store.StoreError,
                IndexDataError,
                OSError,
            ):
                raise  # not this unit's fault: all others would meet it too
            except sqlite3.Error as error:
                raise store.StoreError(
                    f"The checkpoints in {self.db.url} cannot be used ({error}).\n"
                    "What was done so far is kept; mend that and run the same command again."
                ) from error
            except Exception as error:
                self._failed(graph, investigation, desk, error)
                return
            store.finish(self.db, investigation, result)
            self.saver.delete_thread(thread)
            if told:
                self._rate.ended()
            for done in events_of(desk.unit, result) if told else []:
                self.observer.unit_done(done)
        except store.LeaseLostError:
            # Another worker took over while this one slept; whatever this one found, the other finds too.
            _log.warning("the lease on %s was lost in step %s", investigation.unit, desk.stage)
        except StoppedError:
            store.release(self.db, investigation)
        except SpentError:
            # Others may still afford the smaller call that they are at; nobody takes up anything new.
            store.release(self.db, investigation)
            limit = over_budget(self.bench.spec.budget, store.progress(self.db, self.campaign_id))
            if limit is None:
                raise
            self.reached = self.reached or limit
        except Exception:
            with contextlib.suppress(store.StoreError):
                store.release(self.db, investigation)
            raise
        finally:
            with self._lock:
                self._held.pop(investigation.id, None)
            if not self._halt.is_set():
                self.observer.tally(self.tally())

    def _failed(self, graph: Any, investigation: Investigation, desk: Desk, error: Exception) -> None:
        reason = f"{type(error).__name__} in step '{desk.stage}': {error}"
        _log.debug("%s failed", investigation.unit, exc_info=error)
        thread = thread_id(self.campaign_id, investigation.id)
        so_far = graph.get_state({"configurable": {"thread_id": thread}}).values
        spent = add_costs(so_far.get("cost", {}), desk.ledger.cost if desk.ledger is not None else {})
        # The next attempt begins anew: what was spent is on record, and a checkpoint that led here is no good start.
        self.saver.delete_thread(thread)
        again = store.fail(
            self.db, investigation, reason, retry=True, cost=cost_of(spent), max_failures=self.bench.spec.max_failures
        )
        if investigation.control is not None:
            self.observer.unit_failed("a blind control", reason, final=not again)
            return
        if not again:
            self._rate.ended()
        self.observer.unit_failed(investigation.unit, reason, final=not again)

    def _beat(self, over: threading.Event) -> None:
        """Keeps the leases of this process, and its memory small."""
        while not over.wait(LEASE_SECONDS / 4):
            return_freed_memory()
            with self._lock:
                held = list(self._held.values())
            for investigation, desk in held:
                try:
                    store.heartbeat(self.db, investigation, LEASE_SECONDS, stage=desk.stage or None)
                except store.LeaseLostError:
                    continue  # `finish` says so too, and in time
                except store.StoreError as error:
                    _log.warning("no heartbeat for %s: %s", investigation.unit, error)


def return_freed_memory() -> None:
    """Gives memory that was freed back to the system, where the C library can be told to (glibc).

    Many threads that allocate arrays of a few megabytes leave holes in its arenas, which it keeps for itself: about a
    tenth of a long campaign's memory.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """One thread of PyTorch's and of the linear algebra's for each worker.

    Investigations run small forward passes and products, which more threads hardly speed up and workers would fight
    over: idle threads of OpenBLAS spin, and take as much processor time again. And the last bits of a sum would depend
    on the machine's number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def spent_of(progress: CampaignProgress) -> Spent:
    """What a campaign has used of its budget."""
    return Spent(
        progress.done + progress.failed, progress.seconds, progress.tool_calls, progress.llm_calls, progress.tokens,
        progress.dollars or 0.0,
    )  # fmt: skip


def over_budget(budget: Budget, now: CampaignProgress, in_flight: int = 0) -> Exceeded | None:
    """The limit that leaves no room for what is left of a campaign, if any. See `agent.budget.exceeded`.

    A limit on the number of units stops what is about units: when no more of them wait, the controls are still done.
    """
    limit = exceeded(budget, spent_of(now), in_flight)
    waiting = now.remaining - in_flight
    return None if limit is not None and limit.limit == "units" and waiting <= 0 else limit


def tally_of(progress: CampaignProgress, rate: float) -> Tally:
    """Counts for an observer; skipped investigations are done ones."""
    return Tally(
        total=progress.total,
        done=progress.done + progress.skipped,
        failed=progress.failed,
        pending=progress.pending,
        leased=progress.leased,
        rate=rate,
        seconds_left=progress.remaining / rate if rate > 0 else None,
    )
