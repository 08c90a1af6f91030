"""Latents and directions in circuits and on paths: planted ones are found; what is done to them is made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.tools.architectures import make_case
from tests.tools.patching.test_sweep import random_pairs
from tools.circuits import Knockout, find_circuit, known
from tools.circuits.units import strongest_latents, unit_effects
from tools.dictionaries import Dictionary, load_dictionary
from tools.errors import InterventionError, UnitError
from tools.interventions import Edit, edit_unit, replace, run, set_unit
from tools.loading import find_folder
from tools.patching import Node, Pair, TokenPair, encode_pairs, parse_receivers, path_patch
from tools.planted import load_truth
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

#: Words of two categories, which one neuron each fires on and which it then makes likelier.
TOOLS = (" hammer", " knife", " rope", " ladder", " spade", " brush", " needle", " drill")
ORGANISATIONS = (" NASA", " NATO", " UNESCO", " FIFA", " BBC", " IBM")
NEURONS = ("mlp:0:306", "mlp:0:26")
BEGINNINGS = ("Anna saw the", "The old", "They sold a", "Ben had one", "It was a", "He gave the", "We moved the")


def dictionary(folder: Path, weights: torch.Tensor, hook: str, name: str) -> Dictionary:
    """A dictionary of directions, [d_model, latent], that reads and writes them."""
    folder.mkdir(exist_ok=True)
    config = {
        "architecture": "standard", "d_in": weights.shape[0], "d_sae": weights.shape[1], "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "metadata": {"hook_name": hook, "model_name": "m", "sae_lens_version": "6.0.0"},
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config))
    zeros = {"b_enc": torch.zeros(weights.shape[1]), "b_dec": torch.zeros(weights.shape[0])}
    save_file({"W_enc": weights, "W_dec": weights.T.contiguous(), **zeros}, folder / "sae_weights.safetensors")
    return load_dictionary(str(folder), name)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, set[str]]:
    """A planted subject with a dictionary of the dimensions that raise a group of logits, and the two that the task
    rests on. A latent of the subject's own dictionary writes into each, which is how they are known."""
    subject = load_subject("planted", device="cpu")
    own = subject.dictionaries["planted"]
    groups: dict[tuple[str, ...], int] = {}
    for truth in load_truth(find_folder("planted")[1]).values():
        if truth.unit.startswith("sae:") and truth.effect is not None:
            groups[truth.effect.tokens] = int(own.W_dec[int(truth.unit.split(":")[2])].abs().argmax())
    weights = torch.zeros(subject.d_model, 2 * len(groups))
    for place, dim in enumerate(groups.values()):
        weights[dim, 2 * place], weights[dim, 2 * place + 1] = 1.0, -1.0
    folder = tmp_path_factory.mktemp("dictionary") / "groups"
    subject.attach("groups", dictionary(folder, weights, "blocks.1.hook_resid_post", "groups"))
    raised = {f"sae:groups:{2 * i}" for i, g in enumerate(groups) if TOOLS[0] in g or ORGANISATIONS[0] in g}
    assert len(raised) == 2
    return subject, raised


@pytest.fixture(scope="module")
def pairs(planted: tuple[Subject, set[str]]) -> list[TokenPair]:
    """A tool is followed by tools, an organisation by organisations."""
    words = [(TOOLS[i], ORGANISATIONS[i % 6], TOOLS[(i + 3) % 8], ORGANISATIONS[(i + 2) % 6]) for i in range(8)]
    given = [
        Pair(f"{start}{tool}", f"{start}{group}", answer, wrong)
        for i, start in enumerate(BEGINNINGS) for tool, group, answer, wrong in (words[i], words[(i + 3) % 8])
    ]  # fmt: skip
    found = known(planted[0], encode_pairs(planted[0], given))
    assert len(found) >= 6
    return found


def test_planted_latents_are_found_with_precision_and_recall_of_one(
    planted: tuple[Subject, set[str]], pairs: list[TokenPair]
) -> None:
    subject, truth = planted
    width = subject.dictionaries["groups"].d_sae
    every = [Node.of(subject, f"sae:groups:{i}") for i in range(width)]
    circuit = find_circuit(subject, pairs, candidates=every, draws=8)
    assert {node.name for node in circuit.nodes} == truth
    assert {(edge.sender, edge.receiver) for edge in circuit.edges} == {(name, "logits") for name in truth}
    criteria = circuit.criteria
    assert criteria.faithfulness == pytest.approx(1.0, abs=1e-3)
    assert max(criteria.random_faithfulness) <= 0.51
    assert np.mean(criteria.random_faithfulness) < 0.2
    assert criteria.incompleteness < 0.01
    assert criteria.least_need == pytest.approx(0.5, abs=0.02)
    assert {node.layer for node in circuit.nodes} == {1}


def test_gradients_find_the_latents_that_matter(planted: tuple[Subject, set[str]], pairs: list[TokenPair]) -> None:
    subject, truth = planted
    assert truth <= {str(node) for node in strongest_latents(subject, pairs, 4)}


