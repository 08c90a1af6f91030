"""The intervention engine: identities that hold on every architecture, and values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tools.architectures import ARCHITECTURES, Case, make_case, tokens
from tools.errors import InterventionError, UnitError
from tools.interventions import (
    AttentionWhere,
    Edit,
    Resume,
    Where,
    add,
    change,
    prefill,
    project_out,
    replace,
    replace_attention,
    run,
    scale,
    scale_attention,
    set_to,
)
from tools.structure import eager_attention
from tools.subject import Subject, load_subject
from tools.types import Site

INSIDE = ("head_q", "head_k", "head_v")


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    return make_case(request.param, tiny_gpt2_folder)


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def sites(subject: Subject, layer: int) -> list[Site]:
    return [Site(layer, kind) for kind in (*subject.sites.plans[layer].taps, *INSIDE)]


def outcome(subject: Subject, ids: Tensor, *edits: Edit, mask: Tensor | None = None) -> Tensor:
    """Logits, or of a model without a head the last stream; attention explicit, so that runs compare exactly."""
    last = Site(subject.n_layers - 1, "resid_post")
    headless = subject.model.get_output_embeddings() is None
    with eager_attention(subject.model):
        found = run(subject, ids, mask, edits, read=[last] if headless else [], logits=not headless)
    result = found[last] if headless else found.logits
    assert result is not None
    return result


def anywhere(site: Site, source: Tensor) -> Edit:
    if site.kind == "attn_pattern":
        return replace_attention(site.layer, source, AttentionWhere())
    return replace(site, source)


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_patching_a_run_with_itself_changes_nothing(case: Case) -> None:
    subject, ids = case.subject, tokens()
    clean = outcome(subject, ids)
    for layer in range(subject.n_layers):
        known = run(subject, ids, read=sites(subject, layer), logits=False)
        for site in sites(subject, layer):
            close(outcome(subject, ids, anywhere(site, known[site])), clean)


def test_patching_everything_that_enters_a_layer_gives_the_other_run(case: Case) -> None:
    subject, ids = case.subject, tokens()
    other = tokens(4)[2:]
    stream = Site(1, "resid_pre")
    known = run(subject, other, read=[stream], logits=False)[stream]
    close(outcome(subject, ids, replace(stream, known)), outcome(subject, other), 1e-4)


def test_what_is_read_is_what_the_pass_went_on_with(case: Case) -> None:
    subject, ids = case.subject, tokens()
    for site in sites(subject, 1):
        if site.kind == "attn_pattern":
            continue
        before = run(subject, ids, read=[site], logits=False)[site]
        edit = scale(site, 0.5, Where(positions=[3]))
        found = run(subject, ids, None, [edit], read=[site], read_before=[site], logits=False)
        close(found.before(site), before)
        close(found[site][:, 3], 0.5 * before[:, 3])
        close(found[site][:, :3], before[:, :3])


def test_heads_write_what_their_pattern_mixes(case: Case) -> None:
    subject, ids = case.subject, tokens()
    pattern, values, z = Site(1, "attn_pattern"), Site(1, "head_v"), Site(1, "head_z")
    found = run(subject, ids, read=[pattern, values, z], logits=False)
    close(torch.einsum("bhqk,bkhd->bqhd", found[pattern], found[values]), found[z])


def test_knocking_out_an_edge_takes_its_share_away(case: Case) -> None:
    subject, ids = case.subject, tokens()
    pattern, values, z = Site(1, "attn_pattern"), Site(1, "head_v"), Site(1, "head_z")
    clean = run(subject, ids, read=[pattern, values, z], logits=False)
    where = AttentionWhere(heads=2, queries=7, keys=[3, 4])
    found = run(subject, ids, None, [scale_attention(1, 0.0, where)], read=[z, pattern], logits=False)
    share = torch.einsum("bk,bkd->bd", clean[pattern][:, 2, 7, 3:5], clean[values][:, 3:5, 2])
    close(found[z][:, 7, 2], clean[z][:, 7, 2] - share)
    close(found[z][:, :7], clean[z][:, :7])
    even = run(subject, ids, None, [scale_attention(1, 0.0, where, renormalise=True)], read=[pattern], logits=False)
    close(even[pattern][:, 2, 7].sum(-1), clean[pattern][:, 2, 7].sum(-1))
    assert float(even[pattern][:, 2, 7, 3:5].abs().max()) == 0.0


def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    """In float64, along a random direction at every site of a layer.

    Most models compute norms and the softmax in float32 all the same, so the step is not small.
    """
    subject = case.subject
    if case.reference.hidden is None:
        pytest.skip("its experts do not run in float64")
    if subject.model.get_output_embeddings() is None:
        pytest.skip("it has no logits to differentiate")
    subject.model.double()
    try:
        ids, layer = tokens(1, 6), 1
        # A rectifier's kinks want a smaller one.
        step, tolerance = (1e-4, 5e-3) if "opt" in case.name else (1e-3, 1e-3)
        wanted = sites(subject, layer)
        found = run(subject, ids, read=wanted, gradients=True)
        assert found.logits is not None
        metric = found.logits[0, -1, 5] - found.logits[0, 2, 9]
        by = found.gradients(metric)
        generator = torch.Generator().manual_seed(0)
        for site in wanted:
            way = torch.randn(found[site].shape, generator=generator, dtype=torch.float64)
            results = []
            for signed in (step, -step):
                source = found[site].detach() + signed * way
                logits = outcome(subject, ids, anywhere(site, source))
                results.append(float(logits[0, -1, 5] - logits[0, 2, 9]))
            expected = (results[0] - results[1]) / (2 * step)
            got = float((by[site] * way).sum())
            assert got == pytest.approx(expected, rel=tolerance, abs=tolerance * float(by[site].norm())), site
    finally:
        subject.model.float()


def test_a_run_that_resumes_is_the_whole_run(case: Case) -> None:
    subject, ids = case.subject, tokens()
    stream = Site(2, "resid_pre")
    known = run(subject, ids, read=[stream], logits=False)[stream]
    edit = set_to(Site(2, "resid_post"), 0.3, Where(positions=[4]))
    last = Site(2, "resid_post")
    whole = run(subject, ids, None, [edit], read=[last], logits=False)[last]
    resumed = run(subject, ids, None, [edit], read=[last], logits=False, resume=Resume(2, known))[last]
    close(resumed, whole)
    # The blocks are as they were.
    close(run(subject, ids, read=[stream], logits=False)[stream], known)


def test_left_and_right_padding_and_company_change_no_row(case: Case) -> None:
    """Edits count positions from a row's own first token."""
    subject = case.subject
    long, short = tokens(1, 9)[0].tolist(), tokens(2, 6)[1].tolist()
    vector = torch.linspace(-1, 1, subject.d_model)
    site, z = Site(1, "resid_post"), Site(2, "head_z")
    edits = [add(site, vector, Where(positions=[2, 4])), scale(z, 3.0, Where(positions=[5], channels=[1]))]
    alone = outcome(subject, torch.tensor([short]), *edits)[0]
    for side in ("right", "left"):
        ids, mask = subject.pad([long, short], side=side)
        row = outcome(subject, ids, *edits, mask=mask)[1]
        own = row[-len(short) :] if side == "left" else row[: len(short)]
        close(own, alone, 2e-5)


