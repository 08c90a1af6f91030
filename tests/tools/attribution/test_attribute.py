"""Attributions to tokens and parts: planted causes are found, and what cannot be attributed is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tools.architectures import make_case, tokens
from tools.ablation import Reference
from tools.attribution import INPUT, Attribution, Method, Options, TokenTarget, UnitTarget, attribute
from tools.attribution.anchors import divergence, lower_bound, upper_bound
from tools.attribution.faithful import faithfulness
from tools.attribution.impute import ModelImputer, PairImputer, imputer_for
from tools.attribution.tcav import sensitivity
from tools.errors import UnitError
from tools.interventions import run
from tools.planted import UnitTruth, build, documents, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import BoolArray, Site, UnitId
from tools.units import activations


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def some_reference() -> Reference:
    return Reference(tuple(map(tuple, tokens(4).tolist())))


class Planted:
    def __init__(self) -> None:
        spec = planted_spec("planted:seed=2")
        self.subject = load_subject(spec.text, device="cpu")
        self.truth = load_truth(build(spec))
        self.texts = [self.subject.encode(one.text) for one in documents(spec, fresh=21, n=60)]
        # Tokens in random order: what stands beside a token says nothing of it, so that only the rule's own are enough.
        drawn = [token for one in documents(spec, fresh=22, n=150) for token in self.subject.encode(one.text)[1:]]
        shuffled = np.random.default_rng(0).permutation(drawn)
        self.reference = Reference((tuple(int(token) for token in shuffled),))

    def where_active(self, truth: UnitTruth) -> tuple[list[int], int] | None:
        """A text and a position, not among the first, at which a unit's rule holds."""
        for ids in self.texts:
            active = truth.active(self.subject.pieces(ids))
            active[:3] = False
            if active.any():
                return ids, int(np.flatnonzero(active)[0])
        return None

    def attribute(self, truth: UnitTruth, method: Method, *, check: bool = False) -> tuple[Attribution, int] | None:
        place = self.where_active(truth)
        if place is None:
            return None
        target = UnitTarget(UnitId.parse(truth.unit), place[1])
        options = Options(reference=self.reference, check=check, draws=4, window=12)
        return attribute(self.subject, place[0], target, method, options=options), place[1]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return Planted()


def strongest(found: Attribution) -> int:
    assert found.positions is not None
    return found.positions[int(np.argmax(found.scores * np.sign(found.value)))]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["token set", "negative tail", "inert look-alike"])
def test_the_token_that_the_rule_names_comes_first(planted: Planted, family: str) -> None:
    units = [one for one in planted.truth.values() if one.family == family]
    tried = [found for one in units if (found := planted.attribute(one, "occlusion"))]
    assert len(tried) >= 0.9 * len(units)
    assert all(strongest(found) == position for found, position in tried)


@pytest.mark.slow
def test_integrated_gradients_and_anchors_find_it_too(planted: Planted) -> None:
    units = [one for one in planted.truth.values() if one.family == "token set"][:6]
    for method in ("ig", "anchor"):
        tried = [found for one in units if (found := planted.attribute(one, method))]  # type: ignore[arg-type]
        assert all(strongest(found) == position for found, position in tried), method
        if method == "anchor":
            assert all(found.anchor is not None and found.anchor.positions == (place,) for found, place in tried)
            assert all(found.anchor.certified and found.anchor.precision >= 0.95 for found, _ in tried)  # type: ignore[union-attr]


@pytest.mark.slow
def test_an_anchor_of_a_negative_activation_is_found_as_well(planted: Planted) -> None:
    one = next(one for one in planted.truth.values() if one.family == "negative tail" and planted.where_active(one))
    tried = planted.attribute(one, "anchor", check=True)
    assert tried is not None
    assert tried[0].value < 0
    assert strongest(tried[0]) == tried[1]
    assert tried[0].check is not None
    assert tried[0].check.sufficiency == pytest.approx(0.0, abs=0.05)


