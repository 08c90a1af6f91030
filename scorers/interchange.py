"""Does a description say what the unit *does*? Interchange between texts that differ in what it says (the intervention
mode of Huang et al. 2023, "Rigorously assessing natural language explanations of neurons", arXiv 2309.10312).

A description E of when a unit fires is read as a causal claim: the unit carries whether E holds to what the model says
next. To test it, take a base text and a source text that differ in E, run the base with the unit's content at its place
as it is in the source, and see how much of the way the outcome goes from the base's to the source's.

How it is called::

    pairs = replaced_pairs(subject, places, holds, imputer)       # E by `holds`, which a predictor or a rule decides
    found = interchange(subject, [unit], pairs)                   # against units that differ as much
    scores = interchange_scores(found, split="score", predictor=predictor.name)

`holds(ids, position)` says whether E holds there. Pairs may as well be written by hand, with the tokens whose logits
tell the outcomes apart; without them they are what the model itself finds likeliest after the base and after the
source, and pairs after which it finds the same are of no use and counted. A whole group of units may be given, which
are interchanged together, and are compared with groups of as many.

The null are units of the same groups whose content differs between base and source about as much: a unit that does not
differ moves nothing, and beating it would say little. The interval resamples documents. A unit that a description fits
and that nothing reads has a shift of 0, within the null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from scorers.errors import ScorerError
from scorers.permutation import MIN_DRAWS
from scorers.types import DoubleArray, Null, Score, ScoreSet, protocol_hash
from tools.attribution.impute import Imputer
from tools.interventions import Edit, Where, run
from tools.kinds import kind_of
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import check_unit, group_site, group_width, length_batches

NAME: Final = "interchange"
VERSION: Final = 1
SHIFT: Final = "interchange_shift"
SWITCH: Final = "interchange_switch"
LEAST: Final = 5
"""Usable pairs below which nothing is said."""
_TELLING: Final = 0.1
"""The least by which logits of the outcomes must differ more after the source than after the base."""
_BATCH_TOKENS: Final = 1024
#: How many units next in size a null is drawn from, in multiples of its draws.
_NEAR: Final = 2


@dataclass(frozen=True)
class Pair:
    """Two texts that differ in what a description says, each up to where the outcome is read."""

    base: tuple[int, ...]
    source: tuple[int, ...]
    position: int
    """Where in the base the unit is given its content of the source; not 0."""
    source_position: int
    base_token: int | None = None
    """The outcome after the base; None: what the model finds likeliest there."""
    source_token: int | None = None
    document: int = 0
    """Which document it is from, for the interval."""


@dataclass(frozen=True)
class Interchange:
    """How far units carry outcomes from base to source."""

    units: tuple[UnitId, ...]
    shift: float | None
    """Mean share of the way of the logit difference; None, with a reason, where too few pairs are of use."""
    switch: float | None
    """Share of pairs in which the source's outcome becomes likelier than the base's."""
    low: float | None
    high: float | None
    """95 % interval of `shift`, resampled by document."""
    switch_low: float | None
    switch_high: float | None
    null_shift: Null | None
    """Groups of as many units that differ about as much between the texts."""
    null_switch: Null | None
    shifts: tuple[float, ...]
    """Of each pair that was of use."""
    pairs: int
    unusable: int
    """Pairs after which the model says the same."""
    documents: int
    reason: str | None = None

    @classmethod
    def nothing(
        cls, units: Sequence[UnitId], reason: str, *, pairs: int = 0, usable: int = 0, documents: int = 0
    ) -> Self:
        """What is said where nothing could be measured."""
        return cls(
            tuple(units), None, None, None, None, None, None, None, None, (), pairs, pairs - usable, documents, reason
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        row = {**self.__dict__, "units": [str(unit) for unit in self.units], "shifts": list(self.shifts)}
        for name in ("null_shift", "null_switch"):
            null = getattr(self, name)
            row[name] = None if null is None else {**null.__dict__, "values": list(null.values)}
        return row


def replaced_pairs(
    subject: Subject,
    places: Sequence[tuple[Sequence[int], int]],
    holds: Callable[[Sequence[int], int], bool],
    imputer: Imputer,
    *,
    window: int = 8,
    tries: int = 8,
    seed: int = 0,
) -> list[Pair]:
    """Pairs of a text in which a description holds and the same text with one token replaced so that it does not.

    Args:
        subject: The model.
        places: Texts as token ids, with a position in each at which the description holds.
        holds: Whether it holds in a text at a position.
        imputer: Where replacements come from.
        window: Tokens up to the position that may be replaced, nearest first.
        tries: Replacements tried of each.
        seed: Of the replacements.

    Returns:
        For each text of which such a twin was found, a pair in either direction: taking away and bringing in. Texts end
        at the position.
    """
    rng, first, pairs = np.random.default_rng(seed), len(subject.prefix), []
    for document, (ids, position) in enumerate(places):
        text = tuple(int(i) for i in ids[: position + 1])
        if not holds(text, position):
            continue
        places_back = range(position, max(first, position - window + 1) - 1, -1)
        variants = (
            (*text[:place], int(token), *text[place + 1 :])
            for place in places_back
            for token in imputer.others(text, place, tries, rng)
        )
        twin = next((other for other in variants if not holds(other, position)), None)
        if twin is not None:
            pairs += [Pair(base, source, position, position, document=document)
                      for base, source in ((text, twin), (twin, text))]  # fmt: skip
    return pairs


def interchange(
    subject: Subject,
    units: Sequence[UnitId],
    pairs: Sequence[Pair],
    *,
    draws: int = 32,
    resamples: int = 1000,
    seed: int = 0,
) -> Interchange:
    """Give units their content of the source, and measure where the outcome goes.

    Args:
        subject: A model with logits.
        units: One unit, or a group that is interchanged together.
        pairs: What is compared.
        draws: Groups of other units for the null.
        resamples: Of documents, for the interval.
        seed: Of the choice of other units and of resampling.

    Raises:
        ScorerError: There are no units, or a pair's position is not in its text.
        UnitError: A unit is not there.
    """
    chosen = tuple(units)
    if not chosen:
        raise ScorerError("An interchange needs at least one unit.")
    for unit in chosen:
        check_unit(subject, unit)
    for pair in pairs:
        if not (1 <= pair.position < len(pair.base) and 1 <= pair.source_position < len(pair.source)):
            raise ScorerError(
                f"An interchange at {pair.position} from {pair.source_position} does not fit texts of {len(pair.base)} "
                f"and {len(pair.source)} tokens: position 0 is left out, and others must be in the text."
            )
    bench = _Bench(subject, chosen, pairs)
    usable = bench.usable()
    documents = np.array([pairs[i].document for i in usable])
    count = len(set(documents.tolist()))
    if len(usable) < LEAST:
        reason = f"{len(usable)} of {len(pairs)} pairs lead to different outcomes; {LEAST} are needed"
        return Interchange.nothing(chosen, reason, pairs=len(pairs), usable=len(usable), documents=count)
    rng = np.random.default_rng(seed)
    shifts, switches = bench.outcomes(chosen)
    others = [bench.outcomes(group) for group in bench.matched(draws, rng)]
    ends = [_interval(values, documents, resamples, np.random.default_rng([seed, 1])) for values in (shifts, switches)]
    nulls: list[Null | None] = [None, None]
    if len(others) >= MIN_DRAWS:
        for i, own in enumerate((shifts, switches)):
            means = np.array([other[i].mean() for other in others])
            nulls[i] = Null.of("matched units", float(own.mean()), means, keep=True)
    return Interchange(
        chosen, float(shifts.mean()), float(switches.mean()), *ends[0], *ends[1], nulls[0], nulls[1],
        tuple(shifts.tolist()), len(pairs), len(pairs) - len(usable), count,
    )  # fmt: skip


def interchange_scores(
    found: Interchange, *, split: str, predictor: str, cost: dict[str, float] | None = None
) -> ScoreSet:
    """`interchange_shift` and `interchange_switch` as scores; diagnostics, as they test the effect, not the firing.

    Args:
        found: What was measured.
        split: Where the pairs are from.
        predictor: Who decided in which texts the description holds.
        cost: What was spent.
    """
    rows = [
        (SHIFT, found.shift, found.low, found.high, found.null_shift),
        (SWITCH, found.switch, found.switch_low, found.switch_high, found.null_switch),
    ]
    return tuple(
        Score(
            scorer=NAME, metric=metric, value=value, low=low, high=high, n_examples=found.pairs,
            n_documents=found.documents, n_active=found.pairs - found.unusable,
            null_mean=None if null is None else null.mean, p_value=None if null is None else null.p_value, split=split,
            predictor=predictor, protocol_hash=protocol_hash(NAME, VERSION, {"units": len(found.units)}, metric),
            headline=False, reason=found.reason, nulls=() if null is None else (null,), cost=cost or {},
        )
        for metric, value, low, high, null in rows
    )  # fmt: skip


class _Bench:
    """Clean runs of the pairs, and interchanges of groups of units on those that are of use."""

    def __init__(self, subject: Subject, units: tuple[UnitId, ...], pairs: Sequence[Pair]) -> None:
        self.subject, self.units, self.pairs = subject, units, list(pairs)
        self.groups = list(dict.fromkeys(unit.group for unit in units))
        self.sites: list[Site] = [group_site(subject, group) for group in self.groups]
        base = self._clean([pair.base for pair in pairs], [pair.position for pair in pairs])
        source = self._clean([pair.source for pair in pairs], [pair.source_position for pair in pairs])
        self._there, self._here = source[1], base[1]
        self._tokens: list[tuple[int, int]] = []
        self._before, self._after = np.zeros(len(pairs)), np.zeros(len(pairs))
        for i, pair in enumerate(pairs):
            own = pair.base_token if pair.base_token is not None else int(base[0][i].argmax())
            other = pair.source_token if pair.source_token is not None else int(source[0][i].argmax())
            self._tokens.append((own, other))
            self._before[i], self._after[i] = (
                float(logits[i][other] - logits[i][own]) for logits in (base[0], source[0])
            )

    def usable(self) -> list[int]:
        """Pairs whose outcomes can be told apart."""
        differs = self._after > self._before + _TELLING
        return [i for i, (own, other) in enumerate(self._tokens) if own != other and differs[i]]

    def _clean(
        self, texts: list[tuple[int, ...]], positions: list[int]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Logits after each text, and each group's contents at the positions."""
        logits: list[Tensor] = [torch.empty(0)] * len(texts)
        contents: dict[str, list[Tensor]] = {group: [torch.empty(0)] * len(texts) for group in self.groups}
        for batch in length_batches([len(text) for text in texts], _BATCH_TOKENS):
            ids, mask = self.subject.pad([texts[i] for i in batch])
            captured = run(self.subject, ids, mask, read=dict.fromkeys(self.sites))
            assert captured.logits is not None
            for group in self.groups:
                with torch.inference_mode():
                    held = kind_of(group).contents(self.subject, group.partition(":")[2], captured)
                for row, i in enumerate(batch):
                    contents[group][i] = held[row, positions[i]]
            for row, i in enumerate(batch):
                logits[i] = captured.logits[row, len(texts[i]) - 1].float()
        return logits, contents

    def outcomes(self, units: Sequence[UnitId]) -> tuple[DoubleArray, DoubleArray]:
        """Shift and switch of each pair that is of use, when these units are interchanged."""
        usable = self.usable()
        after = np.zeros(len(usable))
        for batch in length_batches([len(self.pairs[i].base) for i in usable], _BATCH_TOKENS):
            chosen = [usable[j] for j in batch]
            ids, mask = self.subject.pad([self.pairs[i].base for i in chosen])
            logits = run(self.subject, ids, mask, self._edits(units, chosen)).logits
            assert logits is not None
            for row, (j, i) in enumerate(zip(batch, chosen, strict=True)):
                own, other = self._tokens[i]
                last = logits[row, len(self.pairs[i].base) - 1].float()
                after[j] = float(last[other] - last[own])
        before, there = self._before[usable], self._after[usable]
        switched: DoubleArray = ((after > 0) & (before <= 0)).astype(np.float64)
        return (after - before) / (there - before), switched

    def _edits(self, units: Sequence[UnitId], chosen: Sequence[int]) -> list[Edit]:
        where = Where(rows=list(range(len(chosen))), positions=[self.pairs[i].position for i in chosen], paired=True)
        edits = []
        for group in self.groups:
            indices = [unit.index for unit in units if unit.group == group]
            if not indices:
                continue
            there = torch.stack([self._there[group][i] for i in chosen])[:, indices]
            edit = kind_of(group).edit_group(self.subject, group.partition(":")[2], _exchanged(indices, there), where)
            if edit is None:
                raise ScorerError(f"Units of '{group}' cannot be interchanged: nothing of their own is added.")
            edits.append(edit)
        return edits

    def matched(self, draws: int, rng: np.random.Generator) -> list[list[UnitId]]:
        """Groups of other units, each drawn from those that differ between the texts about as much."""
        usable, pools = self.usable(), []
        for unit in self.units:
            there = torch.stack([self._there[unit.group][i] for i in usable])
            here = torch.stack([self._here[unit.group][i] for i in usable])
            size = (there - here).float().reshape(len(usable), group_width(self.subject, unit.group), -1).norm(dim=-1)
            difference = size.mean(0).double().cpu().numpy()
            near = np.argsort(np.abs(difference - difference[unit.index]), kind="stable")
            others = [UnitId(unit.group, int(i)) for i in near if UnitId(unit.group, int(i)) not in self.units]
            pools.append(others[: _NEAR * draws])
        most = min(draws, *(len(pool) for pool in pools))
        columns = [rng.permutation(len(pool))[:most] for pool in pools]
        groups = [[pool[int(column[k])] for pool, column in zip(pools, columns, strict=True)] for k in range(most)]
        return [group for group in groups if len(set(group)) == len(group)]


def _exchanged(indices: list[int], there: Tensor) -> Callable[[Tensor], Tensor]:
    def new(now: Tensor) -> Tensor:
        changed = now.clone()
        changed[:, indices] = there.to(now)
        return changed

    return new


def _interval(
    values: DoubleArray, documents: Any, resamples: int, rng: np.random.Generator
) -> tuple[float | None, float | None]:  # fmt: skip
    """Percentiles of the mean over resampled documents; None with one document."""
    numbers, where = np.unique(documents, return_inverse=True)
    if len(numbers) < 2:
        return None, None
    sums, counts = np.bincount(where, values), np.bincount(where)
    drawn = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=resamples)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return float(low), float(high)
