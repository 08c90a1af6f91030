"""The contribution graph of a prompt: its shares, and a single path that was planted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

from tests.conftest import tiny_tokenizer
from tests.tools.test_sites_architectures import Case, case
from tools.errors import UnitError
from tools.flow import flow_graph
from tools.flow.graph import _Run, contributions
from tools.subject import Subject, load_subject
from tools.types import Site

__all__ = ["case"]
IDS = [3, 17, 200, 9, 31]


def test_contributions_of_known_sums() -> None:
    whole = torch.tensor([3.0, -4.0])
    assert contributions(whole[None], whole).tolist() == [1.0]
    halves = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert contributions(halves, halves.sum(0)).tolist() == pytest.approx([0.5, 0.5])
    against = torch.tensor([[4.0, 0.0], [-1.0, 0.0]])
    assert contributions(against, against.sum(0)).tolist() == pytest.approx([1.0, 0.0], abs=1e-4)
    many = torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(contributions(many, many.sum(-2)).sum(-1), torch.ones(5))


def test_parts_add_up_to_each_state_and_shares_to_one(case: Case) -> None:
    subject = case.subject
    run = _Run(subject, IDS, 3, 0)
    post_norm = case.reference.order == "post-norm"
    for site in run.sites():
        for query, parts in run.states(site, [2, 4]):
            assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-4)
            if not post_norm:
                whole = torch.stack([part.vector for part in parts]).sum(0)
                state = run.at(site.layer, site.kind)[query]
                torch.testing.assert_close(whole, state, atol=1e-3, rtol=1e-3)


def test_graph_is_what_can_be_reached_and_kept_weights_sum_to_one(case: Case) -> None:
    graph = flow_graph(case.subject, IDS, threshold=0.05, k=0)
    nodes = {node.name for node in graph.nodes}
    assert graph.nodes[0].name == f"resid_post.{case.subject.n_layers - 1}@4"
    for node in graph.nodes:
        into = [edge for edge in graph.edges if edge.target == node.name]
        assert all(edge.share >= 0.05 and edge.source in nodes for edge in into)
        if into:
            assert sum(edge.weight for edge in into) == pytest.approx(1.0, abs=1e-4)
            assert sum(edge.share for edge in into) + node.bias + node.dropped == pytest.approx(1.0, abs=1e-4)
    # Nothing is lost on the way but what comes from nowhere: all flow ends at embeddings.
    ends = sum(edge.flow for edge in graph.edges if edge.source.startswith("resid_pre.0@"))
    if all(any(edge.target == node.name for edge in graph.edges) for node in graph.nodes if node.site != "resid_pre.0"):
        assert ends == pytest.approx(1.0, abs=1e-4)
    reached = {graph.nodes[0].name}
    for node in graph.nodes:
        assert node.name in reached
        reached |= {edge.source for edge in graph.edges if edge.target == node.name}


@pytest.fixture(scope="module")
def single_path() -> Subject:
    """Block 0's head 1 brings the previous token, loudly; block 1's neuron 5 answers it, louder still; nothing else."""
    torch.manual_seed(2)
    config = hf.GPT2Config(vocab_size=400, n_positions=16, n_embd=64, n_layer=2, n_head=2, n_inner=16)
    model = hf.GPT2LMHeadModel(config).eval().requires_grad_(False)
    for block in model.transformer.h:
        for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
            module.weight.zero_()
    model.transformer.wpe.weight.zero_()
    model.transformer.wpe.weight[:, 32:48] = 3 * torch.eye(16)
    model.transformer.wte.weight[:, 32:] = 0.0
    attention = model.transformer.h[0].attn
    query, key, value = attention.c_attn.weight.split(64, dim=1)
    for position in range(16):
        key[32 + position, 32 + position] = 20.0
        if position:
            query[32 + position, 32 + position - 1] = 20.0
    # Head 1 has the last 32 dimensions; head 0 looks alike, but writes nothing.
    value[:32, 32:] = torch.eye(32)
    attention.c_proj.weight[32:, :32] = 100.0 * torch.randn(32, 32)
    for source in (query, key):
        source[:, :32], source[:, 32:] = 0.0, source.clone()[:, [*range(32, 64)]]
    mlp = model.transformer.h[1].mlp
    mlp.c_fc.weight[:, 5] = 0.0
    mlp.c_fc.bias[5] = 5.0
    mlp.c_proj.weight[5] = 1000.0 * torch.randn(64)
    return Subject("path", model, tiny_tokenizer(), "0" * 16)


def test_planted_path_is_all_there_is(single_path: Subject) -> None:
    graph = flow_graph(single_path, IDS, threshold=0.04, neurons=2)
    edges = {(edge.name, edge.source, edge.target) for edge in graph.edges}
    assert ("mlp:1", "resid_mid.1@4", "resid_post.1@4") in edges
    heads = {edge for edge in edges if edge[0].startswith("head")}
    assert heads == {("head:0:1", "resid_pre.0@3", "resid_mid.0@4")}
    assert not any(name == "mlp:0" for name, _, _ in edges)
    assert {node.position for node in graph.nodes} == {3, 4}
    answer = next(edge for edge in graph.edges if edge.name == "mlp:1")
    assert answer.weight > 0.9
    assert answer.neurons[0][0] == "mlp:1:5"
    assert answer.neurons[0][1] > 0.9
    assert answer.neurons[1][1] < 1e-3


def test_promoted_tokens_of_an_edge_are_the_logit_lens_of_its_part(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    graph = flow_graph(subject, IDS, threshold=0.0, k=2)
    edge = next(e for e in graph.edges if e.kind == "mlp" and e.target == "resid_post.2@4")
    write = subject.capture(torch.tensor([IDS]), None, [Site(2, "mlp_out")])[Site(2, "mlp_out")][0, 4]
    assert subject.unembedding is not None
    scores = subject.unembedding.project(write)[: len(subject.tokenizer)]
    assert edge.promotion is not None
    assert [p for p, _ in edge.promotion.promoted] == subject.pieces(scores.topk(2).indices.tolist())


def test_wrong_requests(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    with pytest.raises(UnitError, match="0 to 4"):
        flow_graph(subject, IDS, position=5)
    with pytest.raises(UnitError, match="not in"):
        flow_graph(subject, IDS, threshold=1.0)
