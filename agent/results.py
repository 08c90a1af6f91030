"""From a finished investigation's state to what the store writes, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.bench import Bench
from agent.claims import claim_digest
from agent.contest.telling import told_of_contest, told_of_rival
from agent.plain import digest, plain
from agent.predictions.settling import prediction_rows
from agent.predictions.words import confidence, scope
from agent.progress import UnitDone
from agent.state import Json, State, hypothesis_key
from agent.triage import Tail
from explainers.output.claim import claim_in
from explainers.types import Explanation
from scorers.verdict import Verdict
from store.records import (
    Cost,
    DescriptionRecord,
    ExampleRecord,
    ExperimentRecord,
    HypothesisRecord,
    InvestigationResult,
    ObservationRecord,
    ScoreRecord,
    UnitRecord,
)
from tools.index import ExampleKind
from tools.types import UnitId
from tools.units import group_site

#: Exemplars kept of each kind; the bottom ones only where the negative tail is described.
TOP, QUANTILE, RANDOM = 10, 5, 5
#: Who wrote the description of a unit that was not investigated.
TRIAGE = "triage"


def result_of(state: State, bench: Bench, unit: UnitId, *, kept_as: str | None = None) -> InvestigationResult:
    """Everything an investigation leaves behind.

    Args:
        state: At its end.
        bench: At which it was done.
        unit: The id under which it was done.
        kept_as: The id under which the database keeps what was found; None: the same.
    """
    found = state["triage"]
    spent = cost_of(state["cost"])
    examples = tuple(_examples(bench, unit, [tail["polarity"] for tail in found["tails"]]))
    record = _unit_record(state, bench, unit, kept_as or str(unit))
    if found["reason"] is not None:
        return InvestigationResult(
            unit=record, examples=examples, descriptions=(_stub(unit, found),), cost=spent, skipped=found["reason"]
        )
    return InvestigationResult(
        unit=record,
        examples=examples,
        hypotheses=tuple(_hypotheses(state)),
        experiments=tuple(
            _experiment(row) for row in (*state["experiments"], *_predictions(state, unit), *_sealed_tests(state))
        ),
        descriptions=(*_descriptions(state, bench), *_runners_up(state, bench, unit)),
        cost=spent,
    )


def cost_of(spent: dict[str, float]) -> Cost:
    """What is written of `agent.ledger.COSTS`."""
    return Cost(seconds=float(spent.get("seconds", 0)), tool_calls=int(spent.get("tool_calls", 0)))


def events_of(unit: UnitId, result: InvestigationResult) -> list[UnitDone]:
    """What is told to the observer of a committed result, one for each tail that is described."""
    told = []
    for description in result.descriptions:
        if description.rank > 1:
            continue
        score = next((s for s in description.scores if s.metric == stored_name("f1") and s.headline), None)
        told.append(
            UnitDone(
                str(unit), description.polarity, description.label,
                score.value if score else None, score.low if score else None, score.high if score else None,
                description.verdict_input,
            )
        )  # fmt: skip
    return told


def _unit_record(state: State, bench: Bench, unit: UnitId, name: str) -> UnitRecord:
    found, statistics = state["triage"], state["triage"]["statistics"]
    return UnitRecord(
        unit=name,
        layer=group_site(bench.subject, unit.group).layer,
        state=found["state"],
        duplicate_of=found["duplicate_of"],
        density=found["tails"][0]["density"] if found["tails"] else (0.0 if found["state"] == "dead" else None),
        minimum=statistics["minimum"],
        maximum=statistics["maximum"],
        mean=statistics["mean"],
        variance=statistics["variance"],
        n_tokens=statistics["tokens"],
        statistics={
            **{name: statistics[name] for name in ("nonzero", "quantiles", "histogram_edges", "histogram_counts")},
            "tails": found["tails"],
            **({} if bench.provenance is None else {"control": bench.provenance}),
        },
        profile=state.get("profile", {}),
        index_key=bench.index_key,
    )


def _examples(bench: Bench, unit: UnitId, polarities: list[str]) -> Iterator[ExampleRecord]:
    wanted: list[tuple[ExampleKind, int, str]] = []
    if polarities != ["-"]:
        wanted.append(("top", TOP, "+"))
    if "-" in polarities:
        wanted.append(("bottom", TOP, "-"))
    first = polarities[0] if polarities else "+"
    wanted += [("quantile", QUANTILE, first), ("random", RANDOM, first)]
    for kind, number, polarity in wanted:
        for example in bench.explore.examples(unit, kind, number):
            yield ExampleRecord(
                split=str(example.split),
                source=example.source,
                polarity=polarity,
                document=example.document,
                context=int(example.context),
                start=int(example.start),
                peak=int(example.peak),
                tokens=list(example.tokens),
                activations=[float(value) for value in example.activations],
                weight=float(example.weight),
            )


def _hypotheses(state: State) -> Iterator[HypothesisRecord]:
    for polarity, rivals in state["rivals"].items():
        marks = state["marks"][polarity]
        chosen = state["chosen"][polarity]
        ranks = {one["rival"]: rank for rank, one in enumerate(state["standing"][polarity], start=1)}
        contest = state.get("contest", {}).get(polarity)
        for number, rival in enumerate(rivals):
            details: Json = {"explainer": _told(rival["details"]), "refine": marks[number]}
            rank = ranks.get(number)
            if rank is None:
                details["dropped"] = f"{hypothesis_key(polarity, chosen)} does better on refine"
            if contest is not None:
                details |= told_of_rival(contest, hypothesis_key(polarity, number), kept=rank is not None)
            yield HypothesisRecord(
                key=hypothesis_key(polarity, number),
                polarity=polarity,
                explainer=rival["explainer"],
                label=rival["label"],
                input_half=rival["input_half"],
                output_half=rival["output_half"],
                exceptions=rival["exceptions"],
                rule=rival["rule"],
                status="dropped" if rank is None else "untested" if rank > 1 else state["verdicts"][polarity]["input"],
                details=details,
            )


def _told(details: Json) -> Json:
    """An explainer's details without the examples of its edits, which the experiment's observation holds."""
    edits = details.get("edits")
    if not isinstance(edits, dict):
        return details
    return {**details, "edits": {name: value for name, value in edits.items() if name != "examples"}}


def _experiment(row: Json) -> ExperimentRecord:
    observations = tuple(ObservationRecord(**observation) for observation in row["observations"])
    return ExperimentRecord(**{**row, "observations": observations})


def _sealed_tests(state: State) -> Iterator[Json]:
    """Tests of output halves, each bearing on the rival that was asserted."""
    for polarity, test in state["tests"].items():
        row = test["experiment"]
        if row is not None:
            key = hypothesis_key(polarity, state["chosen"][polarity])
            yield {**row, "observations": [{**one, "hypothesis": key} for one in row["observations"]]}


def _predictions(state: State, unit: UnitId) -> Iterator[Json]:
    """What was foretold and what came, bearing on the rival that was asserted."""
    for polarity, came in state["settled"].items():
        key = hypothesis_key(polarity, state["chosen"][polarity])
        yield prediction_rows(unit, polarity, key, state["predictions"][polarity], came)


def _descriptions(state: State, bench: Bench) -> Iterator[DescriptionRecord]:
    tails = {tail["polarity"]: tail for tail in state["triage"]["tails"]}
    for polarity, claim in state["claims"].items():
        verdict, output = state["verdicts"][polarity], claim_in(claim["details"])
        chosen, came = state["chosen"][polarity], state["settled"].get(polarity)
        scores = [*state["scores"][polarity], *(came["scores"] if came else ())]
        yield DescriptionRecord(
            polarity=polarity,
            label=claim["label"],
            input_half=claim["input_half"],
            output_half=claim["output_half"],
            exceptions=claim["exceptions"],
            rule=claim["rule"],
            explainer=claim["explainer"],
            claim=claim["digest"],
            verdict_input=verdict["input"],
            verdict_output=verdict["output"],
            output_kind=None if output is None else output.kind,
            hypothesis=hypothesis_key(polarity, chosen),
            scores=tuple(_score(row) for row in scores),
            details={
                "explainer": _told(claim["details"]),
                "refine": state["marks"][polarity][chosen],
                "standing": _standing(polarity, state["standing"][polarity][0]),
                **told_of_contest(state.get("contest", {}).get(polarity)),
                "confidence": confidence(state["predictions"].get(polarity), state["standing"][polarity][0]),
                "scope": scope(bench, Tail(**tails[polarity])),
                "tail": tails[polarity],
                "verdict": verdict,
                "support": _support(state, hypothesis_key(polarity, chosen)),
                "output": _output(state["tests"][polarity]),
                "predictions": None if came is None else _foretold(state["predictions"][polarity], came),
                "scores": [_beside(row) for row in scores],
                "cost": {name: int(state["cost"][name]) for name in ("tool_calls", "forward_passes")},
            },
        )


def _foretold(filed: Json, came: Json) -> Json:
    """Predictions beside what came, without the texts of made-up inputs, which the experiment holds."""
    made = filed["constructed"]
    probes = None
    if made is not None and came["constructed"] is not None:
        probes = [
            {"kind": row["kind"], "probability": row["probability"], "says": row["says"], "active": on}
            for row, on in zip(made["probes"], came["constructed"]["active"], strict=True)
        ]
    return {
        "digest": filed["digest"], "sealed": came["sealed"], "effect": came["effect"],
        "right": None if made is None else made["right"], "probes": probes,
        **({"unwritten": filed["unwritten"]} if "unwritten" in filed else {}),
    }  # fmt: skip


def _runners_up(state: State, bench: Bench, unit: UnitId) -> Iterator[DescriptionRecord]:
    """Rivals that are kept beside what is asserted. Sealed text was opened for the latter alone."""
    for tail in state["triage"]["tails"]:
        polarity = tail["polarity"]
        for rank, one in enumerate(state["standing"][polarity][1:], start=2):
            rival = Explanation(**state["rivals"][polarity][one["rival"]])
            yield DescriptionRecord(
                polarity=polarity,
                rank=rank,
                label=rival.label,
                input_half=rival.input_half,
                output_half=rival.output_half,
                exceptions=rival.exceptions,
                rule=rival.rule,
                explainer=rival.explainer,
                claim=claim_digest(unit, polarity, tail["threshold"], rival, bench.explainer),
                hypothesis=hypothesis_key(polarity, one["rival"]),
                details={
                    "explainer": _told(rival.details),
                    "refine": state["marks"][polarity][one["rival"]],
                    "standing": _standing(polarity, one),
                    "tail": tail,
                },
            )


def _standing(polarity: str, one: Json) -> Json:
    return {
        "selection": one["selection"],
        "agreement": one["agreement"],
        "same": [hypothesis_key(polarity, number) for number in one["same"]],
    }


def _support(state: State, key: str) -> int:
    """Observations of experiments that support a rival: if they are ever lost, that is seen."""
    observations = [one for row in state["experiments"] for one in row["observations"]]
    return sum(one["hypothesis"] == key and one["outcome"] == Verdict.SUPPORTED for one in observations)


def _output(test: Json) -> Json:
    """The dose-response curve of the test on sealed text, or why there was none."""
    row = test["experiment"]
    if row is None:
        return {"reason": test["reason"]}
    found = row["observations"][0]["data"]["places"]
    return {"doses": row["arguments"]["strengths"], "curve": found.get("curve")}


def _score(row: Json) -> ScoreRecord:
    values = {name: row[name] for name in ScoreRecord.__dataclass_fields__}
    return ScoreRecord(**{**values, "metric": stored_name(row["metric"])})


def stored_name(metric: str) -> str:
    """A metric's name in the database, where the F1 at the corpus's prevalence is told apart from other F1s."""
    return "weighted_f1" if metric == "f1" else metric


def scored_name(stored: str) -> str:
    """The scorers' name of a metric, from `stored_name`."""
    return "f1" if stored == "weighted_f1" else stored


def _beside(row: Json) -> Json:
    """What belongs to a score but has no column of its own; its cost varies from run to run and is a column."""
    kept = {name: value for name, value in row.items() if name not in ScoreRecord.__dataclass_fields__}
    return {"metric": stored_name(row["metric"]), **kept}


def _stub(unit: UnitId, found: Json) -> DescriptionRecord:
    """The description of a unit that is not investigated: why not."""
    reason = str(found["reason"])
    sentences: dict[str, str] = {
        "dead": f"{unit} was {reason} of the explore split.",
        "dense": f"{unit} is {reason}: too often for a description of what it fires on to be of use.",
        "duplicate": f"{unit} is {reason}, whose description holds for it too.",
    }
    details: dict[str, Any] = {"triage": {name: found[name] for name in ("state", "tails", "duplicate_of")}}
    return DescriptionRecord(
        polarity=found["tails"][0]["polarity"] if found["tails"] else "+",
        label=reason,
        input_half=sentences.get(found["state"], f"{unit} {reason}."),
        explainer=TRIAGE,
        claim=digest({"unit": str(unit), "triage": reason}),
        details=plain(details),
    )
