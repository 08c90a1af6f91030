"""Sparse dictionaries (sparse autoencoders and transcoders) in SAELens' format, read natively.

A dictionary rewrites the tensor at one site of the subject as a sparse combination of `d_sae` latents. One module holds
one architecture and registers it; `load_dictionary` reads a folder with ``cfg.json`` and ``sae_weights.safetensors``.
"""

from __future__ import annotations

from tools.dictionaries.base import Dictionary
from tools.dictionaries.config import DictionaryConfig
from tools.dictionaries.hooks import site_of_hook
from tools.dictionaries.loader import load_dictionary
from tools.dictionaries.registry import architectures, register

__all__ = ["Dictionary", "DictionaryConfig", "architectures", "load_dictionary", "register", "site_of_hook"]
