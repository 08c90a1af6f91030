"""Reads a dictionary from a folder in SAELens' format: ``cfg.json`` and ``sae_weights.safetensors``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tools.dictionaries.base import Dictionary
from tools.dictionaries.config import DictionaryConfig, read_config
from tools.dictionaries.registry import architecture
from tools.errors import DictionaryError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
#: Formats that run code when they are read, or may.
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".npz")


def load_dictionary(
    folder: str | Path, name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Dictionary:
    """Reads a dictionary that SAELens saved, of any version, from a folder or from the Hugging Face hub.

    Dictionaries trained on a model that TransformerLens loaded with ``center_writing_weights`` (SAELens releases from
    before 2025, such as ``gpt2-small-res-jb``) see a residual stream without mean. Where ``cfg.json`` says so
    (``"model_from_pretrained_kwargs": {"center_writing_weights": true}``), the mean is removed before encoding.

    Args:
        folder: A folder, or ``hf:OWNER/REPOSITORY/FOLDER`` for one on the hub.
        name: How its units are called: ``sae:NAME:LATENT``.
        device: Where the weights go.
        dtype: In which the dictionary computes, whatever its weights are saved in.

    Raises:
        DictionaryError: The folder is missing, holds a pickle instead of safetensors, is malformed, or is of an
            architecture or for a hook that is not supported.
    """
    path = _download(str(folder)[3:]) if str(folder).startswith("hf:") else Path(folder)
    _refuse_pickles(path)
    config_path, weights_path = path / CONFIG, path / WEIGHTS
    for needed in (config_path, weights_path):
        if not needed.is_file():
            raise DictionaryError(f"{path} holds no {needed.name}: a dictionary folder has {CONFIG} and {WEIGHTS}.")
    config = read_config(config_path)
    kind = architecture(config.architecture)
    config, weights = kind.adapt(config, _read_weights(weights_path, name, device, dtype))
    return kind(config, weights, name=name, fingerprint=_fingerprint(config, weights_path)).eval()


def _refuse_pickles(path: Path) -> None:
    if not path.exists():
        raise DictionaryError(f"There is no dictionary folder {path}.")
    pickles = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in PICKLES)
    if path.is_file() or (pickles and not (path / WEIGHTS).is_file()):
        raise DictionaryError(
            f"{pickles[0]} is not a dictionary folder with {WEIGHTS}; weights are read from safetensors only, since "
            "pickles can run code.\nConvert it once, where you trust it: load it with SAELens and call "
            "sae.save_model(FOLDER)."
        )


def _read_weights(path: Path, name: str, device: str | torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights = {key: file.get_tensor(key).to(dtype) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise DictionaryError(f"{path} cannot be read as safetensors: {error}. Fetch or save it again.") from error
    # Old versions of SAELens saved a scale per latent even where it was not trained, all ones.
    scale = weights.pop("scaling_factor", None)
    if scale is not None and not torch.allclose(scale, torch.ones_like(scale)):
        raise DictionaryError(
            f"Dictionary '{name}' has a fine-tuned scaling_factor, which is not supported. Fold it into W_dec "
            "(multiply each row by its factor) and save it without."
        )
    return weights


def _fingerprint(config: DictionaryConfig, weights_path: Path) -> str:
    digest = hashlib.sha256(config.to_json().encode())
    with weights_path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def _download(address: str) -> Path:
    """The local copy of OWNER/REPOSITORY/FOLDER's two files, from the hub or its cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    owner, _, rest = address.partition("/")
    repository, _, folder = rest.partition("/")
    if not owner or not repository:
        raise DictionaryError(f"'hf:{address}' is not a dictionary on the hub. Write hf:OWNER/REPOSITORY/FOLDER.")
    paths = []
    for name in (CONFIG, WEIGHTS):
        try:
            paths.append(hf_hub_download(f"{owner}/{repository}", name, subfolder=folder or None))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise DictionaryError(f"{name} of hf:{address} cannot be fetched from the hub: {first_line}") from error
    return Path(paths[0]).parent
