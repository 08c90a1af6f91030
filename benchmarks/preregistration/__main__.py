"""Do descriptions know how far they hold? Predictions before the seal against what comes, on planted subjects.

A campaign of the explainer `pattern` runs on each subject. Reported are the calibration of probabilities at made-up
inputs (goal: an expected calibration error of at most 0.05), whether 95 % intervals for scores on sealed text and for
effects held what came, and whether the rivals that are kept hold the truth.

    python -m benchmarks.preregistration --subject planted:seed=1 --seeds 2 --sample 3
    python -m benchmarks.preregistration --subject pycode --bulk 8       # random neurons of a trained model
    python -m benchmarks.preregistration --subject planted --bulk 8      # and of a planted one, in which nothing is

Rules of random neurons are only partly right, so that probabilities are harder to give than of planted ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import store
from agent import run_campaign
from agent.reporting.predictions import PredictionUse
from benchmarks.planted.figures import RECOVERED
from benchmarks.planted.run import Trial
from benchmarks.planted.tables import number, share, table
from benchmarks.preregistration.bulk import bulk_campaign
from benchmarks.preregistration.measure import Kept, foretold, kept_rivals, use_of
from tools.errors import NeuroglossError
from tools.planted import planted_spec

GOAL = 0.05
FRESH_TOKENS = 40_000


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preregistration", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--subject", default="planted", metavar="SPEC", help="planted[:seed=N,size=large,arch=llama]")
    parser.add_argument("--seeds", type=int, default=1, help="so many subjects, with seeds from the subject's own on")
    parser.add_argument("--sample", type=int, metavar="N", help="only N tails of each family")
    parser.add_argument(
        "--bulk", type=int, metavar="N", help="N random neurons of each layer, in place of the planted tails"
    )
    parser.add_argument("--corpus", help="of --bulk; by default the planted subject's, or the standard library")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting of the campaign")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--home", type=Path, help="keep indexes and databases here, and go on with what is there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    args = arguments(argv)
    settings = {name: json.loads(value) for name, _, value in (one.partition("=") for one in args.set)}
    rows: list[tuple[str, str, dict[str, Any]]] = []
    kept: list[Kept] = []
    try:
        if args.bulk:
            return _random(args, settings)
        first = planted_spec(args.subject)
        with tempfile.TemporaryDirectory() as temporary:
            for seed in range(first.seed, first.seed + args.seeds):
                home = (args.home or Path(temporary)) / f"seed-{seed}"
                home.mkdir(parents=True, exist_ok=True)
                spec, began = replace(first, seed=seed), time.perf_counter()
                trial = Trial(spec, home, per_family=args.sample, fresh_tokens=FRESH_TOKENS, settings=settings)
                campaign = trial.campaign("pattern")
                with store.open_database(home / "preregistration.db") as db:
                    run_campaign(campaign, db=db, home=home)
                    rows += foretold(db, campaign.title)
                    kept += kept_rivals(db, campaign.title, trial.ground)
                print(f"{spec.text}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    except NeuroglossError as error:
        print(error, file=sys.stderr)
        return 2
    return _told(args, rows, kept)


def _random(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    campaign = bulk_campaign(args.subject, args.corpus, args.bulk, settings)
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        with store.open_database(home / "preregistration.db") as db:
            run_campaign(campaign, db=db, home=home)
            return _told(args, foretold(db, campaign.title), [])


def _told(args: argparse.Namespace, rows: Sequence[tuple[str, str, dict[str, Any]]], kept: Sequence[Kept]) -> int:
    use = use_of(rows)
    if use is None:
        print("No description predicted anything.", file=sys.stderr)
        return 1
    print(render(use, use_of(rows, "supported"), kept))
    if args.json:
        report = {"all": asdict(use), "kept": [one.to_json() for one in kept], "predictions": rows}
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def render(use: PredictionUse, supported: PredictionUse | None, kept: Sequence[Kept]) -> str:
    """All tables, within 80 columns."""
    lines = [f"Probabilities at made-up inputs, of {use.claims} descriptions"]
    inputs = []
    for name, own in (("all", use), ("supported", supported)):
        if own is not None and own.curve is not None:
            curve = own.curve
            inputs.append([name, str(curve.n), number(own.right.value, 3), number(curve.error, 3),
                           number(curve.brier, 3), number(curve.log_loss, 3)])  # fmt: skip
    for kind, curve in use.kinds.items():
        inputs.append([f"  {kind}", str(curve.n), "", number(curve.error, 3), number(curve.brier, 3),
                       number(curve.log_loss, 3)])  # fmt: skip
    lines += table(["", "inputs", "right", "ECE", "Brier", "log loss"], inputs)
    if use.curve is not None:
        met = "met" if use.curve.error <= GOAL else "not met"
        lines += ["", f"goal: ECE of at most {GOAL}: {met}", "", "Calibration curve"]
        lines += table(
            ["said", "inputs", "mean said", "came", "95 %"],
            [[f"{one.low:.1f}-{one.high:.1f}", str(one.n), number(one.predicted, 3), number(one.observed, 3),
              f"{one.observed_low:.3f}-{one.observed_high:.3f}"] for one in use.curve.bins],
        )  # fmt: skip
    lines += ["", "95 % intervals that held what came"]
    lines += table(
        ["of", "claims", "held", "95 %"],
        [[name, str(one.total), share(one.count, one.total), f"{one.low:.2f}-{one.high:.2f}"]
         for name, one in use.held.items() if one.low is not None and one.high is not None],
    )  # fmt: skip
    if not kept:
        return "\n".join(lines)
    lines += ["", f"Rivals that are kept; one is true whose F1 against the planted rule is {RECOVERED}"]
    sets = []
    for name, simple in (("one rule", True), ("several rules, exceptions", False)):
        tails = [one for one in kept if one.monosemantic == simple]
        n = len(tails)
        sets.append([
            name, str(n), number(sum(one.size for one in tails) / n if n else None),
            share(sum(one.holds(1) for one in tails), n), share(sum(one.holds() for one in tails), n),
        ])  # fmt: skip
    lines += table(["", "tails", "mean size", "first true", "set holds it"], sets)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
