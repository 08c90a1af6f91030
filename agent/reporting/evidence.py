"""What a report is computed from: one row a claim, one row a unit, taken from the store's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.claim_rows import ClaimRow
from store.queries import LlmCost

#: The metric that decides about claims, as the database calls it, and the one that does so for a head with a role.
HEADLINE, EDGES = "weighted_f1", "edge_mass"
#: The metric that says how far a unit carries what its rule says.
CARRIED = "interchange_shift"
#: What work costs.
COSTS = ("seconds", "tool_calls", "forward_passes", "tokens")


@dataclass(frozen=True)
class Claim:
    """A description of one tail of a unit, with its headline score on the sealed score split."""

    unit: str
    polarity: str
    label: str
    verdict: str
    """On the input half."""
    verdict_output: str = "untested"
    output_kind: str | None = None
    """What the output half claims."""
    output_reason: str | None = None
    """Why the verdict on it is what it is."""
    before: str | None = None
    """The verdict before error control over the campaign; None while it is open, or where it had nothing to say."""
    tested: bool = True
    """Whether it went through the whole investigation; triage describes dead, dense and copied units itself."""
    control: str | None = None
    """What kind of control the unit is; None for a real unit."""
    control_of: str | None = None
    explainer: str = "pattern"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    """Mean of the null: what the score would be by chance."""
    decided_by: str = HEADLINE
    """Metric whose p-, q- and e-value these are: the one that the verdict rests on."""
    p: float | None = None
    q: float | None = None
    e: float | None = None
    carried: float | None = None
    """Share of the way that the unit carries outcomes between texts that differ in what the rule says; None where that
    was not asked for, or could not be measured."""
    carried_null: float | None = None
    """The same of units that differ as much between the texts."""
    carried_p: float | None = None
    complete: bool = False
    """Whether the score that decides has a value, an interval, a null, and a p- or e-value."""
    unparseable: float | None = None
    """Share of predictions that could not be parsed."""
    refine: float | None = None
    """F1 of the same description on the refine split, by which it was chosen among its rivals."""
    openings: int | None = None
    """How often the score split was opened for this claim; None where that is not known."""
    seconds: float = 0.0
    """Its part of the cost of its investigation: an equal part where that described both tails."""
    tool_calls: float = 0.0
    forward_passes: float = 0.0
    tokens: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether the campaign asserts it."""
        return self.verdict == "supported"

    @property
    def name(self) -> str:
        """The unit with the side that is described."""
        return f"{self.unit}{self.polarity}"


@dataclass(frozen=True)
class Job:
    """The work on one unit: how it ended and what it cost."""

    unit: str
    status: str
    control: str | None = None
    reason: str | None = None
    seconds: float = 0.0
    tool_calls: int = 0
    forward_passes: int = 0
    tokens: int = 0
    dropped_openings: int = 0
    """Claims for which sealed text was opened and that are in no description, though the investigation has ended."""


@dataclass(frozen=True)
class Head:
    """What a campaign was asked to do, and how it stands."""

    campaign: str
    status: str
    subject: str
    corpus: str
    explainer: str
    scorer: str
    error_method: str
    spec_hash: str
    alpha: float
    began: str | None = None
    ended: str | None = None
    pending: int = 0
    """Units that nobody has ended yet."""


@dataclass(frozen=True)
class LlmEvidence:
    """What the part of a report about language models is computed from."""

    costs: Sequence[LlmCost]
    """By asker and purpose, controls among them."""
    by_claim: Sequence[LlmCost] = ()
    """By investigation, polarity and asker, without controls."""
    claims: Sequence[ClaimRow] = field(default=(), repr=False)
    """Of real units."""


@dataclass(frozen=True)
class Rivals:
    """A description and what else was kept."""

    name: str
    """The unit with its side."""
    label: str
    selection: float
    """Share of the resamples in which it does best."""
    others: Sequence[tuple[str, float]]
    """Label and share of each runner-up, best first."""


@dataclass(frozen=True)
class Evidence:
    """All that a report is computed from."""

    head: Head
    claims: Sequence[Claim]
    jobs: Sequence[Job]
    recorded: dict[str, float]
    """The campaign's own totals of 'seconds', 'tool_calls' and 'tokens', which the jobs' must add up to."""
    llm: LlmEvidence | None = None
    """Of calls to language models."""
    predictions: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """What descriptions of real units foretold, and what came (`details['predictions']`)."""
    rivals: Sequence[Rivals] = ()
    """Of descriptions of real units whose choice among rivals is on record."""

    def tested(self, *, control: bool) -> list[Claim]:
        """The claims of real units, or of controls, that went through the whole investigation."""
        return [claim for claim in self.claims if claim.tested and (claim.control is not None) == control]
