"""Protocols that test a description by asking a language model, stored under their usual names; one file each."""

from __future__ import annotations

from scorers.diagnostics import (  # noqa: F401 (they register themselves)
    clarity,
    detection,
    embedding,
    faithfulness,
    fuzzing,
    generative,
    input_success,
    intruder,
    output_success,
    rated,
    surprisal,
)
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Diagnostic, Setting

__all__ = ["DIAGNOSTICS", "Claim", "Diagnostic", "Setting"]
