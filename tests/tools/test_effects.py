"""Effects on the output: whole runs with the change made by hand say the same, on every architecture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tools.architectures import ARCHITECTURES, Case, make_case
from tools.effects import (
    FOLLOWING,
    Off,
    Places,
    Tokens,
    active_places,
    dose_curve,
    measure_effects,
    not_measurable,
    off_values,
    random_effects,
    rank_auc,
)
from tools.interventions import Beginnings, Where, add, prefill, run, set_unit
from tools.steering.controls import matched_controls
from tools.subject import Subject, load_subject
from tools.types import FloatArray, IntArray, Sample, Site, UnitId

NEURON, HEAD = UnitId("mlp:1", 3), UnitId("head:1", 2)
TEXTS = ((0, *range(20, 44)), (0, *range(60, 72)), (0, 7, 9), (0, 5, 6, 7, 8, 90, 91, 92, 93, 94))
POSITIONS = (9, 11, 1, 4)
"""One in the middle, one at the end of its text, one at its beginning."""


def places(rows: tuple[int, ...] = (0, 1, 2, 3)) -> Places:
    n = len(rows)
    return Places(
        tuple(TEXTS[row] for row in rows), np.array([POSITIONS[row] for row in rows]), np.ones(n, np.float32),
        np.array(rows),
    )  # fmt: skip


def relative(logits: torch.Tensor) -> FloatArray:
    return np.asarray((logits - logits.mean(-1, keepdim=True)).numpy())


def whole(subject: Subject, row: int, edits: object = ()) -> torch.Tensor:
    """The logits of a text in one run, float64 [pos, vocabulary]."""
    logits = run(subject, torch.tensor([TEXTS[row]]), None, edits).logits  # type: ignore[arg-type]
    assert logits is not None
    return logits[0].double().cpu()[:, : len(subject.tokenizer)]


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    made = make_case(request.param, tiny_gpt2_folder)
    if not_measurable(made.subject, HEAD) is not None:
        pytest.skip("it predicts no next token")
    return made


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def test_turning_a_unit_off_at_a_place_is_a_whole_run_with_it_off_there(case: Case) -> None:
    subject = case.subject
    for unit in (HEAD, NEURON) if "mlp_act" in subject.plan(1).taps else (HEAD,):
        off = (
            np.array([0.0, 0.3, -0.2, 1.5], np.float32)
            if unit is NEURON
            else np.array([0.0, 0.3, 0.2, 1.5], np.float32)
        )
        found = measure_effects(subject, unit, places(), off)
        for row, (text, position) in enumerate(zip(TEXTS, POSITIONS, strict=True)):
            on = whole(subject, row)
            other = whole(subject, row, [set_unit(subject, unit, float(off[row]), Where(positions=position))])
            np.testing.assert_allclose(found.change[row], relative((on - other)[position]), atol=2e-5)
            p, q = on.log_softmax(-1), other.log_softmax(-1)
            kl = (p.exp() * (p - q)).sum(-1).numpy()
            assert found.kl[row] == pytest.approx(kl[position], abs=1e-5)
            after = kl[position + 1 : position + 1 + FOLLOWING]
            np.testing.assert_allclose(found.later[row, : len(after)], after, atol=1e-5)
            assert np.isnan(found.later[row, len(after) :]).all()
            if position + 1 < len(text):
                token = text[position + 1]
                assert found.loss[row] == pytest.approx(float(p[position, token] - q[position, token]), abs=2e-5)
            else:
                assert np.isnan(found.loss[row])


def test_a_unit_that_is_set_to_what_it_is_changes_nothing(case: Case) -> None:
    subject = case.subject
    site = Site(1, "head_z")
    if site.kind not in subject.plan(1).taps:
        pytest.skip("it has no heads")
    from tools.units import unit_activations

    values = unit_activations(subject, [HEAD], TEXTS)
    off = np.array([values[row][0, position] for row, position in enumerate(POSITIONS)], np.float32)
    found = measure_effects(subject, HEAD, places(), off)
    assert np.abs(found.change).max() < 1e-5
    assert found.kl.max() < 1e-6
    assert float(found.moved.max()) < 1e-4


@pytest.mark.parametrize("unit", [NEURON, HEAD], ids=str)
def test_other_places_in_the_batch_change_nothing(gpt2: Subject, unit: UnitId) -> None:
    off = np.array([0.0, 0.3, 0.2, 1.5], np.float32)
    together = measure_effects(gpt2, unit, places(), off)
    for row in range(len(TEXTS)):
        alone = measure_effects(gpt2, unit, places((row,)), off[row : row + 1])
        np.testing.assert_allclose(alone.change[0], together.change[row], atol=1e-5)
        np.testing.assert_allclose(alone.later[0], together.later[row], atol=1e-6)
        assert alone.moved[0] == pytest.approx(together.moved[row], abs=1e-5)


def test_what_is_measured_does_not_depend_on_who_asked_before(gpt2: Subject) -> None:
    """To the last bit: campaigns are replayed."""
    off = np.zeros(4, np.float32)
    fresh = measure_effects(gpt2, NEURON, places(), off)
    shared = Beginnings(gpt2)
    measure_effects(gpt2, HEAD, places((3, 1)), off[:2], beginnings=shared)
    for store in (shared, Beginnings(gpt2, most_bytes=1)):
        again = measure_effects(gpt2, NEURON, places(), off, beginnings=store)
        for name in ("change", "kl", "later", "loss", "moved"):
            np.testing.assert_array_equal(getattr(again, name), getattr(fresh, name))


def test_runs_on_a_repeated_prefix_leave_nothing_behind_for_the_next(gpt2: Subject) -> None:
    prefix = prefill(gpt2, [TEXTS[0][:5], TEXTS[1][:9]]).repeat(3)
    ids = torch.arange(30, 42).reshape(6, 2)
    first = run(gpt2, ids, past=prefix).logits
    run(gpt2, ids + 7, past=prefix)
    run(gpt2, ids[:, :1] + 3, past=prefix)
    again = run(gpt2, ids, past=prefix).logits
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)


def test_a_random_write_is_a_whole_run_with_that_vector_in_the_units_place(case: Case) -> None:
    subject, seed, off = case.subject, 5, np.array([0.0, 0.3, 0.2, 0.5], np.float32)
    moved = np.array([1.0, 2.0, 0.5, 3.0], np.float32)
    tokens = Tokens(np.array([3, 17]), np.array([1.0, -1.0], np.float32))
    found = random_effects(subject, HEAD, places(), tokens, off=off, moved=moved, controls=29, seed=seed)
    assert found.shift.shape == found.kl.shape == found.rank.shape == (29, 4)
    drawn = matched_controls(subject, HEAD, 29, seed)
    for control in (0, 28):
        site, direction = drawn[control].site, drawn[control].vector
        for row, position in enumerate(POSITIONS):
            where = Where(positions=position)
            without = set_unit(subject, HEAD, float(off[row]), where)
            instead = add(site, float(moved[row]) * direction, where)
            base, other = whole(subject, row, [without])[position], whole(subject, row, [without, instead])[position]
            change = relative(other - base)
            assert found.shift[control, row] == pytest.approx((change[3] - change[17]) / 2, abs=2e-5)
            p, q = other.log_softmax(-1), base.log_softmax(-1)
            assert found.kl[control, row] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-5)


def test_doses_begin_at_nothing_and_reach_what_turning_off_undoes(gpt2: Subject) -> None:
    from tools.units import unit_activations

    tokens = Tokens(np.array([3, 17, 40]), np.array([1.0, 1.0, -1.0], np.float32))
    values = unit_activations(gpt2, [NEURON], TEXTS)
    own = float(values[0][0, POSITIONS[0]])
    curve = dose_curve(gpt2, NEURON, places((0, 3)), [0.0, own, 2.0, 9.0], tokens)
    assert curve.shape == (2, 4)
    assert (curve[:, 0] == 0).all()
    found = measure_effects(gpt2, NEURON, places((0,)), np.zeros(1, np.float32))
    assert curve[0, 1] == pytest.approx(float(tokens.shift(found.change)[0]), abs=1e-5)


def test_rank_is_one_for_tokens_at_the_top_and_one_half_by_chance() -> None:
    change: FloatArray = np.arange(100, dtype=np.float32)[None]
    top = Tokens(np.array([99, 98]), np.ones(2, np.float32))
    assert rank_auc(change, top)[0] == 1.0
    assert rank_auc(-change, top)[0] == 0.0
    assert rank_auc(change, Tokens(np.array([99, 0]), np.array([1.0, -1.0], np.float32)))[0] == 1.0
    assert rank_auc(np.zeros((1, 100), np.float32), top)[0] == 0.5


class Shown:
    """A split of five documents with two contexts each; the last two contexts are not in the panel."""

    panel_contexts: IntArray = np.arange(8)

    class texts:
        @staticmethod
        def ids(context: int) -> IntArray:
            return np.arange(context, context + 30)

    def __init__(self, values: FloatArray) -> None:
        contexts = np.repeat(np.arange(10), 29)
        positions = np.tile(np.arange(1, 30), 10)
        self._sample = Sample(contexts, positions, values, np.ones(290, np.float32), contexts // 2)

    def sample(self, unit: UnitId) -> Sample:
        return self._sample


def test_places_are_active_in_different_documents_and_leave_room_for_what_follows() -> None:
    values = np.random.default_rng(0).normal(size=290).astype(np.float32)
    for sign in (1.0, -1.0):
        found = active_places(Shown(values), NEURON, sign, 0.5, room=20, seed=3)
        assert len(found) == len(set(found.documents.tolist())) == 5
        assert ((found.positions >= 1) & (found.positions < 20)).all()
        assert (sign * found.on > 0.5).all()
        contexts = [text[0] for text in found.texts]
        assert [context // 2 for context in contexts] == found.documents.tolist()
        # Those of the panel first.
        assert contexts[-1] >= 8
        for context, position, on in zip(contexts, found.positions.tolist(), found.on.tolist(), strict=True):
            assert values[29 * context + position - 1] == np.float32(on)
    assert len(active_places(Shown(values), NEURON, 1.0, 0.5, room=20, most=2)) == 2
    assert len(active_places(Shown(values), NEURON, 1.0, 99.0, room=20)) == 0


def test_off_is_drawn_from_what_the_unit_has_where_it_is_off_in_either_tail() -> None:
    values = np.array([-5, -0.1, 0.0, 0.1, 0.2, 5], np.float32)
    weights = np.array([1, 1, 0, 1, 98, 1], np.float32)
    zero = np.zeros(6, np.int64)
    sample = Sample(zero, zero + 1, values, weights, zero)
    off = off_values(sample, 1.0, seed=1)
    assert set(off.values.tolist()) <= set(values[[1, 3, 4]].tolist())
    assert (off.values == np.float32(0.2)).mean() > 0.8
    assert len(off.at(200)) == 200
    assert off.to_json()["sha256"] != off_values(sample, 1.0, seed=2).to_json()["sha256"]
    assert (
        off_values(sample, 1.0, method="mean").at(3).tolist()
        == [pytest.approx(off_values(sample, 1.0).values.mean())] * 3
    )
    assert Off("zero", np.zeros(0, np.float32)).at(2).tolist() == [0.0, 0.0]
    always = off_values(Sample(zero, zero + 1, values + 10, weights, zero), 1.0)
    assert set(always.values.tolist()) == {5.0}


def test_what_cannot_be_measured_says_why(tiny_gpt2_folder: Path) -> None:
    encoder = make_case("bert", tiny_gpt2_folder).subject
    assert "encoder" in str(not_measurable(encoder, NEURON))
    assert not_measurable(load_subject(str(tiny_gpt2_folder), device="cpu"), NEURON) is None
