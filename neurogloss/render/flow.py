"""Pages and pictures of flow: where units' directions come from, and the contribution graph of a prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.effects import Effect, ranked_table, tokens_line
from neurogloss.render.graphs import Arrow, Graph, Node
from neurogloss.render.tables import Side, simple_table
from neurogloss.render.text import clean, fit, number, score, visible

if TYPE_CHECKING:
    from tools.flow import FlowGraph, Origin, Step, UnitFlow

_STYLES = {"persists": "green", "processed": "yellow", "newborn": "cyan", "unexplained": "dim"}
_SOURCES = ("earlier", "mlp", "attention")


def origins_page(subject: str, found: Sequence[tuple[UnitFlow, tuple[Step, ...]]]) -> list[RenderableType]:
    """A line a unit: its label, and the best match of each set beside what chance would give."""
    table = simple_table(("unit", "left"), ("", "left"), *((name, "left") for name in _SOURCES))
    for flow, _ in found:
        best: dict[str, Origin] = {origin.source: origin for origin in flow.origins}
        cells = []
        for source in _SOURCES:
            origin = best.get(source)
            if origin is None:
                cells.append(Text("–", "dim"))
                continue
            told = f"{score(origin.score)} {origin.unit}"
            cells.append(Text(fit(told, 20), "bold" if origin.found else "dim"))
        table.add_row(fit(flow.unit, 16), Text(flow.label, _STYLES[flow.label]), *cells)
    nulls = {origin.source: origin.null for flow, _ in found for origin in flow.origins}
    chance = ", ".join(f"{source} {score(null)}" for source, null in nulls.items())
    counts = Counter(flow.label for flow, _ in found)
    head = Text.assemble(
        ("Origins", "bold"), f" in {clean(subject)}: ", ", ".join(f"{n} {label}" for label, n in counts.most_common())
    )
    page: list[RenderableType] = [
        head, Text(), table, Text(),
        Text(f"Bold: closer than 99.9 % of random directions ({chance}).", "dim"),
    ]  # fmt: skip
    for flow, steps in found:
        if steps:
            told = " → ".join(f"{step.unit} ({score(step.cosine)})" for step in steps)
            page.append(Text.assemble((flow.unit, "bold"), f" → {told}"))
    return page


def flow_page(graph: FlowGraph, subject: str, most: int) -> list[RenderableType]:
    """The parts of a prompt's graph that most passes through."""
    moving = sorted((e for e in graph.edges if e.kind != "stream"), key=lambda edge: -edge.flow)
    rows = []
    for edge in moving[:most]:
        place = int(edge.source.split("@")[1])
        origin = f"{fit(visible(graph.tokens[place]), 12)} {place}" if edge.kind == "head" else ""
        into = edge.target.split("@")[1]
        told = "" if edge.promotion is None else tokens_line(edge.promotion.promoted, 3)
        rows.append(Effect(f"{edge.name} @{into}", edge.flow, (number(edge.share, 2), origin, told)))
    more: list[tuple[str, Side]] = [("share", "right"), ("from", "left"), ("promotes", "left")]
    table = ranked_table(rows, name="part @position", value="flow", more=more, grow="promotes")
    token = visible(graph.tokens[graph.position])
    head = Text.assemble(
        ("Information flow", "bold"), f" to the prediction of {clean(subject)} after {token} (position "
        f"{graph.position}): {len(graph.nodes)} states, {len(moving)} parts",
    )  # fmt: skip
    note = (
        "flow: what of the last state passes there, over all paths. share: of the state that the part adds to; below "
        f"{graph.threshold:g} it is dropped."
    )
    neurons = [(e.name, e.target.split("@")[1], unit, share) for e in moving[:most] for unit, share in e.neurons[:1]]
    page: list[RenderableType] = [head, Text(), table, Text(), Text(note, "dim")]
    if neurons:
        told = ", ".join(f"{unit} @{at} ({score(share)})" for _, at, unit, share in neurons[:4])
        page.append(Text(f"Strongest neurons: {told}", "dim"))
    return page


def flow_picture(graph: FlowGraph) -> Graph:
    """Residual states as boxes, what heads bring as arrows; a box is coloured by the share of its MLP.

    A state after the MLP is labelled with the token that the MLP promotes most, one before it with the head that
    brought most.
    """
    sites = sorted({node.site for node in graph.nodes}, key=_height)
    rows = {site: i for i, site in enumerate(sites)}
    arrows: dict[tuple[str, str], float] = {}
    shares: dict[str, float] = {}
    labels: dict[str, tuple[float, str]] = {}
    for edge in graph.edges:
        if edge.kind == "mlp":
            shares[edge.target] = edge.share
            if edge.promotion is not None and edge.promotion.promoted:
                labels[edge.target] = (edge.share, f"“{visible(edge.promotion.promoted[0][0])}”")
            continue
        arrows[edge.source, edge.target] = arrows.get((edge.source, edge.target), 0.0) + edge.flow
        if edge.kind == "head" and edge.share > labels.get(edge.target, (0.0, ""))[0]:
            labels[edge.target] = (edge.share, edge.name.removeprefix("head:").replace(":", "."))
    nodes = []
    for node in graph.nodes:
        own = visible(graph.tokens[node.position]) if node.site == "resid_pre.0" else "·"
        nodes.append(
            Node(node.name, rows[node.site], node.position, shares.get(node.name), labels.get(node.name, (0.0, own))[1])
        )
    return Graph(
        nodes, [Arrow(source, target, share) for (source, target), share in arrows.items()],
        [_row_name(site) for site in sites], list(graph.tokens),
        title=f"Flow to the prediction after position {graph.position}", scale="flow",
    )  # fmt: skip


def _height(site: str) -> tuple[int, int]:
    kind, _, layer = site.partition(".")
    return int(layer), ("resid_pre", "resid_mid", "resid_post").index(kind)


def _row_name(site: str) -> str:
    kind, _, layer = site.partition(".")
    return {"resid_pre": "embedding", "resid_mid": f"attention {layer}", "resid_post": f"MLP {layer}"}[kind]
