"""Predictions that are filed before the seal is opened: what they say, that they cannot be changed, how they fare."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from agent.claims import Tried
from agent.predictions import expected_effect, expected_scores, settled
from agent.predictions.expectations import EXACT, expected_density, optimism
from agent.predictions.probes import EACH, FILLER, FRAMES, WINDOW, Composed, Hit, hit_at, make_probes, stock_of
from agent.predictions.settling import constructed_scores, prediction_rows
from agent.predictions.trials import Trial, edit_trials, shifts_of
from agent.triage import Tail
from explainers.output.claim import OutputClaim, TokenChange
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from scorers.metrics import Comparison
from tools.types import IntArray, Sample

WORDS = ["<s>", " a", " b", " c", " the", " cat", " dog", " sat", " of", " on"]
RULE = parse_rule('rule v1\n5 if token in {" cat", " dog"} and before[1] in {" the"}\nelse 0\n')


class Shelf:
    """Texts of ids into `WORDS`."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def ids(self, context: int) -> IntArray:
        return np.array(self.rows[context])

    def pieces(self, context: int) -> list[str]:
        return [WORDS[i] for i in self.rows[context]]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    rng = np.random.default_rng(0)
    rows = [[0, *rng.integers(1, len(WORDS), 60).tolist()] for _ in range(20)]
    for row in rows:
        row[30:32] = [4, 5]  # “ the cat” in each
    return Shelf(rows)


@pytest.fixture(scope="module")
def hits(shelf: Shelf) -> list[Hit]:
    found = [hit_at(RULE, shelf, context, 31, 1) for context in range(20)]
    return [hit for hit in found if hit is not None]


def test_a_hit_knows_what_the_rule_rests_on(shelf: Shelf, hits: list[Hit]) -> None:
    assert len(hits) == 20
    assert hits[0].ids == tuple(shelf.rows[0][1:32])
    assert hits[0].named == (0, -1)
    assert hits[0].members == {0: (" cat", " dog"), -1: (" the",)}
    everywhere = parse_rule("rule v1\n5 if position > 3\nelse 0\n")
    assert hit_at(everywhere, shelf, 0, 31, 1) is None, "a rule that names no token leaves nothing to edit"


def test_probes_of_each_kind_are_what_their_names_say(shelf: Shelf, hits: list[Hit]) -> None:
    stock = stock_of([(shelf, range(20))], [0])
    probes = make_probes(hits, stock, seed=3, room=64)
    kinds: dict[str, list[tuple[int, ...]]] = {}
    for probe in probes:
        assert probe.ids[0] == 0, "each begins as encoding begins a text"
        assert 0 not in probe.ids[1:]
        kinds.setdefault(probe.kind, []).append(probe.ids[1:])
    assert list(kinds) == ["fresh", "edited", "beside", "member", "template", "shuffled", "random"]
    assert all(len(set(own)) == len(own) <= EACH for own in kinds.values())
    windows = {hit.ids[-WINDOW:] for hit in hits}
    assert all(ids[-WINDOW:] in windows for ids in kinds["fresh"])
    for ids in kinds["edited"]:
        assert any(_differences(ids, window) in ({WINDOW - 1}, {WINDOW - 2}) for window in windows)
    for ids in kinds["beside"]:
        assert any((d := _differences(ids, w)) and d < set(range(WINDOW - 2)) for w in windows)
    assert all(ids[-2:] == (4, 6) for ids in kinds["member"]), "the other animal stands in its place"
    assert all(ids[-2:] == (4, 5) for ids in kinds["template"])
    assert all(len(ids) == FILLER + WINDOW for ids in (*kinds["shuffled"], *kinds["random"]))
    assert len(FRAMES) >= EACH


def _differences(ids: tuple[int, ...], other: tuple[int, ...]) -> set[int]:
    return {i for i, (one, two) in enumerate(zip(ids, other, strict=True)) if one != two}


