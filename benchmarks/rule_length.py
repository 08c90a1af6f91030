"""How much of a unit's activity does a rule of a given length predict on held-out documents?

For each unit rules of at most 1, 2, 4, … elementary tests (members of sets count one each) are learned on explore,
chosen on refine and scored on score, beside two lookup tables filled on explore: by token, and by (previous token,
token). The tables have hundreds of entries and explain nothing; they are the reference.

    python benchmarks/rule_length.py --subject ../shared/data/stories260k --corpus ../shared/data/tinystories.jsonl \
        --units 'mlp:2:*' --out rule-length

Writes OUT.json and OUT.png, and prints the table. A unit's polarity is that of its larger tail; it is active above
half of the 99.95th percentile of that tail on explore.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from agent.claims import compare
from explainers.pattern.explainer import PatternExplainer
from explainers.pattern.learn import learn
from explainers.rules.evaluate import RulePredictor
from explainers.tables import TablePredictor
from explainers.types import Evidence, Predictor
from scorers.metrics import METRICS, evaluate
from tools.corpora import load_corpus
from tools.index import ActivationIndex, IndexSettings, Opening, build_index
from tools.subject import load_subject
from tools.types import Split, UnitId
from tools.units import expand

LENGTHS = (1, 2, 4, 8, 16, 32, 64)
METRIC_NAMES = ("f1", "average_precision", "pearson")


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out F1 against rule length.")
    parser.add_argument("--subject", required=True, help="model folder or hub id")
    parser.add_argument("--corpus", required=True, help="corpus, as for `neurogloss index build`")
    parser.add_argument("--units", required=True, help="unit pattern, e.g. 'mlp:2:*'")
    parser.add_argument("--out", required=True, type=Path, help="path of the results without suffix")
    parser.add_argument("--home", type=Path, help="data folder to keep the index in (default: a temporary one)")
    parser.add_argument("--limit", type=int, help="take only so many documents")
    parser.add_argument("--every", type=int, default=1, help="take every n-th unit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        subject = load_subject(arguments.subject)
        corpus = load_corpus(arguments.corpus, limit=arguments.limit)
        units = expand(subject, arguments.units)[:: arguments.every]
        index = build_index(subject, corpus, units, arguments.home or Path(temporary), IndexSettings())
        report = measure(index, units)
    report["subject"], report["corpus"], report["units"] = subject.name, corpus.spec, arguments.units
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(report, arguments.out.with_suffix(".png"))
    print(table(report))


def measure(index: ActivationIndex, units: list[UnitId]) -> dict[str, Any]:
    explainer = PatternExplainer(edits=False)
    explore, refine = index.view(Split.EXPLORE), index.view(Split.REFINE)
    openings: list[Opening] = []  # one, for all rules: they are compared and none is claimed
    score = index.keeper(openings.append).open(Split.SCORE, claim="rule length", polarity="+", by="benchmark")
    rows: list[dict[str, Any]] = []
    for unit in units:
        statistics = explore.statistics(unit)
        polarity = max("+-", key=statistics.threshold)
        threshold = statistics.threshold(polarity)
        if threshold <= 0:
            continue
        evidence = Evidence(unit, polarity, None, explore, refine, threshold, seed=0)
        started = time.process_time()
        splits = explainer.rows(evidence, explore), explainer.rows(evidence, refine)
        learned = learn(*splits, explainer.settings)
        seconds = time.process_time() - started
        curve = learn(*splits, explainer.settings, curve=True)
        sample, held_out = explore.sample(unit), score.sample(unit)

        def marks(
            predictor: Predictor,
            size: int,
            held_out: Any = held_out,
            polarity: str = polarity,
            threshold: float = threshold,
        ) -> dict[str, Any]:
            comparison = compare(predictor, score, held_out, polarity, threshold)
            found = {name: evaluate(METRICS.get(name), comparison)[0] for name in METRIC_NAMES}
            return {**found, "size": size}

        row: dict[str, Any] = {"unit": str(unit), "polarity": polarity, "seconds": seconds, "lengths": {}}
        for length in LENGTHS:
            candidate = curve.at_most(length) if curve is not None else None
            if candidate is not None:
                row["lengths"][str(length)] = marks(RulePredictor(candidate.rule), candidate.size)
        if learned is not None:
            row["chosen"] = marks(RulePredictor(learned.chosen.rule), learned.chosen.size)
            row["chosen"]["literals"] = learned.chosen.rule.n_literals
        for width in (1, 2):
            lookup = TablePredictor(width, explore.texts, sample, evidence.sign)
            row[lookup.name] = marks(lookup, lookup.entries_above(threshold))
            row[lookup.name]["entries"] = len(lookup)
        rows.append(row)
    return {"rows": rows, "summary": summary(rows)}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each length, the chosen rule and each table; a unit without a rule counts as 0."""
    lines = []
    for name in (*map(str, LENGTHS), "chosen", "token-table", "pair-table"):
        marks = [row["lengths"].get(name, {}) if name.isdigit() else row.get(name, {}) for row in rows]
        line: dict[str, Any] = {"predictor": name}
        for metric in METRIC_NAMES:
            values = np.array([mark.get(metric) or 0.0 for mark in marks])
            line[f"{metric}_median"] = float(np.median(values))
            if metric == "f1":
                line["f1_at_least_half"] = float(np.mean(values >= 0.5))
        line["size_median"] = float(np.median([mark.get("size", 0) for mark in marks]))
        lines.append(line)
    return lines


def table(report: dict[str, Any]) -> str:
    lines = [f"{'predictor':>12} {'size':>6} {'median F1':>10} {'F1>=0.5':>8} {'median AP':>10} {'median r':>9}"]
    lines += [
        f"{line['predictor']:>12} {line['size_median']:6.0f} {line['f1_median']:10.3f} {line['f1_at_least_half']:8.1%} "
        f"{line['average_precision_median']:10.3f} {line['pearson_median']:9.3f}"
        for line in report["summary"]
    ]
    seconds = np.median([row["seconds"] for row in report["rows"]])
    return "\n".join([*lines, f"{len(report['rows'])} units, median {seconds:.2f} CPU seconds to learn a rule"])


def plot(report: dict[str, Any], path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    lines = {line["predictor"]: line for line in report["summary"]}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True)
    for axis, key, title in zip(
        axes, ("f1_median", "f1_at_least_half"), ("median F1", "share of units with F1 ≥ 0.5"), strict=True
    ):
        axis.plot(LENGTHS, [lines[str(n)][key] for n in LENGTHS], "o-", label="rule of at most n tests")
        axis.plot(lines["chosen"]["size_median"], lines["chosen"][key], "*", markersize=12, label="chosen rule")
        for name, style in (("token-table", ":"), ("pair-table", "--")):
            axis.axhline(lines[name][key], linestyle=style, color="grey", label=name.replace("-", " "))
        axis.set(xscale="log", ylim=(0, 1), xlabel="elementary tests in the rule", title=f"held-out {title}")
        axis.set_xticks(LENGTHS, [str(n) for n in LENGTHS])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
