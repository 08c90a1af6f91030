"""How good a circuit is: faithful, complete, minimal (Wang et al. 2023, section 4), each beside its controls.

With M all candidate parts, F(S) the mean logit difference with all candidates but S ablated, and a share of a number
its part of the way from F(none) to F(M):

- faithful: F(C) is F(M). Beside it: random sets of the same size, and C with only some of its complement ablated. A
  circuit that is pruned with everything else ablated may rest on errors that cancel; then it is unfaithful to a model
  of which only some parts are missing (the least over such subsets is reported).
- complete: without any subset K of C, C does what M does without K. Subsets are drawn at random, are the circuit's
  classes, and are grown greedily to make the difference large.
- minimal: every part v matters: for some K, C without K loses much by losing v as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tools.circuits.knockout import Knockout
from tools.patching.nodes import Node

Nodes = frozenset[Node]


@dataclass(frozen=True)
class Removal:
    """The circuit and the model, both without some of the circuit's parts."""

    how: str
    """``random``, ``class`` or ``greedy``."""
    removed: tuple[str, ...]
    circuit: float
    """F(C without K), and what the model does without K."""
    model: float
    gap: float
    """|circuit - model| as a share."""


@dataclass(frozen=True)
class Need:
    """What a circuit loses most by losing one part, over the sets that were removed with it."""

    node: str
    loss: float
    """|F(C without K and v) - F(C without K)| as a share."""
    removed: tuple[str, ...]
    """K."""


@dataclass(frozen=True)
class Criteria:
    """All of it; F are logit differences, means over the pairs."""

    full: float
    """F(M): nothing is ablated."""
    empty: float
    """F(none): all candidates are."""
    circuit: float
    """F(C)."""
    faithfulness: float
    """F(C) as a share: 1 is the whole model's, 0 that of no part."""
    faithfulness_error: float
    """Standard error over pairs."""
    random_faithfulness: tuple[float, ...]
    """Of random sets of the same size, other than C itself."""
    partial_faithfulness: tuple[float, ...]
    """Of C with random subsets of its complement ablated."""
    completeness: tuple[Removal, ...]
    """The largest gap first."""
    minimality: tuple[Need, ...]
    """One for each part of the circuit, in the order of the forward pass."""

    @property
    def incompleteness(self) -> float:
        """The largest gap that was found."""
        return max((one.gap for one in self.completeness), default=0.0)

    @property
    def least_partial(self) -> float:
        """The least faithfulness with only some of the complement ablated."""
        return min(self.partial_faithfulness, default=self.faithfulness)

    @property
    def least_need(self) -> float:
        """What the least needed part is needed for."""
        return min((one.loss for one in self.minimality), default=0.0)


def judge(
    knockout: Knockout, circuit: Nodes, classes: Mapping[str, Nodes], *, draws: int = 32, seed: int = 0
) -> Criteria:
    """Measure a circuit.

    Args:
        knockout: The task; its candidates are M.
        circuit: C.
        classes: Named parts of C that are removed together.
        draws: How many random sets of each sort.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    every = frozenset(knockout.candidates)
    full_pairs, empty_pairs, own_pairs = knockout.kept([every, frozenset(), circuit])
    full, empty = float(full_pairs.mean()), float(empty_pairs.mean())
    span = full - empty

    def share(values: float | np.floating) -> float:
        return float((values - empty) / span) if span else float("nan")

    residual = (own_pairs - empty_pairs) - share(own_pairs.mean()) * (full_pairs - empty_pairs)
    n = len(residual)
    error = float(np.sqrt((residual**2).sum() / (n - 1) / n) / abs(span)) if n > 1 and span else float("nan")
    others = _random_sets(rng, sorted(every), len(circuit), draws, circuit)
    rest = sorted(every - circuit)
    partial = [frozenset(np.array(rest, dtype=object)[rng.random(len(rest)) < rng.random()]) for _ in range(draws)]
    partial = list(dict.fromkeys(one for one in partial if one))
    subsets = _subsets(rng, circuit, classes, draws)
    removals = _removals(knockout, circuit, subsets, span)
    return Criteria(
        full, empty, float(own_pairs.mean()), share(own_pairs.mean()), error,
        tuple(share(v) for v in (knockout.kept(others).mean(1) if others else [])),
        tuple(share(v) for v in (knockout.ablated(partial).mean(1) if partial else [])),
        tuple(sorted(removals, key=lambda one: -one.gap)), _needs(knockout, circuit, [k for _, k in subsets], span),
    )  # fmt: skip


def _random_sets(rng: np.random.Generator, nodes: Sequence[Node], size: int, draws: int, besides: Nodes) -> list[Nodes]:
    if size >= len(nodes):
        return []
    found: dict[Nodes, None] = {}
    for _ in range(20 * draws):
        one = frozenset(nodes[i] for i in rng.choice(len(nodes), size, replace=False))
        if one != besides:
            found[one] = None
        if len(found) == draws:
            break
    return list(found)


def _subsets(
    rng: np.random.Generator, circuit: Nodes, classes: Mapping[str, Nodes], draws: int
) -> list[tuple[str, Nodes]]:
    """Subsets K of the circuit: none, its classes, and random ones."""
    nodes = sorted(circuit)
    found: dict[Nodes, str] = {frozenset(): "none"}
    for members in classes.values():
        found.setdefault(members & circuit, "class")
    for _ in range(draws):
        found.setdefault(frozenset(node for node in nodes if rng.random() < 0.5), "random")
    return [(how, k) for k, how in found.items()]


def _removals(knockout: Knockout, circuit: Nodes, subsets: Sequence[tuple[str, Nodes]], span: float) -> list[Removal]:
    def measured(named: Sequence[tuple[str, Nodes]]) -> list[Removal]:
        small = knockout.kept([circuit - k for _, k in named]).mean(1)
        large = knockout.ablated([k for _, k in named]).mean(1)
        return [
            Removal(how, tuple(map(str, sorted(k))), float(c), float(m), abs(float(c - m) / span) if span else np.nan)
            for (how, k), c, m in zip(named, small, large, strict=True)
        ]

    found = measured([(how, k) for how, k in subsets if k])
    # Greedy and adversarial: always remove the part that makes the difference largest.
    k: Nodes = frozenset()
    best = 0.0
    while k != circuit:
        tried = [k | {node} for node in sorted(circuit - k)]
        steps = measured([("greedy", one) for one in tried])
        top = max(range(len(steps)), key=lambda i: steps[i].gap)
        if steps[top].gap <= best:
            break
        k, best = tried[top], steps[top].gap
        found.append(steps[top])
    return found


def _needs(knockout: Knockout, circuit: Nodes, subsets: Sequence[Nodes], span: float) -> tuple[Need, ...]:
    out = []
    for node in sorted(circuit):
        without = list(dict.fromkeys(k - {node} for k in subsets))
        before = knockout.kept([circuit - k for k in without]).mean(1)
        after = knockout.kept([circuit - k - {node} for k in without]).mean(1)
        losses = np.abs(before - after) / abs(span) if span else np.zeros(len(without))
        top = int(losses.argmax())
        out.append(Need(str(node), float(losses[top]), tuple(map(str, sorted(without[top])))))
    return tuple(out)
