"""Reading dictionaries: what they compute, where they belong, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tools.dictionaries import Dictionary, architectures, load_dictionary, site_of_hook
from tools.errors import DictionaryError

D_IN, D_SAE = 8, 24


def weights(**extra: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (D_IN, D_SAE), "b_enc": (D_SAE,), "W_dec": (D_SAE, D_IN), "b_dec": (D_IN,)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()} | extra


def write(folder: Path, config: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "architecture": "standard",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"hook_name": "blocks.1.hook_resid_post", "model_name": "m", "sae_lens_version": "6.0.0"},
    }
    (folder / "cfg.json").write_text(json.dumps(settings | (config or {})))
    save_file(tensors or weights(), folder / "sae_weights.safetensors")
    return folder


def read(folder: Path, config: dict[str, Any] | None = None, **tensors: torch.Tensor) -> Dictionary:
    return load_dictionary(write(folder, config, weights(**tensors)), "d")


def test_standard_dictionary_computes_its_formula(tmp_path: Path) -> None:
    w, x = weights(), torch.randn(2, 5, D_IN)
    dictionary = read(tmp_path)
    z = torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    torch.testing.assert_close(dictionary.encode(x), z)
    torch.testing.assert_close(dictionary.decode(z), z @ w["W_dec"] + w["b_dec"])
    assert (dictionary.d_in, dictionary.d_sae, str(dictionary.site)) == (D_IN, D_SAE, "resid_post.1")
    assert dictionary.site_out == dictionary.site


def test_topk_keeps_at_most_k_and_the_largest(tmp_path: Path) -> None:
    dictionary, w, x = read(tmp_path, {"architecture": "topk", "k": 3}), weights(), torch.randn(40, D_IN)
    z = dictionary.encode(x)
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    assert (z > 0).sum(1).max() == 3
    torch.testing.assert_close(z.max(1).values, pre.max(1).values)


def test_batches_and_positions_do_not_influence_each_other(tmp_path: Path) -> None:
    x = torch.randn(6, 10, D_IN)
    for name, extra in (("topk", {}), ("batchtopk", {"topk_threshold": torch.tensor(0.3)})):
        dictionary = read(tmp_path / name, {"architecture": name, "k": 3}, **extra)
        torch.testing.assert_close(dictionary.encode(x)[2, 3], dictionary.encode(x[2, 3]))


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_decoding_restores_a_token_scale_only_from_the_input(tmp_path: Path, kind: str) -> None:
    dictionary, x = read(tmp_path, {"normalize_activations": kind}), torch.randn(4, D_IN)
    z = dictionary.encode(x)
    torch.testing.assert_close(dictionary.encode(7 * x), z, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(dictionary.decode(z, like=7 * x), 7 * dictionary.decode(z, like=x))
    with pytest.raises(DictionaryError, match="like=x"):
        dictionary.decode(z)


def test_a_dictionary_of_a_centred_model_ignores_the_mean(tmp_path: Path) -> None:
    metadata = {
        "hook_name": "blocks.1.hook_resid_pre",
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    dictionary, plain, x = read(tmp_path / "a", {"metadata": metadata}), read(tmp_path / "b"), torch.randn(4, D_IN)
    torch.testing.assert_close(dictionary.encode(x + 5), plain.encode(x - x.mean(-1, keepdim=True)))


def test_a_dictionary_moves_to_another_dtype_and_answers_in_it(tmp_path: Path) -> None:
    dictionary = load_dictionary(write(tmp_path), "d", dtype=torch.bfloat16)
    assert dictionary.encode(torch.randn(2, D_IN)).dtype == torch.bfloat16
    assert dictionary.float().encode(torch.randn(2, D_IN)).dtype == torch.float32


def test_fingerprint_tells_weights_and_settings_apart_but_not_names(tmp_path: Path) -> None:
    one = load_dictionary(write(tmp_path / "a"), "one").fingerprint
    assert one == load_dictionary(write(tmp_path / "b"), "other").fingerprint
    assert len(one) == 16
    assert one != read(tmp_path / "c", b_dec=torch.ones(D_IN)).fingerprint
    assert one != read(tmp_path / "d", {"normalize_activations": "layer_norm"}).fingerprint


@pytest.mark.parametrize(
    ("hook", "site"),
    [
        ("blocks.0.hook_resid_pre", "resid_pre.0"),
        ("blocks.3.hook_resid_mid", "resid_mid.3"),
        ("blocks.3.hook_mlp_in", "resid_mid.3"),
        ("blocks.11.hook_resid_post", "resid_post.11"),
        ("blocks.2.hook_attn_out", "attn_out.2"),
        ("blocks.2.hook_mlp_out", "mlp_out.2"),
        ("blocks.2.attn.hook_z", "head_z.2"),
        ("blocks.2.mlp.hook_post", "mlp_act.2"),
    ],
)
def test_hook_names_become_sites(hook: str, site: str) -> None:
    assert str(site_of_hook(hook)) == site


@pytest.mark.parametrize("hook", ["blocks.2.ln2.hook_normalized", "hook_embed", "blocks.x.hook_resid_pre", ""])
def test_a_hook_without_a_site_is_refused_with_the_supported_ones(hook: str) -> None:
    with pytest.raises(DictionaryError, match=r"hook_resid_post.*attn\.hook_z"):
        site_of_hook(hook)


def test_all_required_architectures_are_known() -> None:
    assert {"standard", "gated", "jumprelu", "topk", "batchtopk", "transcoder"} <= architectures().keys()


def test_a_subject_of_another_width_or_depth_is_refused_with_both_numbers(tmp_path: Path) -> None:
    dictionary = read(tmp_path)
    dictionary.check(2, D_IN)
    with pytest.raises(DictionaryError, match=rf"width {D_IN}.* 768 wide at resid_post\.1"):
        dictionary.check(2, 768)
    with pytest.raises(DictionaryError, match=r"layer 1 .*has 1 layers"):
        dictionary.check(1, D_IN)


def test_a_transcoder_checks_both_ends(tmp_path: Path) -> None:
    metadata = {"hook_name": "blocks.1.hook_mlp_in", "hook_name_out": "blocks.2.hook_mlp_out"}
    config = {"architecture": "transcoder", "d_out": 5, "apply_b_dec_to_input": False, "metadata": metadata}
    tensors = {"W_dec": torch.randn(D_SAE, 5), "b_dec": torch.randn(5)}
    transcoder = read(tmp_path, config, **tensors)
    transcoder.check(3, D_IN, 5)
    with pytest.raises(DictionaryError, match="layer 2"):
        transcoder.check(2, D_IN)
    with pytest.raises(DictionaryError, match=r"writes vectors of width 5.* 8 wide at mlp_out\.2"):
        transcoder.check(3, D_IN, 8)
    with pytest.raises(DictionaryError, match="hook_name_out"):
        read(tmp_path, config | {"metadata": {"hook_name": "blocks.1.hook_mlp_in"}}, **tensors)


def test_encoding_a_wrong_width_says_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match=f"width {D_IN} at .*not 9"):
        read(tmp_path).encode(torch.randn(2, 9))


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "sae_weights.safetensors").rename(folder / "sae_weights.pt")
    for given in (folder, folder / "sae_weights.pt"):
        with pytest.raises(DictionaryError, match=r"sae_weights\.pt .*safetensors only"):
            load_dictionary(given, "d")


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match="no dictionary folder"):
        load_dictionary(tmp_path / "nowhere", "d")
    with pytest.raises(DictionaryError, match=r"holds no cfg\.json"):
        load_dictionary(tmp_path, "d")


def test_truncated_weights_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path) / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DictionaryError, match="cannot be read as safetensors"):
        load_dictionary(tmp_path, "d")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "temporal"}, "'temporal' cannot be read.*gated, jumprelu"),
        ({"architecture": "jumprelu"}, "lack threshold"),
        ({"architecture": "topk"}, "whole number k"),
        ({"architecture": "topk", "k": 99}, "from 1 to 24 .*not 99"),
        ({"d_in": 9}, r"W_enc has shape \[8, 24\].*needs \[9, 24\]"),
        ({"d_sae": None}, "'d_sae'"),
        ({"normalize_activations": "mystery"}, "'normalize_activations' is 'mystery'"),
        ({"activation_fn_str": "tanh-relu"}, "'tanh-relu' is not supported"),
        ({"metadata": {}}, "does not say where the dictionary belongs"),
        ({"metadata": {"hook_name": "blocks.1.attn.hook_z", "hook_head_index": 3}}, "single head 3"),
        ({"metadata": {"hook_name": "blocks.1.ln2.hook_normalized"}}, "no site"),
    ],
)
def test_unsuitable_settings_are_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(DictionaryError, match=message):
        read(tmp_path, config)


def test_unknown_weights_are_refused_rather_than_ignored(tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match="hold W_extra"):
        read(tmp_path, W_extra=torch.ones(1))


def test_a_scaling_factor_is_accepted_only_if_it_does_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, scaling_factor=torch.ones(D_SAE)).d_sae == D_SAE
    with pytest.raises(DictionaryError, match="scaling_factor"):
        read(tmp_path, scaling_factor=torch.full((D_SAE,), 1.5))


def test_configurations_that_are_no_json_object_are_reported(tmp_path: Path) -> None:
    write(tmp_path)
    for text in ("{", "[1]"):
        (tmp_path / "cfg.json").write_text(text)
        with pytest.raises(DictionaryError, match=r"cfg\.json"):
            load_dictionary(tmp_path, "d")


def test_hub_dictionaries_are_fetched_by_repository_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def fake(repository: str, filename: str, subfolder: str | None = None) -> str:
        asked.append((repository, subfolder, filename))
        return str(write(tmp_path) / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake)
    assert load_dictionary("hf:owner/saes/layer_1/width_16k", "d").d_sae == D_SAE
    assert asked[0] == ("owner/saes", "layer_1/width_16k", "cfg.json")
    with pytest.raises(DictionaryError, match="OWNER/REPOSITORY"):
        load_dictionary("hf:owner", "d")


def test_an_unreachable_hub_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object, **__: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(DictionaryError, match="cannot be fetched from the hub: no route"):
        load_dictionary("hf:owner/saes/x", "d")
