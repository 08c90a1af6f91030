"""All that lies in an index's folder, of every split. It stays within this room: views show one split of it each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.errors import UnitError
from tools.index.manifest import NAME, expand_ranges
from tools.index.sparse import Postings, group_folder
from tools.index.storage import damaged, load_array
from tools.index.texts import Texts
from tools.types import IntArray, Split, UnitId


@dataclass(frozen=True)
class Contents:
    """The files of an index and where units are in them."""

    path: Path
    key: str
    window: int
    top_k: int
    tokens: Mapping[Split, int]
    """Counted tokens of each split."""
    groups: Mapping[str, IntArray]
    """Indices of the requested units of each group, ascending."""
    postings: Mapping[str, Postings]
    """Of the sparse groups."""
    texts: Texts
    panel_contexts: IntArray
    """Of all splits."""

    @classmethod
    def open(cls, path: Path, manifest: Mapping[str, Any]) -> Contents:
        """Map the files.

        Raises:
            IndexDataError: A file, or the manifest, is not what it should be.
        """
        try:
            settings = manifest["settings"]
            groups = {group: np.array(expand_ranges(text)) for group, text in manifest["groups"].items()}
            return cls(
                path=path,
                key=str(manifest["key"]),
                window=int(settings["window"]),
                top_k=int(settings["top_k"]),
                tokens={Split(name): int(n) for name, n in manifest["tokens"].items()},
                groups=groups,
                postings={group: Postings(group_folder(path, group)) for group in manifest["latents"]},
                texts=Texts.open(path, int(settings["context"])),
                panel_contexts=load_array(path / "panel_contexts.npy", mapped=False),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(path / NAME, f"{type(error).__name__}: {error}") from error

    @property
    def has_dense(self) -> bool:
        """Whether there are dense files: one of the groups is not sparse."""
        return bool(self.groups.keys() - self.postings.keys())

    def dense_row(self, unit: UnitId) -> int:
        """Row of a dense unit in the dense files; `UnitError` when it is not in this index."""
        row = 0
        for group, indices in self.groups.items():
            if group == unit.group:
                at = int(np.searchsorted(indices, unit.index))
                if at < len(indices) and indices[at] == unit.index:
                    return row + at
            row += 0 if group in self.postings else len(indices)
        raise self._unknown(unit)

    def postings_of(self, unit: UnitId) -> Postings | None:
        """The postings that hold a unit, or None when it is dense."""
        postings = self.postings.get(unit.group)
        if postings is not None and not 0 <= unit.index < postings.n_latents:
            raise self._unknown(unit)
        return postings

    def holds(self, unit: UnitId) -> bool:
        """Whether a unit is in this index."""
        try:
            return self.postings_of(unit) is not None or self.dense_row(unit) >= 0
        except UnitError:
            return False

    def _unknown(self, unit: UnitId) -> UnitError:
        having = ", ".join(f"{group} ({len(indices)} units)" for group, indices in list(self.groups.items())[:8])
        return UnitError(f"The unit {unit} is not in the index {self.key}, which has {having}. Build one with it.")
