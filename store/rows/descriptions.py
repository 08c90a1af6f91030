"""Units, what is asserted of them, and the scores of that."""

from __future__ import annotations

from dataclasses import dataclass

from store.rows.base import Json


@dataclass(frozen=True)
class RunnerUp:
    """A rival of a description that says something else and might have been chosen in its place; it was not tested."""

    description_id: int
    rank: int
    """2 or more."""
    label: str
    input_half: str
    rule: str | None
    selection: float | None
    """Share of the resamples of the refine split in which it, or one that says the same, does best."""


@dataclass(frozen=True)
class DescribedRow:
    """What is asserted of a tail, with its unit and its headline scores on the score split; a row of the views."""

    description_id: int
    subject: str
    fingerprint: str
    campaign: str
    investigation_id: int
    unit: str
    kind: str
    layer: int | None
    dictionary: str | None
    unit_index: int
    state: str
    density: float | None
    maximum: float | None
    polarity: str
    rank: int
    version: int
    label: str
    input_half: str
    output_half: str | None
    exceptions: str | None
    rule: str | None
    explainer: str
    verdict_input: str
    verdict_output: str
    output_kind: str | None
    """What the output half claims: 'changes', 'varies', 'later', 'nothing', 'untested'; None: words alone."""
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    f1_null: float | None
    f1_p: float | None
    f1_q: float | None
    average_precision: float | None
    pearson: float | None
    created_at: str | None
    control: str | None
    """Kind of the blind control that it describes; None for units that were asked for."""
    control_of: str | None
    selection: float | None = None
    """Share of the resamples of the refine split in which it, or one that says the same, does best."""
    runners_up: tuple[RunnerUp, ...] = ()
    """Best first."""


@dataclass(frozen=True)
class UnitRow:
    """A unit with its statistics."""

    unit_id: int
    unit: str
    subject: str
    fingerprint: str
    kind: str
    layer: int | None
    dictionary: str | None
    unit_index: int
    state: str
    duplicate_of: str | None
    density: float | None
    minimum: float | None
    maximum: float | None
    mean: float | None
    variance: float | None
    n_tokens: int | None


@dataclass(frozen=True)
class FoundUnit:
    """A unit with the best description of each of its tails."""

    unit: UnitRow
    descriptions: list[DescribedRow]


@dataclass(frozen=True)
class SearchHit:
    """A description that matches a search."""

    description: DescribedRow
    field: str
    """Where the match is: 'label', 'input_half', 'output_half', 'exceptions' or 'rule'."""
    snippet: str
    highlights: list[tuple[int, int]]
    """Ranges [start, end) of `snippet` that match."""
    score: float
    """Larger is better; comparable within one search only."""


@dataclass(frozen=True)
class ScoreRow:
    """A score, with all that makes it more than a bare number."""

    score_id: int
    metric: str
    split: str
    predictor: str
    protocol_hash: str
    value: float | None
    low: float | None
    high: float | None
    n_examples: int
    n_documents: int
    null_mean: float | None
    p_value: float | None
    e_value: float | None
    q_value: float | None
    unparseable: float
    headline: bool
    cost: Json
    withdrawn: str | None = None
    """Why it does not count any more; None: it does."""


@dataclass(frozen=True)
class DescriptionPage:
    """A description with all of its scores."""

    description_id: int
    campaign: str
    investigation_id: int
    polarity: str
    rank: int
    version: int
    superseded_by: int | None
    label: str
    input_half: str
    output_half: str | None
    exceptions: str | None
    rule: str | None
    explainer: str
    claim: str
    verdict_input: str
    verdict_output: str
    output_kind: str | None
    """What the output half claims: 'changes', 'varies', 'later', 'nothing', 'untested'; None: words alone."""
    hypothesis: str | None
    """Key of the hypothesis it came from."""
    details: Json
    created_at: str | None
    scores: list[ScoreRow]
    """Headline scores first; withdrawn ones among them."""

    @property
    def counting(self) -> list[ScoreRow]:
        """The scores that were not withdrawn."""
        return [score for score in self.scores if score.withdrawn is None]
