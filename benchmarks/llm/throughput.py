"""How busy language models are kept, and whether memory stays flat meanwhile.

The programmable server runs in a process of its own and takes the same time for each answer, so that whatever keeps it
from being busy is on this side.

*Busy* is the number of calls in flight (sent and not yet answered, as the client sees it), over the number allowed at
once, on average over all of the time from the first unit to the last; time in which there was nothing to send counts as
not busy. A call is in flight for longer than the server takes to think: it also has to be sent, read by the server, and
the answer has to be read here, while threads that compute compete for the processor. *Answering* leaves all of that
out: calls times the server's latency, over the same time. It is the stricter figure.
"""

from __future__ import annotations

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.llm.campaign import run, settings
from benchmarks.llm.memory import MOST_GROWTH, Memory, growth
from explainers.llm.accounts import charged_to
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.types import Call, Message, Request
from explainers.prompted.forms import Judged
from tests.serving.process import server_process

WANTED = 0.90
"""Share of the allowed concurrency that should be busy."""
_TEXTS = "\n".join(f"[{n}] the {n}th text is of no great interest to anyone" for n in range(1, 17))
_DESCRIPTION = 'Fires on " great".'


@dataclass
class Counting:
    """An account that keeps sums only."""

    calls: int = 0
    tokens: int = 0
    salt: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def known(self, request_hash: str) -> Call | None:
        """Nothing is."""

    def record(self, call: Call) -> None:
        """Counts it."""
        with self._lock:
            self.calls += 1
            self.tokens += call.usage.prompt_tokens + call.usage.completion_tokens


def measure_client(*, askers: int, each: int, batch: int, concurrency: int, latency: float) -> dict[str, Any]:
    """The client alone: threads that ask for judgements as scorers do, as fast as they can.

    Args:
        askers: Threads.
        each: Times that each of them asks.
        batch: Requests at once.
        concurrency: Calls in flight at most.
        latency: Seconds that the server takes for an answer.
    """
    account = Counting()

    def ask(asker: int) -> None:
        with charged_to(account):
            for turn in range(each):
                requests = [
                    Request(
                        "detection",
                        (Message("system", "You judge texts." * 100), Message("user", _judge(asker, turn, part))),
                    )
                    for part in range(batch)
                ]
                llm.ask_all(requests, Judged)

    with (
        server_process(latency) as server,
        LlmClient([parse_endpoint(f"openai:test-model@{server.url}")], concurrency=concurrency) as llm,
        Memory() as memory,
        ThreadPoolExecutor(askers) as pool,
    ):
        began = time.monotonic()
        list(pool.map(ask, range(askers)))
        seconds = time.monotonic() - began
        stats, billed = llm.stats, server.stats()
    return {
        "what": "client", "calls": account.calls, "seconds": seconds,
        "busy": stats.in_flight_seconds / concurrency / seconds,
        "ideal": account.calls * latency / concurrency / seconds, "most_in_flight": billed["most_in_flight"],
        "exact": account.tokens == billed["prompt_tokens"] + billed["completion_tokens"],
        "concurrency": concurrency, "latency": latency, **memory_figures(memory),
    }  # fmt: skip


def measure_campaign(
    *, units: tuple[str, ...], sample: int | None, concurrency: int, workers: int, latency: float, max_tokens: int,
    home: Path | None = None, **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """A whole campaign on the built-in model: its steps, its ledger and its client.

    Args:
        units: Patterns of units.
        sample: Units of each group; None: all.
        concurrency: Calls in flight at most.
        workers: Investigations at once.
        latency: Seconds that the server takes for an answer.
        max_tokens: Of the corpus, for the index.
        home: Where to keep the index and the database; None: nowhere.
        changes: Further settings of the campaign.
    """
    memory: list[Memory] = []

    def begun(pid: int) -> None:
        memory.append(Memory(pid).__enter__())

    with tempfile.TemporaryDirectory() as folder, server_process(latency) as server:
        spec = settings(
            server.url, units=units, sample=sample, max_tokens=max_tokens, workers=workers,
            llm={"concurrency": concurrency}, controls=0.0, **changes,
        )  # fmt: skip
        kept = home or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        database = Path(tempfile.mkdtemp(dir=kept)) / "campaign.db"
        ended = run(spec, database, kept, begun)
        billed = server.stats()
        for one in memory:
            one.__exit__()
    tally, calls = ended.summary["tally"], ended.client["calls"]
    used = ended.summary["spent"].get("llm_tokens")
    return {
        "what": "campaign", "units": tally["total"], "status": {key: tally[key] for key in ("done", "failed")},
        "calls": calls, "seconds": ended.seconds, "workers": workers,
        "busy": ended.client["in_flight_seconds"] / concurrency / ended.seconds,
        "ideal": calls * latency / concurrency / ended.seconds, "most_in_flight": billed["most_in_flight"],
        "exact": used is None or used == billed["prompt_tokens"] + billed["completion_tokens"],
        "concurrency": concurrency, "latency": latency, "cpu_per_unit": ended.cpu_seconds / tally["total"],
        **memory_figures(memory[0]),
    }  # fmt: skip


def memory_figures(memory: Memory) -> dict[str, Any]:
    """Memory in MB: the process's own over time and at most, with files that are mapped at most, and by which share
    its own grew after warming up."""
    grown = growth(memory.samples)
    return {
        "memory_mb": [[round(at, 1), round(size / 1e6, 1)] for at, size in memory.samples],
        "memory_most_mb": max((size for _, size in memory.samples), default=0) / 1e6,
        "resident_most_mb": memory.most_resident / 1e6,
        "memory_growth": grown, "memory_flat": None if grown is None else grown <= MOST_GROWTH,
    }  # fmt: skip


def _judge(asker: int, turn: int, part: int) -> str:
    return f"TEXTS\n{_TEXTS}\n[17] {asker} {turn} {part}\n\nDESCRIPTION\n{_DESCRIPTION}\n\nQUESTION\nWhich fit?"


def render(found: dict[str, Any]) -> str:
    """The figures as lines of at most 80 columns."""
    grown = found["memory_growth"]
    lines = [
        f"{found['what']}: {found['calls']:,} calls in {found['seconds']:.0f} s, {found['latency'] * 1000:.0f} ms each,"
        f" at most {found['concurrency']} at once",
        f"in flight: {found['busy']:.1%} of the allowed concurrency, over all of the time (wanted: {WANTED:.0%})",
        f"answering: {found['ideal']:.1%}, by the server's latency alone; at most {found['most_in_flight']} at once",
    ]
    if "units" in found:
        lines.insert(1, f"{found['units']:,} units: {', '.join(f'{n:,} {s}' for s, n in found['status'].items())}")
    if "cpu_per_unit" in found:
        lines.append(f"{found['cpu_per_unit'] * 1000:.0f} ms of processor time a unit, beside the server's")
    lines.append(f"bill and ledger agree to the token: {'yes' if found['exact'] else 'NO'}")
    flat = "flat" if found["memory_flat"] else "GROWS"
    verdict = "" if grown is None else f", {grown:+.1%} to the last third: {flat}"
    lines.append(f"memory {found['memory_most_mb']:,.0f} MB of its own at most{verdict}")
    lines.append(f"with the index and libraries that are mapped into it {found['resident_most_mb']:,.0f} MB")
    return "\n".join(lines)
