"""Where features come from and where they go: across layers by their directions, in a prompt by what adds up."""

from __future__ import annotations

from tools.flow.graph import Edge, FlowGraph, flow_graph
from tools.flow.match import Origin, Step, UnitFlow, null_score, origins, trace, write_directions

__all__ = [
    "Edge", "FlowGraph", "Origin", "Step", "UnitFlow", "flow_graph", "null_score", "origins", "trace",
    "write_directions",
]  # fmt: skip
