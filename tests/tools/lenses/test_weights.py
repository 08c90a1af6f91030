"""What units read and write, against formulas on the model's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

from tools.errors import UnitError
from tools.lenses import head_writes, read_lens, write_lens
from tools.planted import build, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId


def randomised(model: hf.PreTrainedModel) -> hf.PreTrainedModel:
    torch.manual_seed(9)
    for name, parameter in model.eval().requires_grad_(False).named_parameters():
        noise = torch.randn(parameter.shape)
        parameter.copy_(0.3 * noise + (0 if parameter.ndim > 1 or name.endswith("bias") else 1))
    return model


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    randomised(subject.model)
    return subject


@pytest.fixture(scope="module")
def llama(tiny_llama_folder: Path) -> Subject:
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    randomised(subject.model)
    return subject


def test_neuron_that_writes_an_unembedding_promotes_its_token(llama: Subject) -> None:
    model = llama.model
    norm = model.model.norm.weight
    for token in (77, 212):
        model.model.layers[1].mlp.down_proj.weight[:, 5] = model.lm_head.weight[token] / norm
        lens = write_lens(llama, UnitId.parse("mlp:1:5"), k=3)
        assert lens is not None
        assert lens.promoted[0][0] == llama.pieces([token])[0]
    model.model.layers[1].mlp.down_proj.weight[:, 5] *= -1
    lens = write_lens(llama, UnitId.parse("mlp:1:5"), k=3)
    assert lens is not None
    assert lens.suppressed[0][0] == llama.pieces([212])[0]


def test_layer_norm_is_folded_in(gpt2: Subject) -> None:
    model = gpt2.model.transformer
    direction = model.h[0].mlp.c_proj.weight[11]
    scores = (model.ln_f.weight * (direction - direction.mean())) @ model.wte.weight.T
    scores = scores[: len(gpt2.tokenizer)]
    scores = scores - scores.mean()
    lens = write_lens(gpt2, UnitId.parse("mlp:0:11"), k=4)
    assert lens is not None
    assert [s for _, s in lens.promoted] == pytest.approx(scores.topk(4).values.tolist(), abs=1e-4)
    assert [s for _, s in lens.suppressed] == pytest.approx(scores.topk(4, largest=False).values.tolist(), abs=1e-4)
    assert [p for p, _ in lens.promoted] == gpt2.pieces(scores.topk(4).indices.tolist())


def test_direction_has_a_lens_and_a_head_has_none(gpt2: Subject) -> None:
    gpt2.add_direction("token", Site(1, "resid_post"), gpt2.model.transformer.wte.weight[9])
    assert write_lens(gpt2, UnitId.parse("dir:token")) is not None
    assert write_lens(gpt2, UnitId.parse("head:0:0")) is None
    with pytest.raises(UnitError, match="write_lens"):
        head_writes(gpt2, UnitId.parse("dir:token"), [5])


@pytest.mark.parametrize("layer", [0, 2])
def test_head_writes_follow_the_ov_circuit(gpt2: Subject, layer: int) -> None:
    model, head, tokens = gpt2.model.transformer, 3, [5, 120, 33]
    block = model.h[layer]
    x = block.ln_1(model.wte.weight[tokens] + model.wpe.weight[1])
    v = block.attn.c_attn(x)[:, 64 + head * 8 : 64 + (head + 1) * 8]
    write = v @ block.attn.c_proj.weight[head * 8 : (head + 1) * 8]
    scores = (model.ln_f.weight * (write - write.mean(-1, keepdim=True))) @ model.wte.weight.T
    scores = scores[:, : len(gpt2.tokenizer)]
    scores = scores - scores.mean(-1, keepdim=True)
    got = head_writes(gpt2, UnitId(f"head:{layer}", head), tokens, k=2)
    assert got is not None
    assert [w.token for w in got] == tokens
    for i, found in enumerate(got):
        assert found.norm == pytest.approx(float(write[i].norm()), rel=1e-4)
        assert [s for _, s in found.promotion.promoted] == pytest.approx(scores[i].topk(2).values.tolist(), abs=1e-3)


def test_head_writes_with_shared_values(llama: Subject) -> None:
    model, tokens = llama.model, [5, 120]
    block = model.model.layers[1]
    x = block.input_layernorm(model.model.embed_tokens.weight[tokens])
    v = block.self_attn.v_proj(x)[:, 8:16]  # heads 2 and 3 share the second value head
    write = v @ block.self_attn.o_proj.weight.T[3 * 8 : 4 * 8]
    got = head_writes(llama, UnitId.parse("head:1:3"), tokens)
    assert got is not None
    assert [w.norm for w in got] == pytest.approx(write.norm(dim=-1).tolist(), rel=1e-4)
    assert head_writes(llama, UnitId.parse("head:1:3"), []) == []


def test_head_writes_leave_no_hook_behind(gpt2: Subject) -> None:
    head_writes(gpt2, UnitId.parse("head:1:0"), [5])
    assert not any(m._forward_pre_hooks for m in gpt2.model.modules())


def test_encoder_has_no_lens(tiny_gpt2_folder: Path) -> None:
    config = hf.BertConfig(vocab_size=400, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
                           intermediate_size=20, max_position_embeddings=16)  # fmt: skip
    tokenizer = hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder)
    subject = Subject("bert", hf.BertForMaskedLM(config).eval(), tokenizer, "0" * 16)
    assert write_lens(subject, UnitId.parse("mlp:0:0")) is None
    assert head_writes(subject, UnitId.parse("head:0:0"), [5]) is None


def test_read_lens_is_what_each_token_gives_the_neuron(gpt2: Subject) -> None:
    """Pre-activations of the neuron over the whole vocabulary, from GPT-2's own modules."""
    block, unit = gpt2.model.transformer.h[1], UnitId.parse("mlp:1:11")
    n = len(gpt2.tokenizer)
    bos = 0 if gpt2.bos_id is None else gpt2.bos_id
    middle = gpt2.capture(torch.tensor([[bos, t] for t in range(n)]), None, [Site(1, "resid_mid")])
    alone = block.ln_2(middle[Site(1, "resid_mid")][:, 1]) @ block.mlp.c_fc.weight[:, 11]
    stream = gpt2.model.transformer.wte.weight[:n] + gpt2.model.transformer.wpe.weight[1]
    embedded = block.ln_2(stream) @ block.mlp.c_fc.weight[:, 11]
    for scores, lens in ((alone, read_lens(gpt2, unit, 4)), (embedded, read_lens(gpt2, unit, 4, "embedding"))):
        assert lens is not None
        centred = scores - scores.mean()
        assert [s for _, s in lens.exciting.promoted] == pytest.approx(centred.topk(4).values.tolist(), abs=1e-4)
        lowest = centred.topk(4, largest=False)
        assert [p for p, _ in lens.exciting.suppressed] == gpt2.pieces(lowest.indices.tolist())


