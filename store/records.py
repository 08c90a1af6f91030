"""Values that travel into the store: what one investigation found, ready to be written.

All are frozen and hold plain Python values (str, int, float, bool, None, list, dict). Numbers must be finite: what
could not be computed is ``None``, never NaN. Values that travel out are in `store.rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.errors import StoreError

Json = Mapping[str, Any]

POLARITIES = ("+", "-")
VERDICTS = ("supported", "refuted", "inconclusive", "untested")
#: What an output half claims: that tokens change, that predictions change, that later ones do, that nothing does; or no
#: claim.
OUTPUT_KINDS = ("changes", "varies", "later", "nothing", "untested")
INVESTIGATION_STATUSES = ("pending", "leased", "done", "failed", "skipped")
UNIT_STATES = ("alive", "dead", "dense", "duplicate")
EXPERIMENT_STATUSES = ("done", "failed")
#: What became of a description on another version of its subject; see `agent.recheck`.
RECHECK_STATUSES = ("stable", "weakened", "moved", "gone")
#: What can be withdrawn from the evidence, and what is said of it.
EVIDENCE_KINDS = ("score", "experiment", "observation")
INVALIDATION_ACTIONS = ("invalidated", "reinstated")
#: Kinds of blind control; see `agent.controls`.
CONTROLS = ("shuffled", "direction", "swapped", "constant")
#: The kind in the ids of units that stand for a control (``control:…:3``).
CONTROL_KIND = "control"


def _check(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise StoreError(f"{what} is '{value}', but must be one of: {', '.join(allowed)}.")


def _check_finite(record: object, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if value is not None and not math.isfinite(value):
            raise StoreError(
                f"{type(record).__name__}.{name} is {value}: the database keeps finite numbers, and None for what "
                "could not be computed."
            )


@dataclass(frozen=True)
class SubjectRecord:
    """A model under study; the fingerprint (hash of config and weights) identifies it."""

    name: str
    fingerprint: str
    info: Json = field(default_factory=dict)
    """Number of layers, widths, dtype and whatever else is worth knowing."""


@dataclass(frozen=True)
class DictionaryRecord:
    """A sparse dictionary attached to a subject under a name that its units carry (``sae:NAME:1``)."""

    name: str
    fingerprint: str
    architecture: str
    site: str
    d_in: int
    d_sae: int
    info: Json = field(default_factory=dict)


@dataclass(frozen=True)
class CorpusRecord:
    """A corpus; `digest` is the hash of its documents' ids and texts."""

    spec: str
    digest: str
    n_documents: int
    info: Json = field(default_factory=dict)


@dataclass(frozen=True)
class IndexRecord:
    """An activation index on disk; `key` is its content address."""

    key: str
    path: str
    n_tokens: int
    settings: Json = field(default_factory=dict)


@dataclass(frozen=True)
class UnitRecord:
    """One unit of a subject with what it did over the corpus.

    Only `unit` and, for latents and directions, `layer` are needed to queue it; the statistics come with the result.
    """

    unit: str
    """``mlp:3:1017``, ``head:9:6``, ``sae:NAME:1234``, ``dir:NAME``."""
    layer: int | None = None
    """Layer of its site. Neurons and heads carry it in their id, so it may be left out for them."""
    state: str = "alive"
    duplicate_of: str | None = None
    """The unit that this one duplicates, when `state` is 'duplicate'."""
    density: float | None = None
    """Share of tokens on which the unit is active."""
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    variance: float | None = None
    n_tokens: int | None = None
    """Tokens that the statistics are over."""
    statistics: Json = field(default_factory=dict)
    """Quantiles, histogram and the rest."""
    profile: Json = field(default_factory=dict)
    """What its weights say: promoted and suppressed tokens; for a head its attention edges."""
    index_key: str | None = None
    """The activation index that the statistics come from; it must be registered."""

    def __post_init__(self) -> None:
        _check("the state of a unit", self.state, UNIT_STATES)
        _check_finite(self, "density", "minimum", "maximum", "mean", "variance")
        if not self.kind or ":" not in self.unit:
            raise StoreError(f"'{self.unit}' is not a unit. Units are written KIND:…, for example mlp:3:1017.")

    @property
    def kind(self) -> str:
        return self.unit.partition(":")[0]

    @property
    def unit_index(self) -> int:
        """Number within its group; 0 for a unit that is a group of its own (a direction)."""
        _, _, last = self.unit.rpartition(":")
        return int(last) if self.kind != "dir" and last.isdecimal() else 0

    @property
    def dictionary(self) -> str | None:
        """Name of the dictionary that a latent belongs to."""
        return self.unit.partition(":")[2].rpartition(":")[0] if self.kind == "sae" else None

    @property
    def layer_number(self) -> int | None:
        """The layer in the id of a neuron or head, or `layer`."""
        where = self.unit.split(":")[1]
        return int(where) if self.kind in ("mlp", "head") and where.isdecimal() else self.layer