def test_a_path_leads_from_the_neuron_through_its_latent(
    planted: tuple[Subject, set[str]], pairs: list[TokenPair]
) -> None:
    """What the neuron does to the logits it does through the latent that stands for what it writes."""
    subject, truth = planted
    receivers = parse_receivers([*sorted(truth), "sae:groups:0", "logits"], subject)
    found = path_patch(subject, pairs, [Node.parse(name) for name in NEURONS], receivers)
    effects = found.direction("noising")["logit_difference"]
    through, other, direct = effects[:, :2], effects[:, 2], effects[:, 3]
    assert sorted((np.abs(through) > 0.3).sum(0).tolist()) == [1, 1]
    np.testing.assert_allclose(np.abs(through).max(1), direct, atol=1e-3)
    assert np.abs(other).max() < 1e-3
    assert np.abs(through).min() < 1e-3


@pytest.fixture(scope="module")
def random(tiny_gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A random GPT-2 with random directions for latents, and one of its own."""
    subject = make_case("gpt2", tiny_gpt2_folder).subject
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(subject.d_model, 12, generator=generator) / 6
    folder = tmp_path_factory.mktemp("dictionary") / "random"
    subject.attach("random", dictionary(folder, weights, "blocks.1.hook_resid_pre", "random"))
    subject.add_direction("one", Site(1, "resid_post"), torch.randn(subject.d_model, generator=generator))
    return subject


@pytest.mark.parametrize("kind", ["resample", "mean", "zero"])
def test_ablated_units_have_the_activation_that_was_asked_for(random: Subject, kind: str) -> None:
    pairs = random_pairs(3)
    nodes = [Node.of(random, name) for name in ("sae:random:3", "dir:one", "head:2:1")]
    assert [str(node) for node in nodes] == ["sae:random:3", "dir:one", "head:2:1"]
    got = Knockout(random, pairs, nodes, kind).ablated([nodes[:1], nodes])  # type: ignore[arg-type]
    z = Site(2, "head_z")
    sites = [Site(1, "resid_pre"), Site(1, "resid_post"), z]
    other = run(random, torch.tensor([p.corrupt for p in pairs]), read=sites, logits=False)
    latents = random.dictionaries["random"].encode(other[sites[0]])[..., 3]
    along = other[sites[1]] @ random.directions["one"].vector

    def edited(unit: str, values: torch.Tensor, i: int) -> Edit:
        fill = values[i : i + 1] if kind == "resample" else values.mean(0, keepdim=True)
        if kind == "zero":
            return set_unit(random, UnitId.parse(unit), 0.0)
        return edit_unit(random, UnitId.parse(unit), lambda _: fill)

    for row, chosen in enumerate((nodes[:1], nodes)):
        for i, pair in enumerate(pairs):
            ids = torch.tensor([pair.clean])
            edits = [edited("sae:random:3", latents, i)]
            if len(chosen) > 1:
                edits.append(edited("dir:one", along, i))
                mixed = run(random, ids, None, edits, read=[z], logits=False)[z].clone()
                head = other[z][i] if kind == "resample" else other[z].mean(0)
                mixed[0, :, 1] = 0.0 if kind == "zero" else head[:, 1]
                edits.append(replace(z, mixed))
            logits = run(random, ids, None, edits).logits
            assert logits is not None
            expected = float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])
            assert got[row, i] == pytest.approx(expected, abs=1e-4)


def test_effects_of_a_unit_are_those_of_patching_it(random: Subject) -> None:
    (pair,) = random_pairs(1)
    site = Site(1, "resid_pre")
    runs = {side: run(random, torch.tensor([getattr(pair, side)]), read=[site]) for side in ("clean", "corrupt")}
    latents = {side: random.dictionaries["random"].encode(found[site])[..., 5] for side, found in runs.items()}

    def score(side: str, other: torch.Tensor | None = None) -> float:
        edits = [] if other is None else [edit_unit(random, UnitId("sae:random", 5), lambda _: other)]
        logits = run(random, torch.tensor([getattr(pair, side)]), None, edits).logits
        assert logits is not None
        return float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])

    gap = score("clean") - score("corrupt")
    noising, denoising, place = unit_effects(random, [pair], Node.of(random, "sae:random:5"))
    assert noising == pytest.approx((score("clean") - score("clean", latents["corrupt"])) / gap, abs=1e-4)
    assert denoising == pytest.approx((score("corrupt", latents["clean"]) - score("corrupt")) / gap, abs=1e-4)
    assert noising != 0
    by_position = []
    for position in range(len(pair.clean)):
        mixed = latents["clean"].clone()
        mixed[:, position] = latents["corrupt"][:, position]
        by_position.append(abs(score("clean") - score("clean", mixed)))
    assert place == int(np.argmax(by_position))


def test_units_that_are_not_there_are_told(random: Subject, tiny_gpt2_folder: Path) -> None:
    with pytest.raises(UnitError, match="no dictionary 'none'"):
        Node.of(random, "sae:none:1")
    with pytest.raises(UnitError, match="sae:random"):
        Node.of(random, "sae:random:12")
    bare = make_case("gpt2", tiny_gpt2_folder).subject
    with pytest.raises(InterventionError, match="no latents"):
        strongest_latents(bare, random_pairs(2), 3)