def test_no_open_text_holds_a_probe_and_the_seed_decides_all(shelf: Shelf, hits: list[Hit]) -> None:
    stock = stock_of([(shelf, range(20))], [0])
    probes = make_probes(hits, stock, seed=3, room=64)
    texts = [" ".join(map(str, row)) for row in shelf.rows]
    for probe in probes:
        assert not any(f" {' '.join(map(str, probe.ids[1:]))} " in f" {text} " for text in texts)
    assert stock.holds(shelf.rows[7][5:9])
    assert make_probes(hits, stock, seed=3, room=64) == probes
    assert make_probes(hits, stock, seed=4, room=64) != probes
    assert {probe.kind for probe in make_probes([], stock, seed=3, room=64)} == {"random"}
    assert all(len(probe.ids) <= 12 for probe in make_probes(hits, stock, seed=3, room=12))


def test_the_rule_holds_where_probes_say_so(shelf: Shelf, hits: list[Hit]) -> None:
    probes = make_probes(hits, stock_of([(shelf, range(20))], [0]), seed=5, room=64)
    texts = Composed([[WORDS[i] for i in probe.ids] for probe in probes])
    last = np.array([len(probe.ids) - 1 for probe in probes])
    says = RulePredictor(RULE).predict(texts, np.arange(len(probes)), last) > 1
    by_kind = {kind: [bool(s) for s, p in zip(says, probes, strict=True) if p.kind == kind] for kind in
               ("fresh", "beside", "member", "template", "edited")}  # fmt: skip
    assert all(all(by_kind[kind]) for kind in ("fresh", "beside", "member", "template"))
    assert sum(by_kind["edited"]) <= 1, "a random token may be the other animal"


def test_edits_in_place_are_what_their_names_say(shelf: Shelf, hits: list[Hit]) -> None:
    stock = stock_of([(shelf, range(20))], [0])
    trials = edit_trials(hits[:5], stock, seed=3, room=64)
    assert [trial.kind for trial in trials] == 5 * ["cut", "cut", "beside", "stripped", "cropped"]
    for number, trial in enumerate(trials):
        whole = (0, *hits[number // 5].ids)
        assert trial.ids[0] == 0
        if trial.kind == "cropped":
            assert trial.ids[1:] == whole[-WINDOW:]
            continue
        changed = {place - len(whole) + 1 for place in _differences(trial.ids, whole)}
        match trial.kind:
            case "cut":
                assert changed <= {0, -1}
            case "beside":
                assert len(changed) <= 1
                assert changed <= set(range(-2, -WINDOW, -1))
            case _:
                assert changed <= set(range(-2, -WINDOW, -1))
                assert len(changed) > 3
    assert edit_trials(hits[:5], stock, seed=3, room=64) == trials
    assert all(len(trial.ids) <= 12 for trial in edit_trials(hits, stock, seed=3, room=12))


def test_probabilities_follow_what_edits_like_an_input_came_to() -> None:
    """A unit that goes on in half of its near misses, and that needs more than the rule names."""
    kinds = [*(16 * ["cut"]), *(8 * ["stripped"]), *(8 * ["beside"])]
    trials = [Trial(kind, (1,)) for kind in kinds]
    says = np.array([kind != "cut" for kind in kinds])
    active = np.array([*(8 * [True, False]), *(8 * [False]), *(8 * [True])])
    shifts = shifts_of(trials, says, np.where(says, 0.8, 0.02), active)
    assert (shifts.found["cut"].n, shifts.found["cut"].active) == (16, 8)
    inputs = ["edited", "template", "beside", "member", "random", "random", "shuffled"]
    said = np.array([False, True, True, True, False, True, False])
    told = dict(zip(inputs, shifts(inputs, said, np.where(said, 0.8, 0.02)).tolist(), strict=True))
    assert 0.2 < told["edited"] < 0.5
    assert told["template"] < 0.4
    assert told["beside"] > 0.8
    assert told["member"] == 0.8, "of another token the edits say nothing"
    assert told["random"] == 0.8
    assert told["shuffled"] == 0.02, "where nothing is left of the cause, it is as elsewhere"
    assert shifts_of([], np.zeros(0, bool), np.zeros(0), np.zeros(0, bool)).found == {}


def compared(active: Any, predicted: Any) -> Comparison:
    return Comparison(active * 1.0, active, predicted * 1.0, predicted, np.ones(len(active)))


def test_expected_scores_of_a_single_rival_are_those_of_refine_with_wider_ends() -> None:
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(50), 30)
    active = rng.random(1500) < 0.1
    rival = compared(active, active ^ (rng.random(1500) < 0.02))
    tried = Tried([{}], [rival], documents)
    narrow, wide = (expected_scores(tried, 0, ratio=ratio, seed=1) for ratio in (0.0, 3.0))
    assert narrow is not None
    assert wide is not None
    both = (rival.active & rival.predicted).sum()
    f1 = 2 * both / (rival.active.sum() + rival.predicted.sum())
    assert narrow["optimism"] == 0
    assert narrow["f1"]["value"] == wide["f1"]["value"] == pytest.approx(f1, rel=1e-3)
    for end in ("low", "high"):
        inner, outer = (abs(one["f1"][end] - f1) for one in (narrow, wide))
        assert outer == pytest.approx(min(2 * inner, 1 - f1 if end == "high" else 1), rel=0.01)
    assert expected_scores(Tried([{}], [None], documents), 0, ratio=1, seed=1) is None


def test_what_luck_added_is_taken_off_the_best_of_many() -> None:
    """Rivals that are equally good but for chance: the best of them does no better than the others on new text."""
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(40), 25)
    gaps, corrected = [], []
    for trial in range(60):
        active = rng.random(1000) < 0.05
        rivals = [compared(active, active ^ (rng.random(1000) < 0.03)) for _ in range(8)]
        f1 = [2 * (r.active & r.predicted).sum() / (r.active.sum() + r.predicted.sum()) for r in rivals]
        luck = optimism(rivals, documents, seed=trial)
        gaps.append(max(f1) - np.mean(f1))
        corrected.append(max(f1) - luck - np.mean(f1))
    assert abs(np.mean(corrected)) < 0.5 * np.mean(gaps)
    perfect = compared(active, active)
    assert optimism([perfect, rivals[0]], documents, seed=0) == pytest.approx(0, abs=1e-9)
    assert optimism([rivals[0]], documents, seed=0) == 0


