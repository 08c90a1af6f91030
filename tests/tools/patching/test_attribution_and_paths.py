"""Attribution patching: right where effects are small, checked where they are not. Paths: found, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.architectures import ARCHITECTURES, Case, make_case
from tests.tools.patching.test_sweep import IOI, random_pairs
from tools.errors import InterventionError, UnitError
from tools.interventions import Where, replace, run
from tools.patching import (
    METRICS,
    Node,
    Noise,
    Pair,
    Receiver,
    all_nodes,
    encode_pairs,
    parse_receivers,
    path_patch,
    screen,
    sweep,
)
from tools.subject import Subject, load_subject
from tools.types import Site


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject("planted", device="cpu")


@pytest.fixture(scope="module", params=[n for n in ARCHITECTURES if n != "bert-headless"])
def case(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Case:
    return make_case(request.param, tiny_gpt2_folder)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(("kind", "channels"), [("head_z", "each"), ("resid_post", None), ("attn_pattern", "each"),
                                                ("head_q", [1]), ("mlp_act", [3, 8])])  # fmt: skip
def test_small_changes_are_estimated_as_they_are(
    tiny_gpt2_folder: Path, direction: Any, kind: str, channels: Any
) -> None:
    """Noise of a thousandth of the embeddings' size, in float64: nothing bends."""
    subject = make_case("gpt2", tiny_gpt2_folder).subject
    subject.model.double()
    subject.dtype = torch.float64
    pairs = encode_pairs(subject, [Pair("Ann saw the red ball")], Noise(sigmas=1e-3, draws=2))
    found = screen(subject, pairs, kind, channels=channels, direction=direction, confirm=1000)
    exact = sweep(subject, pairs, kind, channels=channels).direction(direction)["logit_difference"].values
    # Softmaxes and norms are in float32 in this model, whatever its own precision.
    np.testing.assert_allclose(found.estimates, exact, rtol=0.05, atol=0.01)
    assert found.rank_correlation is not None
    assert found.rank_correlation > 0.95
    assert len(found.checked) == exact.size


def test_the_strongest_are_run_and_others_beside_them(planted: Subject) -> None:
    """Denoising, the name mover's estimate is exact; the inhibition head's is off by a factor, for attention saturates.

    Noising, the estimates of both heads behind the name mover are nothing at all: a screen can miss what matters.
    """
    pairs = encode_pairs(planted, IOI)
    found = screen(planted, pairs, "head_z", channels="each", confirm=4)
    exact = sweep(planted, pairs, "head_z", channels="each").direction("denoising")["logit_difference"].values
    assert len(found.checked) == 8
    assert [one.screened for one in found.checked] == [True] * 4 + [False] * 4
    for one in found.checked:
        assert found.positions is not None
        assert one.position is not None
        at = found.layers.index(one.layer), found.positions.index(one.position), one.channel
        assert one.estimate == found.estimates[at]
        assert one.exact == pytest.approx(exact[at], abs=1e-5)
    assert {(one.layer, one.channel) for one in found.checked[:2]} == {(2, 0), (1, 2)}
    inhibition = next(one for one in found.checked if (one.layer, one.channel) == (1, 2))
    assert inhibition.estimate > 5 * inhibition.exact > 2
    missed = screen(planted, pairs, "head_z", channels="each", direction="noising", confirm=1)
    assert abs(missed.estimates[1, :, 2]).max() < 0.01
    with pytest.raises(InterventionError, match="at least 1"):
        screen(planted, pairs, confirm=0)


def test_on_every_architecture_small_changes_rank_as_their_runs_do(case: Case) -> None:
    noise = Noise(sigmas=0.02, draws=3)
    for kind in ("resid_mid", "resid_post", "attn_out"):
        if kind in case.subject.sites.plans[0].taps:
            pairs = encode_pairs(case.subject, [Pair("Ann saw the red ball")], noise)
            found = screen(case.subject, pairs, kind, confirm=100)
            assert found.rank_correlation is not None
            assert found.rank_correlation > 0.9, kind


def test_paths_of_the_planted_circuit_are_found_with_the_inputs_they_take(planted: Subject) -> None:
    pairs = encode_pairs(planted, IOI)
    heads = all_nodes(planted, mlps=False)
    receivers = ["logits"] + [f"head:{layer}:{h}:{x}" for layer in (1, 2) for h in range(4) for x in "qkv"]
    found = path_patch(planted, pairs, heads, parse_receivers(receivers))
    noising = found.direction("noising")["logit_difference"]
    paths = {(found.senders[i], found.receivers[j]) for i, j in np.argwhere(np.abs(noising) > 0.2)}
    assert paths == {("head:0:3", "head:1:2:k"), ("head:1:2", "head:2:0:q"), ("head:2:0", "logits")}
    assert np.nanmax(np.abs(noising[np.abs(noising) <= 0.2])) < 0.02
    for i, sender in enumerate(found.senders):
        for j, receiver in enumerate(found.receivers):
            downstream = receiver == "logits" or int(receiver.split(":")[1]) > int(sender.split(":")[1])
            assert np.isnan(noising[i, j]) != downstream


