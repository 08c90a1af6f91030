"""The activation index: activations of a corpus, kept so that any unit's examples come back at once."""

from __future__ import annotations

from tools.index.build import build_index
from tools.index.manifest import IndexInfo, describe, list_indexes
from tools.index.reader import ActivationIndex, ExampleKind, SplitView, open_index
from tools.index.seal import OPEN_SPLITS, Opening, SealKeeper
from tools.index.settings import IndexSettings, Progress, ProgressCallback
from tools.index.texts import Texts, TextsView

__all__ = [
    "OPEN_SPLITS",
    "ActivationIndex",
    "ExampleKind",
    "IndexInfo",
    "IndexSettings",
    "Opening",
    "Progress",
    "ProgressCallback",
    "SealKeeper",
    "SplitView",
    "Texts",
    "TextsView",
    "build_index",
    "describe",
    "list_indexes",
    "open_index",
]
