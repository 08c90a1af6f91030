"""Marks of many units and seeds, summed up for each explainer, and what the benchmark requires of its references."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.planted.effects import OutputMarks, summarise_outputs
from benchmarks.planted.figures import LEVELS, discoveries
from benchmarks.planted.measure import UnitMarks

Json = dict[str, Any]

ORACLE_LEAST = 0.98
RANDOM_MOST = 0.1
TRIVIAL = 0.02
"""A true F1 this near to 0 or 1 says little about intervals: those are covered almost for free."""
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 256)
"""Upper ends of the classes of description lengths, in elementary tests; beyond the last there is one more."""


@dataclass(frozen=True)
class Run:
    """One campaign of one explainer on one planted subject."""

    explainer: str
    subject: str
    marks: list[UnitMarks]
    outputs: list[OutputMarks]
    controls: list[tuple[str, str]]
    """(kind, verdict) of each blind control."""
    other_tails: list[str]
    """Verdicts on tails of planted units that were not planted."""
    failed: int
    """Investigations that ended in an error."""
    seconds: float
    """Of the whole campaign on its index."""


def summarise(runs: Sequence[Run]) -> Json:
    """The figures of one explainer over its runs."""
    marks = [mark for run in runs for mark in run.marks]
    bearing = [mark for mark in marks if mark.rule_bearing]
    excepted = [mark for mark in bearing if mark.exception_recall is not None]
    many = [mark for mark in bearing if mark.concepts > 1]
    claims = [(mark.supported, mark.q_value, mark.false) for mark in marks if mark.how == "described"]
    described = [mark for mark in marks if mark.how == "described"]
    return {
        "explainer": runs[0].explainer,
        "subjects": [run.subject for run in runs],
        "failed": sum(run.failed for run in runs),
        "total": group(bearing),
        "in_language": group([mark for mark in bearing if mark.in_language]),
        "families": {name: group(found) for name, found in by_family(marks).items()},
        "exception": {
            "units": len(excepted),
            "global_recall": mean(mark.recall for mark in excepted),
            "recall": mean(mark.exception_recall for mark in excepted),
            "most_silent": count(excepted, lambda mark: (mark.exception_recall or 0) >= 0.5),
        },
        "polysemy": {
            "units": len(many),
            "exact": count(many, lambda mark: mark.concepts_hit == mark.concepts),
            "hit": sum(mark.concepts_hit for mark in many),
            "concepts": sum(mark.concepts for mark in many),
        },
        "output": summarise_outputs([mark for run in runs for mark in run.outputs]),
        "false_claims": false_claims(runs),
        "other_tails": _accepted([verdict for run in runs for verdict in run.other_tails]),
        "coverage": coverage(described),
        "fdr": [
            {"level": one.level, "found": one.found, "false": one.false, "rate": one.rate}
            for one in (discoveries(claims, level) for level in LEVELS)
        ],
        "cost": {
            "descriptions": len(described),
            "median_seconds": median(mark.seconds for mark in described),
            "median_forward_passes": median(mark.forward_passes for mark in described),
            "mean_tokens": mean(mark.tokens for mark in described),
            "campaign_seconds": sum(run.seconds for run in runs),
        },
        "by_length": by_length(bearing),
    }


def group(marks: Sequence[UnitMarks]) -> Json:
    """Figures of some tails; those of F1 are over the rule-bearing ones."""
    bearing = [mark for mark in marks if mark.rule_bearing]
    return {
        "units": len(marks),
        "rule_bearing": len(bearing),
        "f1": mean(mark.f1 for mark in bearing),
        "above_chance": mean(mark.above_chance for mark in bearing),
        "near_f1": mean(mark.near_f1 for mark in bearing),
        "recovered": count(bearing, lambda mark: mark.recovered),
        "supported": count(marks, lambda mark: mark.supported),
        "undescribed": count(bearing, lambda mark: mark.how not in ("described", "as its copy")),
        "median_members": median(mark.members for mark in bearing if mark.members is not None),
        "median_words": median(mark.words for mark in bearing if mark.words is not None),
    }


def by_family(marks: Iterable[UnitMarks]) -> dict[str, list[UnitMarks]]:
    """Marks by family, in order of name."""
    found: dict[str, list[UnitMarks]] = {}
    for mark in marks:
        found.setdefault(mark.family, []).append(mark)
    return dict(sorted(found.items()))


def false_claims(runs: Sequence[Run]) -> Json:
    """Of units without a rule, by family, and of blind controls, by kind: how many there are and were accepted."""
    verdicts: dict[str, list[str]] = {}
    for run in runs:
        for mark in run.marks:
            if not mark.rule_bearing:
                verdicts.setdefault(mark.family, []).append(mark.verdict)
        for kind, verdict in run.controls:
            verdicts.setdefault(f"control: {kind}", []).append(verdict)
    return {
        **{name: _accepted(found) for name, found in sorted(verdicts.items())},
        "all": _accepted([verdict for found in verdicts.values() for verdict in found]),
    }


def _accepted(verdicts: Sequence[str]) -> Json:
    return {"units": len(verdicts), "accepted": sum(verdict == "supported" for verdict in verdicts)}


def coverage(marks: Sequence[UnitMarks]) -> Json:
    """How many of the stored 95 % intervals hold the F1 that the description has on a large fresh sample."""
    known = [mark for mark in marks if None not in (mark.true_value, mark.low, mark.high)]
    telling = [mark for mark in known if TRIVIAL < (mark.true_value or 0) < 1 - TRIVIAL]
    return {
        name: {"intervals": len(some), "covered": count(some, _covers)}
        for name, some in (("all", known), ("telling", telling))
    }


def _covers(mark: UnitMarks) -> bool:
    assert mark.low is not None
    assert mark.high is not None
    assert mark.true_value is not None
    return mark.low - 1e-9 <= mark.true_value <= mark.high + 1e-9


def by_length(marks: Sequence[UnitMarks]) -> list[Json]:
    """Accuracy of descriptions of rule-bearing units by their length in elementary tests."""
    lines: list[Json] = []
    least = 0
    for most in (*LENGTHS, None):
        some = [
            mark
            for mark in marks
            if mark.members is not None and mark.members >= least and (most is None or mark.members <= most)
        ]
        if some:
            f1s = [mark.f1 for mark in some]
            recovered = count(some, lambda mark: mark.recovered)
            lines.append({"from": least, "to": most, "units": len(some), "f1": mean(f1s), "recovered": recovered})
        least = (most or 0) + 1
    return lines


def faults(summaries: Iterable[Json]) -> list[str]:
    """What says that the benchmark itself is broken: an oracle that fails, or a random rule that succeeds."""
    found = []
    for summary in summaries:
        for name, family in summary["families"].items():
            if not family["rule_bearing"]:
                continue
            if summary["explainer"] == "oracle":
                worst = min(family["f1"], family["near_f1"])
                if worst < ORACLE_LEAST:
                    found.append(f"the oracle reaches only {worst:.3f} on {name}; it must reach {ORACLE_LEAST}")
            if summary["explainer"] == "random" and family["above_chance"] > RANDOM_MOST:
                found.append(
                    f"a random rule reaches {family['above_chance']:.3f} above chance on {name}; at most {RANDOM_MOST}"
                )
    return found


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None of none."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def median(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None of none."""
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


def count(marks: Iterable[UnitMarks], holds: Callable[[UnitMarks], bool]) -> int:
    """How many of the marks it holds for."""
    return sum(holds(mark) for mark in marks)
