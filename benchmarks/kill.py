"""Kill a campaign with SIGKILL at random moments, resume it each time, and compare with an undisturbed one.

    python benchmarks/kill.py --kills 10

Prints one line a kill (when, how many units were done by then), then whether the final contents are equal: the same
descriptions, scores, examples and experiments, nothing twice. Exits with status 1 where they differ.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import store

NAME = "kill"


def command(home: Path, args: argparse.Namespace) -> list[str]:
    return [
        sys.executable, "-m", "neurogloss", "--home", str(home), "campaign", "run", "--name", NAME, "--yes",
        "--subject", args.subject, "--corpus", args.corpus, "--units", args.units,
        "--sample", str(args.sample), "--max-tokens", str(args.max_tokens), "--workers", "2",
    ]  # fmt: skip


def state(home: Path) -> str:
    """How far the campaign in `home` is, in words."""
    try:
        with store.open_database(home / "neurogloss.db", create=False) as db:
            now = store.progress(db, store.get_campaign(db, NAME).id)
    except store.StoreError:
        return "the database did not hold the campaign yet"
    return f"{now.done} of {now.total} units done, {now.leased} in hand"


def content(home: Path) -> Any:
    with store.open_database(home / "neurogloss.db", create=False) as db:
        return store.campaign_content(db, NAME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--subject", default="pycode")
    parser.add_argument("--corpus", default="stdlib:")
    parser.add_argument("--units", default="mlp:*:*;head:*:*")
    parser.add_argument("--sample", type=int, default=4, help="units of each group")
    parser.add_argument("--max-tokens", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)

    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        began = time.monotonic()
        subprocess.run(command(undisturbed, args), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        whole = time.monotonic() - began
        expected = content(undisturbed)
        print(f"undisturbed: {whole:.0f} s, {state(undisturbed)}", flush=True)

        kills, homes, same = 0, 0, True
        while kills < args.kills:
            homes += 1
            home = Path(folder) / f"killed-{homes}"
            while True:
                process = subprocess.Popen(
                    command(home, args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
                if kills == args.kills:
                    process.wait()
                    break
                wait = rng.uniform(1, whole)
                try:
                    process.wait(timeout=wait)
                    break  # it ended first
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    kills += 1
                    print(f"kill {kills} after {wait:.1f} s: {state(home)}", flush=True)
            if process.returncode != 0:
                sys.exit(f"the resumed run ended with status {process.returncode}")
            unlike = store.differences(expected, content(home))
            same &= not unlike
            print(f"database {homes}: {'DIFFERENT from' if unlike else 'equal to'} the undisturbed one", flush=True)
            print(*unlike, sep="\n", end="\n" if unlike else "")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
