"""Lenses: what weights and residual streams say when they are read through the way to the logits."""

from __future__ import annotations

from tools.lenses.weights import HeadWrite, Promotion, head_writes, write_lens

__all__ = ["HeadWrite", "Promotion", "head_writes", "write_lens"]