def test_intervals_hold_what_comes_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held = total = 0
    for trial in range(150):
        refine, score = (draw_split(rng, n) for n in (60, 180))
        said = expected_scores(Tried([{}], [refine[0]], refine[1]), 0, ratio=1 / 3, seed=trial)
        assert said is not None
        own = score[0]
        came = 2 * (own.active & own.predicted).sum() / (own.active.sum() + own.predicted.sum())
        held += said["f1"]["low"] <= came <= said["f1"]["high"]
        total += 1
    assert 0.9 <= held / total <= 0.995


def draw_split(rng: np.random.Generator, n: int) -> tuple[Comparison, IntArray]:
    """A split of n documents whose rates of activity and of error differ between documents."""
    documents = np.repeat(np.arange(n), 20)
    rate, error = (rng.beta(2, beta, n)[documents] for beta in (30, 60))
    active = rng.random(len(documents)) < rate
    return compared(active, active ^ (rng.random(len(documents)) < error)), documents


def test_expected_density_is_the_weighted_share_above_the_threshold() -> None:
    values = np.array([2, 0, -3, 2, 0, 0], np.float32)
    weights = np.array([1, 9, 2, 1, 9, 8], np.float32)
    places = np.arange(6)
    samples = [
        Sample(places[:3], places[:3], values[:3], weights[:3], np.array([0, 0, 1])),
        Sample(places[3:], places[3:], values[3:], weights[3:], np.array([2, 3, 3])),
    ]
    plus = expected_density(samples, Tail("+", 1.0, 0.1), ratio=1, seed=0)
    minus = expected_density(samples, Tail("-", 1.0, 0.1), ratio=1, seed=0)
    assert plus is not None
    assert minus is not None
    assert plus["value"] == pytest.approx(2 / 30, rel=1e-3)
    assert minus["value"] == pytest.approx(2 / 30, rel=1e-3)
    assert plus["low"] <= plus["value"] <= plus["high"]
    nothing = [
        dataclasses.replace(one, **{n: getattr(one, n)[:0] for n in Sample.__dataclass_fields__}) for one in samples
    ]
    assert expected_density(nothing, Tail("+", 1.0, 0.1), ratio=1, seed=0) is None