def test_a_cached_prefix_gives_the_same_logits(case: Case) -> None:
    subject = case.subject
    ids = tokens(2, 9)
    if not subject.causal:
        with pytest.raises(InterventionError, match="encoder"):
            prefill(subject, ids[:, :6].tolist())
        return
    if subject.model.get_output_embeddings() is None:
        pytest.skip("it has no logits")
    # The second beginning is two tokens shorter, so that what follows it starts at position 4.
    prefix = prefill(subject, [ids[0, :6].tolist(), ids[1, 2:6].tolist()])
    site, vector = Site(1, "resid_post"), torch.linspace(-1, 1, subject.d_model)
    edits = [add(site, vector, Where(rows=0, positions=[6, 7])), add(site, vector, Where(rows=2, positions=6))]
    found = run(subject, ids[:, 6:].repeat_interleave(2, 0), None, edits, past=prefix.repeat(2)).logits
    assert found is not None
    close(found[0], outcome(subject, ids[:1], add(site, vector, Where(positions=[6, 7])))[0, 6:], 2e-5)
    close(found[1], outcome(subject, ids[:1])[0, 6:], 2e-5)
    close(found[2], outcome(subject, ids[1:, 2:], add(site, vector, Where(positions=6)))[0, 4:], 2e-5)
    close(found[3], outcome(subject, ids[1:, 2:])[0, 4:], 2e-5)


