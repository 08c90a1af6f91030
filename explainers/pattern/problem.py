"""One unit's induction problem: which positions it is active at, and which literals are true there.

Gains. F1 = 2 TP / (active + predicted). By Dinkelbach's argument, at the best attainable value F a set of predicted
positions maximises sum of w (2 active - F) over it, so every position has an additive gain, a clause is worth adding
when it covers positive gain, and all literals are compared by one weighted count. What is compared is a lower bound,
sum(g) - z sqrt(sum(g^2)): a literal seen on one or two positions must not win by luck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explainers.pattern.plan import Rows
from explainers.rules.features import FAMILIES, Codes, FeatureTable
from tools.types import BoolArray, IntArray

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Weighted counts for each literal over some rows: total and active weight, and their squares."""

    total: Floats
    active: Floats
    total_squares: Floats
    active_squares: Floats

    def gain(self, f: float) -> Floats:
        """Sum of w (2 active - f)."""
        return 2 * self.active - f * self.total

    def deviation(self, f: float) -> Floats:
        """Standard error of the gain."""
        squares = (2 - f) ** 2 * self.active_squares + f**2 * (self.total_squares - self.active_squares)
        return np.asarray(np.sqrt(np.maximum(squares, 0)))

    def bound(self, f: float, z: float) -> Floats:
        """Gain less z of its standard errors."""
        return self.gain(f) - z * self.deviation(f)

    def minus(self, other: Tally) -> Tally:
        """Counts over the rows of this tally that are not in the other."""
        return Tally(
            self.total - other.total,
            self.active - other.active,
            self.total_squares - other.total_squares,
            self.active_squares - other.active_squares,
        )

    def complement(self, total: Tally) -> Tally:
        """Counts of 'not literal', given the counts over all rows (arrays of length 1)."""
        return total.minus(self)


