"""Matching of directions across layers: planted persisting, processed, newborn and unexplained features."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file
from scipy.stats import beta

from tests.conftest import tiny_tokenizer
from tools.dictionaries import load_dictionary
from tools.errors import UnitError
from tools.flow import null_score, origins, trace, write_directions
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

WIDTH, LATENTS = 128, 24
PERSISTS, PROCESSED, NEWBORN, FETCHED, ABSENT, OPPOSITE = range(6)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A GPT-2 of three layers with a dictionary on the output of layers 0, 1 and 2.

    Latents 0-5 of `one` come from `zero` and layer 1 as their names say; `two` holds them in another order.
    """
    torch.manual_seed(11)
    config = hf.GPT2Config(vocab_size=400, n_positions=32, n_embd=WIDTH, n_layer=3, n_head=8, n_inner=64)
    model = hf.GPT2LMHeadModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape))
    subject = Subject("flow", model, tiny_tokenizer(), "0" * 16)

    def random(n: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(n, WIDTH), dim=-1)

    zero, one = random(LATENTS), random(LATENTS)
    neuron = torch.nn.functional.normalize(model.transformer.h[1].mlp.c_proj.weight[17], dim=-1)
    head = model.transformer.h[1].attn.c_proj.weight[3 * 16 : 4 * 16]
    fetched = torch.randn(16) @ head
    one[PERSISTS] = zero[7] + 0.02 * torch.randn(WIDTH)
    one[PROCESSED] = zero[8] + neuron
    one[NEWBORN] = 3 * neuron
    one[FETCHED] = fetched
    one[OPPOSITE] = -zero[9]
    two = torch.cat([one[12:], one[:12]])
    for name, layer, rows in (("zero", 0, zero), ("one", 1, one), ("two", 2, two)):
        folder = tmp_path_factory.mktemp(name)
        write_dictionary(folder, layer, rows)
        subject.attach(name, load_dictionary(str(folder), name))
    return subject


def write_dictionary(folder: Path, layer: int, rows: torch.Tensor) -> None:
    rows = rows.contiguous()
    weights = {"W_enc": rows.T.contiguous(), "b_enc": torch.zeros(len(rows)), "W_dec": rows,
               "b_dec": torch.zeros(WIDTH)}  # fmt: skip
    save_file(weights, folder / "sae_weights.safetensors")
    about = {"architecture": "standard", "d_in": WIDTH, "d_sae": len(rows), "dtype": "float32",
             "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none",
             "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post", "model_name": "flow", "prepend_bos": True,
                          "hook_head_index": None, "sae_lens_version": "6.0.0"}}  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(about), encoding="utf-8")


def test_planted_features_are_labelled_by_where_they_come_from(subject: Subject) -> None:
    found = origins(subject, [UnitId("sae:one", i) for i in range(LATENTS)])
    labels = {i: flow.label for i, flow in enumerate(found)}
    assert labels[PERSISTS] == "persists"
    assert labels[PROCESSED] == "processed"
    assert labels[NEWBORN] == "newborn"
    assert labels[FETCHED] == "newborn"
    assert labels[OPPOSITE] == "unexplained"
    assert all(labels[i] == "unexplained" for i in range(LATENTS) if i not in range(4))
    best = {i: {o.source: o for o in found[i].origins} for i in range(4)}
    assert best[PERSISTS]["earlier"].unit == "sae:zero:7"
    assert best[PROCESSED]["earlier"].unit == "sae:zero:8"
    assert best[PROCESSED]["earlier"].score == pytest.approx(2**-0.5, abs=0.1)
    assert best[PROCESSED]["mlp"].unit == best[NEWBORN]["mlp"].unit == "mlp:1:17"
    assert best[NEWBORN]["mlp"].score == pytest.approx(1.0, abs=1e-5)
    assert best[FETCHED]["attention"].unit == "head:1:3"
    assert best[FETCHED]["attention"].score == pytest.approx(1.0, abs=1e-5)


