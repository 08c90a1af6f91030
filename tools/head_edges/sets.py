"""Sets of heads, and other sets like them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from torch import Tensor

from tools.errors import UnitError
from tools.interventions import Edit, multiply_attention
from tools.subject import Subject
from tools.types import UnitId
from tools.units import check_unit


def layers_of(subject: Subject, heads: Sequence[UnitId]) -> dict[int, list[int]]:
    """Heads by layer."""
    found: dict[int, list[int]] = {}
    if not heads:
        raise UnitError("There is no head to look at: name one, such as head:1:0.")
    for unit in heads:
        check_unit(subject, unit)
        if unit.kind != "head":
            raise UnitError(f"'{unit}' is not an attention head: only heads have edges.")
        found.setdefault(int(unit.where), []).append(unit.index)
    return {layer: sorted(set(numbers)) for layer, numbers in found.items()}


def edits_of(layers: dict[int, list[int]], factors: Tensor, *, renormalise: bool) -> list[Edit]:
    """The same factors [batch or 1, query, key] for all of them."""
    return [multiply_attention(layer, factors, heads, renormalise=renormalise) for layer, heads in layers.items()]


def name_of(layers: dict[int, list[int]]) -> str:
    """A set as ``head:1:0 head:1:2``."""
    return " ".join(f"head:{layer}:{head}" for layer, heads in sorted(layers.items()) for head in heads)


def other_sets(subject: Subject, chosen: dict[int, list[int]], most: int, seed: int) -> list[dict[int, list[int]]]:
    """Sets of as many other heads in each layer; all of them where there are no more than asked for, else drawn."""
    rest = {
        layer: [head for head in range(subject.sites.plans[layer].n_heads) if head not in heads]
        for layer, heads in chosen.items()
    }
    if most < 1 or any(len(rest[layer]) < len(heads) for layer, heads in chosen.items()):
        return []
    if math.prod(math.comb(len(rest[layer]), len(heads)) for layer, heads in chosen.items()) <= most:
        each = [itertools.combinations(rest[layer], len(heads)) for layer, heads in chosen.items()]
        return [dict(zip(chosen, map(list, one), strict=True)) for one in itertools.product(*each)]
    drawn: dict[str, dict[int, list[int]]] = {}
    rng = random.Random(seed)
    while len(drawn) < most:
        one = {layer: sorted(rng.sample(rest[layer], len(heads))) for layer, heads in chosen.items()}
        drawn.setdefault(str(one), one)
    return list(drawn.values())
