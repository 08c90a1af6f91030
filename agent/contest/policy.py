"""Policies: who thinks of the trials of a contest, and revises the rivals by what came of them.

The nodes of the graph (`agent.contest.nodes`) do the same whatever the policy: they choose among its trials those that
are expected to tell most for their cost, run them by the typed tools, weigh the rivals, drop those that are refuted,
merge those that say the same, write the notebook, and stop. A policy has three things to answer, each a function of a
`Context` alone, so that an investigation that was cut off goes on as if nothing had happened:

- `predictions`: how likely is the unit to be active at each probe, if a rival is right?
- `trials`: what could be asked next?
- `revise`: what do the answers so far make of the rivals?

    @register("mine")
    class MyPolicy:
        def predictions(self, context, rivals, probes): return rule_predictions(context, rivals, probes)
        def trials(self, context): return [Trial("Does it need the comma?", (Probe("a, b", 3),))]
        def revise(self, context): return []

A policy keeps nothing between calls but caches: the next one may come in another process. What it must remember of a
trial it notes in `Trial.aim`. Language models are asked through `context.desk.bench.kit`; the nodes see to it that this
is charged to the tail and the policy. Errors of an endpoint may pass through, as they do from an explainer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np

from agent.contest.beliefs import Floats, posterior
from agent.contest.edges import edge_predictions
from agent.contest.types import Contest, Outcome, Probe, Revision, Rival, Trial
from agent.desk import Desk
from explainers.predictors import predictor_of
from explainers.types import Evidence
from tools.errors import NeuroglossError

#: Least and greatest probability that a rule or a role gives: it may be wrong anywhere, or right nearly everywhere.
LAPSE = 0.05


@dataclass(frozen=True)
class Context:
    """All that a policy knows when it is asked."""

    desk: Desk
    """The bench, the unit, and `use` for tools; nothing of it leads to sealed data. Trials are run by the nodes: a
    policy that uses a tool while it thinks of trials pays for it, but leaves no row."""
    evidence: Evidence
    """What the explainers had: open splits, threshold, weights, output effects."""
    contest: Contest
    """Rivals with weights, rounds so far with what came of each trial."""
    seed: int
    """Of whatever the policy draws in this call; another one in every round."""

    @property
    def rivals(self) -> tuple[Rival, ...]:
        """The rivals in the running."""
        return self.contest.alive

    @property
    def weights(self) -> dict[str, float]:
        """Posterior weight of each rival in the running; they sum to 1."""
        found = posterior([rival.log_weight for rival in self.rivals])
        return {rival.key: float(weight) for rival, weight in zip(self.rivals, found, strict=True)}

    @property
    def best(self) -> Rival:
        """The rival with most weight; of equals the first."""
        return max(self.rivals, key=lambda rival: rival.log_weight)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All trials that were run, in order; those that failed have an `error`."""
        return self.contest.outcomes


class Policy(Protocol):
    """See the module."""

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
        """Probability that the unit is active at each probe if each rival is right.

        Returns:
            [n_rivals, n_probes], every value from `LAPSE` to 1 - `LAPSE` or so: never 0 or 1.
        """
        ...

    def trials(self, context: Context) -> list[Trial]:
        """What could be asked next, best first; those that are expected to tell too little are not run.

        Of a trial: the question, the probes (or another tool and its arguments), and `surprise`, the probability that
        the answer is one that no rival gives. Information and cost are filled in by the nodes, and so are predictions
        where the policy did not file its own. None: there is nothing left to ask.
        """
        ...

    def revise(self, context: Context) -> list[Revision]:
        """What becomes of the rivals, after a round. The nodes themselves drop what the evidence refutes."""
        ...


class PolicyError(NeuroglossError):
    """There is no such policy."""


_policies: dict[str, Callable[..., Policy]] = {}
_MODULES = ("agent.contest.pattern", "agent.contest.llm")
"""Modules that register policies when they are imported."""

F = TypeVar("F", bound=Callable[..., Policy])


def register(name: str) -> Callable[[F], F]:
    """Class (or factory) decorator: offers the policy under `name`. It is called with the spec's `contest.options`."""

    def decorate(factory: F) -> F:
        if name in _policies:
            raise ValueError(f"a policy named '{name}' is registered already")
        _policies[name] = factory
        return factory

    return decorate


def names() -> list[str]:
    """Names of all policies, sorted."""
    for module in _MODULES:
        import_module(module)
    return sorted(_policies)


def get(name: str, **options: Any) -> Policy:
    """Makes a policy.

    Raises:
        PolicyError: There is no policy of that name, or it does not take these options.
    """
    if name not in names():
        raise PolicyError(f"There is no policy '{name}' for the contest. There are: {', '.join(names())}.")
    try:
        return _policies[name](**options)
    except TypeError as error:
        raise PolicyError(f"The policy '{name}' does not take these options: {error}.") from error


class ProbeTexts:
    """Probes as a source of texts for predictors: context i is the i-th probe's text."""

    def __init__(self, context: Context, probes: Sequence[Probe]) -> None:
        subject = context.desk.bench.subject
        texts = list(dict.fromkeys(probe.text for probe in probes))
        self._number = {text: number for number, text in enumerate(texts)}
        self._pieces = [subject.pieces(subject.encode(text)) for text in texts]
        self.contexts = np.array([self._number[probe.text] for probe in probes], np.int64)
        """Context of each probe, [n]."""
        self.positions = np.array([probe.position for probe in probes], np.int64)
        """Position of each, [n]."""

    def pieces(self, context: int) -> list[str]:
        """Text of each of the context's tokens."""
        return self._pieces[context]


def rule_predictions(context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
    """Predictions of rivals that have a predictor: 1 - `LAPSE` where it predicts activity, else `LAPSE`.

    A rival that predicts nothing is undecided everywhere. Of a head's attention its role decides
    (`agent.contest.edges`).
    """
    found = np.zeros((len(rivals), len(probes)))
    edges = np.array([len(probe.sources) > 0 for probe in probes], np.bool_)
    for of_edges in (True, False):
        some = [probe for probe, is_edge in zip(probes, edges, strict=True) if is_edge == of_edges]
        if some and of_edges:
            found[:, edges] = edge_predictions(context.desk.bench.subject, rivals, some, LAPSE)
        elif some:
            found[:, ~edges] = _activity(context, rivals, some)
    return found


def _activity(context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
    texts, threshold = ProbeTexts(context, probes), context.evidence.threshold
    rows = []
    for rival in rivals:
        predictor = predictor_of(context.desk.bench.explainer, rival.explanation)
        if predictor is None:
            rows.append(np.full(len(probes), 0.5))
            continue
        said = np.asarray(predictor.predict(texts, texts.contexts, texts.positions)) > threshold
        rows.append(np.where(said, 1 - LAPSE, LAPSE))
    return np.stack(rows).astype(np.float64)
