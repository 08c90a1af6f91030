"""Pages of the lenses: a text layer by layer, a unit's weights, how good a tuned lens is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from neurogloss.render.effects import tokens_table
from neurogloss.render.heatmap import HeatMap
from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, fit, number, score, visible

if TYPE_CHECKING:
    from agent.toolbox.tuned import FittedLens
    from tools.lenses import Promotion, ReadLens
    from tools.lenses.decoder import DecoderLens
    from tools.lenses.logit import LensReading
    from tools.types import UnitId

#: Cells of a predicted token, and of what stands before the first.
_CELL, _MARGIN = 9, 26
#: Characters by which a site is named in a narrow column.
_SHORT = {"resid_pre": "embed", "resid_mid": "mid", "resid_post": "layer"}


def site_name(site: str) -> str:
    """A residual stream in few characters: ``embed``, ``mid 3``, ``layer 3``."""
    kind, _, layer = site.partition(".")
    return "embed" if kind == "resid_pre" else f"{_SHORT[kind]} {layer}"


def text_page(found: LensReading, subject: str, width: int, *, colour: bool) -> list[RenderableType]:
    """Each position's likeliest token by layer, and each layer's figures."""
    room = max(1, (width - _MARGIN) // (_CELL + 1))
    rows = range(len(found.sites))
    shown = list(rows) if len(rows) <= room else sorted({round(i) for i in np.linspace(0, len(rows) - 1, room)})
    table = Table.grid(padding=(0, 1))
    heads = [Text(fit(site_name(found.sites[row]), _CELL), "dim") for row in shown]
    table.add_row("", Text("token", "dim"), Text("next", "dim"), *heads)
    for column, token in enumerate(found.tokens):
        cells = []
        for row in shown:
            piece, probability = found.top[row][column][0]
            right = found.rank[row, column] == 0
            mark = "" if colour or not right else "*"
            style = "bold green" if right else "" if probability > 0.5 else "dim"
            cells.append(Text(fit(mark + visible(piece), _CELL), style))
        table.add_row(
            Text(str(column), "dim"), fit(visible(token), 10), Text(fit(visible(found.targets[column]), 10), "bold"),
            *cells,
        )  # fmt: skip
    head = Text.assemble(
        ("Tuned lens" if found.tuned else "Logit lens", "bold"), f" of {clean(subject)}, {len(found.tokens)} tokens; ",
        "in green" if colour else "with *", " where the likeliest is the next one",
    )  # fmt: skip
    figures = simple_table(("stream", "left"), ("log p", "right"), ("median rank", "right"), ("entropy", "right"),
                           ("KL from the model", "right"))  # fmt: skip
    for row in rows:
        # Position 0 is left out where there are others: models use it as a sink.
        after = slice(1, None) if len(found.tokens) > 1 else slice(None)
        logs = np.log(np.maximum(found.probability[row, after], 1e-30))
        figures.add_row(
            site_name(found.sites[row]), number(float(logs.mean())), number(float(np.median(found.rank[row, after]))),
            number(float(found.entropy[row, after].mean())), number(float(found.divergence[row, after].mean())),
        )  # fmt: skip
    note = "Means over positions from 1 on, in nats; log p and rank are of the next token."
    return [head, Text(), table, Text(), figures, Text(note, "dim")]


def lens_maps(found: LensReading) -> list[HeatMap]:
    """The reading as pictures: the target's log probability, and the divergence from the model."""
    names = [site_name(site) for site in found.sites]
    logs = np.log(np.maximum(found.probability.astype(np.float64), 1e-12))
    kind = "Tuned lens" if found.tuned else "Logit lens"
    common = {"rows": names, "columns": list(found.tokens), "row_title": "stream", "column_title": "position",
              "tokens": True}  # fmt: skip
    return [
        HeatMap(logs, scale="log p of the next token", title=f"{kind}: the next token", **common),  # type: ignore[arg-type]
        HeatMap(found.divergence.astype(np.float64), scale="KL, nats", title=f"{kind}: how far from the model's",
                **common),  # type: ignore[arg-type]
    ]  # fmt: skip


def unit_page(unit: UnitId, subject: str, read: ReadLens | None, write: Promotion | None) -> list[RenderableType]:
    """What a unit's weights read and write."""
    page: list[RenderableType] = [Text.assemble((str(unit), "bold"), f" of {clean(subject)}, by its weights"), Text()]
    if read is not None:
        page += [
            Text("Reads: tokens that excite it most and least when they come alone", "bold"),
            _renamed(tokens_table(read.exciting.promoted, read.exciting.suppressed, score="input"), "most", "least"),
            Text(),
        ]
        if read.unembedding is not None:
            page += [
                Text("Looks for: tokens that its read direction would predict", "bold"),
                _renamed(tokens_table(read.unembedding.promoted, read.unembedding.suppressed), "most", "least"),
                Text(),
            ]
    if write is not None:
        page += [
            Text("Writes: tokens whose logits it raises and lowers when it is on", "bold"),
            tokens_table(write.promoted, write.suppressed),
            Text("Without what later layers make of it, and up to the final norm's factor.", "dim"),
        ]
    return page


def _renamed(table: Table, most: str, least: str) -> Table:
    table.columns[0].header, table.columns[2].header = most, least
    return table


def fit_page(found: FittedLens) -> list[RenderableType]:
    """How much nearer to the model a tuned lens is than the logit lens, on text it was not fitted on."""
    before, after = found.plain, found.tuned
    table = simple_table(("stream", "left"), ("KL, logit lens", "right"), ("KL, tuned", "right"), ("same top", "right"),
                         ("same top, tuned", "right"))  # fmt: skip
    for i, site in enumerate(before.sites):
        table.add_row(
            site_name(site), number(float(before.divergence[i])), number(float(after.divergence[i])),
            score(float(before.agreement[i])), score(float(after.agreement[i])),
        )  # fmt: skip
    told = f" fitted on {found.lens.tokens:,} tokens; on {before.positions:,} others:"
    head = Text.assemble(("Tuned lens", "bold"), told)
    return [head, Text(), table, Text(), Text(f"Kept in {found.path}", "dim")]


def decoder_page(found: DecoderLens, model: str) -> list[RenderableType]:
    """What the decoder writes from each layer of the encoder."""
    head = Text.assemble(
        ("DecoderLens", "bold"), f" of {clean(model)}, from {len(found.source)} tokens; the last layer's is the "
        "ordinary output",
    )  # fmt: skip
    table = simple_table(("layer", "right"), ("log p", "right"), ("first", "left"), ("writes", "left"), grow="writes")
    for one in found.readings:
        name = "embed" if one.layer == 0 else str(one.layer)
        table.add_row(name, number(one.ordinary), fit(visible(one.first[0][0]), 12), visible(one.text))
    note = (
        "log p: mean log probability, in nats, that the layer gives the tokens of the ordinary output. first: its "
        "likeliest first token. Layers count the encoder's blocks from 1."
    )
    return [head, Text(), table, Text(), Text(note, "dim")]
