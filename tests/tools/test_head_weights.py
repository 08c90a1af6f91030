"""W_Q, W_K, W_V and what is said of scores, against each architecture's own computation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from tests.tools.test_sites_architectures import ARCHITECTURES, Case, D, H, case, close, tokens
from tools.head_weights import attention_input, head_weights
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site

__all__ = ["case"]


def test_values_and_writes_follow_from_the_weights(case: Case) -> None:
    subject = case.subject
    sites = [Site(layer, kind) for layer in range(subject.n_layers) for kind in ("resid_pre", "attn_pattern", "head_z")]
    captured = subject.capture(tokens(), None, sites)
    for layer in range(subject.n_layers):
        weights = head_weights(subject, layer)
        x = attention_input(subject, layer, captured[Site(layer, "resid_pre")])
        v = torch.einsum("bpd,hde->bphe", x, weights.W_V) + weights.b_V
        z = torch.einsum("bhqk,bkhe->bqhe", captured[Site(layer, "attn_pattern")], v)
        close(captured[Site(layer, "head_z")], z, 1e-4)
        expected = weight_in_out(case.reference.out(case.blocks[layer])).reshape(H, subject.d_head, D)
        close(weights.W_O, expected)
        assert (weights.norm is None) == (case.reference.order == "post-norm")


def test_patterns_follow_from_the_weights_where_nothing_is_left_out(case: Case) -> None:
    subject = case.subject
    sites = [Site(layer, kind) for layer in range(subject.n_layers) for kind in ("resid_pre", "attn_pattern")]
    captured = subject.capture(tokens(), None, sites)
    rotary = {"gpt2", "gpt-neo", "opt", "opt-post-norm", "bert", "bert-headless", "roberta"}
    for layer in range(subject.n_layers):
        weights = head_weights(subject, layer)
        assert any("rotary" in text for text in weights.left_out) == (case.name not in rotary)
        assert any("norm" in text for text in weights.left_out) == (case.name in ("qwen3", "gemma3"))
        assert any("cap" in text for text in weights.left_out) == (case.name == "gemma2")
        pattern = captured[Site(layer, "attn_pattern")]
        x = attention_input(subject, layer, captured[Site(layer, "resid_pre")])
        q = torch.einsum("bpd,hde->bhpe", x, weights.W_Q) + weights.b_Q[:, None]
        k = torch.einsum("bpd,hde->bhpe", x, weights.W_K) + weights.b_K[:, None]
        scores = weights.scale * q @ k.transpose(-1, -2)
        if case.name in rotary:
            close(scores.masked_fill(pattern == 0, -torch.inf).softmax(-1), pattern, 1e-4)
        if case.name in ("llama", "gpt-neox-parallel", "phi", "gemma2"):
            assert weights.scale == pytest.approx(8**-0.5, rel=1e-3)


def test_queries_and_keys_are_the_projections_of_llama(tiny_llama_folder: Path) -> None:
    """Rotary embeddings hide them in the pattern, so they are compared with the weights themselves."""
    model = hf.AutoModelForCausalLM.from_pretrained(tiny_llama_folder).eval().requires_grad_(False)
    subject = Subject("llama", model, hf.AutoTokenizer.from_pretrained(tiny_llama_folder), "0" * 16)
    attention = model.model.layers[1].self_attn
    weights = head_weights(subject, 1)
    close(weights.W_Q, attention.q_proj.weight.T.reshape(32, 4, 8).transpose(0, 1))
    close(weights.W_K, attention.k_proj.weight.T.reshape(32, 2, 8).transpose(0, 1).repeat_interleave(2, 0))
    assert not weights.b_Q.any()


@pytest.mark.parametrize("model", ["BloomForCausalLM", "GPTJForCausalLM", "FalconForCausalLM"])
def test_layouts_outside_the_attention_interface(model: str, tiny_gpt2_folder: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "BloomForCausalLM": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        "GPTJForCausalLM": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64},
        "FalconForCausalLM": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    }
    torch.manual_seed(2)
    config = getattr(hf, model.replace("ForCausalLM", "Config"))(vocab_size=400, **options[model])
    network = getattr(hf, model)(config).eval().requires_grad_(False)
    subject = Subject(model, network, hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder), "0" * 16)
    captured = subject.capture(tokens(), None, [Site(1, k) for k in ("resid_pre", "attn_pattern", "head_z")])
    weights = head_weights(subject, 1)
    x = attention_input(subject, 1, captured[Site(1, "resid_pre")])
    v = torch.einsum("bpd,hde->bphe", x, weights.W_V) + weights.b_V
    close(captured[Site(1, "head_z")], torch.einsum("bhqk,bkhe->bqhe", captured[Site(1, "attn_pattern")], v), 1e-4)
    if model == "BloomForCausalLM":
        assert any("depends on position" in text for text in weights.left_out)


def test_bfloat16_weights_are_read_in_float32(tiny_gpt2_folder: Path) -> None:
    model = hf.AutoModelForCausalLM.from_pretrained(tiny_gpt2_folder, dtype=torch.bfloat16).eval()
    subject = Subject("half", model.requires_grad_(False), hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder), "0" * 16)
    weights = head_weights(subject, 0)
    fused: Tensor = model.transformer.h[0].attn.c_attn.weight
    assert weights.W_Q.dtype == torch.float32
    close(weights.W_Q, fused[:, :32].float().reshape(32, 4, 8).transpose(0, 1))
    assert all(isinstance(getattr(weights, f.name), Tensor) for f in dataclasses.fields(weights)[:7])
    assert set(ARCHITECTURES) >= {"gpt2", "llama", "gemma2"}
