"""A trial that was run as a row of the notebook, with what it says for or against each rival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.contest.types import Outcome, Rival
from agent.experiments import Report, experiment_of
from agent.plain import plain
from agent.state import Json
from scorers.verdict import Verdict

#: Log likelihood ratio, in nats, from which on a trial speaks for or against a rival (20 to 1).
TELLING = 3.0


def trial_row(
    report: Report, outcome: Outcome, rivals: Sequence[Rival], ratios: Mapping[str, float], number: int
) -> Json:
    """Fields of `store.records.ExperimentRecord`.

    Args:
        report: The use of the tool, as `Desk.use` reports it.
        outcome: What came of it.
        rivals: That were in the running.
        ratios: By rival: log likelihood of the outcomes less that of the mixture of the others and noise, in nats.
            Above zero speaks for it.
        number: Of the round, from 1.
    """
    row = experiment_of(report)
    assert row is not None, "a use of a tool is an experiment"
    trial = outcome.trial
    row["arguments"] = {
        **row["arguments"],
        "contest": {
            "round": number, "question": trial.question, "information": trial.information, "surprise": trial.surprise,
            "passes": trial.passes,
            # What the policy asked of each probe is in the state, and follows from the texts.
            "aim": {name: value for name, value in trial.aim.items() if not isinstance(value, list | dict)},
        },
    }  # fmt: skip
    if outcome.error is None and trial.probes:
        row["observations"] = [
            *({**one, "summary": _summary(outcome)} for one in row["observations"]),
            *(_on_rival(outcome, rival, ratios[rival.key]) for rival in rivals),
        ]
    found: Json = plain(row)
    return found


def _summary(outcome: Outcome) -> str:
    what = "Attended to are" if outcome.trial.tool == "edges" else "Active at"
    return f"{outcome.trial.question} {what} {sum(outcome.active)} of {len(outcome.active)} places."


def _on_rival(outcome: Outcome, rival: Rival, ratio: float) -> Json:
    """How a trial bears on one rival; the sign is kept."""
    expected = outcome.trial.predictions[rival.key]
    right = sum((p > 0.5) == on for p, on in zip(expected, outcome.active, strict=True))
    verdict = Verdict.INCONCLUSIVE
    if abs(ratio) >= TELLING:
        verdict = Verdict.SUPPORTED if ratio > 0 else Verdict.REFUTED
    return {
        "summary": f"as {rival.key} expects at {right} of {len(expected)} places: {ratio:+.1f} nats",
        "data": {
            "log_likelihood_ratio": ratio,
            "expected": [round(p, 3) for p in expected],
        },
        "hypothesis": rival.key,
        "outcome": str(verdict),
    }
