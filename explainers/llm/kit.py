"""What explainers, predictors and scorers that ask a language model are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from explainers.llm.prompts import Prompts
from explainers.llm.types import Llm
from tools.types import FloatArray


class Likeness(Protocol):
    """How alike texts are in meaning, or, without a model for that, in words."""

    name: str
    """'embeddings:MODEL', 'sentence-transformers:MODEL' or 'bm25 (lexical)'."""

    lexical: bool
    """Whether it compares words only."""

    def to(self, queries: Sequence[str], texts: Sequence[str]) -> FloatArray:
        """How alike each query and each text are, larger is more: [n_queries, n_texts]."""
        ...


@dataclass(frozen=True)
class LlmKit:
    """A language model with the prompts it is asked by."""

    llm: Llm
    prompts: Prompts
    likeness: Likeness
    predictor: str = "marks"
    """Which predictor stands for descriptions in words; see `explainers.prompted.predictors`."""
