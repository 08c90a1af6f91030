"""Attributions as pages and pictures: the parts, the text in their colours, and what came of trying them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.effects import Effect, ranked_table
from neurogloss.render.heatmap import HeatMap
from neurogloss.render.tables import Side, facts
from neurogloss.render.text import clean, count, fit, number, probability, score, visible
from neurogloss.render.tokens import heat_text

if TYPE_CHECKING:
    from tools.attribution import Attribution, Faithfulness
    from tools.attribution.anchors import Anchor

#: Relative error of a sum over a path from which more steps are advised.
_COARSE = 0.05
_BY = {"input": "token", "unit": "unit", "component": "part"}
_METHODS = {"ig": "integrated gradients", "direct": "direct attribution", "gradient": "gradient times input",
            "normxlogit": "NormXLogit", "anchor": "its anchor"}  # fmt: skip
#: An order is called no better than random ones when more of them than this do as well. Of a few tokens many orders
#: begin with the one that matters.
_CHANCE = 0.3
#: A column of p-values is shown where they can be as small as this.
_TELLING = 0.05


def attribution_page(found: Attribution, name: str, subject: str, k: int, *, colour: bool) -> list[RenderableType]:
    """The parts, strongest first, and whether they are true of the model."""
    place = found.target.position
    assert place is not None, "an attribution says where"
    article = "" if found.target.to_json()["kind"] == "unit" else "the "
    method = _METHODS.get(found.method, found.method)
    head = Text.assemble(
        f"Why {article}", (clean(name), "bold"), f" is {number(found.value)} at {place} ",
        f"“{fit(visible(found.tokens[place]), 16)}” of {clean(subject)}, by {method}",
    )  # fmt: skip
    page: list[RenderableType] = [head, Text()]
    if found.positions is not None:
        scores = [0.0] * len(found.tokens)
        for position, value in zip(found.positions, found.scores, strict=True):
            scores[position] = float(value)
        page += [heat_text(found.tokens, scores, colour=colour), Text()]
    if found.anchor is not None:
        page += [_anchor(found.anchor, found.tokens), Text()]
    else:
        page += [_table(found, k), Text()]
    if found.baseline_value is not None and found.error is not None:
        page.append(_sum(found))
    if found.check is not None:
        page.append(_tried_out(found.check))
    notes = [found.note] if found.note else []
    if found.baseline is not None:
        compared = f"Compared with: {found.baseline}"
        notes.append(compared + (f" (reference {found.reference})." if found.reference else "."))
    page += [Text(clean(note), "dim") for note in notes]
    return page


def _table(found: Attribution, k: int) -> RenderableType:
    order = found.ranked()[:k]
    more: list[tuple[str, Side]] = []
    if found.positions is not None:
        more.append(("at", "right"))
    tested = found.p_values is not None and 2 / (1 + found.settings["draws"]) <= _TELLING
    if tested:
        more.append(("p", "right"))
    if found.by_position is not None:
        more.append(("most at", "left"))
    effects = []
    for i in order:
        cells: list[str | Text] = []
        if found.positions is not None:
            cells.append(str(found.positions[i]))
        if tested and found.p_values is not None:
            cells.append(probability(float(found.p_values[i])))
        if found.by_position is not None:
            at = int(np.abs(found.by_position[i]).argmax())
            cells.append(f"{at} {fit(visible(found.tokens[at]), 16)}")
        shown = visible(found.names[i]) if found.kind == "input" else found.names[i]
        effects.append(Effect(shown, float(found.scores[i]), cells))
    table = ranked_table(effects, name=_BY[found.kind], value="share", more=more)
    rest = len(found.scores) - len(order)
    if rest > 0:
        table.caption = Text(f"and {count(rest)} more", "dim")
        table.caption_justify = "left"
    return table


def _sum(found: Attribution) -> Text:
    assert found.baseline_value is not None
    assert found.error is not None
    whole = found.value - found.baseline_value
    told = Text(f"From {number(found.baseline_value)} at the baseline to {number(found.value)}; ")
    told.append(f"the sum over the path is off by {number(found.error)}.")
    if found.error > _COARSE * abs(whole):
        told.append(" Take more --steps.", "yellow")
    return told


def _anchor(anchor: Anchor, tokens: Sequence[str]) -> RenderableType:
    kept = "  ".join(f"{fit(visible(tokens[i]), 20)} ({i})" for i in anchor.positions) or "nothing in particular"
    return facts(
        ("enough" if anchor.certified else "best found, not enough", Text(kept, "bold")),
        ("precision", f"{score(anchor.precision)}, at least {score(anchor.bound)} (95 %)"),
        ("with nothing kept", score(anchor.base)),
        ("texts drawn anew", count(anchor.texts)),
    )


def _tried_out(check: Faithfulness) -> RenderableType:
    if check.insertion is None:
        return Text("Tried out on the model: with everything replaced the target stays as it is.", "yellow")
    useless = min(check.p_insertion or 1.0, check.p_deletion or 1.0) > _CHANCE
    return facts(
        (
            "tried out",
            Text("no better than random orders", "yellow") if useless else Text("on the model, in this order"),
        ),
        ("insertion", f"{_against(check.insertion, check.random_insertion, check.p_insertion)}  (higher is better)"),
        ("deletion", f"{_against(check.deletion, check.random_deletion, check.p_deletion)}  (lower is better)"),
        ("sufficiency", f"{score(check.sufficiency)}  (lost with the first parts alone; 0 is best)"),
        ("comprehensiveness", f"{score(check.comprehensiveness)}  (lost without the first parts; 1 is best)"),
    )


def _against(value: float | None, random: float | None, p: float | None) -> str:
    return f"{score(value)}, random orders {score(random)}, p {probability(p)}"


def attribution_map(found: Attribution, name: str, k: int) -> HeatMap:
    """The shares as a picture: of tokens along the text, of units by position, of parts by layer."""
    title, scale = f"{name}, by {_METHODS.get(found.method, found.method)}", "share"
    if found.positions is not None:
        values = np.full((1, len(found.tokens)), np.nan)
        values[0, list(found.positions)] = found.scores
        return HeatMap(values, [found.method], list(found.tokens), "method", "token", scale, title, tokens=True)
    order = found.ranked()[:k]
    if found.by_position is not None:
        names = [found.names[i] for i in order]
        return HeatMap(found.by_position[order], names, list(found.tokens), "unit", "token", scale, title, tokens=True)
    if found.kind == "unit":
        return HeatMap(found.scores[order][:, None], [found.names[i] for i in order], [scale], "unit", "", scale, title)
    return _by_layer(found, title, scale)


def _by_layer(found: Attribution, title: str, scale: str) -> HeatMap:
    rows: dict[str, dict[str, float]] = {}
    for name, value in zip(found.names, found.scores, strict=True):
        kind, _, rest = name.partition(":")
        layer, _, head = rest.partition(":")
        row, column = (layer, f"head {head}" if head else kind.replace("attn_bias", "bias")) if rest else (kind, kind)
        if kind in ("head", "mlp", "attn_bias"):
            rows.setdefault(row, {})[column] = float(value)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    values = np.array([[row.get(column, np.nan) for column in columns] for row in rows.values()])
    return HeatMap(values, list(rows), columns, "layer", "part", scale, title)
