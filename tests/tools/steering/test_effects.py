"""What driving a unit does, beside random directions that push as hard: against whole runs, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tools.architectures import Case, make_case
from tests.tools.interventions.test_units_and_text import UNITS, save_dictionary
from tools.dictionaries import load_dictionary
from tools.errors import InterventionError, UnitError
from tools.interventions import Beginnings, Where, add, add_to_unit, run
from tools.steering import Control, effects, effects_at, logit_change, matched_controls, push_site
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId
from tools.units import unit_activations

CONTEXTS = [[0, *range(20, 31)], [0, *range(60, 66)], [0, 9, 8, 7]]
AMOUNTS = [-2.0, 0.0, 1.5]


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    folder = tmp_path_factory.mktemp("dictionaries")
    subject.attach("res", load_dictionary(save_dictionary(folder / "res"), "res"))
    for kind in ("resid_pre", "resid_mid", "resid_post", "mlp_out", "attn_out", "mlp_act", "head_z"):
        width = subject.sites.width(Site(1, kind))
        subject.add_direction(kind, Site(1, kind), torch.linspace(-1, 1, width))
    return subject


@pytest.fixture(scope="module", params=["gpt2", "gpt-neox-parallel", "llama", "gemma2", "opt-post-norm"])
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    return make_case(request.param, tiny_gpt2_folder)


def whole_run(subject: Subject, context: list[int], *edits: object) -> Tensor:
    logits = run(subject, torch.tensor([context]), None, edits).logits  # type: ignore[arg-type]
    assert logits is not None
    return logits[0, -1].float()


def by_hand(subject: Subject, unit: UnitId, controls: list[Control], span: int | None) -> tuple[Tensor, Tensor]:
    """Each text, amount and control in a run of its own, without a cache or padding."""
    site = push_site(subject, unit)
    changes: list[list[Tensor]] = []
    pushed: list[list[list[Tensor]]] = []
    for context in CONTEXTS:
        driven = list(range(1, len(context))) if span is None else list(range(len(context) - span, len(context)))
        where = Where(positions=driven)
        ids = torch.tensor([context])
        plain = run(subject, ids, read=[site], logits=False)[site]
        clean = whole_run(subject, context)
        changes.append([])
        pushed.append([])
        for amount in AMOUNTS:
            edit = add_to_unit(subject, unit, amount, where)
            changes[-1].append(whole_run(subject, context, edit) - clean)
            moved = (run(subject, ids, None, [edit], read=[site], logits=False)[site] - plain)[0].float().norm(dim=-1)
            sign = -1 if amount < 0 else 1
            pushed[-1].append([
                whole_run(
                    subject, context,
                    *(add(site, sign * moved[p] * control.vector, Where(positions=p)) for p in driven),
                ) - clean
                for control in controls
            ])  # fmt: skip
    whole = torch.stack([torch.stack(one) for one in changes], 1)
    others = torch.stack([torch.stack([torch.stack(c) for c in one]) for one in pushed])
    relative = others - others.mean(-1, keepdim=True)
    return whole - whole.mean(-1, keepdim=True), relative.permute(2, 1, 0, 3)


def check(subject: Subject, unit: UnitId, span: int | None) -> None:
    controls = matched_controls(subject, unit, 3, seed=1)
    found = effects_at(subject, unit, CONTEXTS, AMOUNTS, controls, span=span)
    own, others = by_hand(subject, unit, controls, span)
    torch.testing.assert_close(found.unit, own, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.controls, others, rtol=1e-5, atol=1e-5)
    assert float(found.unit[0].abs().max()) > 1e-3
    assert float(found.controls[:, 0].abs().max()) > 1e-3


@pytest.mark.parametrize("span", [1, 2, None])
@pytest.mark.parametrize("name", ["mlp:1:7", "head:1:2"])
def test_variants_on_a_kept_prefix_are_whole_runs(case: Case, name: str, span: int | None) -> None:
    check(case.subject, UnitId.parse(name), span)


@pytest.mark.parametrize("name", [name for name in UNITS if name != "dir:mlp_out"])
def test_units_of_every_kind_and_their_controls_are_driven(gpt2: Subject, name: str) -> None:
    check(gpt2, UnitId.parse(name), 1)


def test_small_batches_give_the_same(gpt2: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = UnitId.parse("mlp:1:7")
    controls = matched_controls(gpt2, unit, 5)
    for span in (1, None):
        whole = effects_at(gpt2, unit, CONTEXTS, AMOUNTS, controls, span=span)
        with monkeypatch.context() as patch:
            patch.setattr(effects, "_LOGITS", 7 * gpt2.vocabulary)
            patch.setattr(effects, "_TOKENS", 24)
            parts = effects_at(gpt2, unit, CONTEXTS, AMOUNTS, controls, span=span)
        for name in ("clean", "unit", "controls", "lengths"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_no_strength_is_the_plain_run(gpt2: Subject, tiny_gpt2_folder: Path) -> None:
    half = load_subject(str(tiny_gpt2_folder), device="cpu", dtype="bfloat16")
    for subject in (gpt2, half):
        for name in ("mlp:1:7", "head:1:2"):
            unit = UnitId.parse(name)
            found = effects_at(subject, unit, CONTEXTS, [0.0], matched_controls(subject, unit, 2))
            # Rows of one batch may differ in the last bit.
            assert float(found.unit.abs().max()) <= 1e-6
            assert float(found.controls.abs().max()) <= 1e-6
            assert float(found.lengths.max()) == 0.0


def test_half_precision_gives_about_what_single_does(gpt2: Subject, tiny_gpt2_folder: Path) -> None:
    half = load_subject(str(tiny_gpt2_folder), device="cpu", dtype="bfloat16")
    unit = UnitId.parse("mlp:1:7")
    controls = matched_controls(gpt2, unit, 4)
    exact = effects_at(gpt2, unit, CONTEXTS, [40.0], controls)
    rounded = effects_at(half, unit, CONTEXTS, [40.0], controls)
    for one, other in ((exact.unit, rounded.unit), (exact.controls, rounded.controls)):
        agreement = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert float(agreement) > 0.98


def test_controls_are_drawn_by_their_seed_and_as_long_as_the_write(gpt2: Subject) -> None:
    unit = UnitId.parse("mlp:1:7")
    many, few = matched_controls(gpt2, unit, 40, seed=3), matched_controls(gpt2, unit, 4, seed=3)
    assert all(torch.equal(a.vector, b.vector) for a, b in zip(many, few, strict=False))
    assert not torch.equal(matched_controls(gpt2, unit, 1, seed=4)[0].vector, few[0].vector)
    assert {control.site for control in many} == {Site(1, "mlp_out")}
    between = torch.stack([control.vector for control in many])
    assert float((between @ between.T - torch.eye(40)).abs().max()) < 0.8
    found = effects_at(gpt2, unit, CONTEXTS, [2.0], few)
    weight = gpt2.model.transformer.h[1].mlp.c_proj.weight[7]
    torch.testing.assert_close(found.lengths, (2.0 * weight.norm()).expand(1, 3), rtol=1e-4, atol=1e-5)


def test_what_is_measured_is_the_callers_choice(gpt2: Subject) -> None:
    unit = UnitId.parse("mlp:1:7")
    controls = matched_controls(gpt2, unit, 2)
    whole = effects_at(gpt2, unit, CONTEXTS, AMOUNTS, controls)
    some = effects_at(gpt2, unit, CONTEXTS, AMOUNTS, controls, measure=lambda a, b: logit_change(a, b)[..., [5, 9]])
    torch.testing.assert_close(some.unit, whole.unit[..., [5, 9]])
    torch.testing.assert_close(some.controls, whole.controls[..., [5, 9]])


def test_what_cannot_be_driven_is_told(gpt2: Subject) -> None:
    unit = UnitId.parse("mlp:1:7")
    with pytest.raises(InterventionError, match="needs 3 tokens"):
        effects_at(gpt2, unit, [[0, 5]], [1.0], span=2)
    with pytest.raises(InterventionError, match="position or more"):
        effects_at(gpt2, unit, CONTEXTS, [1.0], span=0)
    with pytest.raises(UnitError, match="units 0-63"):
        matched_controls(gpt2, UnitId.parse("mlp:1:64"))
    with pytest.raises(InterventionError, match="writes at"):
        effects_at(gpt2, unit, CONTEXTS, [1.0], matched_controls(gpt2, UnitId.parse("mlp:2:7"), 1))
    with pytest.raises(InterventionError, match="smaller strength"):
        effects_at(gpt2, unit, CONTEXTS, [1e38])
    find = load_subject("find", device="cpu")
    with pytest.raises(InterventionError, match="cannot be driven"):
        matched_controls(find, UnitId.parse("fn:numeric:0"))


def test_a_unit_that_is_set_to_what_it_is_changes_nothing_and_otherwise_as_much_as_what_is_added(gpt2: Subject) -> None:
    contexts = [[5, 9, 20], [7, 8, 30, 31, 4]]
    for unit in (UnitId("mlp:1", 3), UnitId("head:1", 2)):
        values = [float(v[0, -1]) for v in unit_activations(gpt2, [unit], contexts)]
        kept = Beginnings(gpt2)
        for row, value in enumerate(values):
            found = effects_at(gpt2, unit, contexts[row : row + 1], [value, value + 1.5], how="set", beginnings=kept)
            added = effects_at(gpt2, unit, contexts[row : row + 1], [0.0, 1.5])
            torch.testing.assert_close(found.unit, added.unit, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(found.lengths, added.lengths, atol=2e-5, rtol=1e-4)
    with pytest.raises(InterventionError, match="what is set has none"):
        effects_at(gpt2, unit, contexts, [1.0], matched_controls(gpt2, unit, 1, 0), how="set")