def test_random_directions_match_nothing(subject: Subject) -> None:
    """At the 99.9 % quantile of each of three sets, about one of 300 has a match by chance."""
    torch.manual_seed(5)
    for i in range(300):
        subject.add_direction(f"r{i}", Site(1, "resid_post"), torch.randn(WIDTH))
    found = origins(subject, [UnitId(f"dir:r{i}", 0) for i in range(300)])
    assert sum(flow.label != "unexplained" for flow in found) <= 4


def test_paths_are_composed_of_adjacent_matches(subject: Subject) -> None:
    (ahead,) = trace(subject, [UnitId("sae:zero", 7)], ["sae:one", "sae:two"])
    assert [step.unit for step in ahead] == [f"sae:one:{PERSISTS}", f"sae:two:{PERSISTS + 12}"]
    assert ahead[1].cosine == pytest.approx(1.0, abs=1e-5)
    assert ahead[1].to_start == pytest.approx(ahead[0].cosine, abs=1e-5)
    late = [UnitId("sae:two", NEWBORN + 12), UnitId("sae:two", ABSENT + 12)]
    behind = trace(subject, late, ["sae:one", "sae:zero"])
    assert [[step.unit for step in path] for path in behind] == [[f"sae:one:{NEWBORN}"], [f"sae:one:{ABSENT}"]]
    assert trace(subject, late[1:], ["sae:zero"]) == [()]


def test_neurons_come_from_earlier_neurons(tiny_llama_folder: Path) -> None:
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    down = [layer.mlp.down_proj.weight for layer in subject.model.model.layers]
    down[1][:, 4] = 2 * down[0][:, 9]
    (flow,) = origins(subject, [UnitId("mlp:1", 4)])
    assert flow.origins[0].source == "earlier"
    assert flow.origins[0].unit == "mlp:0:9"
    assert flow.origins[0].score == pytest.approx(1.0, abs=1e-5)
    assert flow.label in ("persists", "processed")
    (first,) = origins(subject, [UnitId("mlp:0", 4)])
    assert {origin.source for origin in first.origins} == {"attention"}


@pytest.mark.parametrize(("n", "d"), [(64, 32), (2000, 128)])
def test_null_is_the_quantile_of_independent_columns(n: int, d: int) -> None:
    """For independent columns P(max < c) = F(c)^n with F of the cosine, (1 + c) / 2 ~ Beta((d-1) / 2, (d-1) / 2)."""
    columns = torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(1)), dim=-1)
    for quantile in (0.5, 0.99, 0.999):
        expected = 2 * float(beta.ppf(quantile ** (1 / n), (d - 1) / 2, (d - 1) / 2)) - 1
        assert null_score(columns, quantile=quantile) == pytest.approx(expected, abs=0.02)
    assert null_score(columns, quantile=0.5) == pytest.approx(math.sqrt(2 * math.log(n) / d), rel=0.25)


def test_null_of_a_subspace_is_the_length_of_a_projection() -> None:
    """|P f|² of a random unit vector on r of d dimensions ~ Beta(r / 2, (d - r) / 2)."""
    basis = torch.eye(64)[None, :8]
    expected = math.sqrt(float(beta.ppf(0.99, 4, 28)))
    assert null_score(basis, quantile=0.99) == pytest.approx(expected, abs=0.01)


def test_wrong_requests(subject: Subject) -> None:
    with pytest.raises(UnitError, match="no single direction"):
        origins(subject, [UnitId("head:1", 0)])
    with pytest.raises(UnitError, match="not before"):
        origins(subject, [UnitId("sae:zero", 0)], earlier=["sae:one"])
    with pytest.raises(UnitError, match="units 0-23"):
        origins(subject, [UnitId("sae:zero", 24)])
    with pytest.raises(UnitError, match="no dictionary"):
        trace(subject, [UnitId("sae:zero", 0)], ["sae:none"])
    assert write_directions(subject, "sae:zero").shape == (LATENTS, WIDTH)
