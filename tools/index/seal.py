"""The seal on held-out splits: they are opened through a keeper, which records each opening before it opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.errors import SealedError
from tools.types import Split

if TYPE_CHECKING:
    from tools.index.reader import SplitView

#: What an explainer may look at while it works. The other splits exist to test what it said.
OPEN_SPLITS = frozenset({Split.EXPLORE, Split.REFINE})


@dataclass(frozen=True)
class Opening:
    """What is put on record when a sealed split is opened. It is a record, not a key: having one opens nothing."""

    claim: str
    """Which version of which claim is tested."""
    polarity: str
    """The tail of the activation that the claim is about: '+' or '-'."""
    split: Split
    by: str
    """Which scorer tests it."""
    predictions: str | None = None
    """Digest of what the claim predicts of the split; None where it predicts nothing."""


class SealKeeper:
    """The only way to an index's sealed splits; made by `ActivationIndex.keeper`.

    Whoever tests claims has one and gives it to nobody: views, and all that explainers are handed, lead neither to a
    keeper nor to the index that makes them.

    Args:
        show: Gives the view of a split, sealed or not.
        record: Puts an opening on record. When it raises, the seal holds.
    """

    def __init__(self, show: Callable[[Split], SplitView], record: Callable[[Opening], object]) -> None:
        self._show, self._record = show, record

    def open(self, split: Split, *, claim: str, polarity: str, by: str, predictions: str | None = None) -> SplitView:
        """The view of a sealed split, for one version of one claim.

        Raises:
            SealedError: The split is not sealed, so that there is nothing to record; or the claim is not named.
            Exception: What `record` raises, because it refuses this opening or cannot write it down.
        """
        if split in OPEN_SPLITS:
            raise SealedError(f"The {split} split is not sealed. Look at it without an opening.")
        if not claim:
            raise SealedError(f"The {split} split is opened for one claim at a time, and none is named.")
        self._record(Opening(claim, polarity, split, by, predictions))
        return self._show(split)


def check_seal(split: Split) -> None:
    """Raise `SealedError` when `split` is held out."""
    if split not in OPEN_SPLITS:
        raise SealedError(
            f"The {split} split is sealed: its examples are for testing finished claims, by whoever keeps the seal. "
            "Use explore or refine."
        )
