"""OV and QK circuits against whole matrices in float64, and on heads whose weights are written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor

from tests.tools.architectures import make_case
from tools.embeddings import Streams
from tools.errors import UnitError
from tools.head_circuits import eigenvalue_ratio, head_circuit, layer_copying, top_entries
from tools.head_weights import attention_input, head_weights, rotation
from tools.interventions import run
from tools.planted.words import pieces
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    """Head 0 of layer 1 copies, head 1 writes the opposite, head 2 looks for its own token, head 3 looks two back."""
    torch.manual_seed(4)
    config = hf.GPT2Config(vocab_size=400, n_positions=24, n_embd=128, n_layer=2, n_head=4)
    model = hf.GPT2LMHeadModel(config).eval().requires_grad_(False)
    tokens = model.transformer.wte.weight
    model.transformer.wpe.weight.zero_()
    for parameter in (tokens, *(b.attn.c_attn.weight for b in model.transformer.h)):
        parameter.copy_(0.2 * torch.randn(parameter.shape))
    tokens[:, 96:] = 0.0
    model.transformer.wpe.weight[:, 96:120] = 2.0 * torch.eye(24)
    block = model.transformer.h[1].attn
    query, key, value = block.c_attn.weight.split(128, dim=1)
    for head, sign in ((0, 1.0), (1, -1.0)):
        random = torch.randn(128, 32)
        random[96:] = 0.0
        value[:, 32 * head : 32 * head + 32] = random
        block.c_proj.weight[32 * head : 32 * head + 32] = sign * random.T
    same = torch.randn(128, 32)
    same[96:] = 0.0
    query[:, 64:96] = key[:, 64:96] = same
    query[:, 96:] = key[:, 96:] = 0.0
    for position in range(24):
        key[96 + position, 96 + position] = 2.0
        if position >= 2:
            query[96 + position, 96 + position - 2] = 2.0
    return Subject("hand", model, hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder), "0" * 16)


def whole(subject: Subject, layer: int, head: int) -> tuple[Tensor, Tensor]:
    """OV and QK [vocabulary, vocabulary] from GPT-2's own weights, float64."""
    model = subject.model.transformer
    block = model.h[layer]
    width = subject.d_model
    columns = slice(subject.d_head * head, subject.d_head * (head + 1))
    norm = torch.nn.LayerNorm(width, eps=1e-5).double()
    norm.load_state_dict({key: value.double() for key, value in block.ln_1.state_dict().items()})
    x = norm(model.wte.weight.double() + model.wpe.weight[1].double())
    q, k, v = block.attn.c_attn.weight.double().split(width, dim=1)
    bq, bk, _ = block.attn.c_attn.bias.double().split(width)
    write = v[:, columns] @ block.attn.c_proj.weight.double()[columns]
    seen = model.ln_f.weight.double() * (write - write.mean(-1, keepdim=True))
    ov = x @ seen @ model.wte.weight.double().T
    scores = (x @ q[:, columns] + bq[columns]) @ (x @ k[:, columns] + bk[columns]).T / subject.d_head**0.5
    n = len(subject.tokenizer)
    ov, scores = ov[:n, :n], scores[:n, :n]
    return (ov - ov.mean(-1, keepdim=True)).detach(), (scores - scores.mean(-1, keepdim=True)).detach()


@pytest.mark.parametrize(("layer", "head"), [(0, 2), (1, 0), (1, 2)])
def test_pairs_and_eigenvalues_are_those_of_the_whole_matrices(gpt2: Subject, layer: int, head: int) -> None:
    ov, qk = whole(gpt2, layer, head)
    found = head_circuit(gpt2, UnitId(f"head:{layer}", head), k=6, streams="embedding")
    assert found.raised is not None
    assert found.lowered is not None
    for pairs, matrix, largest in ((found.raised, ov, True), (found.lowered, ov, False), (found.attended, qk, True)):
        expected = matrix.flatten().topk(6, largest=largest).values.tolist()
        assert [pair.score for pair in pairs] == pytest.approx(expected, rel=1e-3)
        for pair in pairs:
            assert float(matrix[pair.source, pair.target]) == pytest.approx(pair.score, rel=1e-3)
            assert [pair.source_piece, pair.target_piece] == gpt2.pieces([pair.source, pair.target])
    for matrix, ratio in ((ov, found.copying), (qk, found.matching)):
        values = torch.linalg.eigvals(matrix)
        assert ratio == pytest.approx(float(values.real.sum() / values.abs().sum()), abs=1e-3)


