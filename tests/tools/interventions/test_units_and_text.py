"""Edits of units of every kind, and text written while something is edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tools.dictionaries import load_dictionary
from tools.errors import InterventionError, UnitError
from tools.interventions import Where, add, add_to_unit, generate, run, scale, scale_unit, set_unit
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId
from tools.units import activations, group_site

IDS = torch.tensor([[0, *range(20, 34)], [0, *range(60, 74)]])


def save_dictionary(folder: Path, **settings: Any) -> str:
    """A random dictionary of 24 latents in SAELens' format."""
    generator = torch.Generator().manual_seed(4)
    weights = {
        "W_enc": torch.randn(32, 24, generator=generator) / 32**0.5, "b_enc": torch.full((24,), 0.5),
        "W_dec": torch.randn(24, 32, generator=generator), "b_dec": torch.randn(32, generator=generator),
    }  # fmt: skip
    folder.mkdir()
    save_file(weights, folder / "sae_weights.safetensors")
    config = {"architecture": "standard", "d_in": 32, "d_sae": 24, "dtype": "float32", "apply_b_dec_to_input": True,
              "metadata": {"hook_name": "blocks.1.hook_resid_post"}, **settings}  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    folder = tmp_path_factory.mktemp("dictionaries")
    subject.attach("res", load_dictionary(save_dictionary(folder / "res"), "res"))
    transcoder = save_dictionary(
        folder / "tc", architecture="transcoder", d_out=32, apply_b_dec_to_input=False,
        metadata={"hook_name": "blocks.1.hook_resid_mid", "hook_name_out": "blocks.1.hook_mlp_out"},
    )  # fmt: skip
    subject.attach("tc", load_dictionary(transcoder, "tc"))
    for kind in ("resid_pre", "resid_mid", "resid_post", "mlp_out", "attn_out", "mlp_act", "head_z"):
        width = subject.sites.width(Site(1, kind))
        subject.add_direction(kind, Site(1, kind), torch.linspace(-1, 1, width))
    return subject


UNITS = ["mlp:1:7", "head:1:2", "sae:res:3", "dir:resid_pre", "dir:resid_mid", "dir:resid_post", "dir:mlp_out",
         "dir:attn_out", "dir:mlp_act", "dir:head_z"]  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_has_the_activation_it_was_given(gpt2: Subject, name: str) -> None:
    unit = UnitId.parse(name)
    site = group_site(gpt2, unit.group)

    def read(*edits: Any) -> torch.Tensor:
        found = run(gpt2, IDS, None, edits, read=[site], logits=False)
        return activations(gpt2, unit.group, found)[..., unit.index]

    clean = read()
    where = Where(since=1)
    if unit.kind != "sae":  # the encoder reads again what the decoder wrote
        torch.testing.assert_close(read(set_unit(gpt2, unit, 2.5, where))[:, 1:], torch.full((2, 14), 2.5))
        moved = read(add_to_unit(gpt2, unit, 0.5, Where(rows=1, positions=[4])))
        expected = clean.clone()
        expected[1, 4] += 0.5
        torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-5)
    unmoved = run(gpt2, IDS, None, [scale_unit(gpt2, unit, 1.0)]).logits
    torch.testing.assert_close(unmoved, run(gpt2, IDS).logits, rtol=1e-5, atol=1e-5)


def test_a_latents_edit_keeps_what_the_dictionary_does_not_explain(gpt2: Subject) -> None:
    """Ablating a latent takes its decoder row times its activation away, and nothing else."""
    dictionary, site = gpt2.dictionaries["res"], Site(1, "resid_post")
    clean = run(gpt2, IDS, read=[site], logits=False)[site]
    index = int(dictionary.encode(clean).amax((0, 1)).argmax())
    latents = dictionary.encode(clean)[..., index]
    assert float(latents.max()) > 0
    found = run(gpt2, IDS, None, [set_unit(gpt2, UnitId("sae:res", index), 0.0)], read=[site], logits=False)[site]
    torch.testing.assert_close(found, clean - latents[..., None] * dictionary.W_dec[index], rtol=1e-5, atol=1e-5)


