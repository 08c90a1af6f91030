"""Which parts carry a task: the others are ablated as long as it does not suffer; and the paths between those parts.

The order is that of Conmy et al. 2023 (ACDC, arXiv 2304.14997), on parts instead of edges: the parts whose loss alone
matters least are tried first, many at once, and they go for good if the mean logit difference is then still within a
tolerance of the whole model's. What is left is tried again until nothing can go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tools.circuits.criteria import Criteria, Nodes, judge
from tools.circuits.knockout import Kind, Knockout
from tools.circuits.units import strongest_latents, strongest_neurons, unit_effects
from tools.errors import InterventionError
from tools.patching.nodes import LOGITS, Node, Receiver, all_nodes
from tools.patching.pairs import TokenPair
from tools.patching.path import path_patch
from tools.patching.sweep import sweep
from tools.subject import Subject

#: Effect along a path from which on it is drawn.
EDGE = 0.05
#: Neurons, latents and directions between which paths are measured: those that matter most by themselves.
_WIRED = 24


@dataclass(frozen=True)
class CircuitNode:
    """A part of the circuit; effects on the logit difference as in `tools.patching.sweep.Effects`, all positions."""

    name: str
    layer: int
    noising: float
    denoising: float
    token: str | None
    """Where it matters most when noised by position, in the first prompt; None for prompts of many lengths."""
    position: int | None


@dataclass(frozen=True)
class CircuitEdge:
    """A path from a part to an input of another, noised: what share of the logit difference it takes away."""

    sender: str
    receiver: str
    effect: float


@dataclass(frozen=True)
class Circuit:
    """A circuit, found on some pairs and judged on others."""

    nodes: tuple[CircuitNode, ...]
    edges: tuple[CircuitEdge, ...]
    """Paths with an effect of at least `EDGE`, strongest first; of many neurons and latents only between those with the
    largest effects by themselves."""
    criteria: Criteria
    candidates: tuple[str, ...]
    """All parts that were looked at; the others were left as they are."""
    ablation: Kind
    reference: str | None
    """Hash of the corrupted prompts that ablated parts have their outputs from, in the pairs that it was judged on."""
    tolerance: float
    found_on: int
    """Pairs."""
    judged_on: int
    clean: float
    """Logit difference of the clean prompts that it was judged on, and of the corrupted ones."""
    corrupt: float
    tokens: tuple[str, ...]
    """The first clean prompt's."""
    runs: int
    """Runs with parts ablated."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        criteria = {
            **asdict(self.criteria), "incompleteness": self.criteria.incompleteness,
            "least_partial": self.criteria.least_partial, "least_need": self.criteria.least_need,
        }  # fmt: skip
        return {**asdict(self), "criteria": criteria}


def find_circuit(
    subject: Subject,
    pairs: Sequence[TokenPair],
    *,
    candidates: Sequence[Node] | None = None,
    neurons: int = 0,
    latents: int = 0,
    ablation: Kind = "resample",
    tolerance: float = 0.05,
    draws: int = 32,
    seed: int = 0,
) -> Circuit:
    """Find a circuit on every other pair and judge it on the rest.

    Args:
        subject: A model with a head.
        pairs: The task, at least 2 pairs; see `encode_pairs` and `tools.circuits.tasks`.
        candidates: Parts to look at, latents and directions among them (`Node.of`); None: all heads. The others are
            left as they are.
        neurons: Look at so many neurons as well, those that a screen finds strongest.
        latents: Look at so many latents of the attached dictionaries as well, chosen likewise.
        ablation: What ablated parts are given; see `Knockout`.
        tolerance: How far the circuit may be from the whole model on the pairs that it is found on, as a share of clean
            less corrupted.
        draws: Random sets of each sort when it is judged.
        seed: Of these.

    Raises:
        UnitError: The subject has no such part.
        InterventionError: There are too few pairs, or the clean prompts do not do better than the corrupted ones.
        SubjectError: The subject has no logits.
    """
    if len(pairs) < 2:
        raise InterventionError("A circuit is found on some pairs and judged on others: give at least 2.")
    found_on, judged_on = pairs[0::2], pairs[1::2]
    chosen = list(all_nodes(subject, mlps=False) if candidates is None else candidates)
    if neurons:
        chosen += strongest_neurons(subject, found_on, neurons)
    if latents:
        chosen += strongest_latents(subject, found_on, latents)
    knockout = Knockout(subject, found_on, chosen, ablation)
    gap = float((knockout.clean - knockout.corrupt).mean())
    if gap <= 0:
        raise InterventionError(
            f"The subject '{subject.name}' does not do this task: the logit difference is {knockout.clean.mean():.3g} "
            f"on clean prompts and {knockout.corrupt.mean():.3g} on corrupted ones."
        )
    circuit = _pruned(knockout, tolerance * gap)
    held_out = Knockout(subject, judged_on, chosen, ablation)
    layers = sorted({node.layer for node in circuit})
    classes = {f"layer {layer}": frozenset(n for n in circuit if n.layer == layer) for layer in layers}
    criteria = judge(held_out, circuit, classes, draws=draws, seed=seed)
    nodes = _described(subject, judged_on, sorted(circuit))
    small = sorted((one for one in nodes if _is_small(one.name)), key=lambda one: -abs(one.noising))
    left_out = {one.name for one in small[_WIRED:]}
    wired = [node for node in sorted(circuit) if str(node) not in left_out]
    return Circuit(
        nodes, _edges(subject, judged_on, wired), criteria,
        tuple(map(str, held_out.candidates)), ablation, held_out.reference, tolerance, len(found_on), len(judged_on),
        float(held_out.clean.mean()), float(held_out.corrupt.mean()), tuple(subject.pieces(judged_on[0].clean)),
        knockout.runs + held_out.runs, seed,
    )  # fmt: skip


def _pruned(knockout: Knockout, tolerance: float) -> Nodes:
    """What is left when nothing more can be ablated within the tolerance."""
    alone = np.abs(knockout.clean.mean() - knockout.ablated([[node] for node in knockout.candidates]).mean(1))
    order = [knockout.candidates[i] for i in np.argsort(alone, kind="stable")]
    kept, full = frozenset(order), float(knockout.clean.mean())
    size, changed = max(1, len(order) // 2), True
    queue = list(order)
    while changed:
        changed = False
        while queue:
            batch = queue[:size]
            trial = kept - frozenset(batch)
            if abs(float(knockout.kept([trial])[0].mean()) - full) <= tolerance:
                kept, changed = trial, True
                queue = queue[size:]
                size = min(2 * size, max(1, len(queue)))
            elif size > 1:
                size //= 2
            else:
                queue = queue[1:]
        queue, size = [node for node in order if node in kept], 1
    return kept


def _described(subject: Subject, pairs: Sequence[TokenPair], nodes: Sequence[Node]) -> tuple[CircuitNode, ...]:
    one_length = len({len(pair.clean) for pair in pairs}) == 1
    out = []
    for node in nodes:
        if node.kind == "unit":
            noising, denoising, place = unit_effects(subject, pairs, node)
            piece = None if place is None else subject.pieces(pairs[0].clean)[place]
            out.append(CircuitNode(str(node), node.layer, noising, denoising, piece, place))
            continue
        channels = None if node.kind == "mlp" else [node.index]
        whole = sweep(subject, pairs, node.site.kind, layers=[node.layer], positions=None, channels=channels)
        effects = [whole.direction(d)["logit_difference"].values[0, 0, 0] for d in ("noising", "denoising")]
        token = position = None
        if one_length:
            each = sweep(subject, pairs, node.site.kind, layers=[node.layer], channels=channels, directions=["noising"])
            assert each.positions is not None
            values = np.abs(each.direction("noising")["logit_difference"].values[0, :, 0])
            position = each.positions[int(values.argmax())]
            token = each.tokens[position]
        out.append(CircuitNode(str(node), node.layer, float(effects[0]), float(effects[1]), token, position))
    return tuple(out)


def _is_small(name: str) -> bool:
    """Whether it is a neuron, a latent or a direction."""
    return not name.startswith("head:") and (not name.startswith("mlp:") or name.count(":") > 1)


def _edges(subject: Subject, pairs: Sequence[TokenPair], senders: Sequence[Node]) -> tuple[CircuitEdge, ...]:
    receivers: list[Receiver] = []
    for node in senders:
        if node.kind == "head":
            receivers += [Receiver(node.layer, x, node.index) for x in ("q", "k", "v")]
        elif node.kind == "mlp":
            receivers.append(Receiver(node.layer, "mlp"))
        elif node.kind == "unit":
            receivers.append(Receiver.at(node))
    if not senders:
        return ()
    found = path_patch(subject, pairs, senders, [(r,) for r in (*receivers, LOGITS)], directions=["noising"])
    effects = found.direction("noising")["logit_difference"]
    edges = [
        CircuitEdge(found.senders[i], found.receivers[j], float(effects[i, j]))
        for i, j in np.argwhere(np.nan_to_num(np.abs(effects)) >= EDGE)
    ]
    return tuple(sorted(edges, key=lambda edge: -abs(edge.effect)))
