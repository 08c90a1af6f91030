"""Interchange between texts that differ in what a description says: planted units, and outcomes worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scorers.errors import ScorerError
from scorers.interchange import Interchange, Pair, interchange, interchange_scores, replaced_pairs
from scorers.types import Score
from tests.tools.architectures import make_case
from tools.attribution.impute import PairImputer
from tools.interventions import Where, run, set_unit
from tools.planted import UnitTruth, build, documents, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


class Planted:
    def __init__(self) -> None:
        spec = planted_spec("planted:seed=3")
        self.subject = load_subject(spec.text, device="cpu")
        self.truth = load_truth(build(spec))
        self.texts = [self.subject.encode(one.text) for one in documents(spec, fresh=31, n=150)]
        self.imputer = PairImputer(self.subject, self.texts)

    def measured(self, truth: UnitTruth) -> Interchange:
        """The unit's own rule as the description; the tokens that it acts on, or any others, as outcomes."""
        assert truth.cases

        def holds(ids: Sequence[int], position: int) -> bool:
            return bool(truth.active(self.subject.pieces(ids))[position])

        places = []
        for ids in self.texts:
            active = np.flatnonzero(truth.active(self.subject.pieces(ids))[1:]) + 1
            places += [(ids, int(active[0]))] if len(active) else []
        pairs = replaced_pairs(self.subject, places[:12], holds, self.imputer)
        acted = self._token(truth)
        other = 5 if acted != 5 else 6
        told = []
        for pair in pairs:
            assert holds(pair.base, pair.position) != holds(pair.source, pair.position)
            ends = (acted, other) if self._raised(truth, holds(pair.source, pair.position)) else (other, acted)
            told.append(replace(pair, source_token=ends[0], base_token=ends[1]))
        return interchange(self.subject, [UnitId.parse(truth.unit)], told, draws=19)

    def _token(self, truth: UnitTruth) -> int:
        pieces = self.subject.pieces(range(self.subject.vocabulary))
        effect = truth.effect
        return pieces.index(effect.tokens[0]) if effect is not None else pieces.index(" the")

    @staticmethod
    def _raised(truth: UnitTruth, now: bool) -> bool:
        return now == (truth.effect is None or truth.effect.sign > 0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return Planted()


@pytest.mark.slow
def test_a_unit_that_acts_carries_the_outcome_and_one_that_does_not_carries_none(planted: Planted) -> None:
    acting = [t for t in planted.truth.values() if t.family == "cause is not effect"][:3]
    inert = [t for t in planted.truth.values() if t.family == "inert look-alike"][:3]
    found = {t.key: planted.measured(t) for t in (*acting, *inert)}
    usable = [t for t in acting if found[t.key].shift is not None]
    assert len(usable) >= 2
    for truth in usable:
        one = found[truth.key]
        assert one.shift is not None
        assert one.null_shift is not None
        assert one.shift > 0.1, truth.key
        assert one.null_shift.p_value <= 2 / 20, truth.key
        assert one.low is not None
        assert one.low > 0
    silent = [found[t.key] for t in inert if found[t.key].shift is not None]
    assert silent
    for one in silent:
        assert abs(one.shift) < 0.02  # type: ignore[arg-type]
        assert one.switch == 0.0


def test_shift_is_the_share_of_the_way_worked_out_by_hand(gpt2: Subject) -> None:
    generator = np.random.default_rng(0)
    base, source = (tuple(int(i) for i in generator.integers(2, 400, n)) for n in (7, 9))
    pairs = [Pair(base, source, 4, 6, document=i) for i in range(5)]
    unit = UnitId.parse("mlp:1:7")
    found = interchange(gpt2, [unit], pairs, draws=3)
    site = Site(1, "mlp_act")
    logits = {text: run(gpt2, torch.tensor([text]), read=[site]) for text in (base, source)}
    own, other = (int(logits[text].logits[0, -1].argmax()) for text in (base, source))  # type: ignore[index]
    value = float(logits[source][site][0, 6, 7])
    edited = run(gpt2, torch.tensor([base]), None, [set_unit(gpt2, unit, value, Where(positions=[4]))]).logits
    before, after, there = (
        float(one[0, -1, other] - one[0, -1, own])  # type: ignore[index]
        for one in (logits[base].logits, edited, logits[source].logits)
    )
    assert own != other
    assert found.shift == pytest.approx((after - before) / (there - before), abs=1e-4)
    assert found.null_shift is None  # three units are too few to say


def test_padding_and_company_change_nothing(tiny_gpt2_folder: Path) -> None:
    subject, generator = make_case("gpt2", tiny_gpt2_folder).subject, np.random.default_rng(1)
    pairs = []
    for i in range(8):
        base, source = (tuple(int(t) for t in generator.integers(2, 400, int(generator.integers(5, 14)))) for _ in "ab")
        pairs.append(Pair(base, source, len(base) - 1, len(source) - 1, document=i))
    group = [UnitId("head:1", 2), UnitId("mlp:1", 3)]
    together = interchange(subject, group, pairs, draws=2)
    alone = [interchange(subject, group, [pair] * 5, draws=2) for pair in pairs]
    expected = [one.shifts[0] for one in alone if one.shifts]
    assert len(expected) >= 5
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(together.shifts, expected, atol=1e-5)


def test_scores_say_what_they_rest_on_and_why_there_is_none(gpt2: Subject) -> None:
    text = (3, 4, 5, 6)
    same = [Pair(text, text, 2, 2, document=i) for i in range(8)]
    found = interchange(gpt2, [UnitId("mlp:1", 3)], same, draws=2)
    assert found.shift is None
    assert found.unusable == 8
    scores = interchange_scores(found, split="score", predictor="rule")
    assert [score.metric for score in scores] == ["interchange_shift", "interchange_switch"]
    assert all(score.value is None and "0 of 8" in str(score.reason) for score in scores)
    for score in scores:
        assert Score.from_json(json.loads(json.dumps(score.to_json()))) == score
    json.dumps(found.to_json(), allow_nan=False)


def test_mistakes_are_told(gpt2: Subject) -> None:
    with pytest.raises(ScorerError, match="position 0"):
        interchange(gpt2, [UnitId("mlp:1", 3)], [Pair((3, 4), (5, 6), 0, 1)])
    with pytest.raises(ScorerError, match="at least one unit"):
        interchange(gpt2, [], [])
