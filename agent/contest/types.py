"""What a contest is made of: rivals, probes, trials of a round, revisions. Plain values, kept in the state as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.plain import plain
from agent.state import Json
from explainers.types import Explanation

#: What can be done to rivals.
REVISIONS = ("new", "refine", "split", "merge", "drop")
#: Rivals that are still in the running have this status.
ALIVE = "alive"
#: Rivals that say the same as one in the running.
MERGED = "merged"


def _plain(value: Any) -> Json:
    found: Json = plain(asdict(value))
    return found


@dataclass(frozen=True)
class Rival:
    """One description of a tail that is in the running, or was."""

    key: str
    """Of its hypothesis, as `agent.state.hypothesis_key` makes them: '+1', '+2', …"""
    explanation: Explanation
    origin: str
    """The explainer that made it, or what a policy made it by: 'refined', 'split', 'output', …"""
    parents: tuple[str, ...] = ()
    """Keys of the rivals that it was made from."""
    log_weight: float = 0.0
    """Logarithm of its posterior weight, prior included, not normalised: over all trials that were run, those before
    it was there among them."""
    log_e: float = 0.0
    """Logarithm of the evidence against it (an e-process over the trials since it is there); see
    `agent.contest.beliefs`."""
    status: str = ALIVE
    """'alive', 'dropped', 'merged', 'refined' or 'split'."""
    why: str = ""
    """Why it is no longer alive."""
    fit: float | None = None
    """F1 on the refine split, at the corpus's prevalence; None where it is undefined or was not asked for."""

    @property
    def alive(self) -> bool:
        """Whether it is still in the running."""
        return self.status == ALIVE

    def to_json(self) -> Json:
        """Plain values; `from_json` reads them."""
        return _plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rival:
        """The rival that `to_json` wrote."""
        return cls(**{**data, "explanation": Explanation(**data["explanation"]), "parents": tuple(data["parents"])})

    def ended(self, status: str, why: str) -> Rival:
        """No longer alive."""
        return replace(self, status=status, why=why)


@dataclass(frozen=True)
class Probe:
    """A text, and the place in it where it is asked whether the unit is active, or where a head attends from there."""

    text: str
    position: int
    """Of the token, counted as the subject's tokenizer counts (its beginning-of-sequence token is 0)."""
    sources: tuple[int, ...] = ()
    """Positions, of a probe that asks whether a head attends to these from there; see `agent.contest.edges`."""