def test_expected_effect_is_shrunk_by_what_was_lost_where_tokens_were_not_chosen() -> None:
    basis = {"shift": 0.5, "fitted": 0.4, "shift_error": 0.05, "off": None}
    claim = OutputClaim("changes", None, (TokenChange(1, " a", 0.6),), (TokenChange(2, " b", -0.4),), basis)
    said = expected_effect(claim)
    assert said is not None
    assert said["value"] == pytest.approx(0.5 * 0.8)
    assert said["high"] - said["value"] == pytest.approx(1.96 * 0.05 * 2**0.5, rel=0.01)
    assert (said["raised"], said["lowered"]) == ([" a"], [" b"])
    exact = expected_effect(dataclasses.replace(claim, basis={**basis, "shift_error": 0.0}))
    assert exact is not None
    assert exact["high"] - exact["value"] == pytest.approx(EXACT * exact["value"], rel=0.01)
    assert expected_effect(dataclasses.replace(claim, raised=(TokenChange(1, " a"),))) is None
    assert expected_effect(OutputClaim("nothing")) is None
    assert expected_effect(None) is None


def test_scores_on_made_up_inputs_are_against_always_saying_the_same() -> None:
    said, came = np.array([0.9, 0.1, 0.8, 0.2]), np.array([True, False, True, False])
    brier, log = constructed_scores(said, came, 0.25, seed=0)
    assert brier.value == pytest.approx((0.01 + 0.01 + 0.04 + 0.04) / 4)
    assert brier.null_mean == pytest.approx((0.75**2 * 2 + 0.25**2 * 2) / 4)
    assert (brier.headline, brier.p_value, brier.split) == (False, None, "constructed")
    assert log.value is not None
    assert log.low is not None
    assert log.low <= log.value


def test_rows_tell_what_was_foretold_and_what_came_and_decide_nothing() -> None:
    filed = {
        "claim": "c", "digest": "d", "sealed": None, "effect": None,
        "constructed": {"base": 0.1, "right": 0.9, "probes": [{"kind": "random", "ids": [1, 2], "probability": 0.9,
                                                               "says": True}]},
    }  # fmt: skip
    came = {
        "digest": "d",
        "sealed": {"f1": {"foretold": 0.8, "low": 0.7, "high": 0.9, "value": 0.75, "held": True}},
        "effect": None,
        "constructed": {"active": [True]},
        "scores": [{"metric": "prediction_brier", "value": 0.01, "null_mean": 0.81}],
    }
    row = prediction_rows(_unit(), "+", "+1", filed, came)
    assert row["arguments"]["predictions"] == "d"
    assert [one["outcome"] for one in row["observations"]] == [None, None]
    assert "f1 foretold 0.8 [0.7, 0.9], came 0.75" in row["observations"][0]["summary"]
    assert "right at 1 of 1" in row["observations"][1]["summary"]


def _unit() -> Any:
    from tools.types import UnitId

    return UnitId("mlp:0", 1)


def test_an_end_of_an_interval_belongs_to_it() -> None:
    filed = {
        "digest": "d", "constructed": None, "sealed": {"density": {"value": 0.1, "low": 0.05, "high": 0.1234}},
        "effect": {"metric": "output_shift", "value": 2.0, "low": 1.9, "high": 2.1},
    }  # fmt: skip
    found = settled(None, None, filed, [], 0.12344)  # type: ignore[arg-type]
    assert found["sealed"]["density"]["held"] is True, "compared as written down, with four digits"
    assert found["effect"]["held"] is None, "nothing came"
    assert settled(None, None, filed, [], 0.2)["sealed"]["density"]["held"] is False  # type: ignore[arg-type]
