"""Every site of every architecture against its value recomputed from the model's own weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tools.architectures import ARCHITECTURES, Case, D, H, L, close, make_case, tokens
from tools import units
from tools.errors import UnitError
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site, UnitId


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    return make_case(request.param, tiny_gpt2_folder)


def available(subject: Subject) -> list[Site]:
    return [Site(layer, kind) for layer, plan in enumerate(subject.sites.plans) for kind in plan.taps]


def test_sites_equal_values_recomputed_from_the_weights(case: Case) -> None:
    r, subject = case.reference, case.subject
    ids = tokens()
    got = subject.capture(ids, None, available(subject))
    assert subject.n_layers == len(case.blocks)
    for layer, block in enumerate(case.blocks):
        at = {kind: got[Site(layer, kind)] for kind in subject.sites.plans[layer].taps}
        pre = at["resid_pre"]
        with torch.no_grad():
            reads = pre if r.order == "post-norm" else r.norm1(block)(pre)
            z = torch.einsum("bhqk,bkhd->bqhd", at["attn_pattern"], r.values(block, reads))
            close(at["head_z"], z)
            attention = r.after_attention(block)(r.out(block)(z.flatten(2)))
            close(at["attn_out"], attention)
            if r.order == "parallel":
                assert "resid_mid" not in at
                mlp_reads = r.norm2(block)(pre)
            else:
                middle = pre + attention
                middle = r.norm1(block)(middle) if r.order == "post-norm" else middle
                close(at["resid_mid"], middle)
                mlp_reads = middle if r.order == "post-norm" else r.norm2(block)(middle)
            if r.hidden is None or r.down is None:
                assert "mlp_act" not in at
                mlp = block.mlp(mlp_reads)
            else:
                hidden = r.hidden(block, mlp_reads)
                close(at["mlp_act"], hidden)
                mlp = r.after_mlp(block)(r.down(block)(hidden))
            close(at["mlp_out"], mlp)
            if r.order == "post-norm":
                post = r.norm2(block)(at["resid_mid"] + at["mlp_out"])
            else:
                post = pre + at["attn_out"] + at["mlp_out"]
            close(at["resid_post"], post)


def test_residual_stream_is_what_transformers_reports_but_before_the_final_norm(case: Case) -> None:
    """The last of transformers' hidden states is after the final norm; resid_post of the last layer is not."""
    subject, last = case.subject, case.subject.n_layers - 1
    ids = tokens()
    got = subject.capture(ids, None, [Site(i, k) for i in range(last + 1) for k in ("resid_pre", "resid_post")])
    with torch.no_grad():
        states = subject.model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer in range(last + 1):
        close(got[Site(layer, "resid_pre")], states[layer])
        if layer < last:
            close(got[Site(layer, "resid_post")], states[layer + 1])
    final = got[Site(last, "resid_post")]
    if case.reference.final_norm is not None:
        assert not torch.allclose(final, states[-1], atol=1e-2)
        with torch.no_grad():
            final = case.reference.final_norm(subject.model)(final)
    if case.name != "opt-post-norm":  # projects to another width behind its last block
        close(final, states[-1])


def test_pattern_is_what_transformers_reports(case: Case) -> None:
    subject = case.subject
    got = subject.capture(tokens(), None, [Site(layer, "attn_pattern") for layer in range(subject.n_layers)])
    for pattern in got.values():
        assert pattern.shape == (2, subject.n_heads, 9, 9)
        close(pattern.sum(-1), torch.ones(2, subject.n_heads, 9))
    assert subject.causal != bool(pattern.triu(1).abs().max() > 0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(case: Case, side: str) -> None:
    subject = case.subject
    short, long = tokens(1, 6)[0].tolist(), tokens(1, 11)[0].tolist()
    ids, mask = subject.pad([short, long], side=side)
    sites = available(subject)
    both = subject.capture(ids, mask, sites, logits=subject.model.get_output_embeddings() is not None)
    for row, sequence in enumerate((short, long)):
        alone = subject.capture(torch.tensor([sequence]), None, sites, logits=both.logits is not None)
        real = mask[row].bool()
        for site in sites:
            padded = both[site][row]
            padded = padded[:, real][:, :, real] if site.kind == "attn_pattern" else padded[real]
            close(padded, alone[site][0])
        if both.logits is not None and alone.logits is not None:
            close(both.logits[row][real], alone.logits[0], 3e-5)


def test_head_activation_is_the_norm_of_what_the_head_writes(case: Case) -> None:
    subject = case.subject
    for layer, block in enumerate(case.blocks):
        site = Site(layer, "head_z")
        captured = subject.capture(tokens(), None, [site])
        got = units.activations(subject, f"head:{layer}", captured)
        weight = weight_in_out(case.reference.out(block)).reshape(subject.n_heads, subject.d_head, D)
        for head in range(subject.n_heads):
            write = captured[site][:, :, head] @ weight[head]
            close(got[..., head], write.norm(dim=-1))


def test_neurons_read_and_write_by_their_weights(case: Case) -> None:
    subject, r = case.subject, case.reference
    if r.down is None or r.gate is None:
        with pytest.raises(UnitError, match="mixture of experts"):
            units.expand(subject, "mlp:*:*")
        with pytest.raises(UnitError, match="mixture of experts"):
            units.check_unit(subject, UnitId.parse("mlp:1:0"))
        assert len(units.expand(subject, "head:*:*")) == L * H
        return
    unit = UnitId("mlp:1", 7)
    block = case.blocks[1]
    read, write = units.read_direction(subject, unit), units.write_direction(subject, unit)
    assert read is not None
    assert write is not None
    close(read, weight_in_out(r.gate(block))[:, 7])
    expected = weight_in_out(r.down(block))[7]
    norm = r.after_mlp(block)
    if isinstance(norm, nn.Module):  # Gemma: the gain of the norm behind the projection
        expected = expected * (1 + norm.get_parameter("weight"))
    close(write, expected)
    captured = subject.capture(tokens(), None, [Site(1, "mlp_act")])
    close(units.activations(subject, "mlp:1", captured), captured[Site(1, "mlp_act")])


def test_unembedding_explains_the_logits(case: Case) -> None:
    """Adding a direction to the last residual stream adds its projection to the logits, up to the norm's scale."""
    subject = case.subject
    way = subject.unembedding
    if case.name in ("bert", "bert-headless", "roberta"):
        assert way is None
        return
    assert way is not None
    site = Site(subject.n_layers - 1, "resid_post")
    captured = subject.capture(tokens(), None, [site], logits=True)
    stream, logits = captured[site], captured.logits
    assert logits is not None
    if cap := getattr(subject.model.config, "final_logit_softcapping", None):
        logits = torch.atanh(logits / cap) * cap
    head = subject.model.get_output_embeddings()
    shift = torch.zeros(()) if head.bias is None else head.bias
    scale = torch.ones(())
    if case.reference.final_norm is not None:
        norm = case.reference.final_norm(subject.model)
        centred = stream - stream.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else stream
        scale = centred.square().mean(-1, keepdim=True).sqrt()
        shift = shift + (norm.bias @ head.weight.T if isinstance(norm, nn.LayerNorm) else 0.0)
    close(way.project(stream) / scale + shift, logits, 1e-3)
