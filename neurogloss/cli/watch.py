"""Shows a campaign's events as they come."""

from __future__ import annotations

from rich.text import Text

from agent.progress import Estimate, IndexProgress, Observer, Summary, Tally, UnitDone
from neurogloss.render.progress import INDEX_STAGES, Display, Stage
from neurogloss.render.text import clean, count, duration, fit, interval, verdict

_PHASES = {
    "subject": "Loading the subject",
    "corpus": "Reading the corpus",
    "estimate": "Estimating the cost",
    "serve": "Starting vLLM, which takes a minute or more; its log is in the data folder, under logs",
    "close": "Closing the campaign: error rates over all its claims",
}


class Watcher(Observer):
    """Passes a campaign's events on to a display."""

    def __init__(self, display: Display, *, tell_estimate: bool = True) -> None:
        self._tell_estimate = tell_estimate
        self._display = display
        self.limit: str | None = None
        """The limit of the budget that was reached, a field of `agent.spec.Budget`."""
        self._at_work: list[str] = []
        self._stage: tuple[str, float, int] | None = None

    def phase(self, name: str) -> None:
        """Says what begins."""
        if name in _PHASES:
            self._display.say(Text(f"{_PHASES[name]} …", "dim"))

    def estimate(self, estimate: Estimate) -> None:
        """Says what it will cost."""
        if self._tell_estimate:
            self._display.say(Text(estimate_line(estimate)))

    def index_progress(self, progress: IndexProgress) -> None:
        """Moves the index's bar."""
        if self._stage is None or self._stage[0] != progress.stage:
            self._stage = (progress.stage, progress.seconds, progress.done_tokens)
        # Within this stage and this process: what an earlier run had done already says nothing about the speed.
        _, since, before = self._stage
        done, seconds = progress.done_tokens - before, progress.seconds - since
        rate = done / seconds if done > 0 and seconds > 0 else None
        left = (progress.total_tokens - progress.done_tokens) / rate if rate else None
        self._display.stage(
            Stage(INDEX_STAGES[progress.stage], progress.done_tokens, progress.total_tokens, "tokens", rate, left)
        )

    def unit_started(self, unit: str) -> None:
        """Adds a unit to those at work."""
        self._at_work.append(unit)
        self._display.current(self._at_work)

    def unit_done(self, done: UnitDone) -> None:
        """Shows a result."""
        self._leave(done.unit)
        line = Text.assemble(
            verdict(done.verdict), f" {done.unit}{done.polarity} ".ljust(17),
            interval(done.f1, done.low, done.high).ljust(19), " ", fit(clean(done.label), 60),
        )  # fmt: skip
        self._display.latest(line)

    def unit_failed(self, unit: str, error: str, *, final: bool) -> None:
        """Says that a unit failed, and whether it will be tried again."""
        self._leave(unit)
        then = "given up" if final else "will be tried again"
        told = f"{clean(unit)} failed ({then}): {fit(clean(error), 200)}"
        self._display.say(Text(told, "red" if final else "yellow"))

    def tally(self, tally: Tally) -> None:
        """Moves the units' bar."""
        self._display.stage(
            Stage(
                "Describing units", tally.done + tally.failed, tally.total, "units", tally.rate or None,
                tally.seconds_left, failed=tally.failed,
            )
        )  # fmt: skip

    def budget(self, limit: str, spent: float, allowed: float) -> None:
        """Says which limit was reached, and keeps it."""
        self.limit = limit
        told = f"The budget of {count(allowed)} {limit.replace('_', ' ')} is used up ({count(spent)} spent)."
        self._display.say(Text(told, "yellow"))

    def finished(self, summary: Summary) -> None:
        """Clears the units at work; the summary is printed by the verb."""
        self._at_work.clear()
        self._display.current(())

    def _leave(self, unit: str) -> None:
        if unit in self._at_work:
            self._at_work.remove(unit)
        self._display.current(self._at_work)


def estimate_line(estimate: Estimate) -> str:
    """An estimate in one sentence."""
    index = (
        f"{count(estimate.index_tokens)} tokens to index ({duration(estimate.index_seconds)})"
        if estimate.index_tokens
        else "the index is there already"
    )
    to_do = (
        f"{count(estimate.to_do)} units to describe"
        if estimate.to_do == estimate.units
        else f"{count(estimate.to_do)} of {count(estimate.units)} units to describe"
    )
    asked = ""
    if estimate.llm_tokens:
        price = "" if estimate.llm_dollars is None else f" (${estimate.llm_dollars:,.2f})"
        asked = f", about {count(estimate.llm_tokens)} tokens of the language model{price}"
    return f"Estimate: {to_do}, {index}{asked}; about {duration(estimate.seconds)} in all."
