"""From what a language model asks to trials that can be run; what cannot is told back.

probe          its own texts, read at a token each: minimal pairs, boundaries, counter-examples, other words
edit_tokens    one text in which single tokens are replaced: which of them does the unit need?
disagreements  places of the corpus where the rules of two rivals disagree
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.contest.llm.forms import ProbeAsked, TrialAsked
from agent.contest.pattern.differences import cut_probe
from agent.contest.policy import LAPSE, Context
from agent.contest.types import Probe, Rival, Trial
from agent.plain import plain
from agent.quoting import UnusableError, quoted_position, spelled
from explainers.predictors import predictor_of
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from tools.index import SplitView

#: Probes of a trial at most, and tokens of a text of one.
PROBES, TOKENS = 8, 64
#: Tokens before a place that are edited, and replacements of each that are tried.
EDITED, REPLACEMENTS = 6, 2
#: Surprise of an edit: nobody has said what will come.
OPEN = 0.25
#: Least and greatest surprise that is taken at its word: the model can neither be sure nor sure of being wrong.
SURPRISE = (0.02, 0.5)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Refused:
    """Something that was asked for and cannot be done."""

    asked: TrialAsked
    why: str

    @property
    def trial(self) -> Trial:
        """As the notebook keeps it."""
        tool = self.asked.tool if _NAME.fullmatch(self.asked.tool) else "unnamed"
        return Trial(
            self.asked.question, tool=tool, arguments={"asked": plain(self.asked.model_dump())}, refused=self.why
        )


def read_trials(context: Context, asked: Sequence[TrialAsked]) -> tuple[list[Trial], list[Refused]]:
    """Trials that can be run, with what the language model filed for them; and those that cannot."""
    found: list[Trial] = []
    refused: list[Refused] = []
    seen = {probe for outcome in context.outcomes for probe in outcome.trial.probes}
    for one in asked:
        try:
            if one.tool not in TOOLS:
                raise UnusableError(f"there is no tool '{one.tool}'; there are {', '.join(TOOLS)}")
            trial = TOOLS[one.tool](context, one)
            if trial.probes and seen.issuperset(trial.probes):
                raise UnusableError("all of this was asked before")
        except UnusableError as problem:
            refused.append(Refused(one, str(problem)))
            continue
        seen.update(trial.probes)
        found.append(trial)
    return found, refused


def place_of(context: Context, asked: ProbeAsked) -> Probe:
    """The probe that is meant: the last token of the last occurrence of what is quoted.

    Raises:
        UnusableError: There is no such place.
    """
    text, quote = spelled(asked.text), spelled(asked.at)
    return Probe(text, quoted_position(context.desk.bench.subject, text, quote, TOKENS))


def words_alone(context: Context, rival: Rival) -> bool:
    """Whether its words are what is tested, so that only who reads them can say what they expect."""
    predictor = predictor_of(context.desk.bench.explainer, rival.explanation)
    return predictor is None or bool(getattr(predictor, "costly", False))


def _probe(context: Context, asked: TrialAsked) -> Trial:
    if not 1 <= len(asked.probes) <= PROBES:
        raise UnusableError(f"it has {len(asked.probes)} probes; 1 to {PROBES} are run")
    probes = [place_of(context, probe) for probe in asked.probes]
    kept = [i for i, probe in enumerate(probes) if probe not in probes[:i]]
    keys = {rival.key for rival in context.rivals}
    needed = {rival.key for rival in context.rivals if words_alone(context, rival)}
    filed: dict[str, list[float]] = {key: [] for key in needed}
    for i in kept:
        said = {one.rival: one.percent / 100 for one in asked.probes[i].active}
        if unknown := sorted(set(said) - keys):
            raise UnusableError(f"there is no rival {unknown[0]}; there are {', '.join(sorted(keys))}")
        if missing := sorted(needed - set(said)):
            raise UnusableError(f"it does not say what {missing[0]} expects at “{asked.probes[i].at}”")
        for key in needed:
            filed[key].append(float(np.clip(said[key], LAPSE, 1 - LAPSE)))
    return Trial(
        asked.question, tuple(probes[i] for i in kept), surprise=_surprise(asked),
        predictions={key: tuple(row) for key, row in filed.items()},
    )  # fmt: skip


def _edit(context: Context, asked: TrialAsked) -> Trial:
    if len(asked.probes) != 1:
        raise UnusableError(f"it has {len(asked.probes)} probes; edit_tokens takes one")
    probe = place_of(context, asked.probes[0])
    arguments = {
        "unit": str(context.desk.unit), "texts": [probe.text], "positions": [probe.position], "window": EDITED,
        "replacements": REPLACEMENTS, "seed": context.seed % 2**31,
    }  # fmt: skip
    if any(one.trial.tool == "edit_tokens" and one.trial.arguments["texts"] == [probe.text] for one in context.outcomes
           if one.error is None):  # fmt: skip
        raise UnusableError("this text was edited before")
    return Trial(asked.question, tool="edit_tokens", arguments=arguments, surprise=OPEN)


def _disagreements(context: Context, asked: TrialAsked) -> Trial:
    known = {rival.key: rival for rival in context.rivals}
    if unknown := sorted(set(asked.rivals) - set(known)):
        raise UnusableError(f"there is no rival {unknown[0]}; there are {', '.join(known)}")
    if len(set(asked.rivals)) != 2:
        raise UnusableError("disagreements takes two rivals")
    pair = [known[key] for key in asked.rivals]
    if bare := [rival.key for rival in pair if rival.explanation.rule is None]:
        raise UnusableError(f"{bare[0]} has no rule by which the corpus could be searched; write texts of your own")
    probes = _apart(context, pair)
    if not probes:
        raise UnusableError(f"the rules of {pair[0].key} and {pair[1].key} agree all over the corpus")
    return Trial(asked.question, tuple(probes), surprise=_surprise(asked), aim={"pair": list(asked.rivals)})


def _apart(context: Context, pair: Sequence[Rival]) -> list[Probe]:
    """Places of the open splits on which two rules disagree, their texts cut before what neither looks at."""
    generator = np.random.default_rng(context.seed)
    probes: list[Probe] = []
    for view in (context.evidence.explore, context.evidence.refine):
        assert isinstance(view, SplitView)
        sample = view.sample(context.desk.unit)
        said = [
            RulePredictor(parse_rule(rival.explanation.rule or "")).predict(
                view.texts, sample.contexts, sample.positions
            ) > context.evidence.threshold
            for rival in pair
        ]  # fmt: skip
        for row in generator.permutation(np.flatnonzero(said[0] != said[1]))[: 4 * PROBES].tolist():
            probe = cut_probe(context, view, int(sample.contexts[row]), int(sample.positions[row]))
            if probe is not None and probe not in probes and len(probes) < PROBES:
                probes.append(probe)
    return probes


def _surprise(asked: TrialAsked) -> float:
    return float(np.clip(asked.surprise / 100, *SURPRISE))


TOOLS: dict[str, Callable[[Context, TrialAsked], Trial]] = {
    "probe": _probe, "edit_tokens": _edit, "disagreements": _disagreements,
}  # fmt: skip
"""What may be asked for, by name."""