@dataclass(frozen=True)
class ExampleRecord:
    """A window of tokens with the unit's activations; fields as in ``tools.types.Example``."""

    split: str
    source: str
    """'top', 'bottom', 'quantile' or 'random'."""
    polarity: str
    document: str
    context: int
    start: int
    peak: int
    tokens: Sequence[str]
    activations: Sequence[float]
    weight: float

    def __post_init__(self) -> None:
        _check("the polarity of an example", self.polarity, POLARITIES)
        _check_finite(self, "weight")
        if len(self.tokens) != len(self.activations):
            raise StoreError(f"an example has {len(self.tokens)} tokens but {len(self.activations)} activations.")


@dataclass(frozen=True)
class HypothesisRecord:
    """One of the rivals that were considered."""

    key: str
    """Name within the investigation ('h1'), by which observations and descriptions refer to it."""
    polarity: str
    explainer: str
    label: str
    input_half: str
    output_half: str | None = None
    exceptions: str | None = None
    rule: str | None = None
    status: str = "proposed"
    """'proposed', or a verdict once it was tested, or 'dropped' with the reason in `details`."""
    details: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("the polarity of a hypothesis", self.polarity, POLARITIES)
        _check("the status of a hypothesis", self.status, ("proposed", "dropped", *VERDICTS))


@dataclass(frozen=True)
class ObservationRecord:
    """What an experiment brought back, as it bears on one hypothesis (or on none)."""

    summary: str
    data: Json = field(default_factory=dict)
    hypothesis: str | None = None
    """Key of the hypothesis it bears on."""
    outcome: str | None = None
    """What it says about that hypothesis: a verdict."""

    def __post_init__(self) -> None:
        if self.outcome is not None:
            _check("the outcome of an observation", self.outcome, VERDICTS)


@dataclass(frozen=True)
class ExperimentRecord:
    """A test that was run, with all that is needed to run it again. A failed one has an error."""

    kind: str
    arguments: Json = field(default_factory=dict)
    seed: int | None = None
    status: str = "done"
    error: str | None = None
    digest: str | None = None
    """Hash of the raw result."""
    seconds: float = 0.0
    observations: Sequence[ObservationRecord] = ()

    def __post_init__(self) -> None:
        _check("the status of an experiment", self.status, EXPERIMENT_STATUSES)
        if (self.status == "failed") != (self.error is not None):
            raise StoreError(f"experiment '{self.kind}' is {self.status}: a failed one, and only that, has an error.")


@dataclass(frozen=True)
class ScoreRecord:
    """A score of a description; fields as in ``scorers.types.Score``."""

    metric: str
    split: str
    predictor: str
    protocol_hash: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n_examples: int = 0
    n_documents: int = 0
    null_mean: float | None = None
    p_value: float | None = None
    e_value: float | None = None
    q_value: float | None = None
    cost: Json = field(default_factory=dict)
    unparseable: float = 0.0
    headline: bool = False

    def __post_init__(self) -> None:
        _check_finite(self, "value", "low", "high", "null_mean", "p_value", "e_value", "q_value", "unparseable")