@pytest.mark.slow
def test_an_anchor_of_a_rule_of_two_tokens_is_those_two(planted: Planted) -> None:
    units = [one for one in planted.truth.values() if one.family == "bigram"][:5]
    tried = [found for one in units if (found := planted.attribute(one, "anchor"))]
    assert len(tried) >= 4
    for found, position in tried:
        assert found.anchor is not None
        assert found.anchor.certified
        assert found.anchor.positions == (position - 1, position)


def test_a_true_order_is_faithful_and_a_false_one_is_not(planted: Planted) -> None:
    units = [one for one in planted.truth.values() if one.family == "token set"][:4]
    for one in units:
        tried = planted.attribute(one, "occlusion", check=True)
        if tried is None or len(tried[0].scores) < 8:
            continue
        check = tried[0].check
        assert check is not None
        assert check.sufficiency == pytest.approx(0.0, abs=0.05)
        assert check.insertion is not None
        assert check.insertion > check.random_insertion  # type: ignore[operator]
        assert check.deletion < check.random_deletion  # type: ignore[operator]


def test_faithfulness_is_that_of_a_sum_worked_out_by_hand() -> None:
    parts = np.array([4.0, 3.0, 2.0, 1.0])

    def total(present: BoolArray) -> np.ndarray:
        return present @ parts

    best, worst = (faithfulness(scores, total, draws=2, orders=200) for scores in (parts, -parts))
    assert best.sizes == (0, 1, 2, 3, 4)
    np.testing.assert_allclose(best.inserted, [0, 4, 7, 9, 10])
    np.testing.assert_allclose(best.deleted, [10, 6, 3, 1, 0])
    # Areas over quarters by the trapezoid rule: (0/2 + .4 + .7 + .9 + 1/2) / 4.
    assert best.insertion == pytest.approx(0.625)
    assert best.deletion == pytest.approx(0.375)
    # The first 1, 5, 10 and 20 % are one part, 50 % are two.
    assert best.sufficiency == pytest.approx((4 * 0.6 + 0.3) / 5)
    assert best.comprehensiveness == pytest.approx((4 * 0.4 + 0.7) / 5)
    assert best.random_insertion == pytest.approx(0.5, abs=0.02)
    assert best.p_insertion < 0.1  # type: ignore[operator]
    assert worst.p_insertion > 0.9  # type: ignore[operator]
    nothing = faithfulness(parts, lambda present: np.ones(len(present)))
    assert nothing.insertion is None
    assert faithfulness(parts[:1], lambda present: present @ parts[:1]).p_insertion == 1.0


def test_the_logit_of_normxlogit_at_the_last_token_is_the_models(gpt2: Subject) -> None:
    ids = tokens()[0].tolist()
    stream = Site(0, "resid_pre")
    found = run(gpt2, torch.tensor([ids]), read=[stream])
    assert found.logits is not None
    norms = found[stream][0].norm(dim=-1)
    for foil in (None, 9):
        scores = attribute(gpt2, ids, TokenTarget(7, foil), "normxlogit", options=Options(check=False)).scores
        logits = found.logits[0, :, 7] - (0 if foil is None else found.logits[0, :, 9])
        np.testing.assert_allclose(scores, (norms * logits).numpy(), rtol=1e-5, atol=1e-6)


def test_occlusion_is_the_mean_over_replacements(gpt2: Subject) -> None:
    ids, reference = tokens()[0].tolist(), tokens(6).tolist()
    known = Reference(tuple(map(tuple, reference)))
    found = attribute(gpt2, ids, TokenTarget(7), "occlusion", options=Options(reference=known, check=False))
    imputer, rng, expected = PairImputer(gpt2, reference), np.random.default_rng(0), []
    for place in range(len(ids)):
        variants = [[*ids[:place], int(other), *ids[place + 1 :]] for other in imputer.others(ids, place, 8, rng)]
        assert all(variant[place] != ids[place] for variant in variants)
        logits = run(gpt2, torch.tensor(variants)).logits
        assert logits is not None
        expected.append(found.value - float(logits[:, -1, 7].mean()))
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.p_values is not None
    assert found.p_values.min() >= 2 / 9


