"""Drift: do a campaign's descriptions hold of another version of the subject?

The tests are those of the campaign, frozen: the same sealed texts, thresholds and rules. Nothing is explained anew, so
a recheck costs two runs of the sealed panel and no language model. For each description it says whether its unit is

    stable     does what it did;
    weakened   does it still, but less: it fires less strongly, or the description fits it less well;
    moved      another unit does it now (or the same one on the other side of zero);
    gone       nothing in its group does it.

What decides is the similarity of activations on the sealed text, old against new (`tools.drift`), and the difference of
the rule's F1 with its interval over resampled documents.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import store
from agent.seeds import seed_for
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from scorers.bootstrap import Resampler
from scorers.paired import Difference, paired_f1
from store.claim_rows import ClaimRow
from store.errors import StoreError
from store.queries import campaign_evidence, campaign_index
from store.records import RecheckedRecord, RecheckRecord, SubjectRecord
from tools.drift import UnitMatch, check_comparable, compare, delta_activations
from tools.errors import SubjectError
from tools.index import SplitView, open_index
from tools.subject import load_subject
from tools.types import BoolArray, FloatArray, Split, UnitId

#: Similarity from which on a unit does what another did; below the second it does something else.
SAME, OTHER = 0.9, 0.5
#: A unit that fires at less than this share of its former strength is weakened (at more than 1 over it: changed).
STRENGTH = 0.6
#: A difference of F1 whose interval lies below this is a loss, if no threshold that differs by so much removes it: a
#: unit whose activations lie just at its threshold falls below by rounding.
LOSS, ROUNDING = -0.05, 0.1
#: Units active at fewer positions of the panel are looked at in some of their strongest contexts as well.
FEW, CONTEXTS = 20, 6
#: Draws of documents behind the interval of a difference.
RESAMPLES = 1000
STATUSES = ("stable", "weakened", "moved", "gone")


@dataclass(frozen=True)
class Rechecked:
    """One description on the other subject."""

    description_id: int
    unit: str
    polarity: str
    label: str
    verdict: str
    """On the input half, from the campaign."""
    status: str
    """One of `STATUSES`."""
    why: str
    moved_to: str | None
    """The unit that does it now, with its polarity, where it moved."""
    also: tuple[str, ...]
    """Units that do it as well now, and did not before."""
    similarity: float
    """Of the unit's activations, old and new."""
    slope: float
    """New activation for each of old."""
    write_cosine: float | None
    """Between the old and the new write direction."""
    f1_old: float | None
    f1_new: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_active: int
    """Positions at which the unit was active."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Recheck:
    """All of a campaign's descriptions on another subject."""

    recheck_id: int
    campaign: str
    subject: str
    fingerprint: str
    positions: int
    seconds: float
    campaign_seconds: float
    """Seconds that the campaign's investigations took."""
    neuron_wise: Mapping[str, float]
    """Average neuron-wise correlation by group."""
    delta: float
    """Length of the Delta Activations vector, relative to the old model's activations."""
    rows: tuple[Rechecked, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Descriptions by status."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "rows": [row.to_json() for row in self.rows], "counts": self.counts}


Progress = Callable[[int, int], None]


def recheck(
    db: store.Database,
    campaign: str,
    subject: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    dictionaries: Mapping[str, str] | None = None,
    only: str | None = None,
    progress: Progress | None = None,
) -> Recheck:
    """Test a finished campaign's descriptions on another version of its subject, and keep what came of it.

    Args:
        db: The database with the campaign.
        campaign: Its name.
        subject: The other version: a folder, a hub id, or the same with another `dtype`.
        device: Where both run.
        dtype: Number format of the other version; the campaign's subject keeps its own.
        dictionaries: Of the other version, where they are others than the campaign's.
        only: Descriptions with this verdict on the input half alone, such as 'supported'.
        progress: Told (tokens done, tokens in all).

    Raises:
        StoreError: There is no such campaign, it is not done, or it has no descriptions to test.
        SubjectError: The subjects cannot be compared, position by position.
        IndexDataError: The campaign's index is gone.
    """
    began = time.perf_counter()
    known = store.get_campaign(db, campaign)
    if known.status != "done":
        raise StoreError(f"The campaign '{campaign}' is {known.status}. Finish it first: neurogloss campaign resume.")
    claims = [c for c in campaign_evidence(db, campaign, controls=False) if c.tested and "tail" in c.details]
    if only is not None:
        claims = [claim for claim in claims if claim.verdict_input == only]
    if not claims:
        wanted = f" with the verdict '{only}'" if only else ""
        raise StoreError(f"The campaign '{campaign}' has no tested descriptions{wanted}.")
    folder = campaign_index(db, known.id)
    assert folder is not None, "a finished campaign has an index"
    index = open_index(Path(folder))
    spec = known.spec
    attached: Mapping[str, str] = spec.get("dictionaries") or {}
    old = load_subject(
        spec["subject"], device=device, dtype=spec.get("dtype", "auto"), dictionaries=attached,
        shuffle_seed=spec.get("shuffle_weights"),
    )  # fmt: skip
    new = load_subject(subject, device=device, dtype=dtype, dictionaries=dictionaries or attached)
    if old.fingerprint == new.fingerprint and old.dtype == new.dtype:
        raise SubjectError(f"'{subject}' is the very subject of the campaign; name another version of it, or --dtype.")
    recheck_id = store.begin_recheck(
        db,
        RecheckRecord(
            campaign_id=known.id,
            subject=SubjectRecord(new.name, new.fingerprint, {"source": subject, "layers": new.n_layers}),
            dtype=str(new.dtype).removeprefix("torch."),
            openings=[{"claim": _claim_of(claim), "polarity": claim.polarity} for claim in claims],
        ),
    )
    allowed = {(_claim_of(claim), claim.polarity) for claim in claims}

    def on_record(opening: Any) -> None:
        # The row above is the record: which claims were tested again, on what, before any of it is seen.
        assert (opening.claim, opening.polarity) in allowed

    keeper = index.keeper(on_record)
    view = keeper.open(Split.SCORE, claim=_claim_of(claims[0]), polarity=claims[0].polarity, by="recheck")
    units = list(dict.fromkeys(UnitId.parse(claim.unit) for claim in claims))
    contexts = _contexts(view, claims)
    texts = [view.texts.ids(context).tolist() for context in contexts]
    check_comparable(old, new, ["".join(view.texts.pieces(context)) for context in contexts[:8]])
    found = compare(old, new, units, texts, batch_tokens=int(spec.get("batch_tokens", 4096)), progress=progress)
    matches = {one.unit: one for one in found.units}
    place = _Places(contexts, texts)
    # Draws of documents are the same for all units: they differ by what they do alone, and drawing costs most.
    drawn = Resampler(lambda: np.random.default_rng(seed_for(known.seed, campaign, "recheck")), RESAMPLES)
    rows = tuple(_judged(claim, matches[UnitId.parse(claim.unit)], view, place, drawn) for claim in claims)
    delta = delta_activations(old, new)
    seconds = time.perf_counter() - began
    store.finish_recheck(
        db,
        recheck_id,
        [RecheckedRecord(**{**row.to_json(), "also": list(row.also)}) for row in rows],
        distance={"neuron_wise": found.neuron_wise, "delta": delta.relative},
        seconds=seconds,
    )
    spent = {claim.investigation_id: claim.seconds for claim in claims}
    return Recheck(
        recheck_id, campaign, new.name, new.fingerprint, found.positions, seconds, sum(spent.values()),
        found.neuron_wise, delta.relative, rows,
    )  # fmt: skip


def _claim_of(claim: ClaimRow) -> str:
    return f"description {claim.description_id}"


def _contexts(view: SplitView, claims: Sequence[ClaimRow]) -> list[int]:
    """The panel's contexts, and for units that hardly fire there some of their strongest ones."""
    chosen = {int(context) for context in view.panel_contexts}
    for claim in claims:
        unit, sign = UnitId.parse(claim.unit), 1.0 if claim.polarity == "+" else -1.0
        active = int((sign * view.panel(unit) > claim.details["tail"]["threshold"]).sum())
        if active < FEW:
            kind = "top" if sign > 0 else "bottom"
            chosen |= {example.context for example in view.examples(unit, kind, CONTEXTS)}  # type: ignore[arg-type]
    return sorted(chosen)


class _Places:
    """Where the activations of a context's positions are among those that were compared."""

    def __init__(self, contexts: Sequence[int], texts: Sequence[Sequence[int]]) -> None:
        self._starts = {}
        at = 0
        for context, text in zip(contexts, texts, strict=True):
            self._starts[context] = at
            at += max(len(text) - 1, 0)

    def of(self, contexts: Sequence[int], positions: Sequence[int]) -> tuple[BoolArray, np.ndarray[Any, Any]]:
        """Which rows were run, and their columns."""
        starts = np.array([self._starts.get(int(context), -1) for context in contexts], dtype=np.int64)
        return starts >= 0, starts + np.asarray(positions, dtype=np.int64) - 1


def _judged(claim: ClaimRow, match: UnitMatch, view: SplitView, place: _Places, drawn: Resampler) -> Rechecked:
    threshold = float(claim.details["tail"]["threshold"])
    sign = 1.0 if claim.polarity == "+" else -1.0
    sample = view.sample(match.unit)
    run, columns = place.of(sample.contexts.tolist(), sample.positions.tolist())
    columns = columns[run]
    old, values = sign * match.old[columns] > threshold, sign * match.new[columns]
    difference = None
    if claim.rule is not None:
        predictor = RulePredictor(parse_rule(claim.rule))
        predicted = predictor.predict(view.texts, sample.contexts[run], sample.positions[run]) > threshold

        def compared(factor: float) -> Difference | None:
            return paired_f1(
                predicted, old, values > factor * threshold, sample.weights[run], sample.documents[run],
                rng=drawn,
            )  # fmt: skip

        difference = compared(1.0)
        if difference is not None and _lost(difference):
            # Not where the loss is gone with the threshold a rounding error away.
            others = [compared(1 - ROUNDING), compared(1 + ROUNDING)]
            if not all(other is not None and _lost(other) for other in others):
                difference = max((d for d in (difference, *others) if d is not None), key=lambda d: d.value)
    slope = _slope(sign * match.old, sign * match.new)
    status, why, moved = decide(match, claim.polarity, slope, difference)
    d = difference
    return Rechecked(
        description_id=claim.description_id, unit=claim.unit, polarity=claim.polarity, label=claim.label,
        verdict=claim.verdict_input, status=status, why=why, moved_to=moved,
        also=tuple(f"{copy.unit}{_polarity(claim.polarity, copy.similarity)}" for copy in match.copies),
        similarity=match.similarity, slope=slope, write_cosine=match.write_cosine,
        f1_old=None if d is None else d.first, f1_new=None if d is None else d.second,
        difference=None if d is None else d.value, low=None if d is None else d.low,
        high=None if d is None else d.high, n_active=int(old.sum()),
    )  # fmt: skip


def _lost(difference: Difference) -> bool:
    return difference.high is not None and difference.high < LOSS


def _slope(old: FloatArray, new: FloatArray) -> float:
    """How strongly the tail fires now, for each of what it did: least squares through zero over that tail."""
    tail = np.maximum(old, 0).astype(np.float64)
    energy = float(tail @ tail)
    return float(tail @ new) / energy if energy else 0.0


def _polarity(polarity: str, similarity: float) -> str:
    return polarity if similarity > 0 else {"+": "-", "-": "+"}[polarity]


def decide(match: UnitMatch, polarity: str, slope: float, difference: Difference | None) -> tuple[str, str, str | None]:
    """Status, in words why, and where it moved to.

    Args:
        match: The unit beside those of the other subject.
        polarity: Of the description.
        slope: New activation of the described tail for each of old.
        difference: Of the rule's F1; None without a rule.
    """
    own, best = match.similarity, match.best
    if own >= SAME:
        if slope < STRENGTH:
            return "weakened", f"it fires at {slope:.2f} of its strength", None
        if difference is not None and _lost(difference):
            return "weakened", f"the rule's F1 falls from {difference.first:.2f} to {difference.second:.2f}", None
        return "stable", f"its activations agree ({own:.2f})", None
    if own <= -SAME:
        return "moved", "it is on the other side of zero", f"{match.unit}{_polarity(polarity, own)}"
    if abs(best.similarity) >= SAME:
        target = f"{best.unit}{_polarity(polarity, best.similarity)}"
        return "moved", f"{best.unit} does it now ({best.similarity:.2f}; itself {own:.2f})", target
    if own >= OTHER:
        return "weakened", f"its activations agree only in part ({own:.2f})", None
    return "gone", f"no unit of its group does it (itself {own:.2f}, best {best.similarity:.2f})", None
