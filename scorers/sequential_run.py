"""The state of one sequential score: which documents were asked for, what was answered, and the bets on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from explainers.types import Predictor
from scorers.bootstrap import Interval, intervals
from scorers.metrics import METRICS, Comparison, Metric, evaluate
from scorers.permutation import pairing_null
from scorers.simulation import HeldOut, ask, generator, panel_rows
from scorers.stratified_bets import ACTIVE, SILENT, Bar, Bet, Design, confidence_sequence
from scorers.types import DoubleArray, Null, Score, ScoreSet, View
from scorers.verdict import VerdictRule
from tools.types import BoolArray, IntArray, UnitId

#: Batches into which the panel's documents are divided at most.
LOOKS: Final = 32
#: Documents of each kind in a batch at least.
LEAST_BATCH: Final = 2
#: E-value at which the whole sample is taken to reach the target, or not to.
DOUBT: Final = 3.0
#: Bars of the confidence sequence, from 0 to 1.
GRID: Final = 50

Outcome: TypeAlias = Literal["success", "futility", "undecided"]


class Run:
    """One sequential score: what was asked for, what was answered, and the bets.

    Args:
        predictor: is asked.
        view: the split.
        held: the whole sample of the unit.
        rule: target, floor and level.
        seed: with the unit and polarity, decides the order of documents.
    """

    def __init__(self, predictor: Predictor, view: View, held: HeldOut, rule: VerdictRule, *, seed: int) -> None:
        self.predictor, self.view, self.held, self.rule = predictor, view, held, rule
        self.raw = np.full(len(held), np.nan)
        self.asked = np.zeros(len(held), dtype=np.bool_)
        self.weight = float(held.weights.max())
        self.density = float(np.average(held.active, weights=held.weights))
        panel = held.weights >= self.weight * (1 - 1e-6)
        self.certain = np.flatnonzero(~panel)
        self.numbers, self.document = np.unique(held.documents, return_inverse=True)
        activity = np.bincount(self.document[panel], held.active[panel], len(self.numbers))
        present = np.bincount(self.document[panel], minlength=len(self.numbers)) > 0
        rng = generator(seed, held.unit, held.polarity)
        strata = np.flatnonzero(present & (activity > 0)), np.flatnonzero(present & (activity == 0))
        self.order = tuple(rng.permutation(stratum) for stratum in strata)
        self.rows = _rows_by_document(self.document, panel, len(self.numbers))
        self.taken = [0, 0]
        self.counts: tuple[list[DoubleArray], list[DoubleArray]] = ([], [])
        self.design = Design(tuple(activity[strata[ACTIVE]].tolist()), len(strata[SILENT]))
        self.batch = max(LEAST_BATCH, -(-int(present.sum()) // LOOKS))
        self.bets: dict[str, Bet] = {}
        self.over_cap = False
        self.known = np.zeros(3)
        self.paired_at = 0

    @property
    def worthwhile(self) -> bool:
        """Whether the panel has documents enough for a bet; else everything is asked for at once."""
        return self.design.documents[ACTIVE] >= LEAST_BATCH

    def next_batch(self) -> bool:
        """Ask for some more; False when everything has been asked for before."""
        if self.asked.all():
            return False
        if not self.worthwhile:
            self._ask(np.flatnonzero(~self.asked))
            self._open_bets()
            return True
        if not self.bets:
            self._ask(self.certain)
            self._open_bets()
            for stratum in (ACTIVE, SILENT):
                self._take(stratum)
        else:
            self._take(self._promising())
        return True

    def _open_bets(self) -> None:
        panel = self.weight * max(1, sum(self.design.documents))
        self.known = self._outcomes(self.certain).sum(axis=0) / panel
        floor, target = Bar.corrected(self.rule.floor, self.density), Bar.plain(self.rule.target)
        design = self.design if self.worthwhile else Design((1.0,), 0)
        self.bets = {
            "chance": self._against_chance(design),
            "above floor": Bet(floor, 1, design, self.known),
            "below floor": Bet(floor, -1, design, self.known),
            "above target": Bet(target, 1, design, self.known),
            "below target": Bet(target, -1, design, self.known),
        }

    def _against_chance(self, design: Design) -> Bet:
        """The bet against a description that has nothing to do with the unit.

        It looks at the panel alone. That the strongest blocks were hit by luck is part of this null; that would be no
        luck any more if, as for the other bars, their outcome counted as a fact about the split.
        """
        panel = sum(map(len, self.rows))
        density = sum(self.design.activity) / max(1, panel)
        longest = max(map(len, self.rows), default=0)
        return Bet(Bar.corrected(0.0, density), 1, design, np.zeros(3), cap=float(max(1, longest)))

    def _promising(self) -> int:
        """The stratum whose next document is expected to bring most a position, for the bet that leads."""
        left = [s for s in (ACTIVE, SILENT) if self.taken[s] < self.design.documents[s]]
        if len(left) == 1:
            return left[0]
        above = self.bets["above floor"].e_value > self.bets["below floor"].e_value
        growth = self.bets["above target" if above else "below floor"].growth()
        size = [np.mean([len(self.rows[d]) for d in self.order[s][: self.taken[s]]] or [1]) for s in (ACTIVE, SILENT)]
        return ACTIVE if growth[ACTIVE] / size[ACTIVE] >= growth[SILENT] / size[SILENT] else SILENT

    def _take(self, stratum: int) -> None:
        chosen = self.order[stratum][self.taken[stratum] : self.taken[stratum] + self.batch]
        if not len(chosen):
            return
        self.taken[stratum] += len(chosen)
        self._ask(np.sort(np.concatenate([self.rows[d] for d in chosen])))
        counts = np.stack([self._outcomes(self.rows[d]).sum(axis=0) for d in chosen])
        self.over_cap = self.over_cap or bool((counts[:, 2] > self.design.cap).any())
        self.counts[stratum].append(counts)
        for bet in self.bets.values():
            bet.add(stratum, counts)

    def _ask(self, rows: IntArray) -> None:
        if len(rows):
            self.raw[rows] = ask(self.predictor, self.view, self.held.part(rows, self.held.weights[rows]))
            self.asked[rows] = True

    def _outcomes(self, rows: IntArray) -> DoubleArray:
        """[rows, 3] hits, misses and false alarms. An answer that could not be read is wrong."""
        active, raw = self.held.active[rows], self.raw[rows]
        predicted = np.where(np.isnan(raw), ~active, raw > self.held.threshold)
        return np.stack([active & predicted, active & ~predicted, ~active & predicted], axis=1).astype(np.float64)

    def outcome(self, others: Sequence[UnitId]) -> Outcome:
        """Whether to stop now."""
        if self.asked.all():
            return "undecided"
        e = {name: bet.e_value for name, bet in self.bets.items()}
        enough = 2 / self.rule.alpha
        value = self.value()
        above = (value - self.chance()) / (1 - self.chance())
        if e["below floor"] >= enough and above < self.rule.floor and self.corrected_ends()[1] <= self.rule.floor:
            return "futility"
        between = above >= self.rule.floor and value < self.rule.target
        if e["below target"] >= DOUBT and e["above floor"] >= DOUBT and between:
            return "futility"
        sure = e["above floor"] >= enough and e["above target"] >= DOUBT and e["chance"] >= 1 / self.rule.alpha
        if sure and not self.over_cap and value >= self.rule.target and above >= self.rule.floor:
            low = self.corrected_ends()[0]
            if low >= self.rule.floor and self._fits_its_own_unit(others):
                return "success"
        return "undecided"

    def _fits_its_own_unit(self, others: Sequence[UnitId]) -> bool:
        # Weighed again only once a quarter more was asked for: it takes longer than all the rest.
        if self.asked.sum() < 1.25 * self.paired_at:
            return False
        self.paired_at = int(self.asked.sum())
        null = self.pairing([METRICS.get("f1")], others).get("f1")
        return null is None or (1 + null.draws) * self.rule.alpha < 1 or null.p_value <= self.rule.alpha

    def stands_for(self) -> DoubleArray:
        """[n] what each position asked for stands for; 0 for the others."""
        weights = np.where(self.asked, self.held.weights, 0.0)
        for stratum in (ACTIVE, SILENT):
            if self.taken[stratum]:
                rows = np.concatenate([self.rows[d] for d in self.order[stratum][: self.taken[stratum]]])
                weights[rows] *= self.design.documents[stratum] / self.taken[stratum]
        return weights

    def totals(self) -> DoubleArray:
        """Estimated hits, misses and false alarms of the split, [3]; their first two add up to its activity."""
        total = self.known * sum(self.design.documents)
        for stratum in (ACTIVE, SILENT):
            if self.taken[stratum]:
                total = total + np.concatenate(self.counts[stratum]).mean(axis=0) * self.design.documents[stratum]
        return total

    def value(self) -> float:
        hits, misses, false_alarms = self.totals()
        return float(2 * hits / (2 * hits + misses + false_alarms)) if hits else 0.0

    def chance(self) -> float:
        """F1 of as many predictions at random, as the mean of the rotation null is (2 a P / (A + P))."""
        hits, misses, false_alarms = self.totals()
        predicted, active = hits + false_alarms, hits + misses
        return float(2 * self.density * predicted / (active + predicted)) if predicted else 0.0

    def corrected_ends(self) -> tuple[float, float]:
        """Ends of the confidence sequence for F1 corrected for chance; 0 and 1 where nothing is excluded."""
        grid = np.union1d(np.linspace(0, 1, GRID + 1)[:-1], [self.rule.floor])
        seen = tuple(np.concatenate(counts) if counts else np.zeros((0, 3)) for counts in self.counts)
        low, high = confidence_sequence(
            [Bar.corrected(f, self.density) for f in grid], self.design, self.known, (seen[ACTIVE], seen[SILENT]),
            enough=2 / self.rule.alpha,
        )  # fmt: skip
        bottom, top = 0.0 if low is None else float(grid[low]), 1.0 if high is None else float(grid[high])
        # What is excluded at the floor, the bar fixed beforehand, is excluded for all F1 beyond it.
        if self.bets["above floor"].e_value >= 2 / self.rule.alpha:
            bottom = max(bottom, self.rule.floor)
        if self.bets["below floor"].e_value >= 2 / self.rule.alpha:
            top = min(top, self.rule.floor)
        return bottom, top

    def pairing(self, metrics: Sequence[Metric], others: Sequence[UnitId]) -> dict[str, Null]:
        """The pairing null on the panel documents asked for, weighted by what they stand for."""
        if not others:
            return {}
        rows = panel_rows(self.view, self.held)
        share = np.zeros(len(self.numbers))
        for stratum in (ACTIVE, SILENT):
            done = self.order[stratum][: self.taken[stratum]]
            share[done] = self.design.documents[stratum] / max(1, self.taken[stratum])
        weights = share[self.document[rows]]
        kept = np.flatnonzero((weights > 0) & self.asked[rows])
        sample = self.held.part(rows[kept], weights[kept])
        sign = 1.0 if self.held.polarity == "+" else -1.0
        values = sign * self.view.panel_matrix(others)[:, kept]
        return pairing_null(metrics, sample.compare(self.raw[rows[kept]]), values, weighted=True)

    def scores(self, metrics: Sequence[Metric], others: Sequence[UnitId], resamples: int, seed: int) -> ScoreSet:
        """Scores of what was asked for, each position weighted by what it stands for."""
        rows = np.flatnonzero(self.asked)
        part = self.held.part(rows, self.stands_for()[rows])
        comparison = part.compare(self.raw[rows])
        rng = generator(seed, self.held.unit, self.held.polarity)
        ends = intervals(metrics, comparison, part.documents, resamples=resamples, rng=rng)
        pairing = self.pairing(metrics, others)
        return tuple(
            self._score(metric, part, comparison, interval=ends[metric.name], pairing=pairing.get(metric.name))
            for metric in metrics
        )

    def _score(
        self, metric: Metric, part: HeldOut, comparison: Comparison, *, interval: Interval, pairing: Null | None
    ) -> Score:
        e_value = self.bets["chance"].e_value
        p_value = min(1.0, 1 / max(e_value, 1e-300))
        value, reason = evaluate(metric, comparison)
        low, high, chance = interval.low, interval.high, None
        if metric.name == self.rule.metric:
            value, chance = self.value(), self.chance()
            # A hair inside, so that an end at the floor is on the side that the bets have shown.
            corrected = np.array(self.corrected_ends()) + np.array([1e-9, -1e-9])
            low, high = (float(end) for end in np.clip(chance + (1 - chance) * corrected, 0, 1))
            low, high = min(low, value), max(high, value)
        own = None if chance is None or value is None else Null("betting", value, chance, chance, p_value, 0)
        return Score(
            scorer="",
            metric=metric.name,
            value=value,
            low=low,
            high=high,
            n_examples=len(part),
            n_documents=len(np.unique(part.documents)),
            n_active=int(part.active.sum()),
            null_mean=chance,
            p_value=p_value if value is not None else None,
            split=str(self.view.split),
            predictor=self.predictor.name,
            protocol_hash="",
            headline=metric.headline,
            unparseable=float(np.isnan(self.raw[self.asked]).mean()),
            e_value=e_value if value is not None else None,
            reason=reason,
            nulls=tuple(null for null in (own, pairing) if null),
        )


def _rows_by_document(document: IntArray, panel: BoolArray, n: int) -> list[IntArray]:
    """The panel's rows of each document, ascending."""
    rows = np.flatnonzero(panel)
    order = rows[np.argsort(document[rows], kind="stable")]
    bounds = np.searchsorted(document[order], np.arange(n + 1))
    return [order[bounds[d] : bounds[d + 1]] for d in range(n)]
