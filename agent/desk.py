"""What one investigation has at hand beside its state: the bench, its unit, and the key to sealed data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from agent.bench import Bench
from agent.budget import StoppedError
from agent.ledger import Ledger
from agent.tape import Tape
from agent.toolbox import Arguments, ToolResult, Workbench, call
from tools.index import SplitView
from tools.types import UnitId


@dataclass
class Desk:
    """One attempt at one investigation."""

    bench: Bench
    unit: UnitId
    """The id under which it is investigated; nobody at the desk knows whether it stands for something else."""
    open_sealed: Callable[[str, str, str | None], SplitView]
    """(claim, polarity, digest of what it predicts) -> the score split. Records the opening first; the graph holds no
    other way to it."""
    stopping: Callable[[], bool]
    """Whether the campaign is to stop; asked between steps."""
    charged: Callable[[str, str], AbstractContextManager[object]] = lambda polarity, to: nullcontext()
    """(polarity, explainer or scorer) -> a context in which calls to language models are charged to them."""
    tape: Tape | None = None
    """Keeps what the steps come to, or plays it back."""
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

    def use(self, tool: str, arguments: Mapping[str, Any] | str | Arguments) -> ToolResult:
        """A typed tool on the subject, used by the step in hand: counted, and reported to become an experiment.

        Args:
            tool: Its name in `agent.toolbox`.
            arguments: Its arguments, as a mapping or as the JSON text of a language model's tool call.
        """
        result = call(Workbench.of(self.bench), tool, arguments)
        assert self.ledger is not None, "a tool is used by a step"
        self.ledger.count()
        self.ledger.event("tool", result.to_json())
        return result
