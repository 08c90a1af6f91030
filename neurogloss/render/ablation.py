"""Pages of ablations: what predictions lose without some units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.effects import Effect, ranked_table, tokens_line, tokens_table
from neurogloss.render.heatmap import HeatMap
from neurogloss.render.tables import facts
from neurogloss.render.text import clean, count, fit, number, visible

if TYPE_CHECKING:
    from tools.ablation import Ablation, AblationEffect

#: Lines of the table.
_MOST = 40
_GIVEN = {"resample": "its value in other texts", "mean": "its mean at the position", "zero": "zero"}


def ablation_page(found: Ablation, subject: str) -> list[RenderableType]:
    """Sets ranked by divergence; a single one in full."""
    head = Text.assemble(
        (f"Ablation ({found.kind})", "bold"),
        f" of {clean(subject)}: each unit is given {_GIVEN[found.kind]}, on {count(found.texts)} "
        f"text{'s' if found.texts != 1 else ''} of {count(found.tokens)} tokens",
    )  # fmt: skip
    page: list[RenderableType] = [head, Text()]
    ranked = sorted(found.effects, key=lambda one: -one.kl)
    if len(ranked) == 1:
        page += _one(ranked[0])
    else:
        rows = [
            Effect(_named(one), one.kl, (_plus_minus(one.loss_change, one.loss_error), tokens_line(one.lowered, 4)))
            for one in ranked[:_MOST]
        ]
        page.append(
            ranked_table(rows, name="unit", value="KL", more=[("loss change", "right"), ("lowers without it", "left")],
                         grow="lowers without it")
        )  # fmt: skip
        if len(ranked) > _MOST:
            page.append(Text(f"the {_MOST} largest of {len(ranked)}", "dim"))
    return [*page, Text(), *_notes(found)]


def ablation_maps(found: Ablation) -> list[HeatMap]:
    """Single units by their groups: how far the distribution moves, and what the loss gains."""
    groups = sorted({one.units[0].group for one in found.effects}, key=_by_number)
    numbers = sorted({one.units[0].index for one in found.effects})
    maps = []
    for title, scale, effects in (
        ("KL from the model as it is", "KL, nats", [one.kl for one in found.effects]),
        ("Loss without it, less the model's", "nats", [one.loss_change for one in found.effects]),
    ):
        values = np.full((len(groups), len(numbers)), np.nan)
        for one, value in zip(found.effects, effects, strict=True):
            place = groups.index(one.units[0].group), numbers.index(one.units[0].index)
            values[place] = np.nan if value is None else value
        if np.isfinite(values).any():
            head = f"{title} ({found.kind} ablation)"
            maps.append(HeatMap(values, groups, [str(n) for n in numbers], "units", "number", scale, head))
    return maps


def _by_number(group: str) -> tuple[str, int, str]:
    kind, _, where = group.partition(":")
    return kind, int(where) if where.isdigit() else 0, where


def _notes(found: Ablation) -> list[RenderableType]:
    loss = "" if found.loss is None else f" The loss as the model is: {number(found.loss)} nats a token."
    notes: list[RenderableType] = [
        Text(
            "KL: how far the next-token distribution moves, nats a token. Loss change: above 0 where the units help. "
            f"Position 0 is left as it is and not counted.{loss}"
            if found.since == 1
            else f"KL in nats a token.{loss}",
            "dim",
        )
    ]
    if found.reference is not None:
        draws = f", {found.draws} draw{'s' if found.draws != 1 else ''} a text" if found.kind == "resample" else ""
        notes.append(
            Text(f"Reference: {clean(str(found.reference['source']))}, {found.reference['contexts']} contexts, hash "
                 f"{found.reference['digest']}{draws}, seed {found.seed}.", "dim")
        )  # fmt: skip
    return notes


def _named(one: AblationEffect) -> str:
    return str(one.units[0]) if len(one.units) == 1 else f"{one.units[0]} +{len(one.units) - 1}"


def _plus_minus(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return number(value) if error is None or math.isnan(error) else f"{number(value)} ±{number(error, 2)}"


def _one(one: AblationEffect) -> list[RenderableType]:
    names = ", ".join(str(unit) for unit in one.units[:6]) + (f", and {len(one.units) - 6} more" if len(one.units) > 6
                                                              else "")  # fmt: skip
    peak = f"{number(one.peak.kl)} after “{fit(visible(one.peak.token), 20)}” (text {one.peak.text}, position " \
        f"{one.peak.position})"  # fmt: skip
    return [
        facts(
            ("without", names), ("KL", _plus_minus(one.kl, one.kl_error)),
            ("loss change", _plus_minus(one.loss_change, one.loss_error)), ("largest KL", peak),
        ),
        Text(),
        Text("Tokens whose logits move most without it, mean over positions", "bold"),
        tokens_table(one.raised, one.lowered),
    ]  # fmt: skip
