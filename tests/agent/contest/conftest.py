"""A planted subject whose units have known rules, and investigations of single units with rivals made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent import load_spec
from agent.bench import Bench
from agent.desk import Desk
from agent.investigation import build_graph, investigate
from agent.state import State
from explainers.types import Evidence, Explanation, Recorder
from tools.corpora import load_corpus
from tools.index import IndexSettings, SplitView, build_index
from tools.planted import UnitTruth, build, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId

NAME = "planted:seed=0"
#: One of each kind: the rules are looked up by `truth_of`.
UNITS = (
    "mlp:2:135", "mlp:1:405", "mlp:2:462", "mlp:2:434", "mlp:2:395", "mlp:2:137", "mlp:0:508", "mlp:0:342",
    "head:0:0", "head:0:1", "head:1:1", "head:2:0",
)  # fmt: skip


def explanation(rule: str, name: str = "by hand") -> Explanation:
    """A description that is a rule and nothing else."""
    return Explanation(name, "a rule", "Fires by a rule.", None, rule, None, {})


class ByHand:
    """An explainer that says what it is told to say."""

    name = "by hand"

    def __init__(self, rules: Sequence[str | Explanation]) -> None:
        self.rules = rules

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        return [explanation(rule) if isinstance(rule, str) else rule for rule in self.rules]


@dataclass
class Arena:
    """Investigates units of the planted subject."""

    bench: Bench
    truths: dict[str, UnitTruth]

    def desk(self, unit: str, rules: Sequence[str | Explanation] | None = None, **contest: Any) -> Desk:
        """A desk for one unit; with rules, its explainer says these. `contest`: settings of the spec's section."""
        settings = self.bench.spec.contest.model_copy(update=contest)
        bench = replace(self.bench, spec=self.bench.spec.model_copy(update={"contest": settings}))
        if rules is not None:
            bench = replace(bench, explainer=ByHand(rules))
        keeper = bench.index.keeper(lambda opening: None)

        def open_sealed(claim: str, polarity: str, predictions: str | None = None) -> SplitView:
            return keeper.open(Split.SCORE, claim=claim, polarity=polarity, by="simulation")

        return Desk(bench, UnitId.parse(unit), open_sealed, lambda: False)

    def investigate(self, unit: str, rules: Sequence[str | Explanation] | None = None, **contest: Any) -> State:
        """The state at the end."""
        return investigate(build_graph(InMemorySaver()), self.desk(unit, rules, **contest), unit)


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    spec = load_spec(None, {
        "subject": NAME, "corpus": f"{NAME},docs=1500", "units": list(UNITS), "device": "cpu", "resamples": 60,
        "null_units": 4, "controls": 0.0, "output": "off", "predictions": "off",
    })  # fmt: skip
    subject: Subject = load_subject(NAME, device="cpu")
    units = [UnitId.parse(unit) for unit in UNITS]
    home = tmp_path_factory.mktemp("contest")
    index = build_index(subject, load_corpus(spec.corpus), units, home, IndexSettings())
    bench = Bench.open(spec, subject, index, units, ByHand(()))
    yield Arena(bench, load_truth(build(planted_spec(NAME))))
    bench.close()


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], None]:
    """Offers a policy under a name, for one test."""
    from agent.contest import policy as policies

    policies.names()

    def offer(name: str, factory: Callable[..., Any]) -> None:
        monkeypatch.setitem(policies._policies, name, factory)

    return offer
