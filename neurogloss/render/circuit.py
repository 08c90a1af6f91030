"""Pages and figures of circuits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.graphs import Arrow, Graph, Node
from neurogloss.render.tables import facts, simple_table
from neurogloss.render.text import clean, fit, number, visible

if TYPE_CHECKING:
    from tools.circuits import Circuit, CircuitNode

#: Characters of names that stand side by side in a figure.
_LAYER = 118
_INPUTS = {"q": "queries", "k": "keys", "v": "values"}


def circuit_page(found: Circuit, subject: str, task: str, used: int, given: int) -> list[RenderableType]:
    """Parts, paths, and the three criteria beside their controls."""
    c = found.criteria
    head = Text.assemble(
        ("Circuit", "bold"), f" of {clean(subject)} for {clean(task)}: {len(found.nodes)} of {len(found.candidates)} "
        "parts",
    )  # fmt: skip
    note = (
        f"The model does the task on {used} of {given} pairs. Found on {found.found_on} of them, judged on the other "
        f"{found.judged_on}: logit difference {number(found.clean)} clean, {number(found.corrupt)} corrupted."
    )
    parts = simple_table(("part", "left"), ("noised", "right"), ("denoised", "right"), ("needed", "right"),
                         ("at", "left"), ("acts on", "left"), grow="acts on")  # fmt: skip
    needs = {one.node: one.loss for one in c.minimality}
    for node in found.nodes:
        at = "" if node.token is None else f"{fit(visible(node.token), 12)} {node.position}"
        parts.add_row(
            node.name, number(node.noising, 2), number(node.denoising, 2), number(needs[node.name], 2), at,
            _acts(found, node.name),
        )  # fmt: skip
    randoms = c.random_faithfulness
    mean = sum(randoms) / len(randoms) if randoms else 0.0
    worst = c.completeness[0] if c.completeness else None
    against = "" if worst is None else f"  ({worst.how} set of {len(worst.removed)} removed)"
    error = "" if math.isnan(c.faithfulness_error) else f" ± {number(c.faithfulness_error, 2)}"
    figures = facts(
        ("faithfulness", f"{number(c.faithfulness)}{error}  (1: does what the whole model does)"),
        ("random sets", f"{number(mean, 2)} in the mean, {number(max(randoms, default=0.0), 2)} at most, of "
         f"{len(randoms)} of its size" if randoms else None),
        ("least partial", f"{number(c.least_partial)}  (with random parts of the rest ablated)"),
        ("incompleteness", f"{number(c.incompleteness)}  (0: nothing outside does its work){against}"),
        ("minimality", f"{number(c.least_need)}  (what its least needed part is needed for)"),
        ("F", f"{number(c.full)} whole model, {number(c.circuit)} circuit, {number(c.empty)} no part"),
        ("ablation", f"{found.ablation}" + (f", reference {found.reference}" if found.reference else "")),
    )  # fmt: skip
    legend = "noised, denoised: effects as in 'neurogloss patch'. needed: most that is lost with it."
    return [head, Text(note, "dim"), Text(), parts, Text(), Text("How good an account it is", "bold"), figures, Text(),
            Text(legend, "dim")]  # fmt: skip


def _acts(found: Circuit, name: str) -> str:
    told = []
    for edge in (one for one in found.edges if one.sender == name):
        receiver, _, which = edge.receiver.rpartition(":")
        short = receiver.removeprefix("head:").replace(":", ".")
        words = f"{_INPUTS[which]} of {short}" if which in _INPUTS and receiver else edge.receiver
        told.append(f"{words} ({number(edge.effect, 2)})")
    return ", ".join(told[:3])


def circuit_graph(found: Circuit, task: str) -> Graph:
    """Parts by layer, with the paths between them; a path into several inputs of a head is one arrow for each."""
    layers = sorted({node.layer for node in found.nodes})
    rows = {layer: i for i, layer in enumerate(layers)}
    shown = [node for layer in layers for node in _strongest([one for one in found.nodes if one.layer == layer])]
    nodes = [Node(node.name, rows[node.layer], value=node.noising) for node in shown]
    nodes.append(Node("logits", len(layers)))
    arrows: dict[tuple[str, str], float] = {}
    known = {node.name for node in nodes}
    for edge in found.edges:
        receiver = edge.receiver.rpartition(":")[0] if edge.receiver[-2:] in (":q", ":k", ":v") else edge.receiver
        key = (edge.sender, receiver)
        if known.issuperset(key) and abs(edge.effect) > abs(arrows.get(key, 0.0)):
            arrows[key] = edge.effect
    c = found.criteria
    some = "" if len(shown) == len(found.nodes) else f", {len(shown)} of {len(found.nodes)} parts shown"
    title = (
        f"{task}{some}: faithful {number(c.faithfulness, 2)} (random at most "
        f"{number(max(c.random_faithfulness, default=0.0), 2)}), incomplete {number(c.incompleteness, 2)}, minimal "
        f"{number(c.least_need, 2)}"
    )
    return Graph(nodes, [Arrow(a, b, value) for (a, b), value in arrows.items()],
                 [*(f"layer {layer}" for layer in layers), "logits"], title=title, scale="path effect")  # fmt: skip


def _strongest(nodes: Sequence[CircuitNode]) -> list[CircuitNode]:
    """As many of a layer's parts as stand side by side, those with the largest effects, in their order."""
    room = next((n for n in range(len(nodes), 1, -1) if n * max(len(one.name) + 3 for one in nodes) <= _LAYER), 1)
    kept = sorted(nodes, key=lambda one: -abs(one.noising))[:room]
    return [one for one in nodes if one in kept]