@dataclass(frozen=True)
class Trial:
    """An experiment of a round: one use of a typed tool, and what the rivals expect of it."""

    question: str
    """What it is for, in a sentence: it stands in the notebook."""
    probes: tuple[Probe, ...] = ()
    """Where the unit is read, by the tool `probe`, or a head's attention by `edges`. None for a trial that uses another
    tool."""
    tool: str = "probe"
    """Of `agent.toolbox`."""
    arguments: Json = field(default_factory=dict)
    """Of another tool; those of `probe` and `edges` are made from the probes."""
    surprise: float = 0.0
    """The policy's probability that the answer is one that no rival gives: an end that all put elsewhere, a token that
    none names."""
    aim: Json = field(default_factory=dict)
    """The policy's own note of what it asks, to read the answer by. The contest does not look at it."""
    predictions: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By rival: the probability that the unit is active at each probe. A policy that files them itself, before the
    trial is run, gives those of all rivals in the running; else they are what `Policy.predictions` says."""
    refused: str = ""
    """Why it cannot be run, where a policy was asked for what cannot be done: it stays a failed row."""
    information: float = 0.0
    """Bits that the answer is expected to bring."""
    passes: int = 1
    """Forward passes that it is expected to take."""

    @property
    def ratio(self) -> float:
        """Bits for each forward pass."""
        return self.information / max(self.passes, 1)

    def asked(self, unit: str) -> Json:
        """Arguments of its tool, for a unit."""
        if not self.probes:
            return self.arguments
        places: Json = {
            "unit": unit, "texts": [probe.text for probe in self.probes],
            "positions": [probe.position for probe in self.probes],
        }  # fmt: skip
        return {**places, "sources": [list(probe.sources) for probe in self.probes]} if self.tool == "edges" else places

    def to_json(self) -> Json:
        """Plain values; `from_json` reads them."""
        return _plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """The trial that `to_json` wrote."""
        return cls(**{
            **data,
            "probes": tuple(Probe(**{**probe, "sources": tuple(probe["sources"])}) for probe in data["probes"]),
            "predictions": {key: tuple(row) for key, row in data["predictions"].items()},
        })  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A trial that was run, and what came of it."""

    trial: Trial
    error: str | None
    """What the tool said was wrong; None where it has an answer."""
    values: tuple[float, ...] = ()
    """Activation at each probe, as the tool `probe` reads it, or attention to its sources."""
    active: tuple[bool, ...] = ()
    """Whether the unit is active there: on the tail's side of zero, above its threshold. Of attention: whether it is as
    much as a role claims."""
    data: Any = None
    """The answer of another tool."""
    passes: int = 0
    """Forward passes that it took."""

    def to_json(self) -> Json:
        """Plain values; `from_json` reads them."""
        return _plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote."""
        return cls(**{
            **data, "trial": Trial.from_json(data["trial"]), "values": tuple(data["values"]),
            "active": tuple(data["active"]),
        })  # fmt: skip


@dataclass(frozen=True)
class Revision:
    """What a policy does to the rivals after a round."""

    kind: str
    """One of `REVISIONS`. 'refine' puts one explanation in the place of its rival, 'split' several; 'merge' puts one in
    the place of several; 'new' adds one beside the others; 'drop' takes one out."""
    reason: str
    """In a sentence."""
    rivals: tuple[str, ...] = ()
    """Keys of the rivals concerned; parents of a new one."""
    explanations: tuple[Explanation, ...] = ()
    """What is put in their place."""
    origin: str = ""
    """For 'new': where it comes from."""

    def __post_init__(self) -> None:
        if self.kind not in REVISIONS:
            raise ValueError(f"a revision is one of {', '.join(REVISIONS)}, not '{self.kind}'")
        if not self.reason:
            raise ValueError("a revision says why")
        wanted = {"new": 1, "refine": 1, "merge": 1, "drop": 0}.get(self.kind)
        if wanted is not None and len(self.explanations) != wanted:
            raise ValueError(f"a revision '{self.kind}' comes with {wanted} explanations")


@dataclass(frozen=True)
class Contest:
    """The contest of one tail, between two steps."""

    rivals: tuple[Rival, ...]
    rounds: tuple[tuple[Outcome, ...], ...] = ()
    planned: tuple[Trial, ...] = ()
    """Trials of the round in hand."""
    answers: tuple[Json, ...] = ()
    """What their tools gave (`ToolResult.to_json`), before it was looked at."""
    log_noise: float = 0.0
    """Logarithm of the weight of 'no rival is right: every probe is a toss of a coin'."""
    idle: int = 0
    """Rounds in a row that changed neither weights nor rivals."""
    passes: int = 0
    """Forward passes that trials took so far."""
    stopped: str | None = None
    """Why it is over."""

    @property
    def alive(self) -> tuple[Rival, ...]:
        """The rivals that are still in the running."""
        return tuple(rival for rival in self.rivals if rival.alive)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All trials that were run, in order."""
        return tuple(outcome for round_ in self.rounds for outcome in round_)

    def to_json(self) -> Json:
        """Plain values; `from_json` reads them. Rivals by key."""
        return {
            **_plain(replace(self, rivals=(), rounds=(), planned=())),
            "rivals": {rival.key: rival.to_json() for rival in self.rivals},
            "rounds": [[outcome.to_json() for outcome in round_] for round_ in self.rounds],
            "planned": [trial.to_json() for trial in self.planned],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contest:
        """The contest that `to_json` wrote."""
        return cls(**{
            **data,
            "rivals": tuple(Rival.from_json(rival) for rival in data["rivals"].values()),
            "rounds": tuple(tuple(Outcome.from_json(one) for one in round_) for round_ in data["rounds"]),
            "planned": tuple(Trial.from_json(trial) for trial in data["planned"]),
            "answers": tuple(data["answers"]),
        })  # fmt: skip
