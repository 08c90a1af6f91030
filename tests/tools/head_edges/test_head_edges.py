"""Heads knocked out and scaled: against patterns edited by hand, and where it is known who copies what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from tests.tools.architectures import make_case
from tools.errors import InterventionError, UnitError
from tools.head_edges import Contest, competition, knock_out
from tools.heads import edge_profiles
from tools.interventions import (
    AttentionWhere,
    Where,
    multiply_attention,
    replace_attention,
    run,
    scale,
    scale_attention,
)
from tools.planted import PlantedSpec
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

TEXTS = [[0, *range(20, 30), *range(20, 26)], [0, 60, 61, 60, 62, 60, 61, 63], [0, 9, 8, 7, 9, 8]]
HEAD = UnitId.parse("head:1:2")


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2"])
def subject(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Subject:
    return make_case(request.param, tiny_gpt2_folder).subject


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return make_case("gpt2", tiny_gpt2_folder).subject


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject(PlantedSpec().text, device="cpu")


def repeats(subject: Subject, n: int = 6) -> list[list[int]]:
    """Random words said twice."""
    generator = torch.Generator().manual_seed(0)
    first = len(subject.prefix) + 10
    rows = [torch.randint(first, 300, (12,), generator=generator).tolist() for _ in range(n)]
    return [[*subject.prefix, *row, *row] for row in rows]


def by_hand(
    subject: Subject, text: list[int], chosen: torch.Tensor, factor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities as they are and with the head's pattern replaced, in a run of its own."""
    site, ids = Site(1, "attn_pattern"), torch.tensor([text])
    pattern = run(subject, ids, read=[site], logits=False)[site].clone()
    pattern[0, 2][chosen] *= factor
    edit = replace_attention(1, pattern, AttentionWhere(heads=2))
    plain, edited = (run(subject, ids, None, e).logits for e in ([], [edit]))
    assert plain is not None
    assert edited is not None
    return plain[0].float().log_softmax(-1), edited[0].float().log_softmax(-1)


@pytest.mark.parametrize("edges", ["all", "previous", "induction"])
def test_scaled_edges_are_those_of_a_pattern_edited_by_hand(subject: Subject, edges: str) -> None:
    found = knock_out(subject, [HEAD], TEXTS, edges=edges, factor=0.25, others=0)  # type: ignore[arg-type]
    before, after, divergences = [], [], []
    for text in TEXTS:
        n = len(text)
        chosen = torch.zeros(n, n, dtype=torch.bool)
        for query in range(1, n):
            for key in range(query + 1):
                chosen[query, key] = (
                    edges == "all"
                    or (edges == "previous" and key == query - 1)
                    or (edges == "induction" and 2 <= key < query and text[key - 1] == text[query])
                )
        plain, edited = by_hand(subject, text, chosen, 0.25)
        for i in range(1, n - 1):
            before.append(-float(plain[i, text[i + 1]]))
            after.append(-float(edited[i, text[i + 1]]))
            divergences.append(float((plain[i].exp() * (plain[i] - edited[i])).sum()))
    assert found.tokens == len(before)
    assert found.loss == pytest.approx(np.mean(before), abs=1e-4)
    assert found.loss_change == pytest.approx(np.mean(after) - np.mean(before), abs=1e-4)
    assert found.kl == pytest.approx(np.mean(divergences), abs=1e-4)


def test_no_scale_changes_nothing_and_all_of_a_head_is_its_ablation(subject: Subject) -> None:
    same = knock_out(subject, [HEAD], TEXTS, factor=1.0, others=0)
    assert same.loss_change == pytest.approx(0.0, abs=1e-6)
    assert same.kl == pytest.approx(0.0, abs=1e-6)
    gone = knock_out(subject, [HEAD], TEXTS[:1], others=3)
    z = Site(1, "head_z")
    ids = torch.tensor([TEXTS[0]])
    plain, edited = (
        run(subject, ids, None, e).logits for e in ([], [scale(z, 0.0, Where(channels=[2], since=1))])
    )  # fmt: skip
    assert plain is not None
    assert edited is not None
    losses = [
        np.mean([-float(x[0].float().log_softmax(-1)[i, TEXTS[0][i + 1]]) for i in range(1, len(TEXTS[0]) - 1)])
        for x in (plain, edited)
    ]
    assert gone.loss_change == pytest.approx(losses[1] - losses[0], abs=1e-5)
    assert [name for name, _ in gone.others] == ["head:1:0", "head:1:1", "head:1:3"]
    for name, change in gone.others:
        alone = knock_out(subject, [UnitId.parse(name)], TEXTS[:1], others=0)
        assert change == pytest.approx(alone.loss_change, abs=1e-5)