def test_pairs_are_drawn_as_often_as_they_were_counted(gpt2: Subject) -> None:
    reference = [[5, 10, 6], [5, 10, 6], [5, 11, 6], [8, 11, 7], [8, 12, 7], [5, 12, 7]]
    imputer = PairImputer(gpt2, reference)
    weights = dict(zip(imputer.tokens.tolist(), imputer.weights(5, 6).tolist(), strict=True))
    p, n, s = {10: 2 / 18, 11: 2 / 18, 6: 3 / 18}, {10: 2, 11: 2}, 0.5
    for token, before, after in ((10, 2, 2), (11, 1, 1)):
        expected = (before + s * p[token]) * (after + s * p[6]) / (n[token] + s)
        assert weights[token] == pytest.approx(expected)
    rng = np.random.default_rng(0)
    kept = np.tile([True, False, True], (400, 1))
    drawn = imputer.fill([5, 11, 6], kept, rng)
    assert set(drawn[:, 0].tolist()) == {5}
    share = (drawn[:, 1] == 10).mean()
    assert share == pytest.approx(weights[10] / sum(weights.values()), abs=0.08)


def test_a_decoder_draws_replacements_from_its_own_distribution(gpt2: Subject) -> None:
    imputer, ids = ModelImputer(gpt2), [0, *tokens()[0, :5].tolist()]
    logits = run(gpt2, torch.tensor([ids])).logits
    assert logits is not None
    scores = logits[0, 2].double().clone()
    scores[gpt2.tokenizer.all_special_ids] = -torch.inf
    p = scores.softmax(-1)
    kept = np.array([[True, True, True, False, True, True]]).repeat(3000, 0)
    drawn = imputer.fill(ids, kept, np.random.default_rng(1))
    counts = np.bincount(drawn[:, 3], minlength=400)
    top = int(p.argmax())
    assert abs(counts[top] / 3000 - float(p[top])) < 4 * (float(p[top]) / 3000) ** 0.5
    assert not counts[gpt2.tokenizer.all_special_ids].any()
    assert (drawn[:, [0, 1, 2, 4, 5]] == np.array(ids)[[0, 1, 2, 4, 5]]).all()
    # What is drawn earlier is seen by what is drawn later.
    kept[:, 4] = False
    drawn = imputer.fill(ids, kept, np.random.default_rng(1))
    first = int(np.bincount(drawn[:, 3]).argmax())
    rows = drawn[drawn[:, 3] == first]
    after = run(gpt2, torch.tensor([[*ids[:3], first]])).logits
    assert after is not None
    scores = after[0, -1].double().clone()
    scores[gpt2.tokenizer.all_special_ids] = -torch.inf
    best = int(scores.argmax())
    assert abs((rows[:, 4] == best).mean() - float(scores.softmax(-1)[best])) < 5 * (0.25 / len(rows)) ** 0.5


def test_an_encoder_draws_replacements_at_a_mask(tiny_gpt2_folder: Path) -> None:
    subject = make_case("bert", tiny_gpt2_folder).subject
    with pytest.raises(UnitError, match="no mask token"):
        imputer_for(subject)
    subject.tokenizer.mask_token = "<pad>"
    ids = tokens()[0].tolist()
    target = UnitTarget(UnitId.parse("mlp:1:3"), 4)
    found = attribute(subject, ids, target, "occlusion", options=Options(window=3, draws=4))
    assert found.positions == (3, 4, 5)
    assert len(found.tokens) == len(ids)
    assert found.check is not None


