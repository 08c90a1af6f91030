"""What one investigation has at hand beside its state: the bench, its unit, and the key to sealed data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from agent.bench import Bench
from agent.budget import StoppedError
from agent.ledger import Ledger
from tools.index import SplitView
from tools.types import UnitId


@dataclass
class Desk:
    """One attempt at one investigation."""

    bench: Bench
    unit: UnitId
    """The id under which it is investigated; nobody at the desk knows whether it stands for something else."""
    open_sealed: Callable[[str, str], SplitView]
    """(claim, polarity) -> the score split. Records the opening first; the graph holds no other way to it."""
    stopping: Callable[[], bool]
    """Whether the campaign is to stop; asked between steps."""
    charged: Callable[[str, str], AbstractContextManager[object]] = lambda polarity, to: nullcontext()
    """(polarity, explainer or scorer) -> a context in which calls to language models are charged to them."""
    stage: str = ""
    """The step in hand, for the heartbeat and for messages."""

    ledger: Ledger | None = None
    """Of the step in hand."""

    def enter(self, stage: str) -> Ledger:
        """A step begins; returns its ledger.

        Raises:
            StoppedError: The campaign is to stop.
        """
        self.stage = stage
        if self.stopping():
            raise StoppedError(stage)
        self.ledger = Ledger(self.bench.passes)
        return self.ledger
