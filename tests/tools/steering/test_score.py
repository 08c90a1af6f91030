"""Texts written while a unit is driven, and their points for concept and fluency."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.tools.architectures import make_case
from tools.errors import InterventionError
from tools.interventions import Where, add, add_to_unit, generate, run
from tools.planted import PlantedSpec, build, documents, load_truth
from tools.steering import Driven, matched_controls, push_site, steering_score, write
from tools.steering import texts as texts_module
from tools.steering.score import harmonic, points_of
from tools.steering.texts import read
from tools.subject import Subject, load_subject
from tools.types import UnitId

PROMPTS = [(0, *range(20, 31)), (0, *range(60, 66)), (0, 9, 8, 7), (0, *range(100, 120))]
UNIT = UnitId.parse("mlp:1:7")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return make_case("gpt2", tiny_gpt2_folder).subject


def test_each_text_has_the_drive_of_its_row(gpt2: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    control, other = matched_controls(gpt2, UNIT, 2)
    site = push_site(gpt2, UNIT)
    rows = [
        Driven(PROMPTS[0], UNIT, 8.0), Driven(PROMPTS[0], control, 4.0), Driven(PROMPTS[1]),
        Driven(PROMPTS[2], UNIT, -8.0), Driven(PROMPTS[2], other, 5.0), Driven(PROMPTS[1], UNIT, 8.0),
    ]  # fmt: skip
    edits = {0: [add_to_unit(gpt2, UNIT, 8.0, Where(since=1))], 1: [add(site, 4.0 * control.vector, Where(since=1))],
             2: [], 3: [add_to_unit(gpt2, UNIT, -8.0, Where(since=1))],
             4: [add(site, 5.0 * other.vector, Where(since=1))]}  # fmt: skip
    edits[5] = edits[0]
    together = write(gpt2, rows, max_new_tokens=6)
    monkeypatch.setattr(texts_module, "_BATCH_TOKENS", 40)
    parts = write(gpt2, rows, max_new_tokens=6)
    for i, row in enumerate(rows):
        (alone,) = generate(gpt2, [list(row.prompt)], edits[i], max_new_tokens=6)
        assert together[i].ids == parts[i].ids == alone.ids
    assert together[0].ids != generate(gpt2, [list(PROMPTS[0])], max_new_tokens=6)[0].ids


def test_texts_are_read_as_whole_runs_one_at_a_time(gpt2: Subject) -> None:
    control = matched_controls(gpt2, UNIT, 1)[0]
    rows = [Driven(PROMPTS[0], UNIT, 8.0), Driven(PROMPTS[1]), Driven(PROMPTS[2], control, 4.0)]
    written = write(gpt2, rows, max_new_tokens=5)
    concepts = [torch.tensor([5, 9]), torch.tensor([7, 8]), torch.tensor([3, 1])]
    site = push_site(gpt2, UNIT)
    edits = [[add_to_unit(gpt2, UNIT, 8.0, Where(since=1))], [], [add(site, 4.0 * control.vector, Where(since=1))]]
    for one, row, text, concept, edit in zip(
        read(gpt2, rows, written, concepts), rows, written, concepts, edits, strict=True
    ):
        ids = torch.tensor([[*row.prompt, *text.ids]])
        plain, driven = (run(gpt2, ids, None, e).logits[0].double().log_softmax(-1) for e in ([], edit))  # type: ignore[index]
        n = len(row.prompt)
        for i, token in enumerate(text.ids):
            assert float(one.plain[i]) == pytest.approx(float(plain[n - 1 + i, token]), abs=1e-4)
            mass = [float(logs[n - 1 + i, concept].exp().sum().log()) for logs in (plain, driven)]
            assert [float(one.plain_mass[i]), float(one.driven_mass[i])] == pytest.approx(mass, abs=1e-4)


def test_points_by_hand() -> None:
    assert harmonic(2.0, 1.0) == pytest.approx(4 / 3)
    assert harmonic(0.0, 2.0) == harmonic(2.0, 0.0) == 0.0
    found = points_of([1.5, -1.0, 6.0, math.nan], [0.0, 0.0, math.log(10) / 2, math.nan])
    assert found.concept == pytest.approx((1.0 + 0.0 + 2.0 + 0.0) / 4)
    assert found.fluency == pytest.approx((2.0 + 2.0 + 1.0 + 0.0) / 4)
    assert found.score == pytest.approx((4 / 3 + 0 + 4 / 3 + 0) / 4)
    assert found.lift == pytest.approx((1.5 - 1.0 + 6.0) / 3)
    looping = points_of([3.0], [-math.log(10)])
    assert (looping.fluency, looping.score) == (0.0, 0.0)
    assert points_of([math.nan], [math.nan]).score == 0.0


def test_the_strength_is_chosen_on_other_prompts_than_it_is_scored_on(gpt2: Subject) -> None:
    found = steering_score(gpt2, UNIT, PROMPTS, [2.0, 8.0, 30.0], controls=3, max_new_tokens=5, tokens=[5, 9])
    best = max(range(3), key=lambda i: found.tried[i].score)
    assert found.amount == found.strengths[best].amount
    assert found.prompts == (2, 2)
    alone = steering_score(
        gpt2, UNIT, [PROMPTS[0], PROMPTS[1], PROMPTS[2], PROMPTS[3]], [found.amount], controls=0, max_new_tokens=5,
        tokens=[5, 9],
    )  # fmt: skip
    assert alone.points.score == pytest.approx(found.points.score, abs=1e-4)
    assert [s.prompt for s in found.samples] == ["".join(gpt2.pieces(p)) for p in PROMPTS[1::2]]
    assert found.samples[0].plain == generate(gpt2, [list(PROMPTS[1])], max_new_tokens=5)[0].text
    assert json.loads(json.dumps(found.to_json()))["unit"] == "mlp:1:7"
    assert len(found.control_scores) == 3


def test_no_strength_has_no_concept(gpt2: Subject) -> None:
    found = steering_score(gpt2, UNIT, PROMPTS, [1e-6], controls=0, max_new_tokens=5, tokens=[5])
    assert found.points.lift == pytest.approx(0.0, abs=1e-4)
    assert found.points.surprise == pytest.approx(0.0, abs=1e-4)
    assert found.points.score == pytest.approx(0.0, abs=1e-3)
    assert found.p_value is None


def test_bad_input_is_told(gpt2: Subject) -> None:
    with pytest.raises(InterventionError, match="two prompts"):
        steering_score(gpt2, UNIT, PROMPTS[:1], [1.0])
    for amounts in ([], [1.0, -1.0], [0.0]):
        with pytest.raises(InterventionError, match="all above 0 or all below"):
            steering_score(gpt2, UNIT, PROMPTS, amounts)
    with pytest.raises(InterventionError, match="smaller strength"):
        steering_score(gpt2, UNIT, PROMPTS, [1e38], tokens=[5], controls=0)


def test_a_planted_unit_steers_to_its_tokens_and_an_inert_one_does_not() -> None:
    spec = PlantedSpec(seed=1)
    subject = load_subject(spec.text, device="cpu")
    truths = load_truth(build(spec)).values()
    ids = {piece: i for i, piece in enumerate(subject.pieces(range(subject.vocabulary)))}
    texts = [subject.encode(document.text) for document in documents(spec, fresh=21, n=20)]
    prompts = [text[:8] for text in texts if len(text) > 8][:4]
    one = next(t for t in truths if t.effect and t.effect.sign > 0 and t.family == "token set")
    inert = next(t for t in truths if t.inert and t.family == "inert look-alike")
    assert one.effect is not None
    tokens = [ids[token] for token in one.effect.tokens]
    found, none = (
        steering_score(subject, UnitId.parse(t.unit), prompts, [t.level, 2 * t.level], tokens=tokens, controls=32,
                       max_new_tokens=8)
        for t in (one, inert)
    )  # fmt: skip
    assert found.points.score > 0.5
    assert found.p_value is not None
    assert found.p_value <= 0.05
    assert none.points.score < 0.05
    assert none.p_value is not None
    assert none.p_value > 0.05
