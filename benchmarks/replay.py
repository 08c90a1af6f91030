"""Do replays say the same? Investigations of the built-in model, some of them with a language model, done again.

    python -m benchmarks.replay --units 9 --asked 8 --json replay.json

Two campaigns: one by `pattern`, one by an explainer that asks the programmable server of the tests. Each is replayed
exactly (nothing runs on the model, no language model is asked: the content's hash must be the same), with the model run
again (the largest difference of a number is told), and, of the second, with the server asked again under another prompt
(what became of each claim is told). Exits with status 1 when an exact replay has another hash, or a number differs by
more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import store
from agent import load_spec, run_campaign
from agent.replay import TOLERANCE, Changes, Mode, Replayed, replay_campaign
from store import schema
from tests.serving.process import server_process

CAMPAIGNS = ("pattern", "words")


def settings(name: str, sample: int, max_tokens: int, **more: Any) -> dict[str, Any]:
    """A campaign on neurons, heads and latents of the built-in model."""
    return {
        "name": name, "subject": "pycode", "corpus": "stdlib:", "units": ["mlp:*:*", "head:*:*", "sae:*:*"],
        "sample": sample, "max_tokens": max_tokens, "device": "cpu", "resamples": 200, **more,
    }  # fmt: skip


def shorter_prompt(folder: Path) -> Path:
    """A folder with one prompt that is other than the package's: it shows two texts."""
    folder.mkdir()
    text = (resources.files("explainers.llm") / "prompts" / "explain-examples.md").read_text(encoding="utf-8")
    changed = text.replace("{% for text in texts %}", "{% for text in texts[:2] %}")
    assert changed != text
    (folder / "explain-examples.md").write_text(changed, encoding="utf-8")
    return folder


def measured(db: store.Database, name: str, home: Path, mode: Mode, changes: Changes | None = None) -> dict[str, Any]:
    """One replay of all of a campaign, in figures."""
    began = time.monotonic()
    found = replay_campaign(db, name, home=home, mode=mode, changes=changes)
    assert found is not None
    return {"campaign": name, "mode": mode, "seconds": round(time.monotonic() - began, 1), **_figures(found)}


def _figures(found: Replayed) -> dict[str, Any]:
    changed = Counter(change.what for claim in found.claims for change in claim.changes)
    return {
        "investigations": found.investigations, "same": found.same, "largest": found.largest, "played": found.played,
        "answers": found.answers, "asked": found.asked, "hashes": found.hashes, "claims changed": len(found.claims),
        "what changed": dict(changed), "differences": found.differences,
    }  # fmt: skip


def recorded_bytes(db: store.Database) -> tuple[int, int]:
    """Bytes of recordings, and investigations with any."""
    table = schema.Recording
    with db.session() as session:
        total, number = session.execute(
            sa.select(sa.func.sum(sa.func.length(table.data)), sa.func.count(table.investigation_id.distinct()))
        ).one()
    return int(total or 0), int(number)


def measure(names: Sequence[str], sample: int, asked: int, max_tokens: int, home: Path) -> dict[str, Any]:
    """The campaigns of these names, and all of their replays."""
    rows: list[dict[str, Any]] = []
    size = number = 0
    # A database each: what is known of a unit (mean, variance) is what the last campaign on it measured.
    files = {name: home / f"{name}.db" for name in names}
    with server_process() as server:
        llm = {"endpoints": f"openai:test-model@{server.url}"}
        plans = {
            "pattern": settings("pattern", sample, max_tokens),
            "words": {**settings("words", asked, max_tokens, llm=llm), "units": ["mlp:*:*"]},
        }
        for name, file in files.items():
            with store.open_database(file) as db:
                run_campaign(load_spec(None, plans[name]), db=db, home=home)
                more = recorded_bytes(db)
                size, number = size + more[0], number + more[1]
                modes: list[tuple[Mode, Changes | None]] = [("exact", None), ("tools-live", None)]
                if name == "words":
                    modes += [("llm-live", None), ("llm-live", Changes(prompts=shorter_prompt(home / "prompts")))]
                for mode, changes in modes:
                    rows.append(measured(db, name, home, mode, changes))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    whole = sum(file.stat().st_size for file in files.values())
    return {"replays": rows, "bytes recorded": size, "investigations recorded": number, "bytes of the database": whole}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=8, help="units of each layer and dictionary, by pattern")
    parser.add_argument("--asked", type=int, default=4, help="neurons of each layer, by a language model")
    parser.add_argument("--campaigns", nargs="+", choices=CAMPAIGNS, default=CAMPAIGNS, help="only these")
    parser.add_argument("--max-tokens", type=int, default=200_000, help="of the corpus")
    parser.add_argument("--home", type=Path, help="keep the databases here")
    parser.add_argument("--json", type=Path, help="write all of it there")
    given = parser.parse_args()
    folder = given.home or Path(tempfile.mkdtemp(prefix="neurogloss-replay-benchmark-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = measure(given.campaigns, given.units, given.asked, given.max_tokens, folder)
    finally:
        if given.home is None:
            shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    names = ("campaign", "mode", "investigations", "same", "largest", "played", "answers", "asked", "claims changed",
             "seconds")  # fmt: skip
    rows = [names, *([str(row[name]) for name in names] for row in found["replays"])]
    widths = [max(len(row[place]) for row in rows) for place in range(len(names))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    each = found["bytes recorded"] / max(found["investigations recorded"], 1)
    print(f"recordings: {each / 1024:.1f} KiB an investigation, {found['bytes recorded'] / 1e6:.1f} MB of "
          f"{found['bytes of the database'] / 1e6:.1f} MB")  # fmt: skip
    wrong = [row for row in found["replays"] if row["mode"] != "llm-live" and not row["same"]]
    for row in wrong:
        print(f"{row['campaign']} {row['mode']}: {row['differences'][:3]}")
    return int(bool(wrong) or any((row["largest"] or 0) > TOLERANCE for row in found["replays"]))


if __name__ == "__main__":
    sys.exit(main())
