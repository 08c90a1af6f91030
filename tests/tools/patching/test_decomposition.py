"""Contextual decomposition: sums are the model's, linear ways exact, and planted circuits come out without a patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tools.architectures import ARCHITECTURES, make_case
from tests.tools.patching.test_sweep import IOI, random_pairs
from tools.attribution import direct_attribution
from tools.circuits import known, task
from tools.errors import InterventionError, SubjectError, UnitError
from tools.estimates import rank_correlation
from tools.patching import Node, all_nodes, decompose, encode_pairs, sweep
from tools.subject import Subject, load_subject

DECODERS = [name for name in ARCHITECTURES if "bert" not in name]


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject("planted", device="cpu")


@pytest.mark.parametrize("attention", ["values", "all"])
@pytest.mark.parametrize("name", DECODERS)
def test_on_every_decoder_pairs_sum_to_the_models_streams(name: str, attention: str, tiny_gpt2_folder: Path) -> None:
    """And nothing is a source's before it, which would show as well."""
    subject = make_case(name, tiny_gpt2_folder).subject
    pairs, nodes = random_pairs(2), all_nodes(subject)
    found = decompose(subject, pairs, nodes, attention=attention)  # type: ignore[arg-type]
    assert found.off < 1e-5
    ids = torch.tensor([pair.clean for pair in pairs])
    logits = subject.capture(ids, None, [], logits=True).logits
    assert logits is not None
    if not getattr(subject.model.config, "final_logit_softcapping", None):
        for i, pair in enumerate(pairs):
            difference = float(logits[i, -1, pair.answer] - logits[i, -1, pair.wrong])
            assert found.totals[i] == pytest.approx(difference, abs=1e-4)
    alone = decompose(subject, pairs, nodes[5:6], attention=attention)  # type: ignore[arg-type]
    np.testing.assert_allclose(alone.contributions[0], found.contributions[5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_where_the_way_to_the_logits_is_linear_contributions_are_exact(name: str, tiny_gpt2_folder: Path) -> None:
    """The last layer's MLP, and its heads where the MLP reads beside them: direct attribution's shares."""
    subject = make_case(name, tiny_gpt2_folder).subject
    pairs, last = random_pairs(2), subject.n_layers - 1
    sources = [Node(last, "mlp")]
    if "resid_mid" not in subject.sites.plans[last].taps:
        sources += [Node(last, "head", i) for i in range(4)]
    found = decompose(subject, pairs, sources, baseline="zero")
    direct = direct_attribution(
        subject, [pair.clean for pair in pairs], [pair.answer for pair in pairs], [pair.wrong for pair in pairs]
    )
    shares = {part.name: direct.values[:, i] for i, part in enumerate(direct.parts)}
    for row, source in zip(found.contributions, found.sources, strict=True):
        np.testing.assert_allclose(row, shares[source], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "heads"), [("ioi", {"head:0:3", "head:1:2", "head:2:0"}),
                                             ("induction", {"head:0:0", "head:1:0"})])  # fmt: skip
def test_planted_circuits_come_out_as_when_they_are_patched(planted: Subject, name: str, heads: set[str]) -> None:
    pairs = known(planted, task(planted, name, 12))
    nodes = all_nodes(planted, mlps=False)
    found = decompose(planted, pairs, nodes)
    exact = sweep(planted, pairs, "head_z", positions=None, channels="each").direction("noising")
    effects = exact["logit_difference"].values[:, 0].ravel()
    assert {str(node) for node, effect in zip(nodes, found.effects, strict=True) if abs(effect) > 0.2} == heads
    np.testing.assert_allclose(found.effects, effects, atol=0.1)
    agreement = rank_correlation(found.effects.round(1), effects.round(1))
    assert agreement is not None
    assert agreement >= 0.9


def test_with_patterns_held_only_what_is_moved_counts(planted: Subject) -> None:
    """The two heads that act on where the name mover looks contribute nothing then."""
    found = decompose(planted, encode_pairs(planted, IOI), all_nodes(planted, mlps=False), attention="values")
    effects = dict(zip(found.sources, found.effects, strict=True))
    assert effects["head:2:0"] == pytest.approx(1.0, abs=0.05)
    assert abs(effects["head:0:3"]) < 0.02 > abs(effects["head:1:2"])


def test_what_cannot_be_decomposed_is_told(tiny_gpt2_folder: Path) -> None:
    with pytest.raises(SubjectError, match="not linear up to a norm"):
        decompose(make_case("bert", tiny_gpt2_folder).subject, random_pairs(), [Node(0, "head", 1)])
    gpt2 = make_case("gpt2", tiny_gpt2_folder).subject
    with pytest.raises(InterventionError, match="heads and whole MLPs"):
        decompose(gpt2, random_pairs(), [Node(0, "neuron", 1)])
    with pytest.raises(UnitError, match="0-3"):
        decompose(gpt2, random_pairs(), [Node(0, "head", 9)])
