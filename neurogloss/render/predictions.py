"""What a description predicted before sealed text was opened, and what came."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, interval, number, score, share

if TYPE_CHECKING:
    from store.rows import DescriptionPage

_METRICS = {"f1": "F1", "precision": "precision", "recall": "recall"}
_HELD = {True: ("✔", "green"), False: ("✘", "red"), None: ("?", "dim")}


def predictions_table(row: DescriptionPage) -> RenderableType | None:
    """Each prediction with what came, then how probabilities at made-up inputs fared; None where nothing was said."""
    found: dict[str, Any] = row.details.get("predictions") or {}
    table = simple_table(("", "left"), ("before the seal", "left"), ("foretold [95 %]", "left"), ("came", "right"))
    for metric, name in _METRICS.items():
        if (one := (found.get("sealed") or {}).get(metric)) is not None:
            table.add_row(_mark(one), name, interval(one["foretold"], one["low"], one["high"]), score(one["value"]))
    density, effect = (found.get("sealed") or {}).get("density"), found.get("effect")
    if density is not None:
        ends = "" if density["low"] is None else f" [{share(density['low'])}, {share(density['high'])}]"
        table.add_row(_mark(density), "active", f"{share(density['foretold'])}{ends}", share(density["value"]))
    if effect is not None:
        ends = f" [{number(effect['low'])}, {number(effect['high'])}]"
        table.add_row(_mark(effect), "tokens move by", f"{number(effect['foretold'])}{ends}", number(effect["value"]))
    probes = found.get("probes")
    lines: list[RenderableType] = [table] if table.row_count else []
    if probes:
        lines += _probes(probes, found["right"], {one.metric: one for one in row.scores})
    elif "unwritten" in found:
        lines.append(Text(f"no made-up inputs: {clean(found['unwritten'])}", "dim"))
    return Group(*lines) if lines else None


def _mark(one: dict[str, Any]) -> Text:
    return Text(*_HELD[one["held"]])


def _probes(probes: list[dict[str, Any]], expected: float, scores: dict[str, Any]) -> list[RenderableType]:
    kinds: dict[str, list[bool]] = defaultdict(list)
    for probe in probes:
        kinds[probe["kind"]].append(probe["says"] == probe["active"])
    right = sum(sum(one) for one in kinds.values())
    told = f"right at {right} of {len(probes)} made-up inputs (expected {share(expected)})"
    brier = scores.get("prediction_brier")
    if brier is not None:
        told += f", Brier {number(brier.value)} against {number(brier.null_mean)} without it"
    each = ", ".join(f"{kind} {sum(own)}/{len(own)}" for kind, own in kinds.items())
    return [Text(told, "dim"), Text(each, "dim")]
