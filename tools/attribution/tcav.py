"""Testing with concept vectors (TCAV; Kim et al. 2018, arXiv 1711.11279): does moving along a vector raise the target?

S is the share of examples in which the derivative of the target along the vector is positive. By itself it says little:
where all examples share a gradient, any vector has an S of 0 or 1. So it is compared with those of random vectors of
the same kind, contrasts between random halves of texts' activations, which is what a concept vector would be if the
concept were nothing.

`sensitivity` tests any vector at one site; `concept_sensitivity` makes a site's vector of texts that have a concept and
texts that have not (the difference of their means), and tests it at several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from tools.units import length_batches

#: Random vectors below which a two-sided test says little.
LEAST_RANDOM = 50
LEAST_EXAMPLES = 8
#: Random halves on which it is tried out whether a concept's vector tells its texts from the others.
_HALVES = 20
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Sensitivity:
    """How the target of some examples depends on a vector at a site."""

    share: float
    """S: examples in which the derivative along the vector is positive."""
    derivative: float
    """Mean derivative along the vector, scaled to length 1."""
    random_shares: tuple[float, ...]
    """S of the random vectors."""
    random_derivatives: tuple[float, ...]
    """Mean derivatives along them, scaled to length 1."""
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
    _enough(texts, random)
    direction = np.asarray(vector, dtype=np.float64)
    width, length = subject.sites.width(site), float(np.linalg.norm(direction))
    if direction.shape != (width,) or not 0 < length < np.inf:
        raise UnitError(f"The vector must have {width} components, as {site} has, be finite, and not be zero.")
    gradients, states = _gradients([Reader.of(subject, text, target) for text in texts], [site])[site]
    return _compared(gradients, direction, states - states.mean(0), random, seed)


@dataclass(frozen=True)
class ConceptTest:
    """How the target of some examples depends on a concept, site by site."""

    sites: tuple[str, ...]
    sensitivities: tuple[Sensitivity, ...]
    """Of the concept's vector at each site; what it is compared with are contrasts between random halves of the
    concept's texts and of the others, each class about its own mean."""
    separations: tuple[float, ...]
    """How well a vector of half of the texts tells apart the rest: area under the curve, 0.5 for nothing. Where it does
    not, the vector stands for no concept."""
    texts: tuple[int, int]
    """How many have the concept, and how many have not."""

    @property
    def adjusted(self) -> tuple[float, ...]:
        """p of the mean derivatives, for as many sites as were looked at (Bonferroni)."""
        return tuple(min(1.0, len(self.sites) * one.p_derivative) for one in self.sensitivities)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"site": site, "separation": separation, "p_adjusted": p, **one.to_json()}
            for site, separation, p, one in zip(
                self.sites, self.separations, self.adjusted, self.sensitivities, strict=True
            )
        ]
        return {"sites": rows, "concept_texts": self.texts[0], "other_texts": self.texts[1]}


def concept_sensitivity(
    subject: Subject,
    concept: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]],
    texts: Sequence[Sequence[int]],
    target: Target,
    sites: Sequence[Site],
    *,
    random: int = 500,
    seed: int = 0,
) -> ConceptTest:
    """Test whether moving along a concept raises a target.

    A site's concept vector is the difference between the mean states of two sets of texts, each text's state being its
    mean over positions from 1 on.

    Args:
        subject: The model.
        concept: Token ids of texts that have the concept, and of texts that have not and are like them in all else; at
            least 8 of each.
        texts: Of the examples, at least 8.
        target: What is differentiated, at the last token of each example unless it names a position.
        sites: Where the vectors are; as for `sensitivity`.
        random: Contrasts between random halves, at least 50.
        seed: Of the halves.

    Raises:
        UnitError: There are too few texts or random vectors, the sets do not differ, or the target is computed before
            a site.
    """
    _enough(texts, random)
    for name, given in zip(("that have the concept", "that have not"), concept, strict=True):
        if len(given) < LEAST_EXAMPLES:
            raise UnitError(f"A concept vector needs at least {LEAST_EXAMPLES} texts {name}; there are {len(given)}.")
    with_it, without = (_means(subject, given, sites) for given in concept)
    found = _gradients([Reader.of(subject, text, target) for text in texts], sites)
    sensitivities, separations = [], []
    for site in sites:
        a, b = with_it[site], without[site]
        vector = a.mean(0) - b.mean(0)
        if not 0 < np.linalg.norm(vector) < np.inf:
            raise UnitError(f"The texts with the concept and those without it have the same mean state at {site}.")
        rest = np.concatenate([a - a.mean(0), b - b.mean(0)])
        sensitivities.append(_compared(found[site][0], vector, rest, random, seed))
        separations.append(_separation(a, b, seed))
    counts = len(concept[0]), len(concept[1])
    return ConceptTest(tuple(map(str, sites)), tuple(sensitivities), tuple(separations), counts)


