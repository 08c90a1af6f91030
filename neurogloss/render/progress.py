"""A campaign as it runs: bars on a terminal, plain lines at growing intervals elsewhere. Always on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from neurogloss.render.text import clean, count, duration, fit

#: Plain lines come this many seconds apart at first, each time half as often again, up to the second number.
_FIRST, _LAST = 5.0, 60.0
#: Stages of building an activation index, in words.
INDEX_STAGES = {
    "waiting": "Waiting for another process that builds this index",
    "tokens": "Tokenising",
    "activations": "Running the model",
    "postings": "Sorting activations",
}


@dataclass(frozen=True)
class Stage:
    """How far one stage is: a title, counts, and what is told beside them."""

    title: str
    done: float
    total: float | None
    """None while it is not known."""
    unit: str
    rate: float | None
    """Units of progress a second."""
    seconds_left: float | None
    failed: int = 0

    @property
    def share(self) -> float:
        """Part of the whole that is done, 0 to 1."""
        if self.total is None:
            return 0.0
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def complete(self) -> bool:
        """Whether the stage is done."""
        return self.total is not None and self.done >= self.total

    def numbers(self) -> str:
        """``120/400 tokens, 12 a second, 23 s left``."""
        of = "" if self.total is None else f"/{count(self.total)}"
        parts = [f"{count(self.done)}{of} {self.unit}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.rate is not None and self.rate > 0:
            parts.append(f"{count(self.rate)}/s" if self.rate >= 10 else f"{self.rate:.2g}/s")
        if self.seconds_left is not None and not self.complete:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


class Display(Protocol):
    """What shows progress. A context manager: the terminal is put back in order at the end."""

    def stage(self, stage: Stage) -> None: ...
    def current(self, units: Sequence[str]) -> None: ...
    def say(self, text: Text) -> None: ...
    def latest(self, text: Text) -> None: ...
    def ask(self, question: str) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PlainDisplay:
    """Lines of text, for logs: one when a stage begins and ends, and at growing intervals in between."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._title: str | None = None
        self._finished = False
        self._next = 0.0
        self._pause = _FIRST

    def stage(self, stage: Stage) -> None:
        """Takes note of progress; prints when it is time to."""
        now = self._clock()
        if stage.title != self._title:
            self._title, self._finished, self._pause = stage.title, False, _FIRST
        elif self._finished or (now < self._next and not stage.complete):
            return
        self._finished = stage.complete
        self._next, self._pause = now + self._pause, min(_LAST, self._pause * 1.5)
        self._line(f"{stage.title}: {stage.numbers()}")

    def current(self, units: Sequence[str]) -> None:
        """Nothing: a log does not follow single units."""

    def say(self, text: Text) -> None:
        """One line."""
        self._line(text.plain)

    def latest(self, text: Text) -> None:
        """Nothing: a log does not follow single units."""

    def ask(self, question: str) -> bool:
        """Yes: nobody is there to answer."""
        return True

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LiveDisplay:
    """A bar for the stage, the units at work and the last few results, redrawn in place."""

    def __init__(self, console: Console, *, kept: int = 4) -> None:
        self._console = console
        self._kept = kept
        self._stage: Stage | None = None
        self._current: tuple[str, ...] = ()
        self._latest: tuple[Text, ...] = ()
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._draw)

    def stage(self, stage: Stage) -> None:
        """Moves the bar."""
        self._stage = stage

    def current(self, units: Sequence[str]) -> None:
        """Shows which units are at work."""
        self._current = tuple(units)

    def say(self, text: Text) -> None:
        """One line that stays above the bar."""
        self._console.print(text)

    def latest(self, text: Text) -> None:
        """A result among the last few."""
        self._latest = (*self._latest, text)[-self._kept :]

    def ask(self, question: str) -> bool:
        """Asks, with the bars out of the way."""
        self._live.stop()
        try:
            return self._console.input(Text(f"{question} [Y/n] ")).strip().lower() in ("", "y", "yes")
        finally:
            self._live.start()

    def _draw(self) -> RenderableType:
        stage, parts = self._stage, list[RenderableType]()
        parts.extend(Text(fit(t.plain, self._console.width - 1), t.style, spans=t.spans) for t in self._latest)
        if stage is not None:
            numbers = f"{100 * stage.share:3.0f} %  {stage.numbers()}"
            room = self._console.width - len(stage.title) - len(numbers) - 3
            bar = Table.grid(padding=(0, 1))
            bar.add_column(no_wrap=True)
            bar.add_column(width=max(6, min(40, room)))
            bar.add_column(no_wrap=True)
            bar.add_row(Text(stage.title, "bold"), ProgressBar(total=1.0, completed=stage.share), Text(numbers))
            parts.append(bar)
        if self._current:
            names = ", ".join(clean(unit) for unit in self._current)
            parts.append(Text(fit(f"  at work: {names}", self._console.width - 1), "dim"))
        return Group(*parts)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def make_display(console: Console) -> Display:
    """Bars where the console is a terminal, lines where it is not."""
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)
