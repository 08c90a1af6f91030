"""Features matched across layers and dictionaries by the directions that they write (Laptev et al. 2025, "Analyze
Feature Flow", arXiv 2502.03032).

A unit's direction f (a latent's decoder row, a neuron's output weights) is compared with what could have written it:

    s(R) = max_k f . r_k     units that wrote into the stream in earlier layers
    s(M) = max_n f . m_n     neurons of the layer's own MLP
    s(A) = max_h |P_h f|     heads of the layer, P_h the projection on the d_head directions that a head can write

over unit vectors, sign kept: a direction that points the other way is another feature. High s(R) alone: it *persists*;
with high s(M) or s(A): it is *processed*; high s(M) or s(A) alone: it is *newborn*; none: *unexplained*.

High is what chance does not give: above the 99.9 % quantile of the score that a random unit vector has against the same
set. With n columns in d dimensions that is about sqrt(2 ln n / d), which in small models is a large cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tools import units
from tools.errors import UnitError
from tools.kinds.head import output_weights
from tools.kinds.neuron import behind_norm, output_directions
from tools.sites import RESIDUAL
from tools.subject import Subject
from tools.types import SITE_KINDS, Site, UnitId

Label = Literal["persists", "processed", "newborn", "unexplained"]
#: Random unit vectors of a null, and the quantile of their scores that a match must be above.
DRAWS, QUANTILE = 10_000, 0.999
_ENTRIES = 2**24


@dataclass(frozen=True)
class Origin:
    """The best match of a unit in one set of what could have written it."""

    source: Literal["earlier", "mlp", "attention"]
    unit: str
    score: float
    """Cosine, or for a head the length of the projection."""
    null: float
    """The 99.9 % quantile of chance."""

    @property
    def found(self) -> bool:
        """Whether the match is above chance."""
        return self.score > self.null


@dataclass(frozen=True)
class UnitFlow:
    """Where a unit's direction comes from."""

    unit: str
    label: Label
    origins: tuple[Origin, ...]
    """Best match of each set that there is; sets without anything in them are left out."""

    def to_json(self) -> dict[str, Any]:
        rows = [{**asdict(origin), "found": origin.found} for origin in self.origins]
        return {"unit": self.unit, "label": self.label, "origins": rows}


@dataclass(frozen=True)
class Step:
    """One step of a path through groups: the unit that matches the one before best."""

    group: str
    unit: str
    cosine: float
    """With the unit before it on the path."""
    to_start: float
    """With the unit from which the path starts."""
    null: float


def write_directions(subject: Subject, group: str) -> Tensor:
    """What the units of a group write into the residual stream, as unit vectors, float32 [unit, d_model].

    Units that write nothing have a row of zeros.

    Raises:
        UnitError: The subject has no such group, or its units have no single write direction in the stream.
    """
    kind, _, where = group.partition(":")
    units.group_width(subject, group)
    if kind == "mlp":
        rows = output_directions(subject, int(where))
    elif kind == "sae" and subject.dictionaries[where].site_out.kind in RESIDUAL:
        rows = subject.dictionaries[where].W_dec.detach().float()
    elif kind == "dir" and subject.directions[where].site.kind in RESIDUAL:
        rows = subject.directions[where].vector[None]
    else:
        raise UnitError(
            f"The units of '{group}' have no single direction that they write into the residual stream. Flow is "
            "between neurons (mlp:LAYER), latents of the stream (sae:NAME) and directions (dir:NAME)."
        )
    return torch.nn.functional.normalize(rows, dim=-1)


def null_score(columns: Tensor, *, quantile: float = QUANTILE, draws: int = DRAWS, seed: int = 7919) -> float:
    """A quantile of the largest score that a random unit vector has against a set, simulated.

    Args:
        columns: Unit vectors [n, d], scored by cosine; or orthonormal bases [n, rank, d], by length of the projection.
        quantile: In (0, 1).
        draws: Random vectors; the quantile must leave several of them above it.
        seed: Of the random vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, _ENTRIES // columns[..., 0].numel())
    best: list[Tensor] = []
    for start in range(0, draws, rows):
        vectors = torch.randn(min(rows, draws - start), columns.shape[-1], generator=generator)
        vectors = torch.nn.functional.normalize(vectors, dim=-1).to(columns.device)
        best.append(_against(columns, vectors).amax(-1).cpu())
    return float(torch.cat(best).quantile(quantile))


def origins(subject: Subject, chosen: Sequence[UnitId], *, earlier: Sequence[str] | None = None) -> list[UnitFlow]:
    """Where units' directions come from.

    Args:
        subject: The model.
        chosen: Neurons, latents of the residual stream, or directions of it.
        earlier: Groups that count as earlier writers; None for the nearest earlier dictionary of the stream, and the
            neurons of all earlier layers where there is none.

    Raises:
        UnitError: A unit or group has no single write direction in the stream, or an earlier group does not write
            before the unit.
    """
    found: dict[UnitId, UnitFlow] = {}
    known: dict[tuple[Site, tuple[str, ...]], list[_Set]] = {}
    for group in dict.fromkeys(unit.group for unit in chosen):
        members = [unit for unit in chosen if unit.group == group]
        for unit in members:
            units.check_unit(subject, unit)
        directions = write_directions(subject, group)[[unit.index for unit in members]]
        place = written_at(subject, group)
        before = tuple(_earlier(subject, group, place) if earlier is None else earlier)
        if (place, before) not in known:
            known[place, before] = _sets(subject, group, place, before)
        sets = known[place, before]
        for unit, scores in zip(members, zip(*(s.scores(directions) for s in sets), strict=True), strict=True):
            rows = tuple(Origin(s.source, name, score, s.null) for s, (name, score) in zip(sets, scores, strict=True))
            found[unit] = UnitFlow(str(unit), _label(rows), rows)
        if not sets:
            for unit in members:
                found[unit] = UnitFlow(str(unit), "unexplained", ())
    return [found[unit] for unit in chosen]


def trace(subject: Subject, chosen: Sequence[UnitId], groups: Sequence[str]) -> list[tuple[Step, ...]]:
    """The path of each unit through groups, each time to what matches best; it ends where chance would do as well.

    Long-range matches are composed of adjacent ones (section 3 of the paper). Groups may lie ahead or behind.

    Raises:
        UnitError: A unit or group has no single write direction in the stream.
    """
    for unit in chosen:
        units.check_unit(subject, unit)
    known = dict.fromkeys([*groups, *(unit.group for unit in chosen)])
    columns = {group: write_directions(subject, group) for group in known}
    nulls = {group: null_score(columns[group]) for group in dict.fromkeys(groups)}
    paths: list[tuple[Step, ...]] = []
    for unit in chosen:
        start = current = columns[unit.group][unit.index]
        steps: list[Step] = []
        for group in groups:
            cosines = columns[group] @ current
            best = int(cosines.argmax())
            if float(cosines[best]) <= nulls[group]:
                break
            current = columns[group][best]
            steps.append(
                Step(group, str(UnitId(group, best)), float(cosines[best]), float(current @ start), nulls[group])
            )
        paths.append(tuple(steps))
    return paths


def written_at(subject: Subject, group: str) -> Site:
    """Where a group's units write into the residual stream."""
    site = units.group_site(subject, group)
    if group.startswith("sae:"):
        return subject.dictionaries[group.partition(":")[2]].site_out
    return Site(site.layer, "mlp_out") if group.startswith("mlp:") else site


