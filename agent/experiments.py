"""From what an explainer reports of its work to rows of the notebook: with all that is needed to do it again.

Explainers tell a recorder what they do (see `explainers.types.Recorder`). The reports that are known here become
experiments with observations; the others are not tests and stay out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.bench import Bench
from agent.plain import digest
from agent.state import Json
from explainers.output.claim import measured_basis, measured_claim
from scorers.verdict import Verdict
from tools.effects import Measured, Places
from tools.index import SplitView
from tools.types import UnitId


@dataclass(frozen=True)
class Report:
    """An event, and where it comes from."""

    bench: Bench
    unit: UnitId
    polarity: str
    seed: int
    """That the explainer was given."""
    hypothesis: str | None
    """Key of the rival that the test was made for; None when there is none."""
    event: Json


def experiment_of(report: Report) -> Json | None:
    """Fields of `store.records.ExperimentRecord`, or None for an event that is no experiment."""
    make = _KINDS.get(report.event["kind"])
    return None if make is None else make(report)


def _row(report: Report, kind: str, arguments: Json, observation: Json, seed: int | None) -> Json:
    return {
        "kind": kind,
        "arguments": {"unit": str(report.unit), "polarity": report.polarity, **arguments},
        "seed": seed,
        "status": "done",
        "error": None,
        "digest": digest(observation["data"]),
        "seconds": float(report.event.get("seconds", 0.0)),
        "observations": [observation],
    }


def _induction(report: Report) -> Json:
    """The search for a rule on explore, and how the rules on its path did on refine."""
    event = report.event
    path = event["path"]
    lengths = [candidate["members"] for candidate in path]
    found = f"{len(path)} rules of {min(lengths)} to {max(lengths)} tests" if path else "no rule"
    summary = (
        f"active at {event['active_positions']} sampled positions of {event['active_documents']} documents of explore: "
        f"{found}"
    )
    data = {name: event[name] for name in ("active_positions", "active_documents", "path")}
    explainer = {"explainer": report.bench.spec.explainer, "options": report.bench.spec.explainer_options}
    observation = {"summary": summary, "data": data, "hypothesis": None, "outcome": None}
    return _row(report, "rule search", {**explainer, "splits": ["explore", "refine"]}, observation, report.seed)


def _edit_check(report: Report) -> Json:
    """Tokens of the strongest examples replaced and deleted one at a time."""
    event, texts = report.event, report.bench.explore.texts
    prompts = []
    for example in event["examples"]:
        context, position = int(example["context"]), int(example["position"])
        prompts.append(
            {
                "document": example["document"],
                "context": context,
                "position": position,
                "ids": texts.ids(context)[: position + 1].tolist(),
            }
        )
    arguments = {
        "subject": report.bench.fingerprint,
        "intervention": "replace or delete one token of the last few and read the activation at the position",
        "window": event["window"],
        "replacements": event["replacements"],
        "silenced_at": event["silenced_at"],
        "prompts": prompts,
    }
    effects = event["effects"]
    told = [effect for effect in effects if effect["confirmed"] is not None]
    confirmed = sum(effect["confirmed"] for effect in told)
    if not told:
        outcome, summary = Verdict.INCONCLUSIVE, "the rule names no token of the strongest examples"
    else:
        summary = f"{confirmed} of the {len(told)} places that the rule names silence the unit when replaced"
        # One needed place is enough to keep a rule in the running; none at all speaks against its being the cause.
        outcome = Verdict.SUPPORTED if confirmed == len(told) else Verdict.INCONCLUSIVE
        outcome = Verdict.REFUTED if not confirmed else outcome
    data: dict[str, Any] = {"effects": effects, "examples": event["examples"]}
    observation = {"summary": summary, "data": data, "hypothesis": report.hypothesis, "outcome": str(outcome)}
    return _row(report, "token edits", arguments, observation, int(event["seed"]))


def _queries(report: Report) -> Json:
    """Inputs that were put to the unit as to a black box, and its values there."""
    event = report.event
    arguments = {
        "subject": report.bench.fingerprint,
        "intervention": "put inputs into contexts of their own, at random places, and read the activation at each",
        "domain": event["domain"],
        "inputs": [name for name, _ in event["asked"]],
    }
    summary = f"asked for {event['queries']} inputs in {event['contexts']} contexts: {event['formula']}"
    data = {"values": [value for _, value in event["asked"]], "steps": event["steps"], "formula": event["formula"]}
    observation = {"summary": summary, "data": data, "hypothesis": report.hypothesis, "outcome": None}
    return _row(report, "queries", arguments, observation, 0)


def _tool(report: Report) -> Json:
    """One use of a typed tool (`agent.toolbox`), done or failed."""
    event = report.event
    seen = {"summary": event["summary"], "data": {"result": event["data"]}, "hypothesis": report.hypothesis,
            "outcome": None}  # fmt: skip
    return {
        "kind": event["tool"],
        "arguments": {"unit": str(report.unit), "polarity": report.polarity, **event["arguments"], **event["origin"]},
        "seed": event["seed"],
        "status": "failed" if event["error"] else "done",
        "error": event["error"],
        "digest": event["digest"],
        "seconds": float(event["cost"]["seconds"]),
        "observations": [] if event["error"] else [seen],
    }


def measured_event(bench: Bench, measured: Measured) -> Json:
    """What is reported of measuring a unit's effect on the output."""
    return {
        "places": places_told(bench.explore, measured.places),
        "basis": measured_basis(measured),
        "claim": measured_claim(measured).to_json(),
        "kl": [float(f"{value:.5g}") for value in measured.effects.kl.tolist()],
    }


def places_told(view: SplitView, places: Places) -> list[Json]:
    """Where a unit was turned off, for the record."""
    return [
        {"document": view.texts.document_id(document), "position": position, "activation": on}
        for document, position, on in zip(
            places.documents.tolist(), places.positions.tolist(), places.on.tolist(), strict=True
        )
    ]


def _output_effects(report: Report) -> Json:
    """The unit turned off where it is on, on explore, and set to several strengths."""
    event = report.event
    basis, claim = event["basis"], event["claim"]
    arguments = {
        "subject": report.bench.fingerprint, "split": "explore", "site": basis["site"], "off": basis["off"],
        "intervention": "turn the unit off at each place; set it to several strengths",
        "strengths": basis["doses"], "places": event["places"],
    }  # fmt: skip
    named = len(claim["raised"]) + len(claim["lowered"])
    summary = (
        f"turned off at {len(event['places'])} places: no logit changes by more than {basis['largest']:.2g} on "
        f"average, the next prediction by {basis['kl']:.2g} nats; "
        + (f"{named} tokens change in all texts alike" if named else claim["kind"])
    )
    data = {name: event[name] for name in ("basis", "claim", "kl")}
    observation = {"summary": summary, "data": data, "hypothesis": None, "outcome": None}
    return _row(report, "output effects", arguments, observation, report.seed)


_KINDS: dict[str, Callable[[Report], Json]] = {
    "induction": _induction, "edit_check": _edit_check, "queries": _queries, "tool": _tool,
    "output_effects": _output_effects,
}  # fmt: skip
