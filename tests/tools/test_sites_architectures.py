"""Every site of every architecture against its value recomputed from the model's own weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tools import units
from tools.errors import UnitError
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site, UnitId

V, D, H, F, L = 400, 32, 4, 40, 3


def close(got: Any, expected: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(*x.shape[:-1], count, -1)


def gated(block: Any, x: Tensor) -> Any:
    return block.mlp.act_fn(block.mlp.gate_proj(x)) * block.mlp.up_proj(x)


def keep(_: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: x


@dataclass(frozen=True)
class Reference:
    """How one architecture computes a block, in terms of its own modules."""

    model: str
    config: str
    options: dict[str, Any]
    blocks: Callable[[Any], nn.ModuleList]
    norm1: Callable[[Any], Callable[[Tensor], Tensor]]
    values: Callable[[Any, Tensor], Tensor]
    out: Callable[[Any], nn.Module]
    norm2: Callable[[Any], Callable[[Tensor], Tensor]]
    hidden: Callable[[Any, Tensor], Tensor] | None
    down: Callable[[Any], nn.Module] | None
    after_attention: Callable[[Any], Callable[[Tensor], Tensor]] = keep
    after_mlp: Callable[[Any], Callable[[Tensor], Tensor]] = keep
    order: str = "sequential"
    final_norm: Callable[[Any], Callable[[Tensor], Tensor]] | None = None
    gate: Callable[[Any], nn.Module] | None = None


def gpt2(**options: Any) -> Reference:
    return Reference(
        "GPT2LMHeadModel", "GPT2Config",
        {"n_embd": D, "n_head": H, "n_layer": L, "n_inner": F, "n_positions": 64, **options},
        blocks=lambda m: m.transformer.h,
        norm1=lambda b: b.ln_1,
        values=lambda b, x: heads(b.attn.c_attn(x)[..., 2 * D :], H),
        out=lambda b: b.attn.c_proj,
        norm2=lambda b: b.ln_2,
        hidden=lambda b, x: b.mlp.act(b.mlp.c_fc(x)),
        down=lambda b: b.mlp.c_proj,
        final_norm=lambda m: m.transformer.ln_f,
        gate=lambda b: b.mlp.c_fc,
    )  # fmt: skip


def gpt_neo() -> Reference:
    return Reference(
        "GPTNeoForCausalLM", "GPTNeoConfig",
        {"hidden_size": D, "num_heads": H, "num_layers": 4, "attention_types": [[["global", "local"], 2]],
         "intermediate_size": F, "max_position_embeddings": 64, "window_size": 4},
        blocks=lambda m: m.transformer.h,
        norm1=lambda b: b.ln_1,
        values=lambda b, x: heads(b.attn.attention.v_proj(x), H),
        out=lambda b: b.attn.attention.out_proj,
        norm2=lambda b: b.ln_2,
        hidden=lambda b, x: b.mlp.act(b.mlp.c_fc(x)),
        down=lambda b: b.mlp.c_proj,
        final_norm=lambda m: m.transformer.ln_f,
        gate=lambda b: b.mlp.c_fc,
    )  # fmt: skip


def gpt_neox(parallel: bool) -> Reference:
    return Reference(
        "GPTNeoXForCausalLM", "GPTNeoXConfig",
        {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": L, "intermediate_size": F,
         "max_position_embeddings": 64, "use_parallel_residual": parallel},
        blocks=lambda m: m.gpt_neox.layers,
        norm1=lambda b: b.input_layernorm,
        values=lambda b, x: heads(b.attention.query_key_value(x), H)[..., 2 * D // H :],
        out=lambda b: b.attention.dense,
        norm2=lambda b: b.post_attention_layernorm,
        hidden=lambda b, x: b.mlp.act(b.mlp.dense_h_to_4h(x)),
        down=lambda b: b.mlp.dense_4h_to_h,
        order="parallel" if parallel else "sequential",
        final_norm=lambda m: m.gpt_neox.final_layer_norm,
        gate=lambda b: b.mlp.dense_h_to_4h,
    )  # fmt: skip


def opt(before: bool, **options: Any) -> Reference:
    return Reference(
        "OPTForCausalLM", "OPTConfig",
        {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": L, "ffn_dim": F,
         "max_position_embeddings": 64, "do_layer_norm_before": before, "word_embed_proj_dim": D, **options},
        blocks=lambda m: m.model.decoder.layers,
        norm1=lambda b: b.self_attn_layer_norm,
        values=lambda b, x: heads(b.self_attn.v_proj(x), H),
        out=lambda b: b.self_attn.out_proj,
        norm2=lambda b: b.final_layer_norm,
        hidden=lambda b, x: b.activation_fn(b.fc1(x)),
        down=lambda b: b.fc2,
        order="sequential" if before else "post-norm",
        final_norm=(lambda m: m.model.decoder.final_layer_norm) if before else None,
        gate=lambda b: b.fc1,
    )  # fmt: skip


def llama_like(model: str, config: str, **options: Any) -> Reference:
    kv = options.get("num_key_value_heads", 2)
    gemma = "Gemma" in model
    return Reference(
        model, config,
        {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": L, "intermediate_size": F,
         "max_position_embeddings": 64, "num_key_value_heads": kv, "pad_token_id": 1, **options},
        blocks=lambda m: m.model.layers,
        norm1=lambda b: b.input_layernorm,
        values=lambda b, x: heads(b.self_attn.v_proj(x), kv).repeat_interleave(H // kv, dim=-2),
        out=lambda b: b.self_attn.o_proj,
        norm2=lambda b: b.pre_feedforward_layernorm if gemma else b.post_attention_layernorm,
        hidden=gated,
        down=lambda b: b.mlp.down_proj,
        after_attention=(lambda b: b.post_attention_layernorm) if gemma else keep,
        after_mlp=(lambda b: b.post_feedforward_layernorm) if gemma else keep,
        final_norm=lambda m: m.model.norm,
        gate=lambda b: b.mlp.gate_proj,
    )  # fmt: skip


def phi() -> Reference:
    return Reference(
        "PhiForCausalLM", "PhiConfig",
        {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": L, "intermediate_size": F,
         "max_position_embeddings": 64, "pad_token_id": 1},
        blocks=lambda m: m.model.layers,
        norm1=lambda b: b.input_layernorm,
        values=lambda b, x: heads(b.self_attn.v_proj(x), H),
        out=lambda b: b.self_attn.dense,
        norm2=lambda b: b.input_layernorm,
        hidden=lambda b, x: b.mlp.activation_fn(b.mlp.fc1(x)),
        down=lambda b: b.mlp.fc2,
        order="parallel",
        final_norm=lambda m: m.model.final_layernorm,
        gate=lambda b: b.mlp.fc1,
    )  # fmt: skip


def bert(model: str, config: str, root: Callable[[Any], Any]) -> Reference:
    return Reference(
        model, config,
        {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": L, "intermediate_size": F,
         "max_position_embeddings": 64, "type_vocab_size": 1, "pad_token_id": 1},
        blocks=lambda m: root(m).encoder.layer,
        norm1=lambda b: b.attention.output.LayerNorm,
        values=lambda b, x: heads(b.attention.self.value(x), H),
        out=lambda b: b.attention.output.dense,
        norm2=lambda b: b.output.LayerNorm,
        hidden=lambda b, x: b.intermediate.intermediate_act_fn(b.intermediate.dense(x)),
        down=lambda b: b.output.dense,
        order="post-norm",
        gate=lambda b: b.intermediate.dense,
    )  # fmt: skip


def moe(model: str, config: str, **options: Any) -> Reference:
    base = llama_like(model, config, **options)
    return Reference(**{**base.__dict__, "hidden": None, "down": None, "gate": None})


GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}
ARCHITECTURES: dict[str, Reference] = {
    "gpt2": gpt2(),
    "gpt-neo": gpt_neo(),
    "gpt-neox-parallel": gpt_neox(True),
    "gpt-neox-sequential": gpt_neox(False),
    "opt": opt(True),
    "opt-post-norm": opt(False, word_embed_proj_dim=12),
    "llama": llama_like("LlamaForCausalLM", "LlamaConfig"),
    "mistral": llama_like("MistralForCausalLM", "MistralConfig", sliding_window=4, num_key_value_heads=1),
    "qwen2": llama_like("Qwen2ForCausalLM", "Qwen2Config"),
    "qwen3": llama_like("Qwen3ForCausalLM", "Qwen3Config", head_dim=8),
    "gemma2": llama_like("Gemma2ForCausalLM", "Gemma2Config", **GEMMA),
    "gemma3": llama_like("Gemma3ForCausalLM", "Gemma3TextConfig", **GEMMA),
    "phi": phi(),
    "bert": bert("BertForMaskedLM", "BertConfig", lambda m: m.bert),
    "bert-headless": bert("BertModel", "BertConfig", lambda m: m),
    "roberta": bert("RobertaForMaskedLM", "RobertaConfig", lambda m: m.roberta),
    "mixtral": moe("MixtralForCausalLM", "MixtralConfig", num_local_experts=3),
    "qwen2-moe": moe("Qwen2MoeForCausalLM", "Qwen2MoeConfig", num_experts=3, num_experts_per_tok=2,
                     moe_intermediate_size=16, shared_expert_intermediate_size=16),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    name: str
    reference: Reference
    subject: Subject

    @property
    def blocks(self) -> Any:
        return self.reference.blocks(self.subject.model)


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    reference = ARCHITECTURES[request.param]
    torch.manual_seed(3)
    config = getattr(hf, reference.config)(vocab_size=V, **reference.options)
    model = getattr(hf, reference.model)(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.ndim > 1:
            parameter.copy_(noise / min(parameter.shape[-2:]) ** 0.5)
        else:
            # Gemma stores the gain of a norm minus one.
            parameter.copy_(0.3 * noise + (0.0 if name.endswith("bias") or "Gemma" in reference.model else 1.0))
    tokenizer = hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder)
    return Case(request.param, reference, Subject(request.param, model, tokenizer, "0" * 16))


def tokens(batch: int = 2, positions: int = 9) -> Tensor:
    return torch.randint(2, V, (batch, positions), generator=torch.Generator().manual_seed(5))


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