def test_planted_copying_and_matching_heads_are_told_from_the_rest(gpt2: Subject) -> None:
    found = [head_circuit(gpt2, UnitId("head:1", head), streams="embedding") for head in range(4)]
    assert [round(c.copying or 0) for c in found[:2]] == [1, -1]
    assert found[0].copying is not None
    assert found[0].copying > 0.99
    assert found[0].own == 1.0
    assert found[1].own == 0.0
    assert abs(found[3].copying or 0) < 0.6
    assert found[2].matching > 0.99
    assert abs(found[0].matching) < 0.6


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("streams", ["alone", "embedding"])
def test_planted_copiers_are_found_among_heads_that_copy_nothing(architecture: str, streams: Streams) -> None:
    """The induction head and the name mover copy what they attend to; others write what no logit reads, or noise."""
    subject = load_subject(f"planted:seed=1,arch={architecture}", device="cpu")
    heads = [UnitId(f"head:{layer}", h) for layer in range(subject.n_layers) for h in range(subject.n_heads)]
    found = {str(unit): head_circuit(subject, unit, k=3, streams=streams) for unit in heads}
    copiers = {name for name, circuit in found.items() if (circuit.own or 0) > 0.97}
    assert copiers == {"head:1:0", "head:2:0"}
    assert all((found[name].copying or 0) > 0.9 for name in copiers)
    assert all(abs(c.copying or 0) < 0.5 and (c.own or 0) < 0.1 for name, c in found.items() if name not in copiers)
    assert found["head:0:3"].matching > 0.9  # looks for earlier occurrences of its token
    assert all(pair.source == pair.target for pair in found["head:1:0"].raised or ())
    assert found["head:0:0"].raised == ()  # its mark stands where nothing reads it
    names = {pair.target_piece.strip() for pair in found["head:2:0"].attended}
    assert names <= {p.strip() for p in pieces("name")}
    assert {pair.source_piece.strip() for pair in found["head:2:0"].attended} <= {"to", "for"}


def test_positions_alone_tell_which_offset_a_head_looks_at(gpt2: Subject) -> None:
    by_position = head_circuit(gpt2, UnitId("head:1", 3)).offsets
    assert by_position is not None
    assert by_position[0].offset == 2
    assert by_position[0].mass > 0.5
    rest = head_circuit(gpt2, UnitId("head:1", 2)).offsets
    assert rest is not None
    assert rest[0].mass < 0.5


def test_rotary_models_have_no_positions_in_their_embeddings(tiny_llama_folder: Path) -> None:
    found = head_circuit(load_subject(str(tiny_llama_folder), device="cpu"), UnitId.parse("head:1:3"))
    assert found.offsets is None
    assert any("rotary" in text for text in found.left_out)
    assert found.to_json()["unit"] == "head:1:3"


@pytest.mark.parametrize("name", ["llama", "gpt-neox-parallel", "gemma2"])
def test_at_an_offset_scores_are_those_of_turned_queries_and_keys(name: str, tiny_gpt2_folder: Path) -> None:
    """Queries and keys of a run, behind the rotary embedding, against the weights turned by the offset alone."""
    subject = make_case(name, tiny_gpt2_folder).subject
    layer, ids = 1, torch.tensor([[5, 17, 40, 5, 99, 17, 8]])
    q, k, x = Site(layer, "head_q"), Site(layer, "head_k"), Site(layer, "resid_pre")
    found = run(subject, ids, read=[q, k, x], logits=False)
    weights, given = head_weights(subject, layer), attention_input(subject, layer, found[x][0])
    for query, key in ((6, 4), (5, 0), (3, 3)):
        turned = torch.einsum("d,hde->he", given[query], weights.W_Q) + weights.b_Q
        if query > key:
            turned = turned @ rotation(subject, layer, query - key)
        keys = torch.einsum("d,hde->he", given[key], weights.W_K) + weights.b_K
        expected = (found[q][0, query] * found[k][0, key]).sum(-1)
        torch.testing.assert_close((turned * keys).sum(-1), expected, rtol=1e-3, atol=1e-5)


