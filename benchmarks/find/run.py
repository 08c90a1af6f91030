"""A whole campaign on the functions of a subject, read back from the database and measured."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import store
from agent import CampaignSpec, run_campaign
from agent.seeds import sample_units
from benchmarks.find import references  # noqa: F401  (registers them)
from benchmarks.find.measure import Ground, Mark
from explainers.registry import get as get_explainer
from store.queries import unit_page
from tools.functions import CATEGORIES, FindSpec, build, load_truth
from tools.subject import load_subject
from tools.types import UnitId


def options_of(explainer: str, folder: Path) -> dict[str, Any]:
    """What an explainer is told beside the evidence: the oracle, the truth."""
    return {"truth": str(folder)} if explainer == "find-oracle" else {}


def run(
    explainer: str, spec: FindSpec, home: Path, *, sample: int | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[list[Mark], float]:
    """Runs the campaign of an explainer (or goes on with it) and marks every function.

    Args:
        explainer: Its name.
        spec: Which subject and corpus.
        home: Folder for the database and the index.
        sample: Only so many functions of each domain.
        settings: Further settings of the campaign.

    Returns:
        Marks in the order of the units, and the seconds that the campaign took.
    """
    folder = build(spec)
    truths = load_truth(folder)
    units = [str(unit) for unit in sample_units(map(UnitId.parse, truths), sample, spec.seed)]
    plan = CampaignSpec.model_validate({
        "name": f"{explainer} on {spec.text}", "subject": spec.text, "corpus": f"{spec.text},docs={spec.documents}",
        "units": units, "explainer": explainer, "explainer_options": options_of(explainer, folder), "device": "cpu",
        "controls": 0.0, "resamples": 100, "null_units": 8, **(settings or {}),
    })  # fmt: skip
    began = time.perf_counter()
    with store.open_database(home / f"{explainer}.db") as db:
        run_campaign(plan, db=db, home=home)
        seconds = time.perf_counter() - began
        ground = Ground(load_subject(spec.text, device="cpu"), spec, [truths[unit] for unit in units])
        made = get_explainer(explainer, **options_of(explainer, folder))
        return [_mark(db, plan.title, unit, ground, made) for unit in units], seconds


def _mark(db: store.Database, campaign: str, unit: str, ground: Ground, explainer: Any) -> Mark:
    """The mark of a unit by its best described tail; a unit without any description has no formula."""
    page = unit_page(db, unit)
    rows = [row for row in page.descriptions if row.campaign == campaign and row.superseded_by is None]
    details = [row.details["explainer"] for row in rows if "explainer" in row.details]
    # The values asked are the same for both tails; an experiment of either has them all.
    asked: list[str] = next((row.arguments["inputs"] for row in page.experiments if row.kind == "queries"), [])
    scores: dict[str, float | None] = {}
    for name, stored in (("f1", "weighted_f1"), ("pearson", "pearson")):
        found = [s.value for row in rows for s in row.scores if s.metric == stored and s.value is not None]
        scores[name] = max(found, default=None)
    chosen = next((one for one in details if one.get("formula") is not None), details[0] if details else {})
    return ground.mark(unit, chosen, explainer, scores, asked)


def summarise(marks: Sequence[Mark]) -> list[dict[str, Any]]:
    """A row for each domain and category, for each domain, and for all."""
    groups: list[tuple[str, str, list[Mark]]] = []
    for domain in ("numeric", "string"):
        own = [mark for mark in marks if mark.domain == domain]
        groups += [(domain, category, [m for m in own if m.category == category]) for category in CATEGORIES]
        groups.append((domain, "all", own))
    groups.append(("all", "all", list(marks)))
    return [_row(domain, category, members) for domain, category, members in groups if members]


def _row(domain: str, category: str, marks: Sequence[Mark]) -> dict[str, Any]:
    local = [m for m in marks if m.overlap is not None]
    reached = [m.local_success for m in local]
    return {
        "domain": domain,
        "category": category,
        "functions": len(marks),
        "success": fmean(m.success for m in marks),
        "median_nmse": _median([m.nmse for m in marks]),
        "median_floor": _median([m.floor for m in marks]),
        "local_success": fmean(reached) if local else None,
        "local_nmse": _median([m.local_nmse for m in local]),
        "local_floor": _median([m.local_floor for m in local]),
        "overlap": fmean(m.overlap or 0.0 for m in local) if local else None,
        "part_named": fmean((m.overlap or 0.0) >= 0.5 for m in local) if local else None,
        "false_parts": sum(m.false_part for m in marks),
        "median_f1": _median([m.f1 for m in marks]),
        "median_pearson": _median([m.pearson for m in marks]),
        "median_queries": _median([float(m.queries) for m in marks]),
        "held_out_queries": sum(m.held_out_queries for m in marks),
    }


def _median(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None where there are none, or where it is infinite."""
    known = [value for value in values if value is not None]
    found = median(known) if known else math.inf
    return found if math.isfinite(found) else None


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The summary as text."""
    names = {
        "functions": "n", "success": "success", "median_nmse": "NMSE", "median_floor": "floor",
        "local_success": "local", "local_nmse": "l.NMSE", "local_floor": "l.floor", "overlap": "IoU",
        "part_named": "IoU≥.5", "false_parts": "false", "median_f1": "F1", "median_pearson": "r",
        "median_queries": "queries",
    }  # fmt: skip
    lines = [f"{'':18}" + "".join(f"{name:>9}" for name in names.values())]
    for row in rows:
        cells = [row[key] for key in names]
        digits = [0 if key in ("functions", "false_parts", "median_queries") else 3 for key in names]
        shown = ["–" if c is None else f"{c:.{d}f}" for d, c in zip(digits, cells, strict=True)]
        lines.append(f"{row['domain'] + ' ' + row['category']:18}" + "".join(f"{cell:>9}" for cell in shown))
    return "\n".join(lines)
