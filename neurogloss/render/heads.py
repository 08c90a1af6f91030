"""Pages of attention heads: a table of all, one in full, and pictures over layers and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from neurogloss.render.heatmap import HeatMap
from neurogloss.render.tables import facts, simple_table
from neurogloss.render.text import clean, fit, number, score, visible

if TYPE_CHECKING:
    from tools.head_circuits import HeadCircuit, HeadCopying, TokenPair
    from tools.heads import Edge, EdgeProfile
    from tools.types import FloatArray, UnitId

#: Kinds of edges in the order of the columns, and the columns' names.
_EDGES = {"previous": "prev", "first": "first", "duplicate": "dupl", "induction": "induc",
          "delimiter": "delim"}  # fmt: skip
_TOLD = {"previous": "the token before", "same": "itself", "first": "the first position",
         "duplicate": "earlier occurrences", "induction": "what followed them", "delimiter": "punctuation"}  # fmt: skip
#: Attention beyond the uniform from which an edge score is marked, and copying from which it is.
_MUCH, _COPIES = 0.3, 0.7
#: Attention by position embeddings alone from which an offset is worth naming.
_STANDS_OUT = 0.1


def heads_page(
    subject: str, rows: Sequence[tuple[EdgeProfile, HeadCopying]], *, own_texts: bool
) -> list[RenderableType]:
    """All heads, a line each."""
    table = simple_table(("head", "left"), *((name, "right") for name in _EDGES.values()), ("offset", "right"),
                         ("posit", "right"), ("copy", "right"), ("own", "right"), ("match", "right"))  # fmt: skip
    for profile, weights in rows:
        cells = [_marked(getattr(profile, e), getattr(profile, e) - profile.baseline[e] > _MUCH) for e in _EDGES]
        copies = Text("–", "dim") if weights.copying is None else _marked(weights.copying, weights.copying > _COPIES)
        table.add_row(
            str(profile.unit), *cells, str(profile.best_offset), score(profile.positional), copies,
            score(weights.own), _marked(weights.matching, weights.matching > _COPIES),
        )  # fmt: skip
    over = "the texts given" if own_texts else "random tokens said twice"
    note = (
        f"Mean attention over {over}: to the token before, the first, earlier occurrences of the token (dupl), what "
        "followed them (induc), punctuation. posit: share of it that positions alone explain, most at 'offset' back. "
        "By weights: copy, own (share of tokens raised most by attending to them), match (of a query with its like)."
    )
    head = Text.assemble(("Attention heads", "bold"), f" of {clean(subject)}")
    return [head, Text(), table, Text(), Text(note, "dim")]


def _marked(value: float, much: bool) -> Text:
    return Text(score(value), "bold yellow" if much else "")


def heads_maps(rows: Sequence[tuple[EdgeProfile, HeadCopying]]) -> list[HeatMap]:
    """Layers by heads: what is attended to beyond uniform attention, and copying."""
    layers = sorted({int(profile.unit.where) for profile, _ in rows})
    heads = 1 + max(profile.unit.index for profile, _ in rows)
    maps = []
    for name in ("previous", "duplicate", "induction", "copying"):
        values = np.full((len(layers), heads), np.nan)
        for profile, weights in rows:
            over = weights.copying if name == "copying" else getattr(profile, name) - profile.baseline.get(name, 0.0)
            values[layers.index(int(profile.unit.where)), profile.unit.index] = np.nan if over is None else over
        title = "Copying, by weights" if name == "copying" else f"Attention beyond uniform: {name}"
        maps.append(
            HeatMap(values, [str(layer) for layer in layers], [str(h) for h in range(heads)], "layer", "head",
                    "copying" if name == "copying" else "mean attention", title, limit=1.0)
        )  # fmt: skip
    return maps


def pattern_map(unit: UnitId, tokens: Sequence[str], weights: FloatArray) -> HeatMap:
    """Where a head attends in one text: a row for each token that attends."""
    rows = [f"{visible(token)}  {i}" for i, token in enumerate(tokens)]
    title = f"{unit}: attention from each token to those before it"
    return HeatMap(weights, rows, tokens, "attends", "attended to", "attention", title, tokens=True, limit=1.0)


def head_page(
    subject: str, profile: EdgeProfile, edges: Sequence[Edge], circuit: HeadCircuit, *, own_texts: bool
) -> list[RenderableType]:
    """One head in full."""
    over = "the texts given" if own_texts else "random tokens said twice"
    pattern = simple_table(("attends to", "left"), ("mean", "right"), ("uniform", "right"), ("destinations", "right"))
    for edge, told in _TOLD.items():
        value, uniform = getattr(profile, edge), profile.baseline[edge]
        pattern.add_row(told, _marked(value, value - uniform > _MUCH), score(uniform), str(profile.destinations[edge]))
    strongest = simple_table(("from", "left"), ("to", "left"), ("weight", "right"), ("write", "right"))
    for e in edges:
        strongest.add_row(
            f"{fit(visible(e.query_piece), 16)} {e.query}", f"{fit(visible(e.key_piece), 16)} {e.key}",
            score(e.weight), number(e.write),
        )  # fmt: skip
    figures = facts(
        ("copying", None if circuit.copying is None else f"{score(circuit.copying)}  (1: raises what it attends to)"),
        ("own", None if circuit.own is None else f"{score(circuit.own)}  (share of tokens raised most by attending "
         "to them)"),
        ("matching", f"{score(circuit.matching)}  (1: tokens attend to their like)"),
        ("offsets", _offsets(circuit)),
        ("left out", "; ".join(circuit.left_out) or None),
    )  # fmt: skip
    page: list[RenderableType] = [
        Text.assemble((str(circuit.unit), "bold"), f" of {clean(subject)}"), Text(),
        Text(f"Attention over {over}", "bold"), pattern,
        Text(f"positions alone explain {score(profile.positional)} of it, most at {profile.best_offset} back; entropy "
             f"{number(profile.entropy)} nats", "dim"),
        Text(), Text("Strongest edges", "bold"), strongest, Text(),
        Text("Circuits, by weights", "bold"), figures, Text(),
        Text(f"QK: which token attends to which{_back(circuit.offset)}", "bold"),
        _pairs(circuit.attended, "query", "key"),
    ]  # fmt: skip
    for title, pairs in (("OV: attending to a token raises", circuit.raised), ("OV: and lowers", circuit.lowered)):
        if pairs is not None:
            page += [Text(), Text(title, "bold"), _pairs(pairs, "attended to", "token")]
    return page


def _back(offset: int) -> str:
    return f", {offset} back" if offset else ""


def _offsets(circuit: HeadCircuit) -> str | None:
    if not circuit.offsets:
        return None
    if circuit.offsets[0].mass < _STANDS_OUT:
        return "none stands out by position embeddings alone"
    told = ", ".join(f"{o.offset} back {score(o.mass)}" for o in circuit.offsets[:3])
    return f"{told}  (attention by position embeddings alone)"


def _pairs(pairs: Sequence[TokenPair], source: str, target: str) -> Table | Text:
    if not pairs:
        return Text("nothing that the logits see", "dim")
    table = simple_table((source, "left"), (target, "left"), ("score", "right"))
    for pair in pairs:
        table.add_row(fit(visible(pair.source_piece), 24), fit(visible(pair.target_piece), 24), number(pair.score))
    return table