class Problem:
    """Rows (positions) × literals of one unit on one polarity, restricted to literals that could matter.

    Args:
        rows: the explore rows.
        threshold: what this search calls active: above it.
        min_documents: a literal is a candidate when it is true at active positions of that many documents (or of all
            documents with active positions, when there are fewer).
        barred: literals of these families are no candidates.
    """

    def __init__(self, rows: Rows, threshold: float, min_documents: int = 2, *, barred: frozenset[int] = frozenset()):
        table, codes = rows.table, rows.codes
        self.rows = rows
        self._barred = barred
        self.weights = rows.weights
        self.active: BoolArray = rows.magnitude > threshold
        self.documents = rows.documents
        self.min_documents = min(min_documents, max(len(np.unique(self.documents[self.active])), 1))
        chosen = [c for c in self._candidates(codes, table) if table.family_of[c] not in barred]
        self.n_literals = len(chosen)
        local = np.full(table.n_codes + 1, self.n_literals, np.int64)
        local[chosen] = np.arange(self.n_literals)
        self.codes: IntArray = local[codes]
        """[rows, columns]: local literal number, or `n_literals` where there is none."""
        self._packed = self.codes[:, np.flatnonzero((self.codes < self.n_literals).any(0))]
        self._by_family: dict[int, tuple[IntArray, IntArray, IntArray]] = {}
        self.family: IntArray = np.array([table.family_of[c] for c in chosen], np.int64)
        self.member = [table.member_of[c] for c in chosen]
        self._fixed = np.array([FAMILIES[f].flag is not None for f in self.family], bool)
        self._derived: list[tuple[int, str, IntArray]] = []
        self._derived_numbers: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self.weights)

    def derived(self, family: int, member: str) -> int:
        """The number of a literal of a family that is tuned and not searched; tallies leave these out."""
        key = (family, member)
        if key not in self._derived_numbers:
            self._derived_numbers[key] = self.n_literals + len(self._derived)
            rows = np.flatnonzero(self.rows.mask(family, member)).astype(np.int64)
            self._derived.append((family, member, rows))
        return self._derived_numbers[key]

    def family_of(self, literal: int) -> int:
        """The family of a literal, searched or derived."""
        return int(self.family[literal]) if literal < self.n_literals else self._derived[literal - self.n_literals][0]

    def member_of(self, literal: int) -> str:
        """The member of a literal, searched or derived; empty for flags."""
        return self.member[literal] if literal < self.n_literals else self._derived[literal - self.n_literals][1]

    def against(self, rows: IntArray, f: float, z: float) -> tuple[IntArray, list[str], Floats]:
        """Family and member of every literal that is true at some of `rows`, and what its exclusion would gain there.

        Returns:
            Families [n], members [n], and the lower bound of the gain [n], for the literals of the whole table.
        """
        table, codes = self.rows.table, self.rows.codes[rows]
        barred = self._barred
        found, where = np.unique(codes, return_inverse=True)
        w = np.repeat(self.weights[rows], codes.shape[1])
        on = np.repeat(self.active[rows], codes.shape[1])
        flat, n = where.ravel(), len(found)
        sums = [np.bincount(flat, v, n).astype(np.float64) for v in (w, w * on, w * w, w * w * on)]
        tally = Tally(sums[0], sums[1], sums[2], sums[3])
        gain = -tally.gain(f) - z * tally.deviation(f)
        family: IntArray = np.array([table.family_of[c] if c >= 0 else 0 for c in found.tolist()], np.int64)
        gain[(found < 0) | np.isin(family, list(barred))] = -np.inf
        return family, [table.member_of[c] if c >= 0 else "" for c in found.tolist()], gain

    def is_fixed(self, literal: int) -> bool:
        """Whether a literal is not one of a set to which others could be added: a flag, or one that was tuned."""
        return literal >= self.n_literals or bool(self._fixed[literal])

    @property
    def active_weight(self) -> float:
        """Weighted number of active positions."""
        return float(self.weights[self.active].sum())

    def _candidates(self, codes: Codes, table: FeatureTable) -> list[int]:
        rows = np.flatnonzero(self.active)
        sub = codes[rows].astype(np.int64)
        _, document = np.unique(self.documents[rows], return_inverse=True)
        n_documents = int(document.max()) + 1 if len(rows) else 1
        keys = np.unique(sub * n_documents + document[:, None])
        keys = keys[keys >= 0]
        found, counts = np.unique(keys // n_documents, return_counts=True)
        chosen = found[(counts >= self.min_documents) & (found >= 0)].tolist()
        # Codes are numbered in the order of first meeting, which depends on what was explained before; sort by meaning.
        return sorted(chosen, key=lambda c: (table.family_of[c], table.member_of[c]))

    def tally(self, rows: IntArray) -> Tally:
        """Weighted counts of every literal over `rows`."""
        codes, active = self._packed[rows], self.active[rows]
        width = codes.shape[1]
        idle, firing = codes[~active].ravel(), codes[active].ravel()
        return self._counts(
            idle, np.repeat(self.weights[rows[~active]], width), firing, np.repeat(self.weights[rows[active]], width)
        )

    def family_tally(self, family: int, rows: IntArray) -> Tally:
        """The same for one family's literals alone; others stay 0."""
        literals, where, _ = self._entries(family)
        inside = np.zeros(len(self), bool)
        inside[rows] = True
        kept = inside[where]
        literals, where = literals[kept], where[kept]
        active = self.active[where]
        return self._counts(
            literals[~active], self.weights[where[~active]], literals[active], self.weights[where[active]]
        )

    def _counts(self, idle: IntArray, idle_weights: Floats, firing: IntArray, firing_weights: Floats) -> Tally:
        size = self.n_literals + 1
        parts = ((idle, idle_weights), (firing, firing_weights), (idle, idle_weights**2), (firing, firing_weights**2))
        counts = [np.bincount(codes, w, size)[:-1].astype(np.float64) for codes, w in parts]
        return Tally(counts[0] + counts[1], counts[1], counts[2] + counts[3], counts[3])

    def _entries(self, family: int) -> tuple[IntArray, IntArray, IntArray]:
        """A family's (literal, row) pairs in order of literal, and where each literal's pairs begin."""
        if family not in self._by_family:
            columns = FAMILIES[family].columns
            codes = self.codes[:, columns[0] : columns[-1] + 1]
            rows, slots = np.nonzero(codes < self.n_literals)
            literals = codes[rows, slots]
            order = np.argsort(literals, kind="stable")
            literals, rows = literals[order], rows[order].astype(np.int64)
            self._by_family[family] = (literals, rows, np.searchsorted(literals, np.arange(self.n_literals + 1)))
        return self._by_family[family]

    def rows_of(self, literal: int) -> IntArray:
        """Rows where a literal is true."""
        if literal >= self.n_literals:
            return self._derived[literal - self.n_literals][2]
        _, rows, starts = self._entries(int(self.family[literal]))
        return rows[starts[literal] : starts[literal + 1]]

    def total(self, rows: IntArray) -> Tally:
        """Weighted counts of the rows themselves; arrays of length 1."""
        w, active = self.weights[rows], self.active[rows]
        wa = w[active]
        return Tally(np.array([w.sum()]), np.array([wa.sum()]), np.array([(w * w).sum()]), np.array([(wa * wa).sum()]))

    def holds(self, literals: list[int], rows: IntArray) -> BoolArray:
        """Whether any of several literals is true at each of `rows`."""
        held = np.zeros(len(self), bool)
        for literal in literals:
            held[self.rows_of(literal)] = True
        return held[rows]

    def distinct_documents(self, rows: IntArray) -> int:
        """Documents among the active ones of `rows`."""
        return len(np.unique(self.documents[rows[self.active[rows]]]))
