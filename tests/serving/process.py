"""The server in a process of its own, for where it must not share the tested program's processor time.

python -m tests.serving.process --latency 0.05
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving.faults import Faults
from tests.serving.server import ProgrammableServer

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Child:
    """A server that runs in another process."""

    url: str
    pid: int

    def stats(self) -> dict[str, Any]:
        """Its bill, and how many requests it had at once."""
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/stats", timeout=10) as answer:
            return dict(json.load(answer))


@contextmanager
def server_process(latency: float = 0.0, faults: float = 0.0, seed: int = 0) -> Iterator[Child]:
    """A server with a competent mind in a process of its own, until the block ends."""
    arguments = ["--latency", str(latency), "--faults", str(faults), "--seed", str(seed)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.process", *arguments], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the server for tests did not start")
        yield Child(url, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    """Serves until its standard input is closed, that is, until whoever started it has gone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that meet a fault")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with ProgrammableServer(latency=args.latency, faults=Faults(args.faults, seed=args.seed), keep=0) as server:
        print(server.url, flush=True)
        waiting = threading.Thread(target=sys.stdin.read, daemon=True)
        waiting.start()
        waiting.join()


if __name__ == "__main__":
    main()