def test_a_transcoders_latent_is_read_at_one_site_and_written_at_another(gpt2: Subject) -> None:
    dictionary, reads, writes = gpt2.dictionaries["tc"], Site(1, "resid_mid"), Site(1, "mlp_out")
    clean = run(gpt2, IDS, read=[reads, writes], logits=False)
    latents = dictionary.encode(clean[reads])[..., 5]
    edit = set_unit(gpt2, UnitId.parse("sae:tc:5"), 2.0, Where(positions=[3, 6]))
    found = run(gpt2, IDS, None, [edit], read=[reads, writes], logits=False)
    torch.testing.assert_close(found[reads], clean[reads])
    expected = clean[writes].clone()
    for position in (3, 6):
        expected[:, position] += (2.0 - latents[:, position, None]) * dictionary.W_dec[5]
    torch.testing.assert_close(found[writes], expected, rtol=1e-5, atol=1e-5)


def test_the_record_of_an_edit_says_what_was_done(gpt2: Subject) -> None:
    edit = set_unit(gpt2, UnitId.parse("mlp:1:7"), 2.5, Where(since=1))
    assert edit.to_json() == {
        "site": "mlp_act.1", "op": "set unit", "unit": "mlp:1:7", "value": 2.5, "where": {"channels": [7], "since": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "where", "error", "message"),
    [
        ("mlp:1:64", Where(), UnitError, "units 0-63"),
        ("mlp:1:7", Where(channels=[1]), InterventionError, "the unit is the channel"),
        ("mlp:1:7", Where(positions=[15]), InterventionError, "beyond the text"),
    ],
)
def test_mistakes_are_told(gpt2: Subject, name: str, where: Where, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(gpt2, IDS, None, [set_unit(gpt2, UnitId.parse(name), 1.0, where)])
    with pytest.raises(InterventionError, match="finite"):
        set_unit(gpt2, UnitId.parse("mlp:1:7"), float("inf"))


PROMPTS = ["Ann saw the", "My friend likes the red ball", "Bob"]


def written_by_hand(subject: Subject, prompt: str, steps: int, *edits: Any) -> list[int]:
    """Greedy decoding that runs the whole text anew at each step."""
    ids = subject.encode(prompt)
    start = len(ids)
    for _ in range(steps):
        logits = run(subject, torch.tensor([ids]), None, edits).logits
        assert logits is not None
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == 0:
            break
    return [i for i in ids[start:] if i != 0]


def test_text_written_with_a_cache_is_that_of_whole_runs(gpt2: Subject) -> None:
    edits = [
        set_unit(gpt2, UnitId.parse("mlp:1:7"), 4.0, Where(since=1)),
        add(Site(2, "resid_post"), torch.linspace(-2, 2, 32), Where(positions=[1])),
        set_unit(gpt2, UnitId.parse("sae:res:3"), 3.0, Where(since=5)),
    ]
    for given in ([], edits):
        batch = generate(gpt2, PROMPTS, given, max_new_tokens=8)
        for prompt, one in zip(PROMPTS, batch, strict=True):
            assert list(one.ids) == written_by_hand(gpt2, prompt, 8, *given)
    assert [g.ids for g in generate(gpt2, PROMPTS, edits, max_new_tokens=8)] != [
        g.ids for g in generate(gpt2, PROMPTS, max_new_tokens=8)
    ]


def test_what_is_sampled_depends_on_the_rows_seed_alone(gpt2: Subject) -> None:
    together = generate(gpt2, PROMPTS, max_new_tokens=6, temperature=0.8, seed=[1, 2, 3])
    alone = generate(gpt2, PROMPTS[1:2], max_new_tokens=6, temperature=0.8, seed=[2])
    other = generate(gpt2, PROMPTS[1:2], max_new_tokens=6, temperature=0.8, seed=[5])
    assert together[1].ids == alone[0].ids != other[0].ids


def test_samples_follow_the_models_distribution(gpt2: Subject) -> None:
    prompts = ["Ann saw the"] * 400
    logits = run(gpt2, torch.tensor([gpt2.encode(prompts[0])])).logits
    assert logits is not None
    best = int(logits[0, -1].argmax())
    expected = float((logits[0, -1] / 0.3).softmax(-1)[best])
    drawn = generate(gpt2, prompts, max_new_tokens=1, temperature=0.3, seed=7)
    share = sum(one.ids[:1] == (best,) for one in drawn) / 400
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def test_a_prompt_that_does_not_fit_and_an_overflow_are_told(gpt2: Subject) -> None:
    from tools.errors import SubjectError

    with pytest.raises(SubjectError, match="too long"):
        generate(gpt2, ["Ann saw the " * 20], max_new_tokens=30)
    with pytest.raises(InterventionError, match="finite"):
        generate(gpt2, ["Ann"], [scale(Site(2, "resid_post"), 3e38)], max_new_tokens=2)
    assert generate(gpt2, []) == []
