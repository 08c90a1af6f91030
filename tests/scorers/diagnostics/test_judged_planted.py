"""Detection, fuzzing and intruder on units of a planted subject, whose truth is known, through a real index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from explainers.llm.kit import LlmKit
from scorers.diagnostics import DIAGNOSTICS
from scorers.diagnostics.judged import draw_items
from tests.scorers.diagnostics.bench import Planted, make_planted
from tests.scorers.diagnostics.judges import Fires, Mind, believing, on_words, setting_of
from tests.serving import ProgrammableServer
from tools.planted import UnitTruth

pytestmark = pytest.mark.slow
FAMILIES = ("token set", "bigram", "negative tail")
EACH = 3


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return make_planted(tmp_path_factory.mktemp("planted"))


@dataclass(frozen=True)
class Graded:
    """What one who knows all, a part, something else, or nothing of a unit takes it to fire on."""

    planted: Planted

    def tokens(self, truth: UnitTruth) -> list[str]:
        """Tokens on which a unit fires, the frequent ones first."""
        counts: dict[str, int] = {}
        for pieces in self.planted.fresh:
            for at in np.flatnonzero(truth.active(pieces)).tolist():
                counts[pieces[at]] = counts.get(pieces[at], 0) + 1
        return sorted(counts, key=lambda token: (-counts[token], token))

    def oracle(self, truth: UnitTruth) -> Fires:
        return truth.active

    def partial(self, truth: UnitTruth) -> Fires:
        """Every second token, where the truth holds; of a single one, four in five places."""
        known = self.tokens(truth)[::2]
        few = len(self.tokens(truth)) < 3
        return lambda pieces: (
            truth.active(pieces) & (on_words(known)(pieces) if not few else np.arange(len(pieces)) % 5 > 0)
        )

    def wrong(self, truth: UnitTruth) -> Fires:
        """Every third token, anywhere, and four rare ones that have nothing to do with it."""
        tokens = self.tokens(truth)
        counts = Counter(piece for pieces in self.planted.fresh for piece in pieces[1:] if piece not in tokens)
        return on_words([*tokens[::3], *(piece for piece, _ in counts.most_common()[-4:])])

    def random(self, truth: UnitTruth) -> Fires:
        """What some other unit fires on."""
        others = [t for t in units(self.planted) if not set(self.tokens(t)) & set(self.tokens(truth))]
        return others[sum(map(ord, truth.key)) % len(others)].active


def units(planted: Planted) -> list[UnitTruth]:
    return [planted.of_family(family, number) for family in FAMILIES for number in range(EACH)]


def values(planted: Planted, name: str) -> list[dict[str, float]]:
    """Means over units of each metric, by what the judge knows: all, a part, something else, nothing."""
    graded = Graded(planted)
    means = []
    for who in (graded.oracle, graded.partial, graded.wrong, graded.random):
        found: dict[str, list[float]] = {}
        for truth in units(planted):
            mind: Mind = believing(who(truth))
            for score in DIAGNOSTICS.get(name)(planted.claim(truth), setting(planted, mind)):
                found.setdefault(score.metric, []).extend([] if score.value is None else [score.value])
        assert all(len(some) >= 6 for some in found.values())
        means.append({metric: float(np.mean(some)) for metric, some in found.items()})
    return means


def setting(planted: Planted, mind: Mind) -> Any:
    return setting_of(mind, planted.view, others=planted.units, resamples=100)


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("detection", ["detection_balanced_accuracy", "detection_hard_balanced_accuracy"]),
        ("fuzzing", ["fuzzing_balanced_accuracy", "fuzzing_hard_balanced_accuracy"]),
        ("intruder", ["intruder_accuracy"]),
    ],
)
def test_better_knowledge_scores_higher_on_planted_units(planted: Planted, name: str, metrics: Sequence[str]) -> None:
    found = values(planted, name)
    for metric in metrics:
        means = [one[metric] for one in found]
        assert all(a > b for a, b in pairwise(means)), (metric, means)
        assert means[0] > 0.93
        assert means[-1] < (0.62 if name != "intruder" else 0.35)


def test_marks_of_active_texts_are_where_the_truth_holds(planted: Planted) -> None:
    for truth in units(planted):
        items = draw_items(planted.claim(truth), setting(planted, believing(on_words([]))))
        assert items.active
        for item in items.all:
            active = np.flatnonzero(truth.active(["<s>", *item.pieces])[1:]).tolist()
            # At the beginning of a window the truth may ask for what stands before it.
            assert set(active) - {0} == set(item.marked) - {0}, truth.key
            assert bool(item.marked) == (item.kind == "active")


def test_diagnostics_run_through_a_real_client_and_cost_what_the_server_billed(
    planted: Planted, llm_kit: LlmKit, llm_server: ProgrammableServer
) -> None:
    truth = planted.of_family("token set")
    words = "Fires on " + ", ".join(json.dumps(token) for token in Graded(planted).tokens(truth)[:12]) + "."
    claim = planted.claim(truth, words)
    given = setting(planted, believing(truth.active))
    given = type(given)(**{**given.__dict__, "kit": llm_kit})
    found = {}
    for name in ("detection", "fuzzing", "intruder", "embedding", "surprisal"):
        before = llm_server.billed
        scores = DIAGNOSTICS.get(name)(claim, given)
        spent = llm_server.billed
        tokens = spent.prompt_tokens + spent.completion_tokens - before.prompt_tokens - before.completion_tokens
        for score in scores:
            found[score.metric] = score
            assert score.reason is None
            assert score.unparseable == 0
            assert score.cost["calls"] == spent.answers - before.answers
            assert score.cost["tokens"] == tokens
    again = DIAGNOSTICS.get("detection")(claim, given)
    assert [score.value for score in again] == [found[score.metric].value for score in again]
    assert all(score.cost["calls"] == score.cost["tokens"] == 0 for score in again)
    assert found["detection_balanced_accuracy"].value == pytest.approx(1, abs=0.1)
    assert found["fuzzing_balanced_accuracy"].value == pytest.approx(1, abs=0.1)
    assert found["embedding_auroc"].value > 0.8
    assert found["surprisal_auroc"].value > 0.8