def test_texts_of_other_lengths_beside_it_change_nothing(gpt2: Subject) -> None:
    whole = knock_out(gpt2, [HEAD], TEXTS, edges="previous", others=2)
    alone = [knock_out(gpt2, [HEAD], [text], edges="previous", others=2) for text in TEXTS]
    weights = [one.tokens for one in alone]
    assert whole.loss_change == pytest.approx(np.average([one.loss_change for one in alone], weights=weights), abs=1e-5)
    assert whole.repeated == sum(one.repeated for one in alone)
    assert json.loads(json.dumps(whole.to_json()))["edges"] == "previous"


def test_factors_by_edge_agree_with_the_grid_of_one_factor(gpt2: Subject) -> None:
    ids = torch.tensor([TEXTS[0]])
    factors = torch.ones(1, len(TEXTS[0]), len(TEXTS[0]))
    factors[0, 7, [3, 4]] = 0.5
    for renormalise in (False, True):
        where = AttentionWhere(heads=[1, 2], queries=7, keys=[3, 4])
        edits = [
            multiply_attention(1, factors, [1, 2], renormalise=renormalise),
            scale_attention(1, 0.5, where, renormalise=renormalise),
        ]
        site = Site(1, "attn_pattern")
        one, other = (run(gpt2, ids, None, [edit], read=[site], logits=False)[site] for edit in edits)
        torch.testing.assert_close(one, other)
        assert not torch.equal(one, run(gpt2, ids, read=[site], logits=False)[site])


def test_induction_needs_the_previous_token_head(planted: Subject) -> None:
    """Without head:0:0, which tells each token what came before it, head:1:0 no longer finds what to copy."""
    texts = repeats(planted)
    found = knock_out(planted, [UnitId.parse("head:0:0")], texts, others=3)
    assert found.repeated == 6 * 11
    assert found.repeated_loss is not None
    assert found.repeated_change is not None
    assert found.repeated_change > 2 * found.repeated_loss
    lost = next(one for one in found.patterns if one.unit == "head:1:0")
    assert (lost.edges, lost.before > 0.8, lost.after < 0.2) == ("induction", True, True)
    profile = next(p for p in edge_profiles(planted, 1, texts) if p.unit.index == 0)
    assert lost.before == pytest.approx(profile.induction, abs=1e-4)
    # Of the heads of that layer it is the one that matters.
    assert max(change for _, change in found.others) < 0.2 * found.loss_change


def test_induction_is_in_the_edges_of_induction_alone(planted: Subject) -> None:
    head, texts = [UnitId.parse("head:1:0")], repeats(planted)
    those, others = (knock_out(planted, head, texts, edges=edges, others=0) for edges in ("induction", "previous"))
    assert those.repeated_change is not None
    assert those.repeated_change > 2.0
    assert abs(others.loss_change) < 0.05
    assert not those.patterns or max(abs(p.after - p.before) for p in those.patterns) < 0.2


def rivals(tokenizer: PreTrainedTokenizerBase) -> Subject:
    """A model where a head copies the token 9 or 10 (an attribute) that it attends to, and a neuron recalls the token
    15 from the token 5 (a subject); the copy is the stronger."""
    tokens, positions, heads = 32, 16, 4
    width = 2 * tokens
    config = GPT2Config(vocab_size=tokens, n_positions=positions, n_embd=width, n_layer=2, n_head=heads, n_inner=8,
                        tie_word_embeddings=False, activation_function="relu")  # fmt: skip
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    model.transformer.wte.weight[:, :tokens] = torch.eye(tokens)
    attention, d = model.transformer.h[0].attn, width // heads
    queries, keys, values = (attention.c_attn.weight[:, i * width : (i + 1) * width] for i in range(3))
    queries[5, 2 * d] = 1.0  # head 2, from the subject
    keys[9, 2 * d] = keys[10, 2 * d] = 0.8  # to attributes
    values[9, 2 * d + 1] = values[10, 2 * d + 2] = 1.0
    attention.c_proj.weight[2 * d + 1, tokens + 9] = attention.c_proj.weight[2 * d + 2, tokens + 10] = 1.0
    mlp = model.transformer.h[1].mlp
    mlp.c_fc.weight[5, 3] = 1.0
    mlp.c_proj.weight[3, tokens + 15] = 0.35
    model.lm_head.weight[:, tokens:] = torch.eye(tokens)
    return Subject("rivals", model, tokenizer, "4" * 16)


