"""Patterns of units and their activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tools import units
from tools.dictionaries import load_dictionary
from tools.errors import UnitError
from tools.kinds import names
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    import json

    from safetensors.torch import save_file

    torch.manual_seed(4)
    loaded = load_subject(str(tiny_gpt2_folder), device="cpu")
    for name, site, width in (("res", "blocks.1.hook_resid_post", 32), ("z", "blocks.2.attn.hook_z", 32)):
        folder = tmp_path_factory.mktemp("dictionary") / name
        folder.mkdir()
        config = {"architecture": "standard", "d_in": width, "d_sae": 6, "hook_name": site}
        (folder / "cfg.json").write_text(json.dumps(config))
        weights = {"W_enc": torch.randn(width, 6), "b_enc": torch.randn(6), "W_dec": torch.randn(6, width)}
        save_file({**weights, "b_dec": torch.randn(width)}, folder / "sae_weights.safetensors")
        loaded.attach(name, load_dictionary(folder, name))
    loaded.add_direction("up", Site(0, "resid_post"), torch.arange(32.0))
    return loaded


def texts(found: list[UnitId]) -> list[str]:
    return [str(u) for u in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("mlp:1:7", ["mlp:1:7"]),
        ("mlp:1:0-2", ["mlp:1:0", "mlp:1:1", "mlp:1:2"]),
        ("mlp:0,2:5,7-8", ["mlp:0:5", "mlp:0:7", "mlp:0:8", "mlp:2:5", "mlp:2:7", "mlp:2:8"]),
        ("head:1-2:3", ["head:1:3", "head:2:3"]),
        ("head:1:*", [f"head:1:{h}" for h in range(4)]),
        ("sae:res:1,3", ["sae:res:1", "sae:res:3"]),
        ("sae:*:5", ["sae:res:5", "sae:z:5"]),
        ("dir:up", ["dir:up"]),
        ("dir:*", ["dir:up"]),
        ("head:0:0; mlp:0:1 sae:res:0", ["head:0:0", "mlp:0:1", "sae:res:0"]),
        ("head:0:0,1, mlp:0:1,2", ["head:0:0", "head:0:1", "mlp:0:1", "mlp:0:2"]),
        ("head:0:1;head:0:0-1", ["head:0:1", "head:0:0"]),
    ],
)
def test_patterns(subject: Subject, pattern: str, expected: list[str]) -> None:
    assert texts(units.expand(subject, pattern)) == expected


def test_stars_name_everything(subject: Subject) -> None:
    assert len(units.expand(subject, "mlp:*:*")) == 3 * 64
    assert len(units.expand(subject, "head:*:*")) == 3 * 4
    assert len(units.expand(subject, "sae:*:*")) == 12


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("mlp:9:0", r"'mlp:9:0' is beyond the subject '.*', which has layers 0-2"),
        ("mlp:1:64", r"'mlp:1:64' is beyond the subject '.*', where mlp:1 has units 0-63"),
        ("head:0:2-9", "units 0-3"),
        ("sae:nope:0", r"no dictionary 'nope' \(attached: res, z\)"),
        ("sae:res:6", "units 0-5"),
        ("dir:nope", r"no direction 'nope' \(it has: up\)"),
        ("neuron:1:2", "not a pattern of units"),
        ("mlp:1", "lacks a part"),
        ("mlp:x:1", "'x' in 'mlp:x:1' is not a number"),
        ("mlp:1:5-2", "runs backwards"),
        ("  ", "names no units"),
    ],
)
def test_patterns_that_name_nothing(subject: Subject, pattern: str, says: str) -> None:
    with pytest.raises(UnitError, match=says):
        units.expand(subject, pattern)


@pytest.mark.parametrize("unit", ["mlp:9:0", "mlp:1:64", "head:1:4", "sae:res:6", "sae:no:0", "dir:no"])
def test_units_that_do_not_exist(subject: Subject, unit: str) -> None:
    with pytest.raises(UnitError):
        units.check_unit(subject, UnitId.parse(unit))


def test_every_kind_is_registered() -> None:
    assert names() == ["dir", "fn", "head", "mlp", "sae"]


def test_groups_have_sites_and_widths(subject: Subject) -> None:
    assert units.group_site(subject, "mlp:1") == Site(1, "mlp_act")
    assert units.group_site(subject, "head:2") == Site(2, "head_z")
    assert units.group_site(subject, "sae:res") == Site(1, "resid_post")
    assert units.group_site(subject, "dir:up") == Site(0, "resid_post")
    widths = [units.group_width(subject, g) for g in ("mlp:1", "head:2", "sae:res", "dir:up")]
    assert widths == [64, 4, 6, 1]
    with pytest.raises(UnitError, match="layers 0-2"):
        units.group_site(subject, "mlp:5")


def test_latents_and_directions_follow_their_definitions(subject: Subject) -> None:
    ids = torch.tensor([subject.encode("Ann saw the red ball.")])
    sites = [Site(1, "resid_post"), Site(0, "resid_post"), Site(2, "head_z")]
    captured = subject.capture(ids, None, sites)
    d = subject.dictionaries["res"]
    expected = torch.relu((captured[sites[0]] - d.b_dec) @ d.W_enc + d.get_buffer("b_enc"))
    torch.testing.assert_close(units.activations(subject, "sae:res", captured), expected, rtol=1e-5, atol=1e-5)
    z = subject.dictionaries["z"]
    expected = torch.relu((captured[sites[2]].flatten(2) - z.b_dec) @ z.W_enc + z.get_buffer("b_enc"))
    torch.testing.assert_close(units.activations(subject, "sae:z", captured), expected, rtol=1e-5, atol=1e-5)
    up = torch.arange(32.0) / torch.arange(32.0).norm()
    got = units.activations(subject, "dir:up", captured)
    torch.testing.assert_close(got[..., 0], captured[sites[1]] @ up, rtol=1e-5, atol=1e-5)


def test_directions_of_units(subject: Subject) -> None:
    d = subject.dictionaries["res"]
    latent = UnitId.parse("sae:res:2")
    read, write = units.read_direction(subject, latent), units.write_direction(subject, latent)
    assert read is not None
    assert write is not None
    assert torch.equal(read, d.W_enc[:, 2])
    assert torch.equal(write, d.W_dec[2])
    head = UnitId.parse("head:1:0")
    assert units.read_direction(subject, head) is units.write_direction(subject, head) is None
    assert units.write_direction(subject, UnitId.parse("sae:z:0")) is None  # not in the residual stream
    up = units.write_direction(subject, UnitId.parse("dir:up"))
    assert up is not None
    assert abs(float(up.norm()) - 1.0) < 1e-6


def test_activations_of_many_sequences_equal_those_of_each_alone(subject: Subject) -> None:
    wanted = units.expand(subject, "mlp:2:3;head:0:1;sae:res:4;dir:up;mlp:2:1")
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 400, size=n).tolist() for n in (9, 1, 17, 0, 4, 12)]
    together = units.unit_activations(subject, wanted, sequences, batch_tokens=30)
    for sequence, got in zip(sequences, together, strict=True):
        assert got.shape == (5, len(sequence))
        if sequence:
            alone = units.unit_activations(subject, wanted, [sequence])[0]
            np.testing.assert_allclose(got, alone, rtol=1e-5, atol=1e-5)
