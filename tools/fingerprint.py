"""Identity and randomised twins of a checkpoint's weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

#: Entries of config.json that do not change what the model computes.
_IRRELEVANT = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "_attn_implementation"}


def fingerprint(config_file: Path, weight_files: list[Path]) -> str:
    """16 hexadecimal digits of a SHA-256 over configuration and weights as stored.

    Tensors are read one at a time in the order of their names, so that how they are split over files does not matter.
    """
    digest = hashlib.sha256()
    config = json.loads(config_file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    home: dict[str, Path] = {}
    for path in weight_files:
        with safe_open(path, framework="pt") as file:
            home.update(dict.fromkeys(file.keys(), path))
    for path in weight_files:
        if not any(owner == path for owner in home.values()):
            raise ValueError(f"{path} holds no tensors")
    for name in sorted(home):
        with safe_open(home[name], framework="pt") as file:
            tensor = file.get_tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]


def shuffled_fingerprint(original: str, seed: int) -> str:
    """Fingerprint of the twin that `shuffle_weights` makes."""
    return hashlib.sha256(f"{original} shuffled {seed}".encode()).hexdigest()[:16]


def shuffle_weights(model: nn.Module, seed: int) -> None:
    """Permute the entries of every weight tensor, in place.

    Each tensor keeps its distribution of values but loses what was learned: a control for descriptions that would be
    found in any network (Heap et al. 2025, arXiv 2501.17727). Tied weights stay tied.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")
            order = torch.randperm(parameter.numel(), generator=torch.Generator().manual_seed(key))
            parameter.copy_(parameter.flatten()[order.to(parameter.device)].reshape(parameter.shape))