def test_the_direct_path_is_what_the_stream_carries(tiny_gpt2_folder: Path) -> None:
    """With MLPs held: the base's last stream, plus the change of what the head writes, through norm and unembedding."""
    subject = make_case("gpt2", tiny_gpt2_folder).subject
    (pair,) = random_pairs(1)
    model: Any = subject.model
    sites = [Site(1, "head_z"), Site(2, "resid_post")]
    clean, corrupt = (run(subject, torch.tensor([ids]), read=sites) for ids in (pair.clean, pair.corrupt))
    change = (corrupt[sites[0]] - clean[sites[0]])[0, -1, 2]
    write = change @ model.transformer.h[1].attn.c_proj.weight.reshape(4, 8, 32)[2]
    logits = model.lm_head(model.transformer.ln_f(clean[sites[1]][0, -1] + write))
    found = path_patch(subject, [pair], [Node(1, "head", 2)], parse_receivers(["logits"]), hold_mlps=True)
    expected = (found.clean - float(logits[pair.answer] - logits[pair.wrong])) / (found.clean - found.corrupt)
    assert found.direction("noising")["logit_difference"][0, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("hold", [False, True])
def test_a_path_into_a_query_is_made_by_hand(tiny_gpt2_folder: Path, hold: bool) -> None:
    subject = make_case("llama", tiny_gpt2_folder).subject
    (pair,) = random_pairs(1)
    z, mlps = [Site(i, "head_z") for i in range(3)], [Site(i, "mlp_out") for i in range(3)]
    clean, corrupt = (
        run(subject, torch.tensor([ids]), read=[*z, *mlps], logits=False) for ids in (pair.clean, pair.corrupt)
    )
    ids = torch.tensor([pair.clean])
    held = [replace(z[1], clean[z[1]]), replace(z[2], clean[z[2]])] + [replace(m, clean[m]) for m in mlps[: 3 * hold]]
    sent = run(subject, ids, None, [replace(z[0], corrupt[z[0]], Where(channels=3)), *held], read=[Site(2, "head_q")],
               logits=False)  # fmt: skip
    edit = replace(Site(2, "head_q"), sent[Site(2, "head_q")], Where(channels=1))
    logits = run(subject, ids, None, [edit]).logits
    assert logits is not None
    found = path_patch(subject, [pair], [Node(0, "head", 3)], parse_receivers(["head:2:1:q"]), hold_mlps=hold)
    difference = float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])
    expected = (found.clean - difference) / (found.clean - found.corrupt)
    assert expected != 0
    assert found.direction("noising")["logit_difference"][0, 0] == pytest.approx(expected, abs=2e-5)


def test_on_every_architecture_the_last_layers_heads_have_no_path_but_the_direct_one(case: Case) -> None:
    pairs, last = random_pairs(3), case.subject.n_layers - 1
    heads = [Node(last, "head", i) for i in range(4)]
    found = path_patch(case.subject, pairs, heads, parse_receivers(["logits"]))
    whole = sweep(case.subject, pairs, "head_z", layers=[last], positions=None, channels="each")
    for direction in ("denoising", "noising"):
        for metric in METRICS:
            np.testing.assert_allclose(
                found.direction(direction)[metric][:, 0], whole.direction(direction)[metric].values[0, 0], atol=2e-4
            )


def test_on_every_architecture_paths_do_not_depend_on_what_shares_the_batch(case: Case) -> None:
    pairs = random_pairs(2)
    senders = [Node(0, "head", 1), Node(0, "head", 2), Node(0, "mlp"), Node(1, "head", 0)]
    if "mlp_out" not in case.subject.sites.plans[0].taps:
        senders.pop(2)
    receivers = parse_receivers(["head:2:1:q", "head:2:1:k+head:2:1:v", "logits", "head:1:3:v"])
    together = path_patch(case.subject, pairs, senders, receivers).direction("noising")["logit_difference"]
    for i, sender in enumerate(senders):
        for j, receiver in enumerate(receivers):
            alone = path_patch(case.subject, pairs, [sender], [receiver]).direction("noising")["logit_difference"]
            np.testing.assert_allclose(together[i, j], alone[0, 0], atol=2e-4)


@pytest.mark.parametrize(
    ("senders", "receivers", "error", "words"),
    [
        (["head:0:9"], ["logits"], UnitError, "0-3"),
        (["head:9:0"], ["logits"], UnitError, "layers 0-2"),
        (["mlp:0:64"], ["logits"], UnitError, "0-39"),
        ([], ["logits"], InterventionError, "sender"),
        (["head:0:0"], ["head:2:7:q"], UnitError, "0-3"),
        (["head:0:0"], ["head:2:1:q+logits"], InterventionError, "alone"),
    ],
    ids=str,
)
def test_paths_that_cannot_be_are_told(
    tiny_gpt2_folder: Path, senders: list[str], receivers: list[str], error: type[Exception], words: str
) -> None:
    subject = make_case("gpt2", tiny_gpt2_folder).subject
    with pytest.raises(error, match=words):
        path_patch(subject, random_pairs(), [Node.parse(s) for s in senders], parse_receivers(receivers))


@pytest.mark.parametrize("text", ["head:1", "neuron:1:2", "head:a:b", "mlp:1:2:3"])
def test_names_of_parts_are_checked(text: str) -> None:
    with pytest.raises(UnitError, match="no part"):
        Node.parse(text)
    with pytest.raises(UnitError, match="receives nothing"):
        Receiver.parse(text)


def test_names_of_parts_are_what_they_are_read_from() -> None:
    for text in ("head:1:2", "mlp:3", "mlp:3:17"):
        assert str(Node.parse(text)) == text
    for text in ("head:1:2:k", "mlp:3", "logits"):
        assert str(Receiver.parse(text)) == text