def test_the_planted_duplicate_token_head_of_a_rotary_model_finds_tokens_at_any_distance() -> None:
    subject, unit = load_subject("planted:arch=llama", device="cpu"), UnitId("head:0", 3)
    for offset in (1, 5):
        found = head_circuit(subject, unit, k=4, offset=offset)
        assert found.matching > 0.5
        assert all(pair.source == pair.target for pair in found.attended)


def test_preferences_at_an_offset_are_told_with_it(tiny_llama_folder: Path, gpt2: Subject) -> None:
    subject, unit = load_subject(str(tiny_llama_folder), device="cpu"), UnitId.parse("head:1:3")
    near, far = head_circuit(subject, unit), head_circuit(subject, unit, offset=9)
    assert (near.offset, far.offset) == (0, 9)
    assert any("rotary" in text for text in near.left_out)
    assert not any("rotary" in text for text in far.left_out)
    assert near.raised == far.raised
    assert [pair.score for pair in near.attended] != [pair.score for pair in far.attended]
    with pytest.raises(UnitError, match="no offset 63"):
        head_circuit(subject, unit, offset=63)
    with pytest.raises(UnitError, match="turns no queries"):
        head_circuit(gpt2, UnitId("head:1", 2), offset=2)


def test_encoders_have_a_qk_circuit_only(tiny_gpt2_folder: Path) -> None:
    config = hf.BertConfig(vocab_size=400, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
                           intermediate_size=20, max_position_embeddings=16)  # fmt: skip
    tokenizer = hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder)
    found = head_circuit(Subject("bert", hf.BertForMaskedLM(config).eval(), tokenizer, "0" * 16), UnitId("head:0", 1))
    assert found.raised is found.copying is found.own is None
    assert len(found.attended) == 10
    assert found.offsets is not None
    assert any(entry.offset < 0 for entry in found.offsets)


def test_largest_entries_are_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.head_circuits._BLOCK", 40 * 7)
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(300, 5, generator=generator), torch.randn(5, 40, generator=generator)
    left[17] *= 9
    product = left @ right
    found = top_entries(left, right, 25)
    assert [v for _, _, v in found] == pytest.approx(product.flatten().topk(25).values.tolist())
    assert all(float(product[row, column]) == pytest.approx(v) for row, column, v in found)
    assert len(top_entries(left[:2], right, 500)) == 80


def test_ratio_of_a_known_matrix() -> None:
    left, right = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]),
        torch.tensor([[3.0, 0.0, 0.0], [0.0, -1.0, 1.0]]),
    )
    values = torch.linalg.eigvals((left @ right) - (left @ right).mean(-1, keepdim=True))
    assert eigenvalue_ratio(left, right) == pytest.approx(float(values.real.sum() / values.abs().sum()), abs=1e-5)
    assert eigenvalue_ratio(torch.zeros(3, 2), right) == 0.0


def test_only_heads_have_circuits(gpt2: Subject) -> None:
    with pytest.raises(UnitError, match="only heads"):
        head_circuit(gpt2, UnitId.parse("mlp:0:1"))
    with pytest.raises(UnitError, match="units 0-3"):
        head_circuit(gpt2, UnitId.parse("head:0:4"))


def test_figures_of_a_layer_are_those_of_its_heads(gpt2: Subject) -> None:
    for found in layer_copying(gpt2, 1):
        whole = head_circuit(gpt2, found.unit)
        assert (found.copying, found.own, found.matching) == pytest.approx(
            (whole.copying, whole.own, whole.matching), abs=1e-4
        )