@dataclass(frozen=True)
class DescriptionRecord:
    """What the investigation asserts about one tail of the unit."""

    polarity: str
    label: str
    input_half: str
    explainer: str
    claim: str
    """Digest of the claim that was tested; openings of sealed splits were recorded under it (`record_opening`)."""
    output_half: str | None = None
    exceptions: str | None = None
    rule: str | None = None
    verdict_input: str = "untested"
    verdict_output: str = "untested"
    output_kind: str | None = None
    """What the output half claims, one of `OUTPUT_KINDS`; None where it is words alone."""
    rank: int = 1
    """1 for the best description of this polarity; others are non-equivalent runners-up or further concepts."""
    version: int = 1
    """A later version of the same polarity and rank supersedes the earlier ones."""
    hypothesis: str | None = None
    """Key of the hypothesis it came from."""
    scores: Sequence[ScoreRecord] = ()
    details: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("the polarity of a description", self.polarity, POLARITIES)
        _check("the input verdict of a description", self.verdict_input, VERDICTS)
        _check("the output verdict of a description", self.verdict_output, VERDICTS)
        if self.output_kind is not None:
            _check("the output claim of a description", self.output_kind, OUTPUT_KINDS)


@dataclass(frozen=True)
class LlmCallRecord:
    """One request to a language model, successful or not."""

    purpose: str
    model: str
    request_hash: str
    request: Json
    response: Json | None = None
    status: str = "done"
    error: str | None = None
    asker: str | None = None
    """Name of the explainer, predictor or scorer that asked."""
    polarity: str | None = None
    """Of the claim that it was for; None where it was for the unit as a whole."""
    salt: int = 0
    """How many attempts at the investigation had failed before the one that asked."""
    cached: bool = False
    """The answer was known already. What is told of its cost is not kept: nothing was spent."""
    attempts: int = 1
    """Times it was sent."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's, those that the server took from its prefix cache."""
    seconds: float = 0.0
    cost_usd: float | None = None
    """None where no price is known."""

    def __post_init__(self) -> None:
        _check("the status of a call", self.status, EXPERIMENT_STATUSES)
        if self.polarity is not None:
            _check("the polarity of a call", self.polarity, POLARITIES)
        _check_finite(self, "seconds", "cost_usd")


@dataclass(frozen=True)
class Cost:
    """What an attempt used, but for calls to language models: those are recorded one by one (`store.llm_calls`)."""

    seconds: float = 0.0
    tool_calls: int = 0

    def __post_init__(self) -> None:
        _check_finite(self, "seconds")


@dataclass(frozen=True)
class InvestigationResult:
    """Everything one investigation leaves behind; `store.finish` writes it in one transaction."""

    unit: UnitRecord
    examples: Sequence[ExampleRecord] = ()
    hypotheses: Sequence[HypothesisRecord] = ()
    experiments: Sequence[ExperimentRecord] = ()
    descriptions: Sequence[DescriptionRecord] = ()
    cost: Cost = Cost()
    skipped: str | None = None
    """Why there was nothing to investigate (a dead, dense or duplicate unit); makes the status 'skipped'."""


@dataclass(frozen=True)
class RecheckRecord:
    """A campaign's tests are about to be run again on another version of its subject."""

    campaign_id: int
    subject: SubjectRecord
    dtype: str
    openings: Sequence[Json]
    """Which claims the sealed split is opened for."""


@dataclass(frozen=True)
class RecheckedRecord:
    """What became of one description there; fields as in ``agent.recheck.Rechecked``."""

    description_id: int
    unit: str
    polarity: str
    label: str
    verdict: str
    status: str
    why: str
    moved_to: str | None
    also: Sequence[str]
    similarity: float
    slope: float
    write_cosine: float | None
    f1_old: float | None
    f1_new: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_active: int

    def __post_init__(self) -> None:
        _check("the polarity of a recheck", self.polarity, POLARITIES)
        _check("the status of a recheck", self.status, RECHECK_STATUSES)
        _check_finite(self, "similarity", "slope", "write_cosine", "f1_old", "f1_new", "difference", "low", "high")
