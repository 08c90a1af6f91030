"""A campaign of agentic investigations against a language model that misbehaves, killed at random moments.

    python -m benchmarks.contest_faults --units 100 --kills 6 --faults 0.3

The campaign describes units of the built-in model; a language model writes rivals, thinks of trials and revises
(`contest: {policy: llm}`). It is the programmable server: a competent mind of whose answers a share meets a fault
(truncated, of the wrong types, refused, empty, without a schema, with keys made up, 429, 500, hanging, cut off). The
campaign's process group is killed (SIGKILL) at random moments and the same command is run again, until it ends.

Then it is counted whether all is there, and once: every unit done, or failed or skipped with a reason; the trials of
each contest in the notebook, none twice, as many as its description tells; and the costs to the cent: calls in the
ledger, the investigations' totals, and the server's bill less the answers that were on their way when a process was
killed, which are no more than the calls allowed at once for each kill. Exits with status 1 where something is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from explainers.llm.types import request_hash
from tests.serving import Faults, ProgrammableServer

NAME = "contest-faults"
PRICE = {"prompt": 0.5, "completion": 1.5, "cached": 0.125}
ROOT = Path(__file__).resolve().parent.parent
_DOLLARS = 1e-9
"""By which sums of the same numbers in another order may differ."""


@dataclass(frozen=True)
class Counted:
    """What a campaign left behind."""

    units: int
    done: int
    failed: int
    skipped: int
    """Dead, dense or like another unit: there is nothing to investigate."""
    unreasoned: int
    """Units that have not come to an end, or not with a reason where they failed or were skipped."""
    kills: int
    trials: int
    trials_failed: int
    doubled: list[str]
    """Trials that are there twice, and contests whose rows are not those that their descriptions tell of."""
    calls: int
    bill: float
    """What the server delivered, USD."""
    lost: int
    """Answers that were delivered and are not on record."""
    lost_dollars: float
    ledger: float
    investigations: float
    concurrency: int

    @property
    def complete(self) -> bool:
        """Whether every unit came to an end."""
        return not self.unreasoned and self.done + self.failed + self.skipped == self.units

    @property
    def exact(self) -> bool:
        """Whether ledger, investigations and bill agree."""
        return (
            abs(self.ledger - self.investigations) < _DOLLARS
            and abs(self.bill - self.lost_dollars - self.ledger) < _DOLLARS
            and self.lost <= self.concurrency * self.kills
        )

    @property
    def whole(self) -> bool:
        """Whether all is as it should be."""
        return self.complete and self.exact and not self.doubled


def run_killed(plan: Mapping[str, Any], home: Path, *, kills: int, seed: int, told: Any = print) -> int:
    """Runs a campaign to its end, killing it at random moments on the way.

    Args:
        plan: Its settings.
        home: Data folder; the database is in it.
        kills: How often, at moments spread over the units.
        seed: Of the moments.
        told: Is told a line for each kill.

    Returns:
        How often it was killed.

    Raises:
        RuntimeError: It ended with an error.
    """
    home.mkdir(parents=True, exist_ok=True)
    file = home / "plan.yaml"
    file.write_text(yaml.safe_dump(dict(plan)))
    command = [
        sys.executable, "-m", "neurogloss", "--home", str(home), "campaign", "run", str(file), "--name", NAME, "--yes",
    ]  # fmt: skip
    generator = random.Random(seed)
    done = 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    while True:
        log = (home / "log.txt").open("a")
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        first, wait = _ended(home)[0], generator.uniform(0.0, 1.5)
        while process.poll() is None:
            ended, whole = _ended(home)
            if done < kills and whole and ended >= first + max(1, whole // (kills + 2)):
                time.sleep(wait)
                break
            time.sleep(0.1)
        if process.poll() is not None:
            log.close()
            if process.returncode:
                raise RuntimeError(f"the campaign ended with status {process.returncode}; see {home / 'log.txt'}")
            return done
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
        done += 1
        told(f"kill {done}: {_ended(home)[0]} of {_ended(home)[1]} units had ended")


def _ended(home: Path) -> tuple[int, int]:
    """How many investigations have ended, and how many there are."""
    try:
        [row] = rows(
            home, "SELECT sum(status IN ('done', 'failed', 'skipped')) AS ended, count(*) AS whole FROM investigations"
        )
    except sqlite3.OperationalError:
        return 0, 0
    return int(row["ended"] or 0), int(row["whole"])


def rows(home: Path, query: str) -> list[dict[str, Any]]:
    """Rows of the campaign's database."""
    with sqlite3.connect(f"file:{home / 'neurogloss.db'}?mode=ro", uri=True, timeout=30) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def counted(home: Path, server: ProgrammableServer, *, kills: int, concurrency: int) -> Counted:
    """What the campaign left behind; see the module."""
    jobs = rows(home, "SELECT id, status, reason, dollars FROM investigations")
    calls = rows(
        home,
        "SELECT request, cost_usd, prompt_tokens, completion_tokens, cached_tokens FROM llm_calls WHERE NOT cached",
    )
    # An answer that was lost may have been asked for again, and then cost less: more of its prompt was known.
    paid = Counter(
        (
            request_hash(json.loads(call["request"])), call["prompt_tokens"], call["completion_tokens"],
            call["cached_tokens"],
        )
        for call in calls
    )  # fmt: skip
    lost, lost_dollars = 0, 0.0
    for seen in server.requests:
        if not seen.delivered:
            continue
        key = (request_hash(seen.body), seen.prompt_tokens, seen.completion_tokens, seen.cached_tokens)
        if paid[key]:
            paid[key] -= 1
            continue
        lost += 1
        lost_dollars += seen.dollars(**PRICE)
    trials = _trials(home)
    return Counted(
        units=len(jobs), done=sum(job["status"] == "done" for job in jobs),
        failed=sum(job["status"] == "failed" for job in jobs),
        skipped=sum(job["status"] == "skipped" for job in jobs),
        unreasoned=sum(
            job["status"] != "done" and not (job["status"] in ("failed", "skipped") and job["reason"]) for job in jobs
        ),
        kills=kills, trials=len(trials), trials_failed=sum(trial["status"] == "failed" for trial in trials),
        doubled=_doubled(home, trials), calls=len(calls), bill=server.billed.dollars(**PRICE), lost=lost,
        lost_dollars=lost_dollars, ledger=sum(call["cost_usd"] or 0.0 for call in calls),
        investigations=sum(job["dollars"] or 0.0 for job in jobs), concurrency=concurrency,
    )  # fmt: skip


