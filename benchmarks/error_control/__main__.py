"""Do the statistics hold what they promise? Measured on simulated units whose truth is known.

    python -m benchmarks.error_control
    python -m benchmarks.error_control --campaigns 2000 --json error_control.json
    python -m benchmarks.error_control --planted planted

Prints (a) realised false-discovery rates and power over campaigns of 200 claims, (b) how often 95 % intervals hold the
truth, (c) false alarms when one looks twenty times, (d) what sequential scoring costs and decides beside a score of the
whole sample. Exits with status 1 when something does not hold: a false-discovery rate above its level by more than two
standard errors (naive p-values apart, which are there to show what is gained), intervals that hold the truth less than
93 or more than 97 % of the time on average, false alarms of the e-process above its level by more than two standard
errors, or a sequential verdict that differs in more than 3 % of claims or costs more than half at the median.

With `--planted SPEC`, only (d) is measured, on planted units: their true descriptions, lookup tables, random rules, and
what is true of other units.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.error_control import cost, discoveries
from benchmarks.error_control.coverage import coverage
from benchmarks.error_control.peeking import ALPHA, LOOKS, peeking

LEVEL = 0.1
"""The level whose rows are printed with their power; all levels are in the JSON."""


Part: TypeAlias = tuple[list[dict[str, Any]], list[str]]
"""Figures, and what does not hold."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.error_control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--campaigns", type=int, default=500, help="campaigns of 200 claims; default 500")
    parser.add_argument("--runs", type=int, default=100, help="samples in each cell of the coverage table; default 100")
    parser.add_argument("--looks", type=int, default=400, help="descriptions looked at twenty times; default 400")
    parser.add_argument("--claims", type=int, default=12, help="claims of each prevalence and quality; default 12")
    parser.add_argument("--planted", metavar="SPEC", help="planted[:seed=N,size=large,arch=llama]; see below")
    parser.add_argument("--sample", type=int, metavar="N", help="with --planted, only N tails of each family")
    parser.add_argument("--home", type=Path, help="with --planted, keep the index here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(args.seed)
    figures: dict[str, Any] = {"seed": args.seed}
    faults: list[str] = []
    parts: dict[str, Callable[[np.random.Generator, argparse.Namespace], Part]] = {
        "discoveries": _discoveries, "coverage": _coverage, "peeking": _peeking, "cost": _cost,
    }  # fmt: skip
    if args.planted:
        parts = {"planted": _planted}
    for name, part in parts.items():
        began = time.perf_counter()
        figures[name], found = part(rng, args)
        faults += found
        print(f"({time.perf_counter() - began:.0f} s)\n", flush=True)
    for fault in faults:
        print(f"FAULT: {fault}")
    if args.json:
        args.json.write_text(json.dumps({**figures, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


def _discoveries(rng: np.random.Generator, args: argparse.Namespace) -> Part:
    rows = []
    for null, banks, methods in (
        ("rotation", discoveries.rotation_banks(rng, 64), ("naive", "bh", "by", "storey", "e-bh")),
        ("pooled pairs", discoveries.pairing_banks(rng, 160), ("naive", "bh", "by", "storey")),
        ("betting", discoveries.sequential_banks(rng, 16), ("e-bh",)),
    ):
        rows += [{"null": null, **row} for row in discoveries.realised(banks, methods, args.campaigns, rng)]
    print(f"Realised false-discovery rate ± 2 SE, {args.campaigns} campaigns of {discoveries.CLAIMS} claims;")
    print(f"power (pow.) at level {LEVEL:g} where planted F1 >= 0.6\n")
    print("| evidence, method     | true | FDR at 5 %  | at 10 %     | at 20 %     | pow. |")
    print("| -------------------- | ---: | ----------- | ----------- | ----------- | ---: |")
    for key in dict.fromkeys((row["null"], row["method"], row["true_share"]) for row in rows):
        some = {row["level"]: row for row in rows if (row["null"], row["method"], row["true_share"]) == key}
        cells = " | ".join(f"{some[a]['fdr']:.3f} ±{some[a]['two_se']:.2f}" for a in discoveries.LEVELS)
        power = some[LEVEL]["power"]
        shown = "   -" if power is None else f"{power:4.2f}"
        print(f"| {f'{key[0]}, {key[1]}':20} | {key[2]:4.0%} | {cells} | {shown} |")
    faults = [
        f"{row['null']}, {row['method']}: realised {row['fdr']:.3f} at {row['level']:g}, {row['true_share']:.0%} true"
        for row in rows
        if row["method"] != "naive" and not row["holds"]
    ]
    return rows, faults


def _coverage(rng: np.random.Generator, args: argparse.Namespace) -> Part:
    rows = coverage(rng, args.runs)
    mean = float(np.mean([row["covered"] for row in rows]))
    print(f"Share of 95 % intervals of F1 that hold the truth, {args.runs} samples a cell\n")
    print("| prevalence | " + " | ".join(f"F1 {f1:4.2f}" for f1 in (0.31, 0.5, 0.7, 0.85, 0.96)) + " |")
    print("| ---------- | " + " | ".join("------:" for _ in range(5)) + " |")
    for prevalence in dict.fromkeys(row["prevalence"] for row in rows):
        cells = " | ".join(f"{row['covered']:7.3f}" for row in rows if row["prevalence"] == prevalence)
        print(f"| {prevalence:9.1%}  | {cells} |")
    print(f"\nmean {mean:.3f}, least {min(row['covered'] for row in rows):.3f}")
    return rows, [] if 0.93 <= mean <= 0.97 else [f"intervals hold the truth {mean:.1%} of the time"]


def _peeking(rng: np.random.Generator, args: argparse.Namespace) -> Part:
    rows = peeking(rng, args.looks)
    print(f"False alarms at level {ALPHA:g}, looking once (at the end) and {LOOKS} times; {args.looks} runs\n")
    print("| the truth                      | test      |  once | 20 looks, ± 2 SE |")
    print("| ------------------------------ | --------- | ----: | ---------------: |")
    for once, often in zip(rows[::2], rows[1::2], strict=True):
        shown = f"{often['false_alarms']:.3f} ± {often['two_se']:.3f}"
        print(f"| {once['null']:30} | {once['test']:9} | {once['false_alarms']:.3f} | {shown:>16} |")
    faults = [
        f"{row['test']} on {row['null']}: {row['false_alarms']:.3f} false alarms"
        for row in rows
        if row["test"] == "e-process" and row["false_alarms"] > ALPHA + row["two_se"]
    ]
    return rows, faults


def _cost(rng: np.random.Generator, args: argparse.Namespace) -> Part:
    return _compared(cost.claims(rng, args.claims), "simulated claims")


def _planted(rng: np.random.Generator, args: argparse.Namespace) -> Part:
    from benchmarks.error_control.planted import planted_claims

    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        return _compared(planted_claims(args.planted, home, per_family=args.sample), args.planted)


def _compared(claims: Iterable[cost.Claim], what: str) -> Part:
    rows = cost.summary(cost.compare(claims))
    print(f"Sequential scoring beside a score of the whole sample: {what}\n")
    print("| description     | claims | agree  | median asked | mean | supported | fixed |")
    print("| --------------- | -----: | -----: | -----------: | ---: | --------: | ----: |")
    for row in rows:
        print(
            f"| {row['kind']:15} | {row['claims']:6} | {row['agree']:6.1%} | {row['median_share']:12.0%} |"
            f" {row['mean_share']:4.0%} | {row['supported_sequential']:9.0%} | {row['supported_fixed']:5.0%} |"
        )
    whole = rows[-1]
    faults = []
    if whole["agree"] < 0.97:
        faults.append(f"sequential verdicts differ in {1 - whole['agree']:.1%} of claims")
    if whole["median_share"] > 0.5:
        faults.append(f"sequential scoring costs {whole['median_share']:.0%} at the median")
    return rows, faults


if __name__ == "__main__":
    sys.exit(main())