def test_edits_compose_in_order_and_downstream_sees_upstream(gpt2: Subject) -> None:
    ids, site = tokens(), Site(1, "mlp_out")
    before = run(gpt2, ids, read=[site], logits=False)[site]
    found = run(gpt2, ids, None, [add(site, 1.0), scale(site, 2.0)], read=[site], logits=False)[site]
    close(found, 2 * (before + 1))
    found = run(gpt2, ids, None, [scale(site, 2.0), add(site, 1.0)], read=[site], logits=False)[site]
    close(found, 2 * before + 1)
    later = run(gpt2, ids, None, [set_to(Site(1, "mlp_act"), 0.0), scale(site, 2.0)], read=[site], logits=False)[site]
    bias = gpt2.model.transformer.h[1].mlp.c_proj.bias
    close(later, (2 * bias).expand_as(later))


def test_a_sweep_puts_another_edit_into_each_row(gpt2: Subject) -> None:
    ids, site = tokens(1).expand(3, -1), Site(1, "head_z")
    clean = run(gpt2, ids, read=[site], logits=False)[site]
    cells = Where(rows=[0, 1, 2], positions=[2, 5, 5], channels=[0, 3, 1], paired=True)
    values = torch.arange(1.0, 4.0)
    found = run(gpt2, ids, None, [set_to(site, values, cells, per_row=True)], read=[site], logits=False)[site]
    expected = clean.clone()
    for row, (position, head) in enumerate(((2, 0), (5, 3), (5, 1))):
        expected[row, position, head] = row + 1.0
    close(found, expected)


def test_projecting_out_leaves_the_rest(gpt2: Subject) -> None:
    ids, site = tokens(), Site(2, "resid_pre")
    direction = torch.linspace(-1, 2, 32)
    unit = direction / direction.norm()
    before = run(gpt2, ids, read=[site], logits=False)[site]
    after = run(gpt2, ids, None, [project_out(site, direction, Where(since=1))], read=[site], logits=False)[site]
    close(after[:, 1:] @ unit, torch.zeros(2, 8))
    close(after[:, 1:] + (before[:, 1:] @ unit)[..., None] * unit, before[:, 1:])
    close(after[:, 0], before[:, 0])


def test_half_precision_computes_edits_exactly(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu", dtype="bfloat16")
    ids, site = tokens(), Site(1, "resid_mid")
    assert torch.equal(outcome(subject, ids, add(site, 0.0), scale(Site(1, "head_z"), 1.0)), outcome(subject, ids))
    found = run(subject, ids, None, [change(site, lambda x: x + 1, name="one more")], read=[site], logits=False)
    assert found[site].dtype == torch.bfloat16


BAD = {
    "a position beyond the text": (lambda: [add(Site(1, "resid_post"), 1.0, Where(positions=[9]))], "beyond the text"),
    "a negative position": (lambda: [add(Site(1, "resid_post"), 1.0, Where(positions=[-1]))], "counted from 0"),
    "a row beyond the batch": (lambda: [add(Site(1, "resid_post"), 1.0, Where(rows=[2]))], "no row 2"),
    "a head that is not there": (lambda: [scale(Site(1, "head_z"), 0.0, Where(channels=[4]))], "no channel 4"),
    "a pattern's head": (lambda: [scale_attention(1, 0.0, AttentionWhere(heads=4))], "no head 4"),
    "a key beyond the text": (lambda: [scale_attention(1, 0.0, AttentionWhere(keys=[12]))], "beyond the text"),
    "the wrong width": (lambda: [add(Site(1, "resid_post"), torch.ones(31))], "does not fit"),
    "a vector that is not finite": (lambda: [add(Site(1, "resid_post"), float("nan"))], "not finite"),
    "a place of the wrong kind": (lambda: [scale(Site(1, "attn_pattern"), 0.0)], "AttentionWhere"),
    "lists of unequal length": (
        lambda: [add(Site(1, "resid_post"), 1.0, Where(rows=[0], positions=[1, 2], paired=True))], "one length"),
    "a strength that overflows": (lambda: [scale(Site(2, "resid_post"), 3e38)], "smaller strength"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", list(BAD))
def test_mistakes_are_told(gpt2: Subject, mistake: str) -> None:
    make, message = BAD[mistake]
    with pytest.raises(InterventionError, match=message):
        run(gpt2, tokens(), None, make())


def test_a_layer_that_is_not_there_is_told(gpt2: Subject) -> None:
    with pytest.raises(UnitError, match="layers 0-2"):
        run(gpt2, tokens(), None, [add(Site(3, "resid_post"), 1.0)])


def test_hooks_are_gone_after_a_mistake(gpt2: Subject) -> None:
    clean = outcome(gpt2, tokens())
    with pytest.raises(InterventionError):
        run(gpt2, tokens(), None, [scale_attention(1, 0.0, AttentionWhere(heads=4))])
    assert torch.equal(outcome(gpt2, tokens()), clean)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in gpt2.model.modules())
