"""Corpora: documents with stable ids, from many sources, divided into four splits by hash, near-duplicates together."""

from __future__ import annotations

from tools.corpora.corpus import Corpus, Document, require_enough, split_of_key
from tools.corpora.loader import load_corpus
from tools.corpora.registry import Source, register_scheme, register_suffix

__all__ = [
    "Corpus",
    "Document",
    "Source",
    "load_corpus",
    "register_scheme",
    "register_suffix",
    "require_enough",
    "split_of_key",
]
