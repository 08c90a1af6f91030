"""Dictionaries that the SAELens library itself saved give what that library computes from them, to 1e-5."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.dictionaries import load_dictionary

sae_lens = pytest.importorskip("sae_lens", reason="the SAELens library is not installed (pip install sae-lens)")

D_IN, D_SAE, D_OUT = 24, 96, 20
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")


def randomise(sae: Any, seed: int) -> Any:
    """Every parameter random, thresholds positive: nothing may be right by being zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim == 2 else 0.2)
            parameter.copy_(values.abs() if name == "threshold" else values)
    return sae


def save(tmp_path: Path, kind: str, metadata: dict[str, Any] | None = None, **options: Any) -> Any:
    """An SAE of SAELens' class `kind` with random weights, saved by SAELens, read back by SAELens."""
    where = {"hook_name": "blocks.1.hook_resid_post", "model_name": "some-model", "prepend_bos": True}
    config_class = getattr(sae_lens, f"{kind}Config")
    config = config_class(d_in=D_IN, d_sae=D_SAE, metadata=sae_lens.saes.sae.SAEMetadata(**where | (metadata or {})),
                          **options)  # fmt: skip
    randomise(getattr(sae_lens, kind)(config), seed=3).save_model(tmp_path)
    return sae_lens.SAE.load_from_disk(tmp_path)


def assert_same(reference: Any, folder: Path, x: torch.Tensor) -> None:
    ours = load_dictionary(folder, "d")
    with torch.no_grad():
        z = reference.encode(x)
        y = reference.decode(z)
        both = reference(x)
    assert 0 < (z != 0).float().mean() < 1, "the case should have latents both on and off"
    torch.testing.assert_close(ours.encode(x), z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.decode(z, like=x).reshape(y.shape), y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x).reshape(both.shape), both, atol=1e-5, rtol=1e-5)


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 7, D_IN, generator=generator) * torch.rand(3, 7, 1, generator=generator).mul(5) + 0.3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", ["StandardSAE", "GatedSAE", "JumpReLUSAE", "TopKSAE"])
def test_autoencoders_agree(tmp_path: Path, x: torch.Tensor, kind: str, normalisation: str, bias: bool) -> None:
    options: dict[str, Any] = {"k": 9} if kind == "TopKSAE" else {}
    reference = save(tmp_path, kind, normalize_activations=normalisation, apply_b_dec_to_input=bias, **options)
    assert_same(reference, tmp_path, x)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_topk_ranked_by_decoder_norm_agrees(tmp_path: Path, x: torch.Tensor, normalisation: str) -> None:
    reference = save(tmp_path, "TopKSAE", k=9, rescale_acts_by_decoder_norm=True, normalize_activations=normalisation)
    assert_same(reference, tmp_path, x)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", ["Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"])
def test_transcoders_agree(tmp_path: Path, x: torch.Tensor, kind: str, normalisation: str) -> None:
    hooks = {"hook_name": "blocks.1.hook_mlp_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    reference = save(
        tmp_path, kind, hooks, d_out=D_OUT, apply_b_dec_to_input=False, normalize_activations=normalisation
    )
    assert_same(reference, tmp_path, x)
    ours = load_dictionary(tmp_path, "d")
    assert (str(ours.site), str(ours.site_out), ours.d_out) == ("resid_mid.1", "mlp_out.1", D_OUT)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_head_outputs_are_flattened_as_in_the_library(tmp_path: Path, x: torch.Tensor, normalisation: str) -> None:
    reference = save(tmp_path, "StandardSAE", {"hook_name": "blocks.1.attn.hook_z"}, reshape_activations="hook_z",
                     normalize_activations=normalisation)  # fmt: skip
    assert_same(reference, tmp_path, x.reshape(3, 7, 4, 6))


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("kind", ["BatchTopK", "MatryoshkaBatchTopK"])
def test_batchtopk_agrees_while_training_and_exported(
    tmp_path: Path, x: torch.Tensor, kind: str, rescale: bool
) -> None:
    metadata = sae_lens.saes.sae.SAEMetadata(hook_name="blocks.1.hook_resid_post")
    options = {"matryoshka_widths": [48, D_SAE]} if kind.startswith("Matryoshka") else {}
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")(
        d_in=D_IN, d_sae=D_SAE, k=6.5, rescale_acts_by_decoder_norm=rescale, metadata=metadata, **options
    )
    sae = randomise(getattr(sae_lens, f"{kind}TrainingSAE")(config), seed=4)
    sae.topk_threshold = torch.tensor(0.8, dtype=torch.double)
    sae.save_model(tmp_path / "training")
    sae.save_inference_model(tmp_path / "exported")
    assert json.loads((tmp_path / "exported" / "cfg.json").read_text())["architecture"] == "jumprelu"
    exported = sae_lens.SAE.load_from_disk(tmp_path / "exported")
    assert_same(exported, tmp_path / "exported", x)
    assert_same(exported, tmp_path / "training", x)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_compute_in_float32(tmp_path: Path, x: torch.Tensor, dtype: str) -> None:
    save(tmp_path, "StandardSAE", dtype=dtype)
    assert_same(sae_lens.SAE.load_from_disk(tmp_path, dtype="float32"), tmp_path, x)


@pytest.mark.parametrize(
    "flat",
    [
        {"hook_point": "blocks.1.hook_resid_post", "normalize_activations": "none"},
        {"hook_name": "blocks.1.hook_resid_post", "architecture": "standard", "apply_b_dec_to_input": False},
        {"hook_name": "blocks.1.hook_resid_post", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}},
        {"hook_name": "blocks.1.hook_resid_post", "normalize_activations": True, "finetuning_scaling_factor": False},
        {"hook_name": "blocks.1.hook_resid_post", "normalize_activations": "layer_norm", "sae_lens_version": "5.3.0"},
    ],
)
def test_flat_configurations_of_old_versions_agree(tmp_path: Path, x: torch.Tensor, flat: dict[str, Any]) -> None:
    save(tmp_path, "StandardSAE")
    cfg = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu", "hook_layer": 1, "prepend_bos": True}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | flat))
    assert_same(sae_lens.SAE.load_from_disk(tmp_path), tmp_path, x)


def test_the_library_reads_what_the_trainer_saves(
    tmp_path: Path, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "pycode" / "train_sae.py"
    monkeypatch.syspath_prepend(str(script.parent))
    spec = importlib.util.spec_from_file_location("train_sae", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    trained = module.SparseAutoencoder(D_IN, D_SAE, seed=0)
    trained.threshold.fill_(0.5)
    module.save(trained, tmp_path, scale=0.7, hook="blocks.2.hook_resid_post", model="m")
    assert_same(sae_lens.SAE.load_from_disk(tmp_path, dtype="float32"), tmp_path, x)