def _enough(texts: Sequence[Sequence[int]], random: int) -> None:
    if len(texts) < LEAST_EXAMPLES or random < LEAST_RANDOM:
        raise UnitError(
            f"A test with concept vectors needs at least {LEAST_EXAMPLES} examples and {LEAST_RANDOM} random vectors; "
            f"there are {len(texts)} and {random}."
        )


def _compared(gradients: Array, direction: Array, states: Array, random: int, seed: int) -> Sensitivity:
    """Derivatives along a direction and along contrasts between random halves of states whose mean is zero."""
    n = len(states)
    rng = np.random.default_rng(seed)
    signs = np.where(rng.permuted(np.tile(np.arange(n), (random, 1)), axis=1) < n // 2, 1.0, -1.0)
    vectors = np.concatenate([direction[None], signs @ states])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-30)
    along = gradients @ vectors.T
    shares, means = (along > 0).mean(0), along.mean(0)
    extreme = np.abs(shares[1:] - 0.5) >= abs(shares[0] - 0.5) - 1e-12
    larger = np.abs(means[1:]) >= abs(means[0])
    return Sensitivity(
        float(shares[0]), float(means[0]), tuple(shares[1:].tolist()), tuple(means[1:].tolist()),
        float((1 + extreme.sum()) / (1 + random)), float((1 + larger.sum()) / (1 + random)), len(gradients),
    )  # fmt: skip


def _means(subject: Subject, texts: Sequence[Sequence[int]], sites: Sequence[Site]) -> Mapping[Site, Array]:
    """Mean states over positions from 1 on, float64 [text, width] by site."""
    found = {site: np.zeros((len(texts), subject.sites.width(site))) for site in sites}
    for batch in length_batches([len(text) for text in texts], _BATCH_TOKENS):
        ids, mask = subject.pad([texts[i] for i in batch])
        captured = subject.capture(ids, mask, sites)
        counted = mask.to(subject.device).double()
        counted[:, 0] = 0
        for site in sites:
            state = captured[site].double().flatten(2)
            mean = (counted[..., None] * state).sum(1) / counted.sum(1, keepdim=True).clamp(min=1)
            found[site][batch] = mean.cpu().numpy()
    return found


def _separation(a: Array, b: Array, seed: int) -> float:
    """Area under the curve of a vector that half of the texts give, on the other half; mean over random halves."""
    rng, areas = np.random.default_rng(seed), []
    for _ in range(_HALVES):
        first, second = (rng.permutation(len(x)) for x in (a, b))
        vector = a[first[::2]].mean(0) - b[second[::2]].mean(0)
        high, low = a[first[1::2]] @ vector, b[second[1::2]] @ vector
        areas.append(float(np.sign(high[:, None] - low).mean()) / 2 + 0.5)
    return float(np.mean(areas))


def _gradients(readers: Sequence[Reader], sites: Sequence[Site]) -> dict[Site, tuple[Array, Array]]:
    """Gradients and states at the targets' positions by site, float64 [text, width] each; in padded batches."""
    subject, first = readers[0].subject, readers[0]
    found: dict[Site, list[tuple[torch.Tensor, torch.Tensor]]] = {site: [] for site in sites}
    rows = max(1, first.rows * len(first.ids) // max(len(reader.ids) for reader in readers))
    for start in range(0, len(readers), rows):
        batch = readers[start : start + rows]
        ids, mask = subject.pad([reader.ids for reader in batch])
        captured = run(
            subject, ids, mask, read=dict.fromkeys([*sites, *first.sites]), logits=first.logits, gradients=True
        )
        with torch.enable_grad():
            total = torch.stack([reader.values(captured)[row] for row, reader in enumerate(batch)]).sum()
        gradients = captured.gradients(total)
        for site in sites:
            by = gradients[site].double().flatten(2)
            state = captured[site].detach().double().flatten(2)
            found[site] += [(by[row, one.position], state[row, one.position]) for row, one in enumerate(batch)]
    stacked = {}
    for site, pairs in found.items():
        gradient, own = (torch.stack([pair[i] for pair in pairs]).cpu().numpy() for i in (0, 1))
        if not gradient.any():
            raise UnitError(
                f"The target does not depend on {site} in any of the texts: it is computed before, or the unit is off."
            )
        stacked[site] = (gradient, own)
    return stacked