def test_attention_to_the_attribute_decides_between_copy_and_recall(gpt2: Subject) -> None:
    subject = rivals(gpt2.tokenizer)
    contests = [Contest((0, 9, 3, 5), (1,), 9, 15), Contest((0, 4, 2, 10, 6, 5), (3,), 10, 15)]
    found = competition(subject, [UnitId.parse("head:0:2")], contests, [0.0, 0.1, 2.0], others=8)
    by = {point.factor: point for point in found.points}
    assert list(by) == [0.0, 0.1, 1.0, 2.0]
    assert by[1.0].first == by[2.0].first == 1.0  # the copy wins
    assert by[0.0].first == by[0.1].first == 0.0  # with a tenth of the attention the fact does
    assert by[2.0].difference > by[1.0].difference > 0 > by[0.1].difference > by[0.0].difference
    assert by[1.0].kl == 0.0
    assert all(other == pytest.approx(by[1.0].difference, abs=1e-5) for point in found.points for other in point.others)
    assert found.other_heads == ("head:0:0", "head:0:1", "head:0:3")
    assert found.p_value == 0.25
    site = Site(0, "attn_pattern")
    weights = [
        float(run(subject, torch.tensor([one.prompt]), read=[site], logits=False)[site][0, 2, -1, one.keys[0]])
        for one in contests
    ]
    assert found.attention == pytest.approx(np.mean(weights), abs=1e-5)
    moved = competition(subject, [UnitId.parse("head:0:2")], contests, [0.1], renormalise=True, others=0)
    assert moved.points[0].first == 0.0
    assert moved.p_value is None


def test_the_name_mover_needs_its_attention_to_the_name(planted: Subject) -> None:
    ids = {piece: i for i, piece in enumerate(planted.pieces(range(planted.vocabulary)))}
    contests = []
    for first, second in (("Anna", "Ben"), ("Clara", "Peter"), ("Maria", "Xaver")):
        prompt = planted.encode(f"when {first} and {second} met , {first} gave a hammer to")
        places = tuple(i for i, token in enumerate(prompt) if token == ids[f" {second}"])
        contests.append(Contest(tuple(prompt), places, ids[f" {second}"], ids[f" {first}"]))
    found = competition(planted, [UnitId.parse("head:2:0")], contests, [0.0, 0.5, 1.0])
    differences = [point.difference for point in found.points]
    assert differences == sorted(differences)
    assert differences[-1] > 10.0
    assert found.points[-1].first == 1.0
    assert abs(differences[0]) < 0.2 * differences[-1]
    assert found.attention > 0.9


def test_bad_input_is_told(gpt2: Subject) -> None:
    with pytest.raises(UnitError, match="not an attention head"):
        knock_out(gpt2, [UnitId.parse("mlp:1:2")], TEXTS)
    with pytest.raises(UnitError, match="0-3"):
        knock_out(gpt2, [UnitId.parse("head:1:4")], TEXTS)
    with pytest.raises(UnitError, match="no head"):
        knock_out(gpt2, [], TEXTS)
    with pytest.raises(InterventionError, match="no kind of edges"):
        knock_out(gpt2, [HEAD], TEXTS, edges="next")  # type: ignore[arg-type]
    with pytest.raises(InterventionError, match="3 tokens or more"):
        knock_out(gpt2, [HEAD], [[0, 1]])
    with pytest.raises(InterventionError, match="not finite"):
        knock_out(gpt2, [HEAD], TEXTS, factor=float("nan"))
    for keys in ((), (6,), (-1,)):
        with pytest.raises(InterventionError, match="not all in their prompt"):
            competition(gpt2, [HEAD], [Contest((0, 1, 2), keys, 3, 4)], [0.0])
    with pytest.raises(InterventionError, match="finite number"):
        competition(gpt2, [HEAD], [Contest((0, 1, 2), (1,), 3, 4)], [])
    with pytest.raises(InterventionError, match="no prompt"):
        competition(gpt2, [HEAD], [], [0.0])


def test_half_precision_agrees_in_the_main(tiny_gpt2_folder: Path, gpt2: Subject) -> None:
    half = Subject("half", make_case("gpt2", tiny_gpt2_folder).subject.model.bfloat16(), gpt2.tokenizer, "1" * 16)
    exact, rounded = (knock_out(one, [HEAD], TEXTS, others=0) for one in (gpt2, half))
    assert rounded.loss_change == pytest.approx(exact.loss_change, abs=0.1 * abs(exact.loss_change) + 0.02)
    assert knock_out(half, [HEAD], TEXTS, factor=1.0, others=0).kl == pytest.approx(0.0, abs=1e-6)