def test_read_direction_through_the_unembedding_has_both_norms_folded_in(gpt2: Subject) -> None:
    model = gpt2.model.transformer
    read = model.h[1].ln_2.weight * model.h[1].mlp.c_fc.weight[:, 11]
    read = read - read.mean()
    scores = (model.ln_f.weight * (read - read.mean())) @ model.wte.weight.T
    scores = scores[: len(gpt2.tokenizer)] - scores[: len(gpt2.tokenizer)].mean()
    lens = read_lens(gpt2, UnitId.parse("mlp:1:11"), 3)
    assert lens is not None
    assert lens.unembedding is not None
    assert [s for _, s in lens.unembedding.promoted] == pytest.approx(scores.topk(3).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_planted_units_show_the_tokens_that_they_look_for_and_promote(architecture: str) -> None:
    subject = load_subject(f"planted:seed=1,arch={architecture}", device="cpu")
    truths = load_truth(build(planted_spec(f"planted:seed=1,arch={architecture}")))
    sets = [t for t in truths.values() if t.family == "token set" and t.polarity == "+"]
    assert len(sets) > 5
    for truth in sets:
        tokens = {token for case in truth.cases for token in case.when.tokens}
        lens = read_lens(subject, UnitId.parse(truth.unit), len(tokens))
        assert lens is not None
        assert {piece for piece, _ in lens.exciting.promoted} == tokens
    effects = [t for t in truths.values() if t.effect is not None and not t.unit.startswith("head")]
    assert len(effects) > 20
    hits = 0
    for truth in effects:
        assert truth.effect is not None
        lens = write_lens(subject, UnitId.parse(truth.unit), len(truth.effect.tokens))
        assert lens is not None
        upwards = (truth.effect.sign > 0) == (truth.polarity == "+")
        found = {piece for piece, _ in (lens.promoted if upwards else lens.suppressed)}
        hits += found == set(truth.effect.tokens)
    assert hits == len(effects)


def test_encoder_neurons_read_tokens_and_no_unembedding(tiny_gpt2_folder: Path) -> None:
    config = hf.BertConfig(vocab_size=400, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
                           intermediate_size=20, max_position_embeddings=16)  # fmt: skip
    tokenizer = hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder)
    lens = read_lens(Subject("bert", hf.BertForMaskedLM(config).eval(), tokenizer, "0" * 16), UnitId.parse("mlp:0:0"))
    assert lens is not None
    assert lens.unembedding is None
    assert len(lens.exciting.promoted) == 10
