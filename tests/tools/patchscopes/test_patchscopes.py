"""Hidden states put into other texts: identities, planted tokens, maps, and random vectors that say nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from tests.tools.architectures import make_case
from tools.errors import InterventionError, UnitError
from tools.interventions import Where, generate, replace, run
from tools.lenses.logit import logit_lens
from tools.patchscopes import fit_affine, patched_logits, patchscope
from tools.planted import PlantedSpec
from tools.subject import Subject, load_subject
from tools.types import Site

SOURCE, TARGET = [0, *range(20, 31)], [0, *range(60, 67)]


@pytest.fixture(scope="module", params=["gpt2", "gpt-neox-parallel", "llama", "gemma2", "opt-post-norm"])
def subject(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Subject:
    return make_case(request.param, tiny_gpt2_folder).subject


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return make_case("gpt2", tiny_gpt2_folder).subject


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject(PlantedSpec().text, device="cpu")


def logits_of(subject: Subject, ids: list[int], *edits: object) -> torch.Tensor:
    logits = run(subject, torch.tensor([ids]), None, edits).logits  # type: ignore[arg-type]
    assert logits is not None
    return logits[0].float()


@pytest.mark.parametrize("position", [0, 3, 11])
def test_a_state_put_back_where_it_was_changes_nothing(subject: Subject, position: int) -> None:
    layers = list(range(subject.n_layers))
    known = run(subject, torch.tensor([SOURCE]), read=[Site(layer, "resid_post") for layer in layers], logits=False)
    states = torch.stack([known[Site(layer, "resid_post")][0, position] for layer in layers])
    found = patched_logits(subject, SOURCE, position, layers, states)
    expected = logits_of(subject, SOURCE)[-1].expand(len(layers), -1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_states_in_another_text_are_those_of_runs_one_at_a_time(subject: Subject) -> None:
    for source_position, target_position in ((4, 5), (11, 7)):
        known = run(subject, torch.tensor([SOURCE]), read=[Site(0, "resid_post")], logits=False)
        state = known[Site(0, "resid_post")][0, source_position]
        found = patched_logits(subject, TARGET, target_position, [0, 1, 2], state.expand(3, -1))
        for layer in range(3):
            whole = torch.zeros(1, len(TARGET), subject.d_model)
            whole[0, target_position] = state
            edit = replace(Site(layer, "resid_post"), whole, Where(positions=target_position))
            torch.testing.assert_close(found[layer], logits_of(subject, TARGET, edit)[-1], rtol=1e-5, atol=2e-5)


def test_the_last_layer_is_the_model_and_the_identity_into_it_is_the_logit_lens(subject: Subject) -> None:
    last = subject.n_layers - 1
    found = patchscope(subject, SOURCE, target=SOURCE, target_layers=[last], controls=2, k=400)
    lens = logit_lens(subject, SOURCE, sites=[Site(layer, "resid_post") for layer in range(subject.n_layers)], k=5)
    for cell, row in zip(found.cells, lens.top, strict=True):
        told = dict(cell.top)
        for piece, probability in row[-1]:
            if piece in told:  # not the rows of the embedding beyond the tokenizer
                assert told[piece] == pytest.approx(probability, abs=1e-5)
    assert found.cells[last].precise
    assert [piece for piece, _ in found.cells[last].top[:3]] == [piece for piece, _ in found.own[:3]]
    assert found.cells[last].surprisal == pytest.approx(-np.log(found.own[0][1]), abs=1e-4)


def copier(tokenizer: PreTrainedTokenizerBase, block: int) -> Subject:
    """A model that predicts the token before the last: an attention head of one block copies it from the register of
    current tokens to the one that is unembedded, and nothing else does anything."""
    tokens, positions = 200, 16
    width = 2 * tokens + positions
    config = GPT2Config(vocab_size=tokens, n_positions=positions, n_embd=width, n_layer=4, n_head=1, n_inner=8,
                        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0)  # fmt: skip
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    current, place = slice(0, tokens), slice(2 * tokens, width)
    model.transformer.wte.weight[:, current] = torch.eye(tokens)
    model.transformer.wpe.weight[:, place] = torch.eye(positions)
    attention = model.transformer.h[block].attn
    queries, keys, values = (attention.c_attn.weight[:, i * width : (i + 1) * width] for i in range(3))
    queries[place, place] = 5.0 * torch.eye(positions)
    keys[place, place] = torch.diag(torch.ones(positions - 1), 1)  # the key of a position is that of the next one
    values[current, current] = torch.eye(tokens)
    attention.c_proj.weight[current, tokens : 2 * tokens] = torch.eye(tokens)
    model.lm_head.weight[:, tokens : 2 * tokens] = 4.0 * torch.eye(tokens)
    return Subject("copier", model, tokenizer, "3" * 16)


@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_a_token_that_a_block_writes_into_the_stream_is_read_from_that_block_on(gpt2: Subject, block: int) -> None:
    subject = copier(gpt2.tokenizer, block)
    for source, position in (([0, 5, 109, 12, 7], 4), ([0, 17, 93, 121, 11, 6, 2], 4)):
        found = patchscope(subject, source, position, target=[0, 8, 14, 19, 4])
        assert found.own[0][0] == subject.pieces([source[position - 1]])[0]
        assert [cell.precise for cell in found.cells] == [layer >= block for layer in range(4)]
        assert [cell.signal for cell in found.cells[block:]] == [True] * (4 - block)
        assert all(cell.top[0][0] == subject.pieces([19])[0] for cell in found.cells[:block])  # the target's own


def test_the_name_that_the_last_layer_copies_is_read_there_alone(planted: Subject) -> None:
    found = patchscope(
        planted, planted.encode("when Anna and Ben met , Anna gave a hammer to"), target=planted.encode("the red cat")
    )
    assert [cell.precise for cell in found.cells] == [False, False, True]
    assert found.cells[2].top[0][0] == " Ben"
    assert found.cells[2].signal
    assert found.cells[2].surprisal < 1e-4 < found.cells[0].surprisal


def test_random_vectors_have_no_signal(planted: Subject, gpt2: Subject) -> None:
    """They are exchangeable with their controls, so that one in twenty at most stands out."""
    for subject, source, target in (
        (gpt2, SOURCE, TARGET),
        (planted, planted.encode("when Anna and Ben met , Anna gave a"), planted.encode("the red cat")),
    ):
        generator = torch.Generator().manual_seed(3)
        known = run(subject, torch.tensor([source]), read=[Site(1, "resid_post")], logits=False)
        length = float(known[Site(1, "resid_post")][0, -1].norm())
        flags = []
        for seed in range(40):
            vector = torch.randn(subject.d_model, generator=generator)
            vector *= length / vector.norm()
            found = patchscope(
                subject, source, target=target, layers=[1], mapping=lambda _l, _t, v=vector: lambda _: v, seed=seed
            )
            flags.append(bool(found.cells[0].signal))
        assert sum(flags) <= 40 * 0.05 + 2 * (40 * 0.05 * 0.95) ** 0.5


def test_what_is_written_has_the_state_in_the_prompt_alone(gpt2: Subject) -> None:
    found = patchscope(gpt2, SOURCE, 4, target=TARGET, target_position=5, write=6, controls=3)
    for cell in found.cells:
        site = Site(cell.layer, "resid_post")
        state = run(gpt2, torch.tensor([SOURCE]), read=[site], logits=False)[site][0, 4]
        ids = list(TARGET)
        whole = torch.zeros(1, 40, gpt2.d_model)
        whole[0, 5] = state
        for _ in range(6):  # without a cache: the position stays patched, and no other is
            ids.append(int(logits_of(gpt2, ids, replace(site, whole, Where(positions=5)))[-1].argmax()))
            if ids[-1] == 0:
                break
        ended = [i for i in ids[len(TARGET) :] if i != 0]
        assert cell.text == gpt2.tokenizer.decode(ended)
    assert found.plain_text == generate(gpt2, [TARGET], max_new_tokens=6)[0].text


def test_a_grid_has_a_cell_for_each_pair_of_layers_and_looks_for_gold(planted: Subject) -> None:
    source = planted.encode("when Anna and Ben met , Anna gave a hammer to")
    found = patchscope(
        planted, source, target=planted.encode("the red cat"), target_layers=[0, 1, 2], write=2, gold="ben"
    )
    assert [(cell.layer, cell.target_layer) for cell in found.cells] == [(a, b) for a in range(3) for b in range(3)]
    assert [cell.gold for cell in found.cells][6:] == [True, True, True]
    assert not any(cell.control_gold for cell in found.cells)
    assert found.plain_gold is False
    assert json.loads(json.dumps(found.to_json()))["cells"][8]["signal"] is True


def test_an_affine_map_finds_the_map_that_there_is(gpt2: Subject) -> None:
    """The embedding's stream into itself is the identity; a map into the last layer predicts better than none."""
    generator = torch.Generator().manual_seed(0)
    texts = [[0, *torch.randint(2, 400, (20,), generator=generator).tolist()] for _ in range(30)]
    here, last = Site(0, "resid_post"), Site(2, "resid_post")
    same = fit_affine(gpt2, here, here, texts)
    torch.testing.assert_close(same.weight, torch.eye(32), rtol=1e-4, atol=1e-4)
    assert same.explained == pytest.approx(1.0)
    fitted = fit_affine(gpt2, here, last, texts)
    x, y = [], []
    for text in texts:
        known = run(gpt2, torch.tensor([text]), read=[here, last], logits=False)
        x.append(known[here][0, 1:].double())
        y.append(known[last][0, 1:].double())
    padded = torch.cat([torch.cat(x), torch.ones(600, 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(padded, torch.cat(y)).solution
    torch.testing.assert_close(fitted.weight.double(), solution[:-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fitted.bias.double(), solution[-1], rtol=1e-4, atol=1e-4)
    assert fitted.positions == 600
    assert json.loads(json.dumps(fitted.to_json()))["source"] == "resid_post.0"


def test_states_of_one_model_pass_a_map_into_another_that_is_wider(gpt2: Subject, tiny_gpt2_folder: Path) -> None:
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=400, n_positions=64, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    wide = Subject("wide", GPT2LMHeadModel(config).eval(), gpt2.tokenizer, "2" * 16)
    with pytest.raises(InterventionError, match="fitted map"):
        patchscope(gpt2, SOURCE, target=TARGET, into=wide, layers=[1])
    texts = [[0, *range(start, start + 40)] for start in range(20, 320, 30)]
    maps = {1: fit_affine(gpt2, Site(1, "resid_post"), Site(1, "resid_post"), texts, into=wide)}
    assert maps[1].weight.shape == (32, 48)
    found = patchscope(gpt2, SOURCE, target=TARGET, into=wide, layers=[1], mapping=lambda one, _: maps[one])
    assert found.mapped
    known = run(gpt2, torch.tensor([SOURCE]), read=[Site(1, "resid_post")], logits=False)
    put = maps[1](known[Site(1, "resid_post")][0, -1])
    expected = patched_logits(wide, TARGET, len(TARGET) - 1, [1], put[None])[0].softmax(-1).max()
    assert found.cells[0].top[0][1] == pytest.approx(float(expected), abs=1e-5)


def test_half_precision_states_are_put_back_exactly(tiny_gpt2_folder: Path) -> None:
    half = load_subject(str(tiny_gpt2_folder), device="cpu", dtype="bfloat16")
    known = run(half, torch.tensor([SOURCE]), read=[Site(1, "resid_post")], logits=False)[Site(1, "resid_post")]
    found = patched_logits(half, SOURCE, 11, [1], known[0, 11][None])
    torch.testing.assert_close(found[0], logits_of(half, SOURCE)[-1], rtol=2e-2, atol=2e-2)


def test_bad_input_is_told(gpt2: Subject) -> None:
    with pytest.raises(InterventionError, match="beyond the source text"):
        patchscope(gpt2, SOURCE, 12)
    with pytest.raises(InterventionError, match="beyond the target text"):
        patchscope(gpt2, SOURCE, target=TARGET, target_position=8)
    with pytest.raises(InterventionError, match="Position 0"):
        patchscope(gpt2, SOURCE, target=TARGET, target_position=0, write=3)
    with pytest.raises(UnitError, match="layers 0-2"):
        patchscope(gpt2, SOURCE, target=TARGET, layers=[3])
    with pytest.raises(UnitError, match="layers 0-2"):
        patchscope(gpt2, SOURCE, target=TARGET, target_layers=[7])
    with pytest.raises(InterventionError, match="more than 32 positions"):
        fit_affine(gpt2, Site(0, "resid_post"), Site(1, "resid_post"), [SOURCE])


def test_without_random_vectors_nothing_is_claimed(gpt2: Subject) -> None:
    found = patchscope(gpt2, SOURCE, target=TARGET, controls=0, write=2)
    assert {cell.signal for cell in found.cells} == {None}
    assert {cell.control_text for cell in found.cells} == {None}
    assert isinstance(found.cells[0].text, str)