@dataclass(frozen=True)
class _Set:
    """One set of possible writers."""

    source: Literal["earlier", "mlp", "attention"]
    names: tuple[str, ...]
    bases: Tensor
    """Unit vectors [n, d_model], or orthonormal bases [head, rank, d_model]."""
    null: float

    def scores(self, directions: Tensor) -> list[tuple[str, float]]:
        """The best of the set and its score for each direction [n, d_model]."""
        best = _against(self.bases, directions).max(-1)
        return [(self.names[i], v) for i, v in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def _against(bases: Tensor, directions: Tensor) -> Tensor:
    """Cosines [direction, n], or lengths of projections on each basis."""
    if bases.ndim == 2:
        return directions @ bases.T
    lengths: Tensor = torch.linalg.vector_norm(torch.einsum("nd,hrd->nhr", directions, bases), dim=-1)
    return lengths


def _sets(subject: Subject, group: str, place: Site, earlier: Sequence[str]) -> list[_Set]:
    for other in earlier:
        if not _order(written_at(subject, other)) < _order(place):
            raise UnitError(f"'{other}' writes at {written_at(subject, other)}, which is not before {place}, where "
                            f"'{group}' writes.")  # fmt: skip
    sets: list[tuple[Literal["earlier", "mlp", "attention"], list[str], Tensor]] = []
    if earlier:
        rows = [write_directions(subject, other) for other in earlier]
        names = [str(UnitId(other, i)) for other, part in zip(earlier, rows, strict=True) for i in range(len(part))]
        sets.append(("earlier", names, torch.cat(rows)))
    # The stream that enters a layer is what the layer before handed on.
    layer, kind = (place.layer - 1, "resid_post") if place.kind == "resid_pre" else (place.layer, place.kind)
    if layer >= 0:
        plan = subject.sites.plans[layer]
        if kind == "resid_post" and "mlp_act" in plan.taps:
            rows = [write_directions(subject, f"mlp:{layer}")]
            sets.append(("mlp", [f"mlp:{layer}:{i}" for i in range(len(rows[0]))], rows[0]))
        if "head_z" in plan.taps:
            weights = behind_norm(subject, layer, plan.attention_norm, output_weights(subject, layer))
            basis = torch.linalg.svd(weights.cpu(), full_matrices=False).Vh.to(weights.device)
            sets.append(("attention", [f"head:{layer}:{h}" for h in range(plan.n_heads)], basis))
    return [_Set(source, tuple(names), bases, null_score(bases)) for source, names, bases in sets]


def _earlier(subject: Subject, group: str, place: Site) -> list[str]:
    """The nearest earlier dictionary of the stream, else the neurons of all earlier layers."""
    own = [f"sae:{name}" for name, d in subject.dictionaries.items() if d.site_out.kind in RESIDUAL]
    before = [g for g in own if g != group and _order(written_at(subject, g)) < _order(place)]
    if before:
        return [max(before, key=lambda g: _order(written_at(subject, g)))]
    layers = [i for i, plan in enumerate(subject.sites.plans) if "mlp_act" in plan.taps]
    # A block's own MLP is in the stream that leaves it: there it is a set of its own.
    last = place.layer - 1 if place.kind == "resid_pre" else place.layer
    return [f"mlp:{layer}" for layer in layers if layer < last]


def _order(site: Site) -> tuple[int, int]:
    return site.layer, SITE_KINDS.index(site.kind)


def _label(found: Sequence[Origin]) -> Label:
    hits = {origin.source for origin in found if origin.found}
    made = bool(hits & {"mlp", "attention"})
    if "earlier" in hits:
        return "processed" if made else "persists"
    return "newborn" if made else "unexplained"
