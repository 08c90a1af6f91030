"""Pages and pictures of patching: sweeps as heat maps, screens, and paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.heatmap import HeatMap, text_map
from neurogloss.render.tables import Side, simple_table
from neurogloss.render.text import clean, fit, number, visible

if TYPE_CHECKING:
    from tools.patching import Metric, Paths, Screen, Sweep

DIRECTIONS = ("denoising", "noising")
_SAYS = {
    "denoising": "Denoising: share that the clean part restores in the corrupted run",
    "noising": "Noising: share that the corrupted part takes from the clean run",
}
#: Effects in the list of the strongest.
_LISTED = 8
_NAMES = {"logit_difference": "logit difference", "probability": "probability", "kl": "KL"}


def sweep_maps(found: Sweep, metric: Metric) -> list[HeatMap]:
    """Both directions: layers by heads, layers by tokens, or heads of each layer by tokens."""
    maps = []
    layers = [_layers(layer, found.window) for layer in found.layers]
    for direction in DIRECTIONS:
        values = found.direction(direction)[metric].values  # type: ignore[arg-type]
        title = f"{_SAYS[direction]} ({found.kind})"
        scale = f"share of {_NAMES[metric]}"
        if found.positions is None:
            columns = ["all"] if found.channels is None else [str(c) for c in found.channels]
            kind = "neuron" if found.kind == "mlp_act" else "head"
            maps.append(HeatMap(values[:, 0], layers, columns, "layer", kind, scale, title))
            continue
        shown = np.full((values.shape[0] * values.shape[2], len(found.tokens)), np.nan)
        flat = values.transpose(0, 2, 1).reshape(-1, values.shape[1])
        shown[:, list(found.positions)] = flat
        rows = layers if found.channels is None else [f"{layer}.{c}" for layer in layers for c in found.channels]
        row = "layer" if found.channels is None else "layer.head"
        maps.append(HeatMap(shown, rows, found.tokens, row, "position", scale, title, tokens=True))
    return maps


def _layers(first: int, window: int) -> str:
    return str(first) if window == 1 else f"{first}-{first + window - 1}"


def sweep_page(found: Sweep, subject: str, metric: Metric, width: int, *, colour: bool) -> list[RenderableType]:
    """Both maps, and the strongest effects of each."""
    page: list[RenderableType] = [_head(found, subject, metric), Text()]
    for direction, one in zip(DIRECTIONS, sweep_maps(found, metric), strict=True):
        large = one.values.size > 400
        if not large:
            page += [*text_map(one, width, colour=colour), Text()]
        else:
            page.append(Text(one.title, "bold"))
        page += [_strongest(found, direction, metric), Text()]
    notes = ["* beyond 2 standard deviations of all patches of this sweep"]
    if found.positions is not None and 0 not in found.positions:
        notes.append("position 0, which is the same in both prompts, is left out")
    if found.window > 1:
        notes.append(f"{found.window} layers are patched together: joint effects, which are no sums")
    return [*page, Text("; ".join(notes), "dim")]


def _head(found: Sweep, subject: str, metric: Metric) -> Text:
    noise = f", {found.draws} draws of noise each" if found.draws else ""
    many = f"{found.prompts} pair{'s' if found.prompts != 1 else ''} of prompts{noise}"
    return Text.assemble(
        (f"Patching {found.kind}", "bold"), f" of {clean(subject)}, {many}: {_NAMES[metric]} "
        f"{number(found.clean[metric])} clean, {number(found.corrupt[metric])} corrupted",
    )  # fmt: skip


def _strongest(found: Sweep, direction: str, metric: Metric) -> RenderableType:
    effects = found.direction(direction)[metric]  # type: ignore[arg-type]
    by_token = found.positions is not None
    tokens: list[tuple[str, Side]] = [("token", "left")] if by_token else []
    table = simple_table(("place", "left"), *tokens, ("effect", "right"), ("±", "right"), ("", "left"))
    for flat in np.argsort(-np.abs(np.nan_to_num(effects.values)), axis=None, kind="stable")[:_LISTED]:
        layer, p, c = (int(i) for i in np.unravel_index(flat, effects.values.shape))
        channel = "" if found.channels is None else f" {found.channels[c]}"
        position = None if found.positions is None else found.positions[p]
        token = "" if position is None else f"{fit(visible(found.tokens[position]), 16)} {position}"
        at = (layer, p, c)
        error = "" if np.isnan(effects.errors[at]) else number(float(effects.errors[at]), 2)
        table.add_row(
            f"{found.kind}.{_layers(found.layers[layer], found.window)}{channel}", *([token] if by_token else []),
            number(float(effects.values[at])), error, "*" if effects.detected[at] else "",
        )  # fmt: skip
    return table


def screen_page(screens: Sequence[Screen], subject: str) -> list[RenderableType]:
    """What gradients estimate and what running it gave."""
    page: list[RenderableType] = [
        Text.assemble((f"Screening {screens[0].kind}", "bold"), f" of {clean(subject)} by gradients, "
                      f"{screens[0].prompts} pairs; the strongest were run, and as many others"), Text(),
    ]  # fmt: skip
    for one in screens:
        table = simple_table(("place", "left"), ("token", "left"), ("estimate", "right"), ("run", "right"),
                             ("±", "right"), ("", "left"))  # fmt: skip
        for c in one.checked[:20]:
            token = "" if c.position is None else f"{fit(visible(one.tokens[c.position]), 16)} {c.position}"
            channel = "" if c.channel is None else f" {c.channel}"
            table.add_row(
                f"{one.kind}.{c.layer}{channel}", token, number(c.estimate), number(c.exact),
                "" if np.isnan(c.error) else number(c.error, 2), "" if c.screened else "drawn",
            )  # fmt: skip
        agreement = "–" if one.rank_correlation is None else number(one.rank_correlation, 2)
        note = f"rank correlation of estimates with runs, over {len(one.checked)}: {agreement}"
        page += [Text(_SAYS[one.direction], "bold"), table, Text(note, "dim"), Text()]
    return page


def screen_maps(screens: Sequence[Screen]) -> list[HeatMap]:
    """Estimates of both directions, as maps."""
    maps = []
    for one in screens:
        layers = [str(layer) for layer in one.layers]
        title = f"{_SAYS[one.direction]} ({one.kind}), estimated"
        if one.positions is None:
            columns = ["all"] if one.channels is None else [str(c) for c in one.channels]
            maps.append(HeatMap(one.estimates[:, 0], layers, columns, "layer", "channel", "estimated share", title))
            continue
        shown = np.full((one.estimates.shape[0] * one.estimates.shape[2], len(one.tokens)), np.nan)
        shown[:, list(one.positions)] = one.estimates.transpose(0, 2, 1).reshape(shown.shape[0], -1)
        rows = layers if one.channels is None else [f"{layer}.{c}" for layer in layers for c in one.channels]
        maps.append(HeatMap(shown, rows, one.tokens, "layer", "position", "estimated share", title, tokens=True))
    return maps


def paths_maps(found: Paths) -> list[HeatMap]:
    """Senders by receivers, both directions."""
    held = "heads and MLPs" if found.mlps_held else "heads"
    return [
        HeatMap(found.direction(d)["logit_difference"], found.senders, found.receivers, "from", "to",  # type: ignore[arg-type]
                "share of logit difference", f"{d.capitalize()} along paths, other {held} held")
        for d in DIRECTIONS
    ]  # fmt: skip


def paths_page(found: Paths, subject: str) -> list[RenderableType]:
    """The strongest paths of each direction."""
    held = "other heads and MLPs" if found.mlps_held else "other heads"
    page: list[RenderableType] = [
        Text.assemble(("Paths", "bold"), f" in {clean(subject)}, {held} held, {found.prompts} pairs: logit difference "
                      f"{number(found.clean)} clean, {number(found.corrupt)} corrupted"), Text(),
    ]  # fmt: skip
    for d in DIRECTIONS:
        values, errors = found.direction(d)["logit_difference"], found.errors[d]  # type: ignore[arg-type, index]
        table = simple_table(("from", "left"), ("to", "left"), ("effect", "right"), ("±", "right"))
        known = [(i, j) for i, j in np.ndindex(*values.shape) if np.isfinite(values[i, j])]
        for i, j in sorted(known, key=lambda at: -abs(values[at]))[:12]:
            error = "" if np.isnan(errors[i, j]) else number(float(errors[i, j]), 2)
            table.add_row(found.senders[i], fit(found.receivers[j], 36), number(float(values[i, j])), error)
        page += [Text(_SAYS[d], "bold"), table, Text()]
    return page