def test_bounds_of_a_precision_are_those_of_its_divergence() -> None:
    assert lower_bound(1.0, 59, np.log(20)) == pytest.approx(0.95, abs=2e-3)
    for share, n in ((0.9, 100), (0.5, 20), (0.0, 8)):
        low, high = lower_bound(share, n, 3.0), upper_bound(share, n, 3.0)
        assert low <= share <= high
        for end in {low, high} - {0.0, 1.0, share}:
            if 1e-6 < end < 1 - 1e-6:
                assert n * divergence(share, end) == pytest.approx(3.0, rel=1e-4)


def test_results_are_plain_values(gpt2: Subject) -> None:
    ids = tokens()[0].tolist()
    for method, units in (("occlusion", ""), ("direct", ""), ("ig", "mlp:1:0-3"), ("anchor", "")):
        target = TokenTarget(7, 9)
        found = attribute(gpt2, ids, target, method, units=units, options=Options(reference=some_reference()))  # type: ignore[arg-type]
        row = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert row["target"]["position"] == len(ids) - 1
        assert len(row["names"]) == len(row["scores"])
        assert row["check"] is not None


def test_units_that_are_left_out_take_the_target_to_its_baseline(gpt2: Subject) -> None:
    """The check of units holds what it leaves out at the baseline of the path."""
    ids, options = tokens()[0].tolist(), Options(baseline="mean", reference=some_reference())
    for units in ("mlp:1:*", "head:1:*"):
        found = attribute(gpt2, ids, TokenTarget(7, 9), "ig", units=units, options=options)
        assert found.check is not None
        assert found.check.inserted[0] == pytest.approx(found.baseline_value, abs=1e-5)
        assert found.check.inserted[-1] == pytest.approx(found.value, abs=1e-5)


BAD: dict[str, tuple[Sequence[int] | None, TokenTarget | UnitTarget, str, str, str]] = {
    "a position beyond the text": (None, TokenTarget(7, position=9), "ig", "", "beyond the text"),
    "a unit beyond the layer": (None, UnitTarget(UnitId.parse("mlp:1:64"), 4), "occlusion", "", "units 0-63"),
    "the sink": (None, UnitTarget(UnitId.parse("mlp:1:6"), 0), "occlusion", "", "Position 0"),
    "a token that is not there": (None, TokenTarget(400), "gradient", "", "vocabulary"),
    "a foil that is not there": (None, TokenTarget(4, 401), "gradient", "", "vocabulary"),
    "a logit of a unit": (None, UnitTarget(UnitId.parse("mlp:1:6"), 4), "normxlogit", "", "needs the head"),
    "a direct share of a unit": (None, UnitTarget(UnitId.parse("mlp:1:6"), 4), "direct", "", "token's logit"),
    "an anchor of a bare logit": (None, TokenTarget(7), "anchor", "", "foil"),
    "units by a method of tokens": (None, TokenTarget(7), "occlusion", "mlp:1:*", "does not attribute to units"),
    "a mean over nothing": (None, TokenTarget(7), "ig", "mean", "reference texts"),
}


@pytest.mark.parametrize("mistake", list(BAD))
def test_mistakes_are_told(gpt2: Subject, mistake: str) -> None:
    _, target, method, units, message = BAD[mistake]
    options = Options(
        baseline="mean" if units == "mean" else "zero", reference=None if units == "mean" else Reference(((4, 5, 6),))
    )
    with pytest.raises(UnitError, match=message):
        attribute(gpt2, tokens()[0].tolist(), target, method, units="mlp:1:*" if units == "mean" else units,  # type: ignore[arg-type]
                  options=options)  # fmt: skip


