"""Which unit of another version of a subject does what a unit did: by activations on the same tokens.

Average neuron-wise correlation (ANC) compares unit j with unit j, which needs no matching where the architecture is the
same. Here each unit is compared with all units of its group as well, so that one that went elsewhere is found there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.capture import Captured
from tools.drift.moments import Doubles, Scalars, Vectors
from tools.errors import SubjectError, UnitError
from tools.kinds.head import output_weights
from tools.subject import Subject
from tools.types import FloatArray, UnitId
from tools.units import activations, check_unit, group_site, group_width, length_batches, write_direction

#: Entries of a batch's activations of one group, so that wide dictionaries are taken in small batches.
_ENTRIES = 1 << 25
#: From this similarity on another unit is the same one, if it was not so before.
COPY, NO_COPY = 0.95, 0.8


@dataclass(frozen=True)
class Match:
    """A unit of the new subject that resembles one of the old."""

    unit: UnitId
    similarity: float
    """In [-1, 1]; negative where it is on the other side of zero."""


@dataclass(frozen=True)
class UnitMatch:
    """One unit of the old subject beside those of the new one."""

    unit: UnitId
    similarity: float
    """With the unit of the same id: Pearson correlation of their activations; of heads, the cosine of their writes."""
    slope: float
    """Activation of the new one per activation of the old one, by least squares through zero."""
    best: Match
    """The most similar other unit of the group, by magnitude."""
    copies: tuple[Match, ...]
    """Other units that are as good as the same now, and were not in the old subject."""
    write_cosine: float | None
    """Between the directions that the two write; None for heads, and where nothing is written to the stream."""
    old: FloatArray
    """Activations at the compared positions, [n]."""
    new: FloatArray


@dataclass(frozen=True)
class Comparison:
    """All compared units."""

    units: tuple[UnitMatch, ...]
    positions: int
    neuron_wise: dict[str, float]
    """Average neuron-wise correlation by group, over its units that vary in both; of heads, the mean cosine."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the activations."""
        return {
            "positions": self.positions,
            "neuron_wise": self.neuron_wise,
            "units": [
                {
                    "unit": str(one.unit),
                    "similarity": one.similarity,
                    "slope": one.slope,
                    "best": {"unit": str(one.best.unit), "similarity": one.best.similarity},
                    "copies": [{"unit": str(c.unit), "similarity": c.similarity} for c in one.copies],
                    "write_cosine": one.write_cosine,
                }
                for one in self.units
            ],
        }


def check_comparable(old: Subject, new: Subject, texts: Sequence[str]) -> None:
    """Raise when the subjects do not read texts alike.

    Raises:
        SubjectError: Their tokenizers make different tokens of a text, or one has fewer embeddings than that needs.
    """
    for text in texts:
        if old.encode(text) != new.encode(text):
            raise SubjectError(
                f"'{new.name}' reads texts otherwise than '{old.name}': their tokenizers differ, so positions cannot "
                "be compared. Recheck a version of the same model."
            )


