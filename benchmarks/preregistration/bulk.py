"""Random neurons, in which nothing was planted: what rules say of them is only partly right."""

from __future__ import annotations

from typing import Any

import numpy as np

from agent import CampaignSpec
from tools.planted import build, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import expand


def random_neurons(subject: Subject, taken: set[UnitId], per_layer: int, seed: int = 0) -> list[UnitId]:
    """So many of each layer's neurons, drawn by a seed, none of `taken`."""
    rng = np.random.default_rng(seed)
    layers: dict[str, list[UnitId]] = {}
    for unit in expand(subject, "mlp:*:*"):
        layers.setdefault(unit.group, []).append(unit)
    free = [[unit for unit in units if unit not in taken] for units in layers.values()]
    return [units[i] for units in free for i in sorted(rng.permutation(len(units))[:per_layer].tolist())]


def bulk_campaign(subject: str, corpus: str | None, per_layer: int, settings: dict[str, Any]) -> CampaignSpec:
    """A campaign of the explainer `pattern` on random neurons of a subject.

    Args:
        subject: A planted subject, or any other.
        corpus: Where texts come from; None: the planted subject's own, or the standard library.
        per_layer: Neurons of each layer.
        settings: Further settings, by name.

    Raises:
        SubjectError: There is no such subject.
    """
    taken: set[UnitId] = set()
    if subject.startswith("planted"):
        taken = {UnitId.parse(truth.unit) for truth in load_truth(build(planted_spec(subject))).values()}
    units = random_neurons(load_subject(subject, device="cpu"), taken, per_layer)
    return CampaignSpec.model_validate({
        "name": f"random neurons of {subject}", "subject": subject, "units": [str(unit) for unit in units],
        "corpus": corpus or (planted_spec(subject).text if taken else "stdlib:"), "device": "cpu", "controls": 0.0,
        **settings,
    })  # fmt: skip
