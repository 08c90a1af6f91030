"""Describe a model's units and those of its twin with shuffled weights; compare the shares that are described well.

    python benchmarks/shuffled_weights.py --subject pycode --corpus stdlib: --units 'mlp:*:*' --units 'head:*:*'

The twin has the same architecture, tokenizer and distribution of weights, but every weight tensor's entries are in
random order. It computes something, and its units have top examples too; a method that describes them as readily as the
trained model's is describing the method (Heap et al. 2025, arXiv 2501.17727). Prints a row a subject and kind: units
with a supported description, units described well (F1 of at least one half on sealed data), median F1 and Pearson
correlation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import store
from agent import CampaignSpec, run_campaign


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="pycode")
    parser.add_argument("--corpus", default="stdlib:")
    parser.add_argument("--units", action="append", help="may be repeated; default mlp:*:* and head:*:*")
    parser.add_argument("--sample", type=int, help="units of each group; default all")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--home", type=Path, help="keep the databases and indexes here")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        for name, seed in (("trained", None), ("shuffled", 0)):
            spec = CampaignSpec(
                name=name, subject=args.subject, corpus=args.corpus, units=tuple(args.units or ("mlp:*:*", "head:*:*")),
                sample=args.sample, max_tokens=args.max_tokens, workers=args.workers, shuffle_weights=seed,
            )  # fmt: skip
            with store.open_database(home / "neurogloss.db") as db:
                run_campaign(spec, db=db, home=home)
                figures[name] = summarise(db, name)
            for kind, row in figures[name].items():
                print(f"{name:9} {kind:5} " + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


def summarise(db: store.Database, name: str) -> dict[str, dict[str, object]]:
    """Figures by kind of unit, and for all ('all')."""
    summary = store.campaign_summary(db, name)
    return {
        kind: {
            "units": sum(row.investigations.values()),
            "supported": row.verdicts_input.get("supported", 0),
            "well_described": row.well_described,
            "well_described_share": row.well_described_share,
            "median_f1": row.median_f1,
            "median_average_precision": row.median_average_precision,
            "median_pearson": row.median_pearson,
        }
        for kind, row in {**summary.kinds, "all": summary.total}.items()
    }


if __name__ == "__main__":
    main()
