"""Testing with concept vectors (TCAV; Kim et al. 2018, arXiv 1711.11279): does moving along a vector raise the target?

S is the share of examples in which the derivative of the target along the vector is positive. By itself it says little:
where all examples share a gradient, any vector has an S of 0 or 1. So it is compared with those of random vectors of
the same kind, contrasts between random halves of the examples' own activations, which is what a concept vector would be
if the concept were nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tools.attribution.targets import Array, Reader, Target
from tools.errors import UnitError
from tools.interventions import run
from tools.subject import Subject
from tools.types import Site

#: Random vectors below which a two-sided test says little.
LEAST_RANDOM = 50
LEAST_EXAMPLES = 8


@dataclass(frozen=True)
class Sensitivity:
    """How the target of some examples depends on a vector at a site."""

    share: float
    """S: examples in which the derivative along the vector is positive."""
    derivative: float
    """Mean derivative along the vector, scaled to length 1."""
    random_shares: tuple[float, ...]
    """S of the random vectors."""
    p_share: float
    """Two-sided: random vectors whose S is as far from 1/2, this one among them."""
    p_derivative: float
    """Two-sided: random vectors whose mean derivative is as large, this one among them."""
    examples: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def sensitivity(
    subject: Subject,
    texts: Sequence[Sequence[int]],
    target: Target,
    site: Site,
    vector: npt.ArrayLike,
    *,
    random: int = 100,
    seed: int = 0,
) -> Sensitivity:
    """Measure the derivatives of a target along a vector, at the target's position of each text.

    Args:
        subject: The model.
        texts: Token ids of the examples, at least 8.
        target: What is differentiated; with a position of its own in each text only where it is the last.
        site: Where the vector is; one of the residual stream, of what is added to it, or of neurons.
        vector: [width of the site].
        random: Random vectors, at least 50.
        seed: Of the random vectors.

    Raises:
        UnitError: There are too few examples or random vectors, the vector does not fit or is zero, or the target is
            computed before the site.
    """
    if len(texts) < LEAST_EXAMPLES or random < LEAST_RANDOM:
        raise UnitError(
            f"A test with concept vectors needs at least {LEAST_EXAMPLES} examples and {LEAST_RANDOM} random vectors; "
            f"there are {len(texts)} and {random}."
        )
    direction = np.asarray(vector, dtype=np.float64)
    width, length = subject.sites.width(site), float(np.linalg.norm(direction))
    if direction.shape != (width,) or not 0 < length < np.inf:
        raise UnitError(f"The vector must have {width} components, as {site} has, be finite, and not be zero.")
    readers = [Reader.of(subject, text, target) for text in texts]
    gradients, states = _gradients(readers, site)
    rng = np.random.default_rng(seed)
    signs = np.where(rng.permuted(np.tile(np.arange(len(texts)), (random, 1)), axis=1) < len(texts) // 2, 1.0, -1.0)
    contrasts = signs @ (states - states.mean(0))
    vectors = np.concatenate([direction[None], contrasts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-30)
    along = gradients @ vectors.T
    shares, means = (along > 0).mean(0), along.mean(0)
    extreme = np.abs(shares[1:] - 0.5) >= abs(shares[0] - 0.5) - 1e-12
    larger = np.abs(means[1:]) >= abs(means[0])
    return Sensitivity(
        float(shares[0]), float(means[0]), tuple(shares[1:].tolist()),
        float((1 + extreme.sum()) / (1 + random)), float((1 + larger.sum()) / (1 + random)), len(texts),
    )  # fmt: skip


def _gradients(readers: Sequence[Reader], site: Site) -> tuple[Array, Array]:
    """Gradients and states at the targets' positions, float64 [text, width] each; texts run in padded batches."""
    subject, first = readers[0].subject, readers[0]
    found = []
    rows = max(1, first.rows * len(first.ids) // max(len(reader.ids) for reader in readers))
    for start in range(0, len(readers), rows):
        batch = readers[start : start + rows]
        ids, mask = subject.pad([reader.ids for reader in batch])
        captured = run(
            subject, ids, mask, read=dict.fromkeys([site, *first.sites]), logits=first.logits, gradients=True
        )
        with torch.enable_grad():
            total = torch.stack([reader.values(captured)[row] for row, reader in enumerate(batch)]).sum()
        by = captured.gradients(total)[site].double().flatten(2)
        state = captured[site].detach().double().flatten(2)
        found += [(by[row, reader.position], state[row, reader.position]) for row, reader in enumerate(batch)]
    gradients, states = (torch.stack([pair[i] for pair in found]).cpu().numpy() for i in (0, 1))
    return gradients, states
