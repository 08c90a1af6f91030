"""Run explainers on planted subjects and compare what they say with the truth.

    python -m benchmarks.planted
    python -m benchmarks.planted --explainer pattern --seeds 3 --json planted.json

Every explainer is run through a whole campaign (triage, evidence, rivals, sealed scores, verdicts, error rates) on all
planted units, in a database of its own, and what the database then holds is measured against the planted predicates on
fresh text and on near-misses; `benchmarks/planted/figures.py` defines the figures. The references are an oracle that is
told the truth, a random rule, and lookup tables of single tokens and of pairs.

Exits with status 1 when the benchmark itself is broken: the oracle below 0.98, or a random rule more than 0.1 above
chance, on any family.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.planted.run import FRESH_TOKENS, Trial
from benchmarks.planted.sequential import Pair, compare_scoring, score_view, summarise_pairs
from benchmarks.planted.summary import Run, faults, summarise
from benchmarks.planted.tables import render, render_sequential
from explainers.registry import names, needs_llm
from tools.errors import NeuroglossError
from tools.planted import planted_spec

DEFAULT = ("oracle", "random", "token-table", "pair-table", "pattern")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planted", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--explainer", action="append", metavar="NAME", help=f"may be repeated; {', '.join(DEFAULT)}")
    parser.add_argument("--subject", default="planted", metavar="SPEC", help="planted[:seed=N,size=large,arch=llama]")
    parser.add_argument("--seeds", type=int, default=1, help="so many subjects, with seeds from the subject's own on")
    parser.add_argument("--sample", type=int, metavar="N", help="measure only N tails of each family")
    parser.add_argument("--fresh-tokens", type=int, default=FRESH_TOKENS, help="fresh text to measure on")
    parser.add_argument("--llm", action="append", metavar="ENDPOINT",
                        help="vllm:MODEL or openai:MODEL@URL, for explainers that ask a language model")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="investigations at once")
    parser.add_argument(
        "--sequential", action="store_true", help="score each explainer's claims sequentially as well, and compare"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, those of each unit among them")
    parser.add_argument("--home", type=Path, help="keep the indexes and databases here, and go on with what is there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    args = arguments(argv)
    explainers = list(dict.fromkeys(args.explainer or DEFAULT))
    unknown = sorted(set(explainers) - set(names()))
    if unknown:
        print(f"There is no explainer '{unknown[0]}'. There are: {', '.join(names())}.", file=sys.stderr)
        return 2
    asking = [name for name in explainers if needs_llm(name)]
    if asking and not args.llm:
        print(f"The explainer '{asking[0]}' asks a language model: name one with --llm.", file=sys.stderr)
        return 2
    runs: dict[str, list[Run]] = {name: [] for name in explainers}
    pairs: list[Pair] = []
    try:
        first = planted_spec(args.subject)
        with tempfile.TemporaryDirectory() as temporary:
            for seed in range(first.seed, first.seed + args.seeds):
                home = (args.home or Path(temporary)) / f"seed-{seed}"
                home.mkdir(parents=True, exist_ok=True)
                began = time.perf_counter()
                trial = Trial(
                    replace(first, seed=seed), home, per_family=args.sample, fresh_tokens=args.fresh_tokens,
                    settings={"workers": args.workers}, endpoints=args.llm or (),
                )  # fmt: skip
                tell(f"{trial.spec.text}: {len(trial.truths)} tails, {time.perf_counter() - began:.0f} s to build")
                for name in explainers:
                    run, claims, ended, made = trial.run(name)
                    runs[name].append(run)
                    tell(f"{trial.spec.text}: {name} took {run.seconds:.0f} s")
                    if args.sequential and ended.index is not None and name not in asking:
                        view = score_view(Path(ended.index))
                        pairs += compare_scoring(claims, run.marks, made, view, seed=seed, tell=tell)
    except NeuroglossError as error:
        print(error, file=sys.stderr)
        return 2
    summaries = [summarise(found) for found in runs.values()]
    print(render(summaries))
    early = summarise_pairs(pairs)
    if args.sequential:
        print(f"\n{render_sequential(early)}")
    broken = faults(summaries)
    if args.json:
        report: dict[str, Any] = {
            "summaries": summaries,
            "broken": broken,
            "sequential": early,
            "runs": [
                {
                    **run.__dict__,
                    "marks": [mark.to_json() for mark in run.marks],
                    "outputs": [mark.to_json() for mark in run.outputs],
                }
                for found in runs.values()
                for run in found
            ],
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for line in broken:
        print(f"The benchmark is broken: {line}.", file=sys.stderr)
    return 1 if broken else 0


def tell(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
