"""The seal on held-out splits: a view of them needs an `Opening`, which says for which claim and by whom."""

from __future__ import annotations

from dataclasses import dataclass

from tools.errors import SealedError
from tools.types import Split

#: What an explainer may look at while it works. The other splits exist to test what it said.
OPEN_SPLITS = frozenset({Split.EXPLORE, Split.REFINE})


@dataclass(frozen=True)
class Opening:
    """Leave to look at a sealed split once, for one claim. Whoever makes one records it first."""

    claim: str
    """Which version of which claim is tested."""
    by: str
    """Which scorer tests it."""


def check_seal(split: Split, opening: Opening | None) -> None:
    """Raise `SealedError` when `split` is held out and no opening is presented."""
    if split not in OPEN_SPLITS and opening is None:
        raise SealedError(
            f"The {split} split is sealed: its examples are for testing finished claims. "
            "Present an Opening(claim=..., by=...) that has been recorded, or use explore or refine."
        )
