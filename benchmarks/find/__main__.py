"""How well are generated functions described, everywhere and where they are corrupted?

    python -m benchmarks.find [--explainer NAME] [--seed N] [--size small|large] [--sample N] [--json]

Runs a real campaign on the units ``fn:*:*`` of a ``find`` subject (see `tools.functions`) and holds what it says
against the functions, on inputs that stand in no corpus. Columns:

- *success*: the share of functions with NMSE below 0.1; *floor*: the NMSE that noise leaves at best;
- *local*: the share of corrupted functions whose corrupted part is named and told as well as can be; *l.NMSE*,
  *l.floor*: of that part alone; *IoU*: the overlap of the part named with it; *false*: parts named where nothing is
  corrupted;
- *F1* and *r*: on sealed text, of the tail that does best; *queries*: inputs that the explainer asked for.

References: `find-oracle` and `find-random`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.find.run import run, summarise, table
from tools.functions import FindSpec
from tools.functions.spec import SIZES


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.find", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--explainer", action="append", metavar="NAME",
                        help="may be repeated (default: symbolic, find-oracle and find-random)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many functions of each domain")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, each function's mark included")
    parser.add_argument("--home", type=Path, help="keep the database and the index here")
    args = parser.parse_args()
    spec = FindSpec(args.seed, args.size)
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        for name in args.explainer or ["symbolic", "find-oracle", "find-random"]:
            marks, seconds = run(name, spec, home, sample=args.sample)
            rows = summarise(marks)
            found[name] = {"seconds": seconds, "summary": rows, "functions": [mark.to_json() for mark in marks]}
            if not args.json:
                print(f"{name} on {spec.text}, {len(marks)} functions, {seconds:.0f} s\n{table(rows)}\n", flush=True)
    if args.json:
        print(json.dumps({"spec": spec.text, "explainers": found}, indent=1))


if __name__ == "__main__":
    main()
