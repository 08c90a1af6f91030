"""What the database knows of single units: their page, examples, experiments, and why they have their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from agent.chat.lookups import (
    Campaign,
    Json,
    Library,
    Limit,
    Name,
    Polarity,
    UnitName,
    cite,
    clipped,
    lookup,
    short,
)
from agent.toolbox.base import Arguments, Finding
from store.queries import unit_page
from store.rows import DescriptionPage, ExampleRow, ScoreRow, UnitPage

#: Promoted and suppressed tokens that are shown.
_TOKENS = 8


class UnitArguments(Arguments):
    """Arguments of `unit`."""

    unit: UnitName
    campaign: Campaign = None


class ExamplesArguments(UnitArguments):
    """Arguments of `kept_examples`."""

    polarity: Polarity = Field(default="+", description="Strongest positive or negative activations.")
    limit: Limit = 6


class EvidenceArguments(UnitArguments):
    """Arguments of `evidence`."""

    kind: Name | None = Field(default=None, description="Only experiments of this kind.")
    limit: Limit = 20


class CompareArguments(Arguments):
    """Arguments of `compare`."""

    units: Annotated[list[UnitName], Field(min_length=2, max_length=6, description="The units to compare.")]
    campaign: Campaign = None


@lookup("unit", UnitArguments)
def unit(library: Library, arguments: UnitArguments) -> Finding:
    """Everything that the database has of one unit: what it is said to fire on and to do, verdicts, scores with their
    intervals, how often it is active, what was done to find that out. Begin here when a unit is named.
    """
    page = _page(library, arguments)
    current = [d for d in page.descriptions if d.superseded_by is None]
    kinds = Counter(experiment.kind for experiment in page.experiments)
    data = {
        "unit": _about(page),
        "descriptions": [_description(row) for row in current if row.rank == 1][:4],
        "runners_up": [_runner_up(row) for row in current if row.rank > 1][:4],
        "counts": {
            "descriptions": sum(row.rank == 1 for row in current), "rivals": len(page.hypotheses),
            "experiments": dict(kinds), "kept_examples": len(page.examples),
        },
        "investigations": [_job(page, number) for number in range(min(3, len(page.investigations)))],
    }  # fmt: skip
    if not current:
        latest = page.investigations[0] if page.investigations else None
        told = (
            "no campaign has investigated it" if latest is None else f"{latest.status}: {latest.reason or 'no reason'}"
        )
        return Finding(f"{arguments.unit} has no description ({told})", data)
    best = current[0]
    return Finding(f"{arguments.unit}{best.polarity}: {clipped(best.label, 200)} ({best.verdict_input})", data)


@lookup("kept_examples", ExamplesArguments)
def kept_examples(library: Library, arguments: ExamplesArguments) -> Finding:
    """The corpus windows on which a unit's description rests, strongest first, with its activation at every token.
    For windows that were not kept, use the tool 'examples'.
    """
    page = _page(library, arguments)
    source = "top" if arguments.polarity == "+" else "bottom"
    kept = [e for e in page.examples if e.polarity == arguments.polarity and e.source == source]
    shown = sorted(kept, key=lambda e: -abs(e.activation))[: arguments.limit]
    data = {"unit": arguments.unit, "kept": len(kept), "shown": len(shown), "examples": [_example(e) for e in shown]}
    if not shown:
        return Finding(f"no {source} examples of {arguments.unit} are kept", data)
    return Finding(f"{len(shown)} of {len(kept)} kept {source} examples of {arguments.unit}", data)


@lookup("evidence", EvidenceArguments)
def evidence(library: Library, arguments: EvidenceArguments) -> Finding:
    """The lab notebook of a unit: the rivals that were considered and the experiments that were run on it, with what
    each brought back.
    """
    page = _page(library, arguments)
    chosen = [e for e in page.experiments if arguments.kind in (None, e.kind)]
    data = {
        "unit": arguments.unit,
        "rivals": [
            {"cite": cite("hypothesis", h.hypothesis_id), "key": h.key, "label": clipped(h.label, 160),
             "status": h.status, "f1_on_refine": short((h.details.get("refine") or {}).get("f1"))}
            for h in page.hypotheses[: arguments.limit]
        ],
        "experiments": [
            {
                "cite": cite("experiment", e.experiment_id), "kind": e.kind, "status": e.status, "error": e.error,
                "seconds": short(e.seconds),
                "observations": [
                    {"cite": cite("observation", o.observation_id), "summary": clipped(o.summary, 300),
                     "hypothesis": o.hypothesis, "outcome": o.outcome}
                    for o in e.observations[:6]
                ],
            }
            for e in chosen[: arguments.limit]
        ],
        "counts": {"rivals": len(page.hypotheses), "experiments": len(chosen)},
    }  # fmt: skip
    return Finding(f"{len(page.hypotheses)} rivals and {len(chosen)} experiments on {arguments.unit}", data)


@lookup("why", UnitArguments)
def why(library: Library, arguments: UnitArguments) -> Finding:
    """Why a unit's descriptions have the verdicts that they have: each claim with its reasons, the sealed text that it
    was scored on, the scores, and the experiments that speak for or against it; how sure it was of itself before, on
    what texts it holds, its exceptions, and what it foretold beside what came.
    """
    page = _page(library, arguments)
    claims = [_claim(page, row) for row in page.descriptions if row.superseded_by is None and row.rank == 1][:4]
    data = {"unit": arguments.unit, "claims": claims}
    if not claims:
        return Finding(f"{arguments.unit} has no description, so there is no verdict", data)
    told = "; ".join(f"{claim['polarity']} {claim['verdict_input']}" for claim in claims)
    return Finding(f"verdicts on {arguments.unit}: {told}", data)


@lookup("compare", CompareArguments)
def compare(library: Library, arguments: CompareArguments) -> Finding:
    """Puts units side by side: labels, verdicts, F1, how often they are active and how strongly, with the differences
    to the first one.
    """
    rows = []
    for name in arguments.units:
        page = _page(library, UnitArguments(unit=name, campaign=arguments.campaign))
        best = next((d for d in page.descriptions if d.superseded_by is None), None)
        scored = None if best is None else _headline(best.counting, "weighted_f1")
        rows.append(
            {
                "cite": cite("unit", page.unit.unit_id), "unit": name, "state": page.unit.state,
                "density": short(page.unit.density), "maximum": short(page.unit.maximum),
                "description": None if best is None else cite("description", best.description_id),
                "label": None if best is None else clipped(best.label, 160),
                "verdict": None if best is None else best.verdict_input,
                "score": None if scored is None else cite("score", scored.score_id),
                "f1": None if scored is None else short(scored.value),
                "f1_low": None if scored is None else short(scored.low),
                "f1_high": None if scored is None else short(scored.high),
            }
        )  # fmt: skip
    first: Json = rows[0]
    differences = [
        {"of": row["unit"], "less": first["unit"],
         **{name: _minus(row[name], first[name]) for name in ("f1", "density", "maximum")}}
        for row in rows[1:]
    ]  # fmt: skip
    return Finding(f"{len(rows)} units side by side", {"units": rows, "differences": differences})


def _minus(one: Any, other: Any) -> float | int | None:
    return None if one is None or other is None else short(one - other)


def _page(library: Library, arguments: UnitArguments) -> UnitPage:
    name = arguments.unit.rstrip("+-") if not arguments.unit.startswith("dir:") else arguments.unit
    return unit_page(library.db, name, subject=library.subject, campaign=arguments.campaign or library.campaign)


def _about(page: UnitPage) -> Json:
    row = page.unit
    promotion = page.profile.get("promotion") or {}
    tokens = {
        name: [str(pair[0]) for pair in (promotion.get(name) or [])[:_TOKENS]] for name in ("promoted", "suppressed")
    }
    tails = [
        {"polarity": tail["polarity"], "threshold": short(tail["threshold"]), "density": short(tail.get("density"))}
        for tail in page.statistics.get("tails") or ()
    ]
    return {
        "cite": cite("unit", row.unit_id), "unit": row.unit, "subject": row.subject, "state": row.state,
        "duplicate_of": row.duplicate_of, "density": short(row.density), "maximum": short(row.maximum),
        "minimum": short(row.minimum), "mean": short(row.mean), "tokens_measured": row.n_tokens, "corpus": page.corpus,
        "tails": tails, **{f"tokens_{name}": found for name, found in tokens.items() if found},
    }  # fmt: skip


def _description(row: DescriptionPage) -> Json:
    return {
        "cite": cite("description", row.description_id), "polarity": row.polarity, "campaign": row.campaign,
        "label": clipped(row.label, 200), "fires_on": clipped(row.input_half), "does_when_on": clipped(row.output_half),
        "exceptions": clipped(row.exceptions), **_reliance(row), "explainer": row.explainer,
        "verdict_input": row.verdict_input, "verdict_output": row.verdict_output,
        "selection": short((row.details.get("standing") or {}).get("selection")),
        "scores": [_score(score) for score in row.counting if score.headline],
    }  # fmt: skip


def _reliance(row: DescriptionPage) -> Json:
    """How sure a description was of itself before sealed text was opened, and what it speaks of."""
    return {name: clipped(row.details.get(name) or None) for name in ("confidence", "scope")}


def _foretold(row: DescriptionPage) -> list[Json]:
    """What a description predicted of sealed text, with what came."""
    found = row.details.get("predictions") or {}
    told = {**(found.get("sealed") or {}), **({"effect": found["effect"]} if found.get("effect") else {})}
    numbers = ("foretold", "low", "high")
    return [
        {"of": metric, **{name: short(one[name]) for name in numbers}, "came": short(one["value"]), "held": one["held"]}
        for metric, one in told.items()
    ]


def _runner_up(row: DescriptionPage) -> Json:
    """A rival that says something else and might have been chosen; it was not tested on sealed text."""
    return {
        "cite": cite("description", row.description_id), "polarity": row.polarity, "campaign": row.campaign,
        "rank": row.rank, "label": clipped(row.label, 200), "fires_on": clipped(row.input_half),
        "selection": short((row.details.get("standing") or {}).get("selection")),
    }  # fmt: skip


def _score(row: ScoreRow) -> Json:
    numbers = ("value", "low", "high", "null_mean", "p_value", "q_value", "n_examples", "n_documents")
    measured = {name: short(getattr(row, name)) for name in numbers}
    return {"cite": cite("score", row.score_id), "metric": row.metric, "split": row.split, **measured}


def _headline(scores: Sequence[ScoreRow], metric: str) -> ScoreRow | None:
    return next((s for s in scores if s.headline and s.metric == metric and s.split == "score"), None)


def _example(row: ExampleRow) -> Json:
    return {
        "cite": cite("example", row.example_id), "document": clipped(row.document, 120), "split": row.split,
        "activation": short(row.activation), "strongest_token": row.tokens[row.peak], "peak": row.peak,
        "tokens": row.tokens, "activations": [short(value) for value in row.activations],
    }  # fmt: skip


def _job(page: UnitPage, number: int) -> Json:
    row = page.investigations[number]
    return {
        "cite": cite("investigation", row.investigation_id), "campaign": row.campaign, "status": row.status,
        "reason": clipped(row.reason, 200), "seconds": short(row.seconds), "tool_calls": row.tool_calls,
        "llm_calls": row.llm_calls, "llm_tokens": row.tokens, "dollars": short(row.dollars),
        "finished_at": row.finished_at,
    }  # fmt: skip


def _claim(page: UnitPage, row: DescriptionPage) -> Json:
    verdict = row.details.get("verdict") or {}
    bearing = [
        {"experiment": cite("experiment", e.experiment_id), "kind": e.kind,
         "cite": cite("observation", o.observation_id), "summary": clipped(o.summary, 300), "outcome": o.outcome}
        for e in page.experiments
        for o in e.observations
        if row.hypothesis is not None and o.hypothesis == row.hypothesis and row.investigation_id == page.shown
        if o.withdrawn is None
    ]  # fmt: skip
    # What was foretold of sealed text is told by itself; of made-up inputs the observation tells.
    made_up = [one for one in bearing if one["kind"] == "predictions" and "made up" in str(one["summary"])]
    bearing = [one for one in bearing if one["kind"] != "predictions"]
    openings = [
        {"split": o.split, "opened_at": o.created_at} for o in page.openings if o.description_id == row.description_id
    ]
    return {
        "cite": cite("description", row.description_id), "polarity": row.polarity, "label": clipped(row.label, 200),
        "exceptions": clipped(row.exceptions), **_reliance(row), "foretold": _foretold(row),
        "made_up_inputs": [{"cite": one["cite"], "summary": one["summary"]} for one in made_up],
        "verdict_input": row.verdict_input, "verdict_output": row.verdict_output,
        "reasons": [str(reason) for reason in verdict.get("reasons") or ()],
        "output_reasons": [str(reason) for reason in verdict.get("output_reasons") or ()],
        "scores": [_score(score) for score in row.counting if score.headline],
        "sealed_text_opened": openings, "observations": bearing[:12],
    }  # fmt: skip