def test_what_needs_a_head_or_a_linear_way_is_told_of_models_without(tiny_gpt2_folder: Path) -> None:
    ids = tokens()[0].tolist()
    bert, headless = (make_case(name, tiny_gpt2_folder).subject for name in ("bert", "bert-headless"))
    with pytest.raises(UnitError, match="not linear"):
        attribute(bert, ids, TokenTarget(7), "direct")
    with pytest.raises(UnitError, match="no head"):
        attribute(headless, ids, TokenTarget(7), "ig")
    target = UnitTarget(UnitId.parse("mlp:1:3"), 4)
    with pytest.raises(UnitError, match="no head to draw"):
        attribute(headless, ids, target, "occlusion")
    # Gradients need no replacements; that their order was not tried out is said.
    found = attribute(headless, ids, target, "ig")
    assert found.check is None
    assert "Not tried out" in found.note
    assert set(INPUT) >= {"ig", "occlusion"}


def test_a_vector_that_the_target_reads_is_told_from_random_ones(gpt2: Subject) -> None:
    """A unit that adds up the stream along a vector has a positive derivative along it everywhere."""
    vector = torch.randn(32, generator=torch.Generator().manual_seed(3))
    gpt2.add_direction("concept", Site(1, "resid_post"), vector)
    generator = np.random.default_rng(2)
    texts = [generator.integers(2, 400, int(n)).tolist() for n in generator.integers(4, 12, 24)]
    target = UnitTarget(UnitId.parse("dir:concept"))
    found = sensitivity(gpt2, texts, target, Site(1, "resid_pre"), vector.numpy())
    assert found.share == 1.0
    assert found.derivative > 0
    assert found.p_derivative < 0.05
    assert len(found.random_shares) == 100
    opposite = sensitivity(gpt2, texts, target, Site(1, "resid_pre"), -vector.numpy())
    assert opposite.share == 0.0
    assert opposite.derivative == pytest.approx(-found.derivative)
    # Alone and in a padded batch derivatives are the same.
    single = [sensitivity(gpt2, [text] * 8, target, Site(1, "resid_pre"), vector.numpy()).derivative for text in texts]
    assert np.mean(single) == pytest.approx(found.derivative, abs=1e-5)
    with pytest.raises(UnitError, match="at least 8 examples and 50"):
        sensitivity(gpt2, texts, target, Site(1, "resid_pre"), vector.numpy(), random=20)
    with pytest.raises(UnitError, match="32 components"):
        sensitivity(gpt2, texts, target, Site(1, "resid_pre"), vector.numpy()[:5])


@pytest.mark.slow
def test_random_vectors_are_called_real_as_rarely_as_they_should(gpt2: Subject) -> None:
    generator = np.random.default_rng(5)
    texts = [generator.integers(2, 400, 8).tolist() for _ in range(16)]
    site = Site(1, "resid_post")
    states = np.stack([run(gpt2, torch.tensor([t]), read=[site], logits=False)[site][0, -1].numpy() for t in texts])
    p_values = []
    for seed in range(60):
        signs = generator.permutation(np.repeat([1.0, -1.0], 8))
        found = sensitivity(gpt2, texts, TokenTarget(7, 9), site, signs @ states, random=50, seed=seed)
        p_values.append((found.p_share, found.p_derivative))
    rates = (np.array(p_values) <= 0.1).mean(0)
    assert (rates <= 0.1 + 3 * (0.1 * 0.9 / 60) ** 0.5).all()


@pytest.mark.slow
def test_a_latent_of_the_built_in_model_is_explained_by_tokens() -> None:
    subject = load_subject("pycode", device="cpu")
    ids = subject.encode("import os\n\ndef load(path):\n    return os.path")
    site = subject.dictionaries["res"].site
    captured = subject.capture(torch.tensor([ids]), None, [site])
    with torch.inference_mode():
        latent = int(activations(subject, "sae:res", captured)[0, -1].argmax())
    target = UnitTarget(UnitId("sae:res", latent))
    for method in ("ig", "gradient", "occlusion"):
        found = attribute(subject, ids, target, method, options=Options(draws=4))  # type: ignore[arg-type]
        assert np.abs(found.scores).max() > 0.01
        assert found.check is not None
