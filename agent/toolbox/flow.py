"""The tools `unit_origins` and `information_flow`: where features come from, and what a prediction is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Text, TopK, Units
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.errors import UnitError
from tools.flow import FlowGraph, Step, UnitFlow, flow_graph, origins, trace
from tools.subject import Subject
from tools.units import expand

Group = Annotated[str, Field(min_length=4, max_length=100)]
#: Units of one answer.
MOST_UNITS = 256
#: Edges of one answer, the strongest.
MOST_EDGES = 200


class UnitOriginsArguments(Arguments):
    """Arguments of `unit_origins`."""

    units: Units
    earlier: Annotated[list[Group], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Groups that count as earlier writers, such as mlp:0 or sae:NAME; left out: the "
        "nearest earlier dictionary of the residual stream, or the neurons of all earlier layers.",
    )  # fmt: skip
    through: Annotated[list[Group], Field(max_length=64)] = Field(
        default=[], description="Groups through which to follow each unit, one after another, behind it or ahead."
    )


class InformationFlowArguments(Arguments):
    """Arguments of `information_flow`."""

    text: Text
    position: int = Field(
        default=-1,
        ge=-1_000_000,
        le=1_000_000,
        description="Whose prediction to explain; negative counts from the end.",
    )
    threshold: float = Field(
        default=0.04, ge=0.005, le=0.5, description="Contributions to a residual state below it are dropped."
    )
    neurons: int = Field(default=3, ge=0, le=20, description="Strongest neurons of each MLP.")
    k: TopK = 3


def origins_of(subject: Subject, arguments: UnitOriginsArguments) -> list[tuple[UnitFlow, tuple[Step, ...]]]:
    """What `unit_origins` is asked for: each unit's origins, and its path.

    Raises:
        UnitError: A unit or group is not there or has no direction, or there are too many units.
    """
    units = expand(subject, ";".join(arguments.units))
    if len(units) > MOST_UNITS:
        raise UnitError(f"{len(units)} units are more than the {MOST_UNITS} of one answer. Name fewer.")
    found = origins(subject, units, earlier=arguments.earlier)
    return list(zip(found, trace(subject, units, arguments.through), strict=True))


def graph_of(subject: Subject, arguments: InformationFlowArguments) -> FlowGraph:
    """What `information_flow` is asked for.

    Raises:
        UnitError: The position is beyond the text, or the subject lacks a site.
        SubjectError: The text has no tokens.
    """
    (ids,), _ = encoded(subject, [arguments.text])
    place = arguments.position if arguments.position >= 0 else len(ids) + arguments.position
    if place < 0:
        raise UnitError(f"Position {arguments.position} is before the text's first: it has {len(ids)} tokens.")
    return flow_graph(
        subject, ids, position=place, threshold=arguments.threshold, neurons=arguments.neurons, k=arguments.k
    )


@tool("unit_origins", UnitOriginsArguments)
def unit_origins(workbench: Workbench, arguments: UnitOriginsArguments) -> Finding:
    """Matches what neurons and latents write with what was written before them: by earlier units (it persists), by
    their layer's MLP or heads (newborn), by both (processed), or by none (unexplained), each against the cosine that
    chance would give. Use it to learn whether a feature is made here or handed on.
    """
    rows = []
    found = origins_of(workbench.subject, arguments)
    for flow, steps in found:
        told = {"unit": flow.unit, "label": flow.label}
        best = [
            {"from": o.source, "unit": o.unit, "score": short(o.score), "null": short(o.null), "found": o.found}
            for o in flow.origins
        ]
        path = [{"unit": s.unit, "cosine": short(s.cosine), "to_start": short(s.to_start)} for s in steps]
        rows.append({**told, "origins": best, **({"path": path} if arguments.through else {})})
    counts: dict[str, int] = {}
    for flow, _ in found:
        counts[flow.label] = counts.get(flow.label, 0) + 1
    return Finding(", ".join(f"{n} {label}" for label, n in sorted(counts.items())), {"units": rows})


@tool("information_flow", InformationFlowArguments)
def information_flow(workbench: Workbench, arguments: InformationFlowArguments) -> Finding:
    """Follows a prediction backwards through the residual stream: which heads brought what from where, and which MLPs
    and neurons added to it, with each part's contribution and the tokens that it promotes. Parts below the threshold
    are dropped. Use it for an overview of one prompt before testing parts by intervention.
    """
    graph = graph_of(workbench.subject, arguments)
    moving = [edge for edge in graph.edges if edge.kind != "stream"]
    strongest = sorted(moving, key=lambda edge: -edge.flow)[:MOST_EDGES]
    rows = [
        {
            "part": edge.name, "from": edge.source, "to": edge.target,
            "share": short(edge.share), "flow": short(edge.flow),
            "promotes": [piece for piece, _ in edge.promotion.promoted] if edge.promotion else None,
            "suppresses": [piece for piece, _ in edge.promotion.suppressed] if edge.promotion else None,
            "neurons": [{"unit": unit, "share": short(share)} for unit, share in edge.neurons],
        }
        for edge in strongest
    ]  # fmt: skip
    told = ", ".join(f"{edge.name} at {edge.target} ({edge.flow:.2f})" for edge in strongest[:4]) or "the stream alone"
    summary = f"{len(graph.nodes)} states, {len(moving)} parts; strongest: {told}"
    return Finding(summary, {"tokens": list(graph.tokens), "position": graph.position, "parts": rows})
