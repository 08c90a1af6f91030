"""Tiny random models of every supported architecture, and how each computes a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from tools.subject import Subject

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


def make_case(name: str, tokenizer_folder: Path, seed: int = 3) -> Case:
    """A random model of the architecture, with the tokenizer of a tiny one."""
    reference = ARCHITECTURES[name]
    torch.manual_seed(seed)
    config = getattr(hf, reference.config)(vocab_size=V, **reference.options)
    model = getattr(hf, reference.model)(config).eval().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.ndim > 1:
            parameter.copy_(noise / min(parameter.shape[-2:]) ** 0.5)
        else:
            # Gemma stores the gain of a norm minus one.
            plain = parameter_name.endswith("bias") or "Gemma" in reference.model
            parameter.copy_(0.3 * noise + (0.0 if plain else 1.0))
    tokenizer = hf.AutoTokenizer.from_pretrained(tokenizer_folder)
    return Case(name, reference, Subject(name, model, tokenizer, "0" * 16))


def tokens(batch: int = 2, positions: int = 9) -> Tensor:
    return torch.randint(2, V, (batch, positions), generator=torch.Generator().manual_seed(5))
