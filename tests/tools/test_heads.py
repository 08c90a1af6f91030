"""Attention edges on heads whose weights are written by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from tools import units
from tools.errors import UnitError
from tools.heads import edge_profiles, pattern, top_edges
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

POSITIONS, WIDTH = 24, 64


@pytest.fixture(scope="module")
def planted(tiny_gpt2_folder: Path) -> Subject:
    """One layer: head 0 attends to the previous position, head 1 to all alike, head 2 to its own, head 3 to the first.

    Positions are one-hot in the first 24 dimensions of the stream; a head's queries look up a shifted position.
    """
    torch.manual_seed(0)
    config = hf.GPT2Config(vocab_size=400, n_positions=POSITIONS, n_embd=4 * WIDTH, n_layer=1, n_head=4)
    model = hf.GPT2LMHeadModel(config).eval().requires_grad_(False)
    model.transformer.wte.weight[:, :POSITIONS] = 0.0
    model.transformer.wpe.weight.zero_()
    model.transformer.wpe.weight[:, :POSITIONS] = torch.eye(POSITIONS)
    attention = model.transformer.h[0].attn.c_attn
    query, key = attention.weight[:, : 4 * WIDTH], attention.weight[:, 4 * WIDTH : 8 * WIDTH]
    query.zero_()
    key.zero_()
    for head, target in ((0, lambda p: max(p - 1, 0)), (2, lambda p: p), (3, lambda _: 0)):
        for p in range(POSITIONS):
            query[p, head * WIDTH + target(p)] += 5.0
            key[p, head * WIDTH + p] += 5.0
    return Subject("planted", model, hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder), "0" * 16)


def contexts(count: int = 6, length: int = 20) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [[0, *torch.randint(2, 400, (length - 1 - i,), generator=generator).tolist()] for i in range(count)]


def test_planted_heads_are_recognised(planted: Subject) -> None:
    previous, uniform, same, first = edge_profiles(planted, 0, contexts())
    assert previous.previous > 0.99
    assert previous.best_offset == 1
    assert previous.positional > 0.99
    assert previous.entropy < 0.05
    assert same.same > 0.99
    assert same.best_offset == 0
    assert first.first > 0.99
    assert first.previous < 0.01
    assert uniform.previous < 0.2


def test_uniform_head_scores_its_baseline(planted: Subject) -> None:
    uniform = edge_profiles(planted, 0, contexts())[1]
    for edge, value in uniform.baseline.items():
        assert getattr(uniform, edge) == pytest.approx(value, abs=1e-5)
    expected = sum(math.log(q + 1) for n in range(15, 21) for q in range(2, n)) / sum(n - 2 for n in range(15, 21))
    assert uniform.entropy == pytest.approx(expected, abs=1e-5)


def test_repeated_tokens_make_duplicate_and_induction_edges(planted: Subject) -> None:
    """In 0 a b c a b c the second a has one duplicate (position 1) and one induction source (position 2)."""
    uniform = edge_profiles(planted, 0, [[0, 50, 60, 70, 50, 60, 70]])[1]
    masses = [1 / (q + 1) for q in (4, 5, 6)]
    assert uniform.duplicate == pytest.approx(sum(masses) / 3, abs=1e-5)
    assert uniform.induction == pytest.approx(sum(masses) / 3, abs=1e-5)
    assert uniform.destinations["duplicate"] == uniform.destinations["induction"] == 3
    nothing = edge_profiles(planted, 0, [[0, 50, 60, 70]])[1]
    assert nothing.destinations["duplicate"] == 0
    assert nothing.duplicate == nothing.baseline["duplicate"] == 0.0


def test_delimiters_are_punctuation_and_line_ends(planted: Subject) -> None:
    ids = planted.encode("Ann saw.\nBob")
    pieces = planted.pieces(ids)
    places = [i for i, piece in enumerate(pieces) if i > 0 and not any(c.isalnum() for c in piece)]
    assert places
    uniform = edge_profiles(planted, 0, [ids])[1]
    rows = [q for q in range(2, len(ids)) if any(p < q for p in places)]
    expected = sum(sum(p < q for p in places) / (q + 1) for q in rows) / len(rows)
    assert uniform.delimiter == pytest.approx(expected, abs=1e-5)


def test_top_edges_are_the_strongest_of_all(planted: Subject) -> None:
    unit, texts = UnitId.parse("head:0:0"), contexts()
    edges = top_edges(planted, unit, texts, 5)
    assert len(edges) == 5
    everything = []
    for i, ids in enumerate(texts):
        captured = planted.capture(torch.tensor([ids]), None, [Site(0, "attn_pattern"), Site(0, "head_z")])
        write = units.activations(planted, "head:0", captured)[0, :, 0]
        pattern = captured[Site(0, "attn_pattern")][0, 0]
        for q in range(2, len(ids)):
            k = int(pattern[q, 1:].argmax()) + 1
            everything.append((float(pattern[q, k] * write[q]), i, q, k))
    everything.sort(reverse=True)
    assert [(e.context, e.query, e.key) for e in edges] == [(i, q, k) for _, i, q, k in everything[:5]]
    assert all(e.key == e.query - 1 for e in edges)
    assert edges[0].key_piece == planted.pieces([texts[edges[0].context][edges[0].key]])[0]


def test_first_position_is_left_out_of_edges(planted: Subject) -> None:
    """Head 3 rests on position 0, which says nothing of what it looks for."""
    edges = top_edges(planted, UnitId.parse("head:0:3"), contexts(), 10)
    assert all(e.key > 0 and e.query > 1 and e.weight < 0.01 for e in edges)


def test_fewer_edges_than_asked_for(planted: Subject) -> None:
    assert len(top_edges(planted, UnitId.parse("head:0:0"), [[0, 5, 6, 7], [0, 5]], 50)) == 2


def test_grouped_query_heads_have_edges(tiny_llama_folder: Path) -> None:
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    profiles = edge_profiles(subject, 1, contexts())
    assert [str(p.unit) for p in profiles] == [f"head:1:{h}" for h in range(4)]


def test_wrong_requests(planted: Subject) -> None:
    with pytest.raises(UnitError, match="layers 0-0"):
        edge_profiles(planted, 3, contexts())
    with pytest.raises(UnitError, match="at least 3 tokens"):
        edge_profiles(planted, 0, [[0, 1]])
    with pytest.raises(UnitError, match="not an attention head"):
        top_edges(planted, UnitId.parse("mlp:0:1"), contexts(), 3)


def test_pattern_of_a_text_is_that_of_the_model(tiny_llama_folder: Path) -> None:
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    ids = subject.encode("Ann saw the red ball in the park.")
    site = Site(1, "attn_pattern")
    expected = subject.capture(torch.tensor([ids]), None, [site])[site][0, 2].numpy()
    found = pattern(subject, UnitId("head:1", 2), ids)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert not np.triu(found, 1).any()
    with pytest.raises(UnitError, match="not an attention head"):
        pattern(subject, UnitId("mlp:1", 2), ids)
