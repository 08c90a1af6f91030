"""Gradients along paths: sums that are known, derivatives that are measured, on every architecture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tools.architectures import ARCHITECTURES, Case, make_case, tokens
from tools.ablation import Reference
from tools.attribution import Options, TokenTarget, UnitTarget, attribute
from tools.attribution.embeddings import embedding_gradients, embedding_path, gradient_times_input
from tools.attribution.path import Path as Way
from tools.attribution.path import Steps
from tools.attribution.targets import Reader, Target
from tools.attribution.unit_ig import conductance, integrated_gradients
from tools.attribution.unit_space import UnitSpace
from tools.errors import UnitError
from tools.interventions import run
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId
from tools.units import activations, write_direction

FINE = Steps(256)


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    return make_case(request.param, tiny_gpt2_folder)


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def some_target(subject: Subject) -> Target:
    headless = subject.model.get_output_embeddings() is None
    return UnitTarget(UnitId.parse("head:2:1"), 7) if headless else TokenTarget(7, 9, 7)


def some_reference() -> Reference:
    return Reference(tuple(map(tuple, tokens(4).tolist())))


def groups_of(case: Case) -> list[str]:
    """Groups whose change the model answers smoothly: experts are switched by jumps, which no gradient sees."""
    subject, last = case.subject, case.subject.n_layers - 1
    subject.add_direction("stream", Site(last, "resid_post"), torch.linspace(-1, 1, subject.d_model))
    return ["dir:stream"] if case.reference.hidden is None else ["mlp:1", "head:1"]


@pytest.mark.slow
def test_parts_of_units_sum_to_what_moving_them_changes(case: Case) -> None:
    reader = Reader.of(case.subject, tokens()[0].tolist(), some_target(case.subject))
    for group in groups_of(case):
        found = integrated_gradients(reader, UnitSpace.of(case.subject, group), steps=FINE) if (
            group != "dir:stream" or reader.logits) else None  # fmt: skip
        assert found is not None
        whole = found.value - found.baseline
        assert abs(whole) > 1e-3
        assert found.error <= 1e-3 * max(1.0, abs(whole)), group
        assert found.error == pytest.approx(abs(found.values.sum() - whole))
        assert not found.values[0].any()


@pytest.mark.slow
def test_parts_of_embeddings_sum_to_the_difference_to_the_mean_embedding(case: Case) -> None:
    reader = Reader.of(case.subject, tokens()[0].tolist(), some_target(case.subject))
    parts, value, empty, error = embedding_gradients(reader, embedding_path(reader), FINE)
    assert error == pytest.approx(abs(parts.sum() - (value - empty)))
    if case.reference.hidden is None:
        # Which expert a token goes to changes by jumps along the path, and the error says so.
        assert error > 1e-3
    else:
        assert error <= 1e-3 * max(1.0, abs(value - empty))


def test_conductance_of_the_stream_is_the_whole_and_of_units_what_passes_through_them(case: Case) -> None:
    if case.reference.hidden is None:
        pytest.skip("its experts are switched by jumps, which no gradient sees")
    reader = Reader.of(case.subject, tokens()[0].tolist(), some_target(case.subject))
    path = embedding_path(reader)
    spaces = [UnitSpace.of(case.subject, group) for group in ("mlp:1", "head:1")]
    for found in conductance(reader, path, spaces, FINE):
        assert found.error <= 1e-2 * max(1.0, abs(found.value - found.baseline))


def test_both_rules_of_steps_agree_where_the_path_is_smooth(gpt2: Subject) -> None:
    reader = Reader.of(gpt2, tokens()[0].tolist(), TokenTarget(7))
    space = UnitSpace.of(gpt2, "mlp:1")
    first, second = (integrated_gradients(reader, space, steps=Steps(128, rule)).values
                     for rule in ("gauss-legendre", "trapezoid"))  # type: ignore[attr-defined]  # fmt: skip
    np.testing.assert_allclose(first, second, atol=1e-5)
    for rule in ("gauss-legendre", "trapezoid"):
        alphas, weights = Steps(33, rule).nodes()  # type: ignore[arg-type]
        assert weights.sum() == pytest.approx(1.0)
        assert (weights * alphas).sum() == pytest.approx(0.5)


def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    """In float64, at a point in the middle of a path, by the embeddings and by heads."""
    subject = case.subject
    if case.reference.hidden is None:
        pytest.skip("its experts do not run in float64")
    if subject.model.get_output_embeddings() is None:
        pytest.skip("activations of units are float32")
    subject.model.double()
    try:
        reader = Reader.of(subject, tokens()[0].tolist(), TokenTarget(7, 9, 7))
        z = run(subject, reader.row(), read=[Site(1, "head_z")], logits=False)[Site(1, "head_z")][0].clone()
        path = Way(reader, Site(1, "head_z"), -z)
        # Most models compute norms and the softmax in float32 all the same; a rectifier's kinks want a smaller step.
        step, off = (1e-4, 5e-3) if "opt" in case.name else (2e-3, 1e-3)
        middle = np.array([0.6])
        ((_, _, by),) = path.runs(middle)
        expected = (path.values(middle + step) - path.values(middle - step)) / (2 * step)
        assert float((by[path.site][0] * z).sum()) == pytest.approx(float(expected[0]), rel=off, abs=off)
        scores = gradient_times_input(reader)
        stream = Site(0, "resid_pre")
        x = run(subject, reader.row(), read=[stream], logits=False)[stream][0].clone()
        for position in (3, 7):
            one = torch.zeros_like(x)
            one[position] = x[position]
            high, low = Way(reader, stream, one).values(np.array([1 - step, 1 + step]))
            assert scores[position] == pytest.approx((high - low) / (2 * step), rel=off, abs=off)
    finally:
        subject.model.float()


def test_of_a_linear_target_each_unit_has_exactly_its_share(gpt2: Subject) -> None:
    """A direction of the last stream is the sum of what neurons of the last layer write along it, and of the rest."""
    direction = torch.linspace(-1, 1, 32)
    gpt2.add_direction("last", Site(2, "resid_post"), direction)
    ids = tokens()[0].tolist()
    position, group = 6, "mlp:2"
    act = run(gpt2, torch.tensor([ids]), read=[Site(2, "mlp_act")], logits=False)[Site(2, "mlp_act")]
    writes = torch.stack([write_direction(gpt2, UnitId(group, i)) for i in range(64)])  # type: ignore[arg-type]
    expected = act[0, position] * (writes @ (direction / direction.norm()))
    target = UnitTarget(UnitId.parse("dir:last"), position)
    for steps in (2, 16):
        found = attribute(gpt2, ids, target, "ig", units="mlp:2:*", options=Options(steps=steps))
        np.testing.assert_allclose(found.scores, expected.numpy(), atol=1e-5)
        assert found.by_position is not None
        assert not found.by_position[:, :position].any()
    reference = [tokens(4)[i].tolist() for i in (2, 3)]
    mean = run(gpt2, torch.tensor(reference), read=[Site(2, "mlp_act")], logits=False)[Site(2, "mlp_act")]
    expected = (act[0, position] - mean[:, position].mean(0)) * (writes @ (direction / direction.norm()))
    options = Options(baseline="mean", reference=Reference(tuple(map(tuple, reference))))
    found = attribute(gpt2, ids, target, "ig", units="mlp:2:*", options=options)
    np.testing.assert_allclose(found.scores, expected.numpy(), atol=1e-5)
    assert found.reference is not None
    assert len(found.reference) == 16


def test_a_latents_share_is_its_decoder_row_with_the_dictionarys_error_kept(
    gpt2: Subject, tmp_path: Path
) -> None:  # fmt: skip
    from tests.tools.interventions.test_units_and_text import save_dictionary
    from tools.dictionaries import load_dictionary

    gpt2.attach("res", load_dictionary(save_dictionary(tmp_path / "res"), "res"))
    direction = torch.linspace(1, -1, 32)
    gpt2.add_direction("one", Site(1, "resid_post"), direction)
    ids = tokens()[0].tolist()
    captured = run(gpt2, torch.tensor([ids]), read=[Site(1, "resid_post")], logits=False)
    latents = activations(gpt2, "sae:res", captured)[0, 6]
    expected = latents * (gpt2.dictionaries["res"].W_dec @ (direction / direction.norm()))
    found = attribute(gpt2, ids, UnitTarget(UnitId.parse("dir:one"), 6), "ig", units="sae:res:*")
    np.testing.assert_allclose(found.scores, expected.numpy(), atol=1e-5)
    assert latents.any()
    # A latent is explained by tokens as well: its encoder has a gradient.
    best = UnitId("sae:res", int(latents.argmax()))
    reader = Reader.of(gpt2, ids, UnitTarget(best, 6))
    _, value, empty, error = embedding_gradients(reader, embedding_path(reader), FINE)
    assert abs(value - empty) > 0.01
    assert error <= 1e-3


def test_of_linear_attention_each_token_has_exactly_its_share(tiny_gpt2_folder: Path) -> None:
    """With queries of zero a head takes the plain mean over tokens; a block that norms only behind its sum is linear up
    to what attention adds."""
    subject = make_case("opt-post-norm", tiny_gpt2_folder).subject
    attention = subject.model.model.decoder.layers[0].self_attn
    for parameter in attention.q_proj.parameters():
        parameter.zero_()
    direction = torch.linspace(-1, 1, 32)
    subject.add_direction("added", Site(0, "attn_out"), direction)
    ids, position = tokens()[0].tolist(), 6
    target = UnitTarget(UnitId.parse("dir:added"), position)
    reader = Reader.of(subject, ids, target)
    path = embedding_path(reader)
    weight = (attention.out_proj.weight @ attention.v_proj.weight).double()
    read = (direction / direction.norm()).double() @ weight / (position + 1)
    expected = -(path.offset.double() @ read).numpy()
    parts, *_ = embedding_gradients(reader, path, Steps(2))
    np.testing.assert_allclose(parts, expected, atol=1e-6)
    found = attribute(subject, ids, target, "gradient")
    stream = run(subject, reader.row(), read=[Site(0, "resid_pre")], logits=False)[Site(0, "resid_pre")][0].double()
    np.testing.assert_allclose(found.scores, (stream @ read).numpy(), atol=1e-6)


def test_results_do_not_depend_on_how_many_points_share_a_batch(
    gpt2: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    ids = tokens()[0].tolist()
    options = Options(check=False, reference=some_reference())
    wanted = [("ig", ""), ("occlusion", ""), ("ig", "mlp:1:*"), ("conductance", "mlp:1:*"), ("gradient", "")]
    together = [attribute(gpt2, ids, TokenTarget(7), m, units=u, options=options) for m, u in wanted]  # type: ignore[arg-type]
    monkeypatch.setattr("tools.attribution.targets.BATCH_LOGIT_TOKENS", 1)
    for (method, units), expected in zip(wanted, together, strict=True):
        alone = attribute(gpt2, ids, TokenTarget(7), method, units=units, options=options)  # type: ignore[arg-type]
        np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-5)


def test_half_precision_gives_nearly_the_same_parts(gpt2: Subject, tiny_gpt2_folder: Path) -> None:
    half = load_subject(str(tiny_gpt2_folder), device="cpu", dtype="bfloat16")
    ids = tokens()[0].tolist()
    for method, units in (("ig", ""), ("ig", "mlp:1:*"), ("gradient", ""), ("occlusion", ""), ("direct", "")):
        options = Options(check=False, reference=some_reference())
        exact, coarse = (
            attribute(subject, ids, TokenTarget(7, 9), method, units=units, options=options).scores  # type: ignore[arg-type]
            for subject in (gpt2, half)
        )
        assert np.abs(coarse - exact).max() <= 0.15 * np.abs(exact).max(), method


def test_what_comes_too_late_for_the_target_is_told(gpt2: Subject) -> None:
    target = UnitTarget(UnitId.parse("mlp:0:3"), 5)
    with pytest.raises(UnitError, match="computed before"):
        attribute(gpt2, tokens()[0].tolist(), target, "ig", units="mlp:1:*")
