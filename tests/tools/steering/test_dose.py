"""Dose and response: against runs one at a time, scipy's test, and what must not count as an effect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tools.errors import InterventionError, UnitError
from tools.interventions import Where, add_to_unit, run
from tools.steering import dose_response
from tools.steering.statistics import p_value, percentile, slope, trend
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

CONTEXTS = [[0, *range(20, 31)], [0, *range(60, 66)], [0, 9, 8, 7], [0, *range(100, 120)]]
UNIT = UnitId.parse("mlp:1:7")
AMOUNTS = [-2.0, 1.0, 3.0]


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def logits(subject: Subject, context: list[int], amount: float, *, everywhere: bool = False) -> torch.Tensor:
    where = Where(since=1) if everywhere else Where(positions=len(context) - 1)
    found = run(subject, torch.tensor([context]), None, [add_to_unit(subject, UNIT, amount, where)]).logits
    assert found is not None
    return found[0].double()


def test_a_curve_is_that_of_runs_one_at_a_time(gpt2: Subject) -> None:
    tokens = [5, 17]
    found = dose_response(gpt2, UNIT, CONTEXTS, AMOUNTS, tokens=tokens, controls=2, loss=True)
    assert [dose.amount for dose in found.doses] == [-2.0, 0.0, 1.0, 3.0]
    curve = []
    for dose in found.doses:
        ends = [(logits(gpt2, c, 0.0)[-1], logits(gpt2, c, dose.amount)[-1]) for c in CONTEXTS]
        change = [driven - plain for plain, driven in ends]
        curve.append(float(np.mean([float(one[tokens].mean() - one.mean()) for one in change])))
        assert dose.logit == pytest.approx(curve[-1], abs=1e-5)
        sure = [(plain.log_softmax(-1), driven.log_softmax(-1)) for plain, driven in ends]
        assert dose.logprob == pytest.approx(np.mean([float((b - a)[tokens].mean()) for a, b in sure]), abs=1e-5)
        assert dose.kl == pytest.approx(np.mean([float((a.exp() * (a - b)).sum()) for a, b in sure]), abs=1e-5)
        losses = []
        for amount in (0.0, dose.amount):
            runs = [(c, logits(gpt2, c, amount, everywhere=True).log_softmax(-1)) for c in CONTEXTS]
            losses.append(np.mean([-float(r[i - 1, c[i]]) for c, r in runs for i in range(2, len(c))]))
        assert dose.loss == pytest.approx(losses[1] - losses[0], abs=1e-5)
    assert found.slope == pytest.approx(np.polyfit([-2.0, 0.0, 1.0, 3.0], curve, 1)[0], abs=1e-6)
    assert found.effect == pytest.approx(curve[-1] - curve[0], abs=1e-5)
    assert found.doses[1].logit == found.doses[1].kl == found.doses[1].stream == found.doses[1].loss == 0.0
    assert found.tokens == tuple(gpt2.pieces(tokens))


def test_what_is_found_does_not_depend_on_the_company_of_texts(gpt2: Subject) -> None:
    whole = dose_response(gpt2, UNIT, CONTEXTS, AMOUNTS, tokens=[5], controls=3)
    alone = [dose_response(gpt2, UNIT, [context], AMOUNTS, tokens=[5], controls=3) for context in CONTEXTS]
    for i, dose in enumerate(whole.doses):
        assert dose.logit == pytest.approx(np.mean([one.doses[i].logit for one in alone]), abs=1e-5)
        assert dose.control == pytest.approx(np.mean([one.doses[i].control for one in alone]), abs=1e-5)


def test_own_tokens_are_found_on_other_texts_than_they_are_measured_on(gpt2: Subject) -> None:
    found = dose_response(gpt2, UNIT, CONTEXTS, [-3.0, 3.0], controls=4, own=2)
    change = torch.stack([logits(gpt2, c, 3.0)[-1] - logits(gpt2, c, 0.0)[-1] for c in CONTEXTS[::2]]).mean(0)
    change = (change - change.mean())[: len(gpt2.tokenizer)]
    high, low = change.topk(2), change.topk(2, largest=False)
    rises = float(high.values.mean()) >= -float(low.values.mean())
    assert found.tokens == tuple(gpt2.pieces((high if rises else low).indices.tolist()))
    assert found.sign == (1 if rises else -1)
    assert found.contexts == 2
    given = dose_response(
        gpt2, UNIT, CONTEXTS[1::2], [-3.0, 3.0], controls=0, tokens=(high if rises else low).indices.tolist()
    )
    assert found.slope == pytest.approx(given.slope, abs=1e-6)


def test_a_random_direction_follows_the_dose_no_more_than_others(gpt2: Subject) -> None:
    """Random directions are exchangeable with their controls: p-values are uniform, whatever the dose does."""
    generator = torch.Generator().manual_seed(11)
    values = []
    for i in range(60):
        gpt2.add_direction(f"r{i}", Site(1, "mlp_out"), torch.randn(32, generator=generator))
        unit = UnitId.parse(f"dir:r{i}")
        values.append(dose_response(gpt2, unit, CONTEXTS, [-1.0, 1.0], controls=19, seed=i))
    ps = np.array([one.p_value for one in values])
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert np.mean([one.follows() for one in values]) <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5
    assert np.mean([one.trend_p <= 0.05 for one in values]) > 0.5  # they all bend the logits monotonely


def test_no_dose_and_no_text_are_told(gpt2: Subject) -> None:
    with pytest.raises(InterventionError, match="strength other than 0"):
        dose_response(gpt2, UNIT, CONTEXTS, [0.0])
    with pytest.raises(InterventionError, match="two texts"):
        dose_response(gpt2, UNIT, CONTEXTS[:1], [1.0])
    with pytest.raises(InterventionError, match="none of the vocabulary"):
        dose_response(gpt2, UNIT, CONTEXTS, [1.0], tokens=[400])
    with pytest.raises(InterventionError, match="none of the vocabulary"):
        dose_response(gpt2, UNIT, CONTEXTS, [1.0], tokens=[])
    with pytest.raises(InterventionError, match="smaller strength"):
        dose_response(gpt2, UNIT, CONTEXTS, [1e38], tokens=[5])
    with pytest.raises(InterventionError, match="finite"):
        dose_response(gpt2, UNIT, CONTEXTS, [float("inf")], tokens=[5])
    with pytest.raises(UnitError):
        dose_response(gpt2, UnitId.parse("mlp:9:0"), CONTEXTS, [1.0])


def test_a_curve_without_controls_claims_nothing(gpt2: Subject) -> None:
    found = dose_response(gpt2, UNIT, CONTEXTS, AMOUNTS, tokens=[5], controls=0)
    assert found.p_value is None
    assert found.percentile is None
    assert not found.follows()
    assert found.doses[0].control is None


def test_curves_are_plain_values(gpt2: Subject) -> None:
    found = dose_response(gpt2, UNIT, CONTEXTS, AMOUNTS, controls=2, loss=True)
    assert json.loads(json.dumps(found.to_json()))["doses"][0]["amount"] == -2.0
    again = dose_response(gpt2, UNIT, CONTEXTS, AMOUNTS, controls=2, loss=True)
    assert again == found


def test_trends_are_pages() -> None:
    generator = np.random.default_rng(0)
    amounts = [-2.0, -1.0, 0.0, 1.0, 2.0]
    for strength in (0.0, 0.3, 1.0):
        responses = strength * np.array(amounts) + generator.standard_normal((6, 5))
        found, p = trend(amounts, responses, 1)
        expected = stats.page_trend_test(responses, method="exact")
        assert p == pytest.approx(expected.pvalue, abs=4 * (expected.pvalue / 4000) ** 0.5 + 5e-4)
        each = [stats.spearmanr(amounts, row).statistic for row in responses]
        assert found == pytest.approx(np.mean(each))
        assert trend(amounts, -responses, -1)[1] == pytest.approx(p, abs=0.02)


def test_slopes_and_places_among_controls() -> None:
    assert slope([0.0, 1.0, 2.0], np.array([[1.0, 3.0, 5.0], [0.0, 0.0, -3.0]])) == pytest.approx([2.0, -1.5])
    null = np.array([1.0, 2.0, 3.0])
    assert p_value(2.5, null) == 0.5
    assert p_value(3.0, null) == 0.5
    assert p_value(9.0, null) == 0.25
    assert percentile(2.0, null) == pytest.approx(50.0)
    assert percentile(9.0, null) == 100.0
