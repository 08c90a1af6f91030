"""Patching sweeps: against runs made by hand, on every architecture, and on circuits that were planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tools.architectures import ARCHITECTURES, Case, make_case, tokens
from tools.errors import InterventionError, NeuroglossError, SubjectError, UnitError
from tools.interventions import Edit, Where, replace, run
from tools.patching import METRICS, Noise, Pair, TokenPair, encode_pairs, sweep
from tools.subject import Subject, load_subject
from tools.types import Site

IOI = [
    Pair(f"when {a} and {b} met , {s} gave the {tool} to", f"when {a} and {b} met , {other} gave the {tool} to",
         f" {a if s == b else b}", f" {s}")
    for a, b, s, other, tool in [
        ("Anna", "Ben", "Anna", "Clara", "hammer"), ("David", "Emma", "Emma", "Felix", "knife"),
        ("Grace", "Henry", "Grace", "Ida", "rope"), ("Louis", "Maria", "Maria", "Noah", "saw"),
    ]
]  # fmt: skip
"""The second name is replaced by one that did not occur: nothing is to be inhibited."""


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject("planted", device="cpu")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return make_case("gpt2", tiny_gpt2_folder).subject


def random_pairs(n: int = 2, width: int = 8, changed: int = 3) -> list[TokenPair]:
    rows = tokens(n, width).tolist()
    return [
        TokenPair(tuple(r), (*r[:changed], r[changed] + 1, *r[changed + 1 :]), 7 + i, 11 + i, prompt=i)
        for i, r in enumerate(rows)
    ]


def by_hand(subject: Subject, pair: TokenPair, direction: str, edit: Callable[[Any], Edit]) -> Tensor:
    """Effects on all metrics in float64 arithmetic, from a whole run with nothing skipped."""
    base, source = (pair.corrupt, pair.clean) if direction == "denoising" else (pair.clean, pair.corrupt)

    def logits(ids: tuple[int, ...], *edits: Edit) -> Tensor:
        found = run(subject, torch.tensor([ids]), None, edits).logits
        assert found is not None
        return found[0, -1].double()

    clean = logits(pair.clean).log_softmax(-1)

    def measured(x: Tensor) -> Tensor:
        logp = x.log_softmax(-1)
        kl = (clean.exp() * (clean - logp)).sum()
        return torch.stack([x[pair.answer] - x[pair.wrong], logp[pair.answer].exp(), kl])

    other = run(subject, torch.tensor([source]), read=[edit(None).site], logits=False)
    patched = measured(logits(base, edit(other[edit(None).site])))
    gap = measured(logits(pair.clean)) - measured(logits(pair.corrupt))
    change = patched - measured(logits(base)) if direction == "denoising" else measured(logits(base)) - patched
    return change / gap


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(("kind", "channels"), [("resid_mid", None), ("head_z", [1, 3]), ("mlp_act", [5]),
                                                ("head_k", [2]), ("mlp_out", None), ("head_v", None)])  # fmt: skip
def test_every_cell_is_a_run_with_that_patch(gpt2: Subject, direction: Any, kind: str, channels: Any) -> None:
    pair = random_pairs(1)[0]
    found = sweep(gpt2, [pair], kind, channels=channels, positions=[2, 4, 7], directions=[direction])
    for layer in range(3):
        for p, position in enumerate((2, 4, 7)):
            for c, channel in enumerate(channels or [None]):

                def edit(source: Tensor | None, at: Any = (layer, position, channel)) -> Edit:
                    site = Site(at[0], kind)
                    return replace(site, torch.zeros(1) if source is None else source, Where(None, at[1], at[2]))

                expected = by_hand(gpt2, pair, direction, edit)
                got = [found.direction(direction)[metric].values[layer, p, c] for metric in METRICS]
                np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="module", params=[n for n in ARCHITECTURES if n != "bert-headless"])
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    return make_case(request.param, tiny_gpt2_folder)


def test_on_every_architecture_the_whole_stream_restores_everything_and_nothing_before_the_change(case: Case) -> None:
    """In a causal model; and what is patched whole is one or nothing in both directions."""
    found = sweep(case.subject, random_pairs(), "resid_pre", positions=None)
    for direction in ("denoising", "noising"):
        np.testing.assert_allclose(found.direction(direction)["logit_difference"].values, 1.0, atol=1e-3)
    assert found.prompts == 2
    each = sweep(case.subject, random_pairs(), "resid_pre")
    assert each.positions == tuple(range(1, 8))
    for direction in ("denoising", "noising"):
        values = each.direction(direction)["logit_difference"].values[:, :, 0]
        np.testing.assert_allclose(values[0, 2], 1.0, atol=1e-3)  # the token that differs, before any block
        if case.subject.causal:
            assert not values[:, :2].any()
    if case.subject.causal:
        assert each.patches == 2 * 2 * case.subject.n_layers * 5


def test_skipped_patches_would_have_done_nothing(case: Case) -> None:
    if not case.subject.causal:
        pytest.skip("every position of an encoder sees the change")
    pair = random_pairs(1)[0]
    source = run(case.subject, torch.tensor([pair.corrupt]), read=[Site(1, "head_z")], logits=False)
    where = Where(positions=[0, 1, 2])
    clean = torch.tensor([pair.clean])
    same = run(case.subject, clean, None, [replace(Site(1, "head_z"), source[Site(1, "head_z")], where)]).logits
    torch.testing.assert_close(same, run(case.subject, clean).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["head_z", "attn_pattern"])
def test_what_shares_a_batch_does_not_matter(case: Case, kind: str) -> None:
    pairs = random_pairs(3)
    both = sweep(case.subject, pairs, kind, channels="each").denoising
    assert both is not None
    one_by_one = [sweep(case.subject, [pair], kind, channels="each") for pair in pairs]
    gaps = np.array([found.clean["logit_difference"] - found.corrupt["logit_difference"] for found in one_by_one])
    values = np.array([found.direction("denoising")["logit_difference"].values for found in one_by_one])
    expected = (values * gaps[:, None, None, None]).sum(0)
    np.testing.assert_allclose(both["logit_difference"].values * gaps.sum(), expected, atol=1e-5 * len(pairs) * 5)


def test_windows_patch_layers_together(gpt2: Subject) -> None:
    pair = random_pairs(1)[0]
    found = sweep(gpt2, [pair], "mlp_out", window=2, positions=[3])
    assert found.layers == (0, 1)
    whole = sweep(gpt2, [pair], "resid_post", positions=[3])
    every = sweep(gpt2, [pair], "mlp_out", window=3, positions=None)
    assert every.layers == (0,)
    # All MLPs and all attention from the other run: not what is tested; but a window of one is the plain sweep.
    single = sweep(gpt2, [pair], "mlp_out", window=1, positions=[3]).direction("noising")["kl"].values
    assert not np.allclose(found.direction("noising")["kl"].values[:2], single[:2])
    assert whole.patches == 6
    base = run(gpt2, torch.tensor([pair.corrupt]), read=[Site(0, "mlp_out"), Site(1, "mlp_out")], logits=False)
    edits = [replace(site, base[site], Where(positions=[3])) for site in base]
    logits = run(gpt2, torch.tensor([pair.clean]), None, edits).logits
    assert logits is not None
    difference = float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])
    effect = found.direction("noising")["logit_difference"].values[0, 0, 0]
    gap = found.clean["logit_difference"] - found.corrupt["logit_difference"]
    assert effect == pytest.approx((found.clean["logit_difference"] - difference) / gap, abs=1e-4)


def test_the_planted_circuit_is_found_by_position_and_head(planted: Subject) -> None:
    """Noising finds all three heads where they work.

    Denoising misses the duplicate-token head: it restores that the name before "gave" is flagged, but that is a third
    name, and the wrong one to keep the name mover off.
    """
    found = sweep(planted, encode_pairs(planted, IOI), "head_z", channels="each")
    assert found.positions is not None
    assert found.clean["logit_difference"] > 10 > 5 > abs(found.corrupt["logit_difference"])
    for direction in ("denoising", "noising"):
        effects = found.direction(direction)["logit_difference"]
        places = {(found.layers[i], found.tokens[found.positions[j]], k) for i, j, k in np.argwhere(effects.detected)}
        duplicate = {(0, " Anna", 3)} if direction == "noising" else set()
        assert places == {(1, " to", 2), (2, " to", 0)} | duplicate, direction
        assert abs(effects.values[~effects.detected]).max() < (0.05 if direction == "noising" else 0.6)
    stream = sweep(planted, encode_pairs(planted, IOI), "resid_pre").direction("noising")["logit_difference"]
    strongest = np.abs(stream.values[:, :, 0]).argmax(1)
    assert [found.tokens[found.positions[i]] for i in strongest] == [" Anna", " Anna", " to"]


def test_noise_is_drawn_for_each_prompt_and_reported(planted: Subject) -> None:
    pairs = [Pair(pair.clean, None, pair.answer, pair.wrong) for pair in IOI[:2]]
    noise = Noise(positions=(6,), draws=10, seed=3)
    encoded = encode_pairs(planted, pairs, noise)
    assert len(encoded) == 20
    found = sweep(planted, encoded, "head_z", channels="each")
    again = sweep(planted, encode_pairs(planted, pairs, noise), "head_z", channels="each")
    assert (found.prompts, found.draws) == (2, 10)
    for direction in ("denoising", "noising"):
        effects = found.direction(direction)["logit_difference"].values
        np.testing.assert_array_equal(effects, again.direction(direction)["logit_difference"].values)
    assert found.positions == tuple(range(1, 12))
    whole = sweep(planted, encoded, "resid_pre", positions=[6], layers=[0])
    for direction in ("denoising", "noising"):
        np.testing.assert_allclose(whole.direction(direction)["logit_difference"].values, 1.0, atol=1e-3)


def test_noise_has_the_size_that_was_asked_for(gpt2: Subject) -> None:
    from tools.patching.runs import groups

    pair = encode_pairs(gpt2, [Pair("Ann saw the red ball")], Noise(draws=30, sigmas=2.0))
    (group,) = groups(gpt2, pair, [])
    site = Site(0, "resid_pre")
    difference = group.runs["corrupt"][site] - group.runs["clean"][site]
    assert not difference[:, 0].any()
    ids = sorted(set(pair[0].clean))
    sigma = gpt2.model.get_input_embeddings().weight[ids].std()
    assert float(difference[:, 1:].std() / sigma) == pytest.approx(2.0, rel=0.05)


def test_answers_left_open_are_the_models_own(gpt2: Subject) -> None:
    (pair,) = encode_pairs(gpt2, [Pair("Ann saw the red ball", "Bob saw the red ball")])
    logits = run(gpt2, torch.tensor([pair.clean, pair.corrupt])).logits
    assert logits is not None
    assert pair.answer == int(logits[0, -1, : len(gpt2.tokenizer)].argmax())
    other = logits[1, -1, : len(gpt2.tokenizer)].clone()
    other[pair.answer] = -torch.inf
    assert pair.wrong == int(other.argmax())


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "no pairs"),
        ([Pair("Ann saw the ball", "Ann saw the red ball")], "equal numbers"),
        ([Pair("Ann saw", "Ann saw")], "the same"),
        ([Pair("", "")], "no tokens"),
        ([Pair("Ann saw the", "Bob saw the", " red ball")], "not one token"),
        ([Pair("Ann saw the", "Bob saw the", " red", " red")], "difference says"),
    ],
    ids=str,
)
def test_pairs_that_cannot_be_patched_are_told(gpt2: Subject, pairs: list[Pair], words: str) -> None:
    with pytest.raises(InterventionError, match=words):
        encode_pairs(gpt2, pairs)


def test_noise_beyond_the_prompt_is_told(gpt2: Subject) -> None:
    with pytest.raises(InterventionError, match="position 30"):
        encode_pairs(gpt2, [Pair("Ann saw the")], Noise(positions=(30,)))
    with pytest.raises(InterventionError, match="at least one draw"):
        encode_pairs(gpt2, [Pair("Ann saw the")], Noise(draws=0))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kind": "resid_pre", "positions": [8]}, InterventionError, "Position 8"),
        ({"kind": "resid_pre", "layers": [9]}, UnitError, "layers 0-2"),
        ({"kind": "resid_pre", "channels": "each"}, InterventionError, "patch it whole"),
        ({"kind": "head_z", "channels": [4]}, InterventionError, "heads 0-3"),
        ({"kind": "head_y"}, UnitError, "not a site"),
        ({"kind": "mlp_out", "window": 4}, InterventionError, "window"),
    ],
    ids=str,
)
def test_sweeps_that_cannot_be_are_told(
    gpt2: Subject, options: dict[str, Any], error: type[NeuroglossError], words: str
) -> None:
    with pytest.raises(error, match=words):
        sweep(gpt2, random_pairs(), **options)


def test_prompts_of_several_lengths_have_no_positions_in_common(gpt2: Subject) -> None:
    pairs = [*random_pairs(1, 8), *random_pairs(1, 6)]
    with pytest.raises(InterventionError, match="one length"):
        sweep(gpt2, pairs, "resid_pre")
    assert sweep(gpt2, pairs, "head_z", positions=None, channels="each").noising is not None


def test_a_subject_without_logits_is_told(tiny_gpt2_folder: Path) -> None:
    with pytest.raises(SubjectError, match="no logits"):
        sweep(make_case("bert-headless", tiny_gpt2_folder).subject, random_pairs())