def _trials(home: Path) -> list[dict[str, Any]]:
    """Rows of the notebook that are trials of a contest, with their arguments read."""
    found = rows(home, "SELECT investigation_id AS job, kind, status, arguments FROM experiments")
    told = [{**row, "arguments": json.loads(row["arguments"])} for row in found]
    return [row for row in told if "contest" in row["arguments"]]


def _doubled(home: Path, trials: list[dict[str, Any]]) -> list[str]:
    wrong = []
    seen = Counter(json.dumps([row["job"], row["kind"], row["arguments"]], sort_keys=True) for row in trials)
    wrong += [f"{count} times: {key[:200]}" for key, count in seen.items() if count > 1]
    told: Counter[int] = Counter()
    for row in rows(home, "SELECT investigation_id AS job, details FROM descriptions"):
        told[row["job"]] += json.loads(row["details"]).get("contest", {}).get("trials", 0)
    there = Counter(row["job"] for row in trials)
    wrong += [
        f"investigation {job}: {there[job]} rows of trials, and its descriptions tell of {told[job]}"
        for job in sorted({*told, *there}) if told[job] != there[job]
    ]  # fmt: skip
    return wrong


def plan_of(server: ProgrammableServer, **changes: Any) -> dict[str, Any]:
    """A plan of agentic investigations that ask a server."""
    llm = {
        "endpoints": [f"openai:{server.model}@{server.url}"], "price": PRICE, "timeout": 3.0, "retries": 3,
        "concurrency": 8,
    }  # fmt: skip
    return {
        "llm": llm, "explainer": "quantiles", "explainer_options": {"n": 2}, "workers": 4, "device": "cpu",
        "contest": {"policy": "llm", "rounds": 3}, "output": "off", **changes,
    }  # fmt: skip


def render(found: Counted) -> str:
    """What was counted, in lines."""
    cents = 100 * (found.bill - found.lost_dollars)
    return "\n".join(
        [
            f"{found.units} investigations: {found.done} done, {found.failed} failed, {found.skipped} skipped, each "
            f"with its reason: {'yes' if found.complete else 'NO'}",
            f"killed {found.kills} times",
            f"{found.trials} trials in the notebook, {found.trials_failed} of them failed; twice or missing: "
            f"{len(found.doubled)}",
            f"{found.calls} calls on record for {100 * found.ledger:.4f} cents; investigations "
            f"{100 * found.investigations:.4f}",
            f"billed {100 * found.bill:.4f} cents, of which {found.lost} answers were under way at a kill: {cents:.4f}",
            f"all agree: {'yes' if found.exact else 'NO'}",
            *found.doubled[:5],
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--faults", type=float, default=0.3, help="share of requests that meet one")
    parser.add_argument("--max-tokens", type=int, default=200_000, help="of the corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep the index and the database here")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    args = parser.parse_args()
    faults = Faults(args.faults, seed=args.seed, storm=3, retry_after=0.02)
    with tempfile.TemporaryDirectory() as folder, ProgrammableServer(faults=faults) as server:
        plan = plan_of(
            server, subject="pycode", corpus="stdlib:", units=["mlp:*:*"], sample=-(-args.units // 4),
            max_tokens=args.max_tokens,
        )  # fmt: skip
        home = args.home or Path(folder)
        began = time.monotonic()
        kills = run_killed(plan, home, kills=args.kills, seed=args.seed, told=lambda line: print(line, flush=True))
        found = counted(home, server, kills=kills, concurrency=plan["llm"]["concurrency"])
        met = Counter(seen.fault or "none" for seen in server.requests)
    seconds = time.monotonic() - began
    if args.json:
        print(json.dumps({**asdict(found), "seconds": seconds, "faults": dict(met)}, indent=1))
    else:
        share = 1 - met["none"] / max(1, met.total())
        print(f"{render(found)}\n{met.total()} requests, {share:.0%} with a fault; {seconds:.0f} s")
    sys.exit(0 if found.whole else 1)


if __name__ == "__main__":
    main()
