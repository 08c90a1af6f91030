"""The tool `activations`: run texts, read units."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Texts, Units
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.errors import UnitError
from tools.units import expand, unit_activations

#: Activations in one result, over texts, units and tokens.
MOST_VALUES = 20_000


class ActivationsArguments(Arguments):
    """Arguments of `activations`."""

    texts: Texts
    units: Units
    every_token: bool = Field(default=True, description="List every token's activation, or only the strongest.")


@tool("activations", ActivationsArguments)
def activations(workbench: Workbench, arguments: ActivationsArguments) -> Finding:
    """Runs texts of your own through the model and reads units' activations at every token. Use it to test whether a
    unit fires where a description says it should, and stays silent where it should not. The first position of a text
    is left out of the strongest ones: models use it as a sink.
    """
    subject = workbench.subject
    units = expand(subject, ";".join(arguments.units))
    sequences, cut = encoded(subject, arguments.texts)
    tokens = sum(map(len, sequences))
    if len(units) * tokens > MOST_VALUES:
        raise UnitError(
            f"{len(units)} units on {tokens:,} tokens are more than the {MOST_VALUES:,} activations of one answer. "
            "Name fewer units, or shorter texts."
        )
    values = unit_activations(subject, units, sequences)
    rows = []
    for ids, found, short in zip(sequences, values, cut, strict=True):
        pieces = subject.pieces(ids)
        told = []
        for unit, line in zip(units, found, strict=True):
            peak = None if len(line) < 2 else 1 + int(np.abs(line[1:]).argmax())
            strongest = None if peak is None else {"position": peak, "token": pieces[peak], "value": _short(line[peak])}
            every = {"values": [_short(value) for value in line]} if arguments.every_token else {}
            told.append({"unit": str(unit), "strongest": strongest, **every})
        rows.append({"tokens": pieces, "cut_to_context": short, "units": told})
    return Finding(_summary(rows), {"texts": rows})


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _summary(rows: list[dict[str, object]]) -> str:
    units = rows[0]["units"]
    assert isinstance(units, list)
    told = []
    for number, one in enumerate(units[:8]):
        peaks = [row["units"][number]["strongest"] for row in rows]  # type: ignore[index]
        known = [peak for peak in peaks if peak is not None]
        if known:
            best = max(known, key=lambda peak: abs(peak["value"]))
            told.append(f"{one['unit']} at most {best['value']:g} (at {best['token']!r})")
    more = f", and {len(units) - 8} more units" if len(units) > 8 else ""
    return f"on {len(rows)} texts: " + ", ".join(told) + more
