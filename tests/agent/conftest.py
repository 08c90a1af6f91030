"""Small campaigns on a random model, and a way to run them in a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import CampaignSpec, Observer, Summary, UnitDone, load_spec, run_campaign

ROOT = Path(__file__).resolve().parent.parent.parent

#: Runs a campaign and prints a line for each event.
DRIVER = """
import json, signal, sys
from pathlib import Path
from agent import Observer, load_spec, run_campaign

class Teller(Observer):
    def phase(self, name): print("phase", name, flush=True)
    def unit_started(self, unit): print("started", unit, flush=True)
    def unit_done(self, done): print("done", done.unit, done.polarity, flush=True)
    def unit_failed(self, unit, error, *, final): print("failed", unit, error, flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell began the tests in the background
options = json.loads(sys.argv[1])
spec, home = load_spec(None, options["spec"]), Path(options["home"])
summary = run_campaign(spec, db=options["db"], home=home, observer=Teller())
print("summary", json.dumps(summary.to_json()), flush=True)
"""


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.done: list[UnitDone] = []
        self.failed: list[tuple[str, str, bool]] = []
        self.limits: list[str] = []
        self.estimates: list[Any] = []
        self.summary: Summary | None = None

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def estimate(self, estimate: Any) -> None:
        self.estimates.append(estimate)

    def unit_done(self, done: UnitDone) -> None:
        self.done.append(done)

    def unit_failed(self, unit: str, error: str, *, final: bool) -> None:
        self.failed.append((unit, error, final))

    def budget(self, limit: str, spent: float, allowed: float) -> None:
        self.limits.append(limit)

    def finished(self, summary: Summary) -> None:
        self.summary = summary


@pytest.fixture(scope="session")
def tiny(tiny_gpt2_folder: Path, tiny_corpus_file: Path) -> dict[str, Any]:
    """Settings of a campaign of some seconds: neurons and heads of a random GPT-2 on 400 short documents."""
    return {
        "name": "tiny",
        "subject": str(tiny_gpt2_folder),
        "corpus": str(tiny_corpus_file),
        "units": ["mlp:1:0-2", "head:1:0"],
        "device": "cpu",
        "panel": {"explore_tokens": 2000, "refine_tokens": 1000, "score_tokens": 1000, "audit_tokens": 500},
        "resamples": 50,
        "null_units": 4,
        "controls": 0.0,
    }


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder shared by tests, so that the index is built once."""
    return tmp_path_factory.mktemp("home")


Run = Callable[..., tuple[Summary, Notes]]


@pytest.fixture
def observer() -> Notes:
    """Keeps what it is told."""
    return Notes()


@pytest.fixture
def run(tiny: dict[str, Any], tiny_home: Path, tmp_path: Path) -> Run:
    """Runs the tiny campaign with some settings changed, on a database of the test's own."""

    def go(stop: threading.Event | None = None, notes: Notes | None = None, **changes: Any) -> tuple[Summary, Notes]:
        notes = notes or Notes()
        spec: CampaignSpec = load_spec(None, {**tiny, **changes})
        summary = run_campaign(spec, db=tmp_path / "ng.db", home=tiny_home, observer=notes, stop=stop)
        assert summary is not None
        return summary, notes

    return go


class Process:
    """A campaign in a process of its own."""

    def __init__(self, spec: dict[str, Any], db: Path, home: Path) -> None:
        options = json.dumps({"spec": spec, "db": str(db), "home": str(home)})
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def events(self) -> Iterator[str]:
        """Lines as they come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            yield line.strip()

    def until(self, word: str, times: int = 1) -> bool:
        """Waits for the n-th line that begins with a word; False when the process ended before."""
        seen = 0
        for line in self.events():
            seen += line.startswith(word)
            if seen == times:
                return True
        return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout: float = 240) -> dict[str, Any]:
        """Waits for the end and returns the summary."""
        out, err = self.process.communicate(timeout=timeout)
        self.lines += [line.strip() for line in out.splitlines()]
        told = [line for line in self.lines if line.startswith("summary ")]
        assert told, err
        summary: dict[str, Any] = json.loads(told[-1].removeprefix("summary "))
        return summary


@pytest.fixture(scope="module")
def start(tiny: dict[str, Any], tiny_home: Path) -> Iterator[Callable[..., Process]]:
    """Starts the tiny campaign in a process; what is left of them is ended with the module's tests."""
    begun: list[Process] = []

    def go(db: Path, **changes: Any) -> Process:
        begun.append(Process({**tiny, **changes}, db, tiny_home))
        return begun[-1]

    yield go
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate(timeout=60)
