"""Lenses: what weights and residual streams say when they are read through the way to the logits."""

from __future__ import annotations

from tools.lenses.weights import HeadWrite, Promotion, ReadLens, head_writes, read_lens, write_lens

# The logit, tuned and decoder lenses run the model and are imported from their modules: the engine needs this room's
# `Promotion`, and they need the engine.
__all__ = ["HeadWrite", "Promotion", "ReadLens", "head_writes", "read_lens", "write_lens"]
