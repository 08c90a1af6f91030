"""Errors of this room that people see."""

from __future__ import annotations

from tools.errors import NeuroglossError


class ScorerError(NeuroglossError):
    """A score was asked for that cannot be computed as asked: unknown metric, misshapen predictions, wrong split."""
