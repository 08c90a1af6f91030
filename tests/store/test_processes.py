"""Several processes at one database, some of them killed."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import store
from store import schema
from store.records import InvestigationResult

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# Works until nothing is left, or dies by SIGKILL just before its n-th statement.
WORKER = """
import importlib.util, os, signal, sys
import sqlalchemy
import store
spec = importlib.util.spec_from_file_location("bench", sys.argv[2])
bench = importlib.util.module_from_spec(spec); sys.modules["bench"] = bench; spec.loader.exec_module(bench)
campaign_id, statements = int(sys.argv[3]), int(sys.argv[4])
with store.open_database(sys.argv[1]) as db:
    @sqlalchemy.event.listens_for(db.engine, "before_cursor_execute")
    def count(*_):
        global statements
        statements -= 1
        if statements == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    for job in iter(lambda: store.lease_next(db, campaign_id, f"pid {os.getpid()}", 60), None):
        store.finish(db, job, bench.make_result(job.unit))
        print(job.unit, flush=True)
"""


def start(path: Path, campaign_id: int, *, statements: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), str(HERE / "conftest.py"), str(campaign_id), str(statements)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_processes_never_get_the_same_unit_and_finish_each_once(make: Callable[..., Any], tmp_path: Path) -> None:
    units = [f"mlp:0:{i}" for i in range(200)]
    bench = make(tmp_path / "x.db", units)
    workers = [start(tmp_path / "x.db", bench.campaign_id) for _ in range(3)]
    done = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert Counter(unit for one in done for unit in one) == Counter(units)
    assert sum(bool(one) for one in done) >= 2, "one process did all the work"
    assert store.progress(bench.db, bench.campaign_id).done == 200
    with bench.db.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(schema.Description)) == 200
        assert session.scalar(sa.select(sa.func.max(schema.Investigation.attempts))) == 1


def test_a_killed_process_leaves_all_of_a_unit_or_nothing(
    make: Callable[..., Any], tmp_path: Path, result: Callable[..., InvestigationResult]
) -> None:
    units = [f"mlp:0:{i}" for i in range(20)]
    bench = make(tmp_path / "killed.db", units)
    left = set()
    for statements in (50, 61, 70):
        worker = start(tmp_path / "killed.db", bench.campaign_id, statements=statements)
        done = worker.communicate(timeout=60)[0].split()
        assert worker.returncode == -signal.SIGKILL
        assert 1 <= len(done) <= 3
        left.add(assert_whole(bench))
        owner = f"pid {worker.pid}"
        assert store.reclaim(bench.db, bench.campaign_id, partial(operator.ne, owner)) <= 1
    assert 1 in left, "none was killed while it held a unit"
    for job in iter(lambda: store.lease_next(bench.db, bench.campaign_id, "last", 60), None):
        store.finish(bench.db, job, result(job.unit))
    whole = make(tmp_path / "whole.db", units)
    for job in iter(lambda: store.lease_next(whole.db, whole.campaign_id, "only", 60), None):
        store.finish(whole.db, job, result(job.unit))
    contents = [store.campaign_content(one.db, "first") for one in (bench, whole)]
    assert store.differences(contents[0], contents[1]) == []


def assert_whole(bench: Any) -> int:
    """Units that are done have all of their rows, others none. Returns how many are leased."""
    with bench.db.session() as session:
        for table, each in ((schema.Description, 1), (schema.Hypothesis, 2), (schema.Experiment, 2)):
            found = session.execute(
                sa.select(schema.Investigation.status, schema.Investigation.id, sa.func.count(table.id))
                .outerjoin(table, table.investigation_id == schema.Investigation.id)
                .group_by(schema.Investigation.status, schema.Investigation.id)
            )
            wrong = [row for row in found if row[2] != (each if row[0] == "done" else 0)]
            assert wrong == []
    return int(store.progress(bench.db, bench.campaign_id).leased)