def compare(
    old: Subject,
    new: Subject,
    units: Sequence[UnitId],
    sequences: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 4096,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare units of two subjects on the same tokens.

    Args:
        old: The subject that the units are known of.
        new: Another version of it, with the same dictionaries attached.
        units: Which of its units.
        sequences: Token ids; position 0 of each is left out.
        batch_tokens: Tokens of a forward pass.
        progress: Told (tokens done, tokens in all) after each batch.

    Returns:
        One entry for each unit, in their order. Activations are at all positions but the first of each sequence, in
        the order of `sequences`.

    Raises:
        UnitError: One of the subjects lacks a unit, or there are none to compare.
        SubjectError: No sequence has two tokens.
    """
    if not units:
        raise UnitError("There are no units to compare.")
    usable = [i for i, sequence in enumerate(sequences) if len(sequence) > 1]
    if not usable:
        raise SubjectError("Units are compared on texts of at least 2 tokens; there are none.")
    groups: dict[str, list[int]] = {}
    for number, unit in enumerate(units):
        check_unit(old, unit)
        check_unit(new, unit)
        groups.setdefault(unit.group, []).append(number)
    for group in groups:
        if group_width(old, group) != group_width(new, group):
            raise UnitError(
                f"{group} has {group_width(old, group)} units in '{old.name}' and {group_width(new, group)} in "
                f"'{new.name}': these are no versions of one model."
            )
    starts = np.concatenate([[0], np.cumsum([max(len(s) - 1, 0) for s in sequences])])
    total = int(starts[-1])
    values = np.zeros((2, len(units), total), dtype=np.float32)
    sums = {group: _Sums(old, new, group, [units[i].index for i in numbers]) for group, numbers in groups.items()}
    widest = max(group_width(old, group) for group in groups)
    done = 0
    for batch in length_batches([len(s) for s in sequences], min(batch_tokens, max(64, _ENTRIES // widest))):
        rows = [i for i in batch if len(sequences[i]) > 1]
        if not rows:
            continue
        ids, mask = old.pad([list(map(int, sequences[i])) for i in rows])
        counted = mask.bool()
        counted[:, 0] = False
        with torch.inference_mode():
            found = [s.capture(ids, mask, {group_site(s, group) for group in groups}) for s in (old, new)]
            for group, numbers in groups.items():
                pair = sums[group].add(found[0], found[1], counted)
                for which, own in enumerate(pair):
                    _spread(values[which], numbers, own, [sequences[i] for i in rows], [int(starts[i]) for i in rows])
        done += int(counted.sum())
        if progress is not None:
            progress(done, total)
    matches: dict[int, UnitMatch] = {}
    for group, numbers in groups.items():
        with_new, with_old = sums[group].correlations()
        for row, number in enumerate(numbers):
            matches[number] = _match((old, new), units[number], (with_new[row], with_old[row]), values[:, number])
    return Comparison(
        tuple(matches[i] for i in range(len(units))), total, {group: sums[group].neuron_wise() for group in groups}
    )


class _Sums:
    """Correlations of chosen units of one group with the group in the new and in the old subject, and unit by unit."""

    def __init__(self, old: Subject, new: Subject, group: str, chosen: Sequence[int]) -> None:
        self.old, self.new, self.group = old, new, group
        self.chosen = torch.tensor(chosen, device=old.device)
        self.vectors = group.startswith("head:")
        make = Vectors if self.vectors else Scalars
        self.with_new: Scalars | Vectors = make()
        self.with_old: Scalars | Vectors = make()
        self._own: list[Doubles] = []

    def add(self, old: Captured, new: Captured, counted: Tensor) -> tuple[FloatArray, FloatArray]:
        """Count a batch; gives the chosen units' activations [n, counted tokens] in both."""
        pair = []
        for subject, captured in ((self.old, old), (self.new, new)):
            values = activations(subject, self.group, captured)[counted.to(subject.device)].to(self.old.device)
            pair.append(values)
        if self.vectors:
            layer = int(self.group.partition(":")[2])
            site = group_site(self.old, self.group)
            writes = [
                torch.einsum("thd,hde->the", captured[site][counted.to(s.device)].float(), output_weights(s, layer)).to(
                    self.old.device
                )
                for s, captured in ((self.old, old), (self.new, new))
            ]
            self.with_new.add(writes[0][:, self.chosen], writes[1])
            self.with_old.add(writes[0][:, self.chosen], writes[0])
            self._own.append(_wise(writes[0].permute(0, 2, 1), writes[1].permute(0, 2, 1)))
        else:
            self.with_new.add(pair[0][:, self.chosen], pair[1])
            self.with_old.add(pair[0][:, self.chosen], pair[0])
            self._own.append(_wise(pair[0][:, None], pair[1][:, None]))
        first, second = (values[:, self.chosen].T.cpu().numpy() for values in pair)
        return first, second

    def correlations(self) -> tuple[Doubles, Doubles]:
        """[chosen, width] with the new and with the old subject."""
        return self.with_new.correlations(), self.with_old.correlations()

    def neuron_wise(self) -> float:
        """Mean over units of the correlation of each with its namesake; of heads, of the cosine."""
        n, x, y, xx, yy, xy = np.sum(self._own, axis=0)
        if self.vectors:
            scale = np.sqrt(xx * yy)
            found = xy[scale > 0] / scale[scale > 0]
        else:
            vx, vy = xx - x**2 / n, yy - y**2 / n
            varies = (vx > 1e-9 * xx) & (vy > 1e-9 * yy)
            found = ((xy - x * y / n) / np.sqrt(np.where(varies, vx * vy, 1.0)))[varies]
        return float(found.mean()) if len(found) else 0.0


def _wise(old: Tensor, new: Tensor) -> Doubles:
    """Sums over [token, component, unit] for each unit: [6, unit]."""
    a, b = old.double(), new.double()
    count = torch.full_like(a[0, 0], a.shape[0] * a.shape[1])
    parts = [count, a.sum((0, 1)), b.sum((0, 1)), (a * a).sum((0, 1)), (b * b).sum((0, 1)), (a * b).sum((0, 1))]
    found: Doubles = torch.stack(parts).cpu().numpy()
    return found


def _spread(
    into: FloatArray, numbers: Sequence[int], own: FloatArray, texts: Sequence[Sequence[int]], starts: Sequence[int]
) -> None:
    """Write a batch's activations [n, counted tokens] to where its texts begin."""
    at = 0
    for text, start in zip(texts, starts, strict=True):
        length = len(text) - 1
        into[np.asarray(numbers)[:, None], np.arange(start, start + length)] = own[:, at : at + length]
        at += length


def _match(
    subjects: tuple[Subject, Subject], unit: UnitId, similar: tuple[Doubles, Doubles], values: FloatArray
) -> UnitMatch:
    with_new, with_old = similar
    others = np.abs(with_new)
    others[unit.index] = -1.0
    best = int(others.argmax())
    same = (np.abs(with_new) >= COPY) & (np.abs(with_old) < NO_COPY)
    same[unit.index] = False
    first, second = values.astype(np.float64)
    energy = float(first @ first)
    directions = [write_direction(subject, unit) for subject in subjects]
    cosine = None
    if directions[0] is not None and directions[1] is not None:
        a, b = (direction.double().cpu() for direction in directions if direction is not None)
        lengths = float(a.norm() * b.norm())
        cosine = float(a @ b) / lengths if lengths else 0.0
    return UnitMatch(
        unit=unit,
        similarity=float(with_new[unit.index]),
        slope=float(first @ second) / energy if energy else 0.0,
        best=Match(UnitId(unit.group, best), float(with_new[best]) if len(with_new) > 1 else 0.0),
        copies=tuple(Match(UnitId(unit.group, int(i)), float(with_new[i])) for i in np.flatnonzero(same)[:8]),
        write_cosine=cosine,
        old=values[0],
        new=values[1],
    )
