"""A campaign on the built-in model that asks the programmable server, in a process that can be watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "llm-benchmark"
ROOT = Path(__file__).resolve().parent.parent.parent

#: Runs a campaign; prints when its work on units begins, and its client's figures and how it ended as JSON.
_DRIVER = """
import json, sys, time
from pathlib import Path
from agent import Observer, load_spec, run_campaign
from explainers.llm import client

made = []
class Watched(client.LlmClient):
    def close(self):
        made.append(self.stats)
        super().close()
import agent.llm
agent.llm.LlmClient = Watched

class Teller(Observer):
    def phase(self, name): print("phase", name, time.process_time(), flush=True)

options = json.loads(sys.argv[1])
summary = run_campaign(
    load_spec(None, options["spec"]), db=options["db"], home=Path(options["home"]), observer=Teller()
)
stats = made[-1] if made else None
figures = None if stats is None else {**vars(stats), "busy": stats.busy}
print("ended", json.dumps({"summary": summary.to_json(), "client": figures}), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a campaign ended."""

    summary: Mapping[str, Any]
    client: Mapping[str, Any]
    seconds: float
    """Of its work on units."""
    cpu_seconds: float
    """Of processor time that its process used meanwhile."""


def settings(
    url: str, *, units: tuple[str, ...], sample: int | None, max_tokens: int, **changes: Any
) -> dict[str, Any]:
    """A spec with the defaults, but for what is given.

    Args:
        url: Of the server.
        units: Patterns of units of the built-in model.
        sample: Units of each group; None: all.
        max_tokens: Of the corpus, for the index.
        changes: Further settings of the spec; those of `llm` are added to its own.
    """
    llm = {"endpoints": f"vllm:test-model@{url}", **changes.pop("llm", {})}
    return {
        "name": NAME, "subject": "pycode", "corpus": "stdlib:", "units": list(units), "sample": sample,
        "max_tokens": max_tokens, "device": "cpu", "llm": llm, **changes,
    }  # fmt: skip


def run(spec: Mapping[str, Any], database: Path, home: Path, begun: Callable[[int], None] = lambda pid: None) -> Ended:
    """Runs a campaign in a process of its own.

    Args:
        spec: From `settings`.
        database: Where it is kept.
        home: Data folder, for the index.
        begun: Is given the process's id when its work on units begins.

    Raises:
        RuntimeError: It did not come to its end.
    """
    options = json.dumps({"spec": dict(spec), "db": str(database), "home": str(home)})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ended: dict[str, Any] | None = None
    at = finished = time.monotonic()
    used = [0.0, 0.0]
    for line in process.stdout:
        word, _, rest = line.strip().partition(" ")
        phase, _, cpu = rest.partition(" ")
        if (word, phase) == ("phase", "investigate"):
            at, used[0] = time.monotonic(), float(cpu)
            begun(process.pid)
        elif (word, phase) == ("phase", "close"):
            finished, used[1] = time.monotonic(), float(cpu)
        elif word == "ended":
            ended = json.loads(rest)
    if process.wait() or ended is None or ended["client"] is None:
        raise RuntimeError(f"the campaign ended with status {process.returncode}")
    return Ended(ended["summary"], ended["client"], finished - at, used[1] - used[0])
