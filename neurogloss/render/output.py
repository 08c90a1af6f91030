"""What is shown of a unit's effect on the output: its size on sealed text, against chance, by dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from neurogloss.render.tables import simple_table
from neurogloss.render.text import VERDICTS, clean, count, number, probability

if TYPE_CHECKING:
    from store.rows import DescriptionPage, KindSummary, ScoreRow

_BARS = "▁▂▃▄▅▆▇█"
#: The score that each kind of claim rests on, as it is told, its unit, and what its null is.
_TOLD = {
    "changes": ("output_shift", "they move by {}", "logits", "random writes"),
    "varies": ("output_kl", "the prediction moves by {}", "nats", "random writes"),
    "later": ("output_later", "later predictions move by {}", "nats", "counts from"),
    "nothing": ("output_most", "no logit moves by more than {}", "logits", "counts from"),
}
#: Supported output halves by kind of claim, as columns.
_EFFECTS = {"changes": "tokens", "varies": "varies", "later": "later", "nothing": "nothing"}


def output_lines(row: DescriptionPage) -> list[Text]:
    """Figures of the test on sealed text and, where nothing was decided, why."""
    scores = {score.metric: score for score in row.counting if score.metric.startswith("output_")}
    lines: list[Text] = []
    kind = row.output_kind or ""
    if kind in _TOLD and _TOLD[kind][0] in scores:
        metric, told, unit, null = _TOLD[kind]
        lines.append(
            Text(f"On sealed text {told.format(_span(scores[metric]))} {unit} ({_against(scores[metric], null)}).")
        )
        lines += _beside(scores, kind)
        lines += _dose(row.details.get("output") or {}, scores.get("output_dose"))
    reasons = (row.details.get("verdict") or {}).get("output_reasons") or []
    if row.verdict_output != "supported" and reasons:
        lines.append(Text(f"{row.verdict_output}: {clean('; '.join(reasons))}", "dim"))
    return lines


def spark(values: Sequence[float]) -> str:
    """A curve in one line, a bar a value, from the lowest to the highest of them and 0."""
    low, high = min(0.0, *values), max(0.0, *values)
    if high == low:
        return _BARS[0] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def effects_table(kinds: Sequence[tuple[str, KindSummary]]) -> Table | None:
    """Verdicts on output halves by kind of unit, and what the supported ones say; None where none says anything."""
    if not any(one.verdicts_output for _, one in kinds):
        return None
    table = simple_table(
        ("when on", "left"), *((VERDICTS[v][0], "right") for v in VERDICTS),
        *((f"✔ {name}", "right") for name in _EFFECTS.values()),
    )  # fmt: skip
    for name, one in kinds:
        table.add_row(
            name, *(count(one.verdicts_output.get(v, 0)) for v in VERDICTS),
            *(count(one.effects.get(kind, 0)) for kind in _EFFECTS), style="bold" if name == "all" else "",
        )  # fmt: skip
    return table


def output_outcome_lines(outcome: dict[str, Any] | None) -> list[Text]:
    """Of a closed campaign's output halves: how many may be false, and how swapped ones fared."""
    output = (outcome or {}).get("output") or {}
    if not output.get("claims"):
        return []
    told = (
        f"of the {count(output['accepted'])} accepted output halves at most {output['expected_false']:.1f} are "
        "expected to be false"
    )
    swapped = output["swapped"]
    if swapped["claims"]:
        told += f"; of {count(swapped['claims'])} swapped ones {count(swapped['accepted'])} accepted"
    return [Text(told, "dim")]


def _span(score: ScoreRow) -> str:
    if score.low is None or score.high is None:
        return number(score.value)
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"


def _against(score: ScoreRow, null: str) -> str:
    p = f"p {probability(score.p_value)}" + ("" if score.q_value is None else f", q {probability(score.q_value)}")
    return f"{null} {number(score.null_mean)}; {p}; {count(score.n_documents)} documents"


def _beside(scores: dict[str, ScoreRow], kind: str) -> list[Text]:
    names = {"output_rank": "rank among all tokens", "output_kl": "prediction", "output_later": "later predictions",
             "output_loss": "worth"}  # fmt: skip
    units = {"output_kl": " nats", "output_later": " nats", "output_loss": " nats a token"}
    told = [
        f"{name} {number(score.value)}{units.get(metric, '')}"
        for metric, name in names.items()
        if metric != _TOLD[kind][0] and (score := scores.get(metric)) is not None and score.value is not None
    ]
    return [Text(", ".join(told), "dim")] if told else []


def _dose(test: dict[str, Any], score: ScoreRow | None) -> list[Text]:
    curve, doses = test.get("curve"), test.get("doses")
    if not curve or not doses:
        return []
    told = f"dose  {spark(curve)}  {number(curve[0])} to {number(curve[-1])} logits at {number(doses[0])} to "
    told += number(doses[-1])
    if score is not None and score.value is not None:
        told += f", trend {number(score.value)} (p {probability(score.p_value)})"
    return [Text(told, "dim")]
