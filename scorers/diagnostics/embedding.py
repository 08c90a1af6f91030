"""Embedding: is the description more like the texts in which the unit is active than like the silent ones?

AUROC by likeness of description and text (Paulo et al. 2024, arXiv 2410.13928), against random and against hard texts.
Without a model for embeddings, likeness is by words alone, and the score's predictor says so: such a value is low for
every description that does not quote. The hard texts were chosen by the same likeness (to the active texts), so what is
against them is low by design and comparable only with itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from scorers.diagnostics.judged import draw_items
from scorers.diagnostics.kinds import ranked_metrics, ranked_outcomes
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import description_of
from scorers.types import ScoreSet

NAME: Final = "embedding"
VERSION: Final = 1


def embedding(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`embedding_auroc` against random texts, `embedding_hard_auroc` against hard ones. No chat is asked."""
    items = draw_items(claim, setting)
    texts = ["".join(item.pieces) for item in items.all]
    alike = setting.kit.likeness.to([description_of(claim.explanation)], texts)[0].astype(np.float64)
    return ranked_outcomes(NAME, items, alike, claim, setting), items.settings


def score_embedding(claim: Claim, setting: Setting) -> ScoreSet:
    """Its scores; the predictor is the likeness."""
    scores = run(NAME, VERSION, ranked_metrics(NAME), claim, setting, work=embedding)
    return tuple(replace(score, predictor=f"{NAME}:{setting.kit.likeness.name}") for score in scores)


DIAGNOSTICS.add(NAME, score_embedding)
