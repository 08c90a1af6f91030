"""From what a language model asks to trials that can be run; what cannot is told back.

probe          its own texts, read at a token each: minimal pairs, boundaries, counter-examples, paraphrases
edit_tokens    one text in which single tokens are replaced: which of them does the unit need?
substitute     one text with the corpus's frequent tokens in the place of one: which would do there?
rearrange      one text without a token, with one more, in other orders: does it mind distance and order?
disagreements  places of the corpus where the rules of two rivals disagree
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from agent.contest.llm.edits import Variant, body_of, rearranged, substituted
from agent.contest.llm.expected import words_alone
from agent.contest.llm.forms import ProbeAsked, TrialAsked
from agent.contest.pattern.differences import cut_probe
from agent.contest.policy import LAPSE, Context
from agent.contest.types import Probe, Rival, Trial
from agent.plain import plain
from agent.quoting import UnusableError, quoted_position, spelled
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


def _probe(context: Context, asked: TrialAsked) -> Trial:
    """The probes that can be read; what is wrong with others is noted, and shown with the results."""
    if not 1 <= len(asked.probes) <= PROBES:
        raise UnusableError(f"it has {len(asked.probes)} probes; 1 to {PROBES} are run")
    needed = {rival.key for rival in context.rivals if words_alone(context, rival)}
    filed: dict[Probe, dict[str, float]] = {}
    wrong: list[str] = []
    for one in asked.probes:
        try:
            said = _filed(context, one, needed)
            filed.setdefault(place_of(context, one), said)
        except UnusableError as problem:
            wrong.append(str(problem))
    if not filed:
        raise UnusableError(wrong[0])
    return Trial(
        asked.question, tuple(filed), surprise=_surprise(asked), aim={"left_out": wrong} if wrong else {},
        predictions={key: tuple(said[key] for said in filed.values()) for key in needed},
    )  # fmt: skip


def _filed(context: Context, asked: ProbeAsked, needed: Collection[str]) -> dict[str, float]:
    """What rivals are said to expect at a place, of which some must be told."""
    said = {one.rival: float(np.clip(one.percent / 100, LAPSE, 1 - LAPSE)) for one in asked.active}
    keys = {rival.key for rival in context.rivals}
    if unknown := sorted(set(said) - keys):
        raise UnusableError(f"there is no rival {unknown[0]}; there are {', '.join(sorted(keys))}")
    if missing := sorted(set(needed) - set(said)):
        raise UnusableError(f"it does not say what {missing[0]} expects at “{asked.at}”")
    return said


def _edit(context: Context, asked: TrialAsked) -> Trial:
    probe = _one_place(context, asked)
    arguments = {
        "unit": str(context.desk.unit), "texts": [probe.text], "positions": [probe.position], "window": EDITED,
        "replacements": REPLACEMENTS, "seed": context.seed % 2**31,
    }  # fmt: skip
    if any(one.trial.tool == "edit_tokens" and one.trial.arguments["texts"] == [probe.text] for one in context.outcomes
           if one.error is None):  # fmt: skip
        raise UnusableError("this text was edited before")
    return Trial(asked.question, tool="edit_tokens", arguments=arguments, surprise=OPEN)


def _substitute(context: Context, asked: TrialAsked) -> Trial:
    probe = _one_place(context, asked)
    pieces = context.desk.bench.subject.pieces(body_of(context, probe))
    wanted = spelled(asked.replace) or pieces[-1]
    places = [back for back, piece in enumerate(reversed(pieces)) if piece.strip() == wanted.strip()]
    if not places:
        raise UnusableError(f"“{asked.replace}” is no token of the text up to “{asked.probes[0].at}”")
    return _varied(asked, "".join(pieces), places[0], substituted(context, probe, places[0]))


def _rearrange(context: Context, asked: TrialAsked) -> Trial:
    probe = _one_place(context, asked)
    pieces = context.desk.bench.subject.pieces(body_of(context, probe))
    return _varied(asked, "".join(pieces), 0, rearranged(context, probe))


def _varied(asked: TrialAsked, base: str, back: int, variants: Sequence[Variant]) -> Trial:
    if not variants:
        raise UnusableError("the text has no variant that the model would read as it is written; use another")
    aim = {"kind": asked.tool, "base": base, "back": back, "variants": [told for told, _ in variants]}
    return Trial(asked.question, tuple(one for _, one in variants), surprise=_surprise(asked), aim=aim)


def _one_place(context: Context, asked: TrialAsked) -> Probe:
    if len(asked.probes) != 1:
        raise UnusableError(f"it has {len(asked.probes)} probes; {asked.tool} takes one")
    return place_of(context, asked.probes[0])


def _disagreements(context: Context, asked: TrialAsked) -> Trial:
    known = {rival.key: rival for rival in context.rivals}
    if unknown := sorted(set(asked.rivals) - set(known)):
        raise UnusableError(f"there is no rival {unknown[0]}; there are {', '.join(known)}")
    if len(set(asked.rivals)) != 2:
        raise UnusableError("disagreements takes two rivals")
    pair = [known[key] for key in asked.rivals]
    if bare := [rival.key for rival in pair if rival.explanation.rule is None]:
        raise UnusableError(f"{bare[0]} has no rule by which the corpus could be searched; write texts of your own")
    probes = apart(context, pair)
    if not probes:
        raise UnusableError(f"the rules of {pair[0].key} and {pair[1].key} agree all over the corpus")
    return Trial(asked.question, tuple(probes), surprise=_surprise(asked), aim={"pair": list(asked.rivals)})


def apart(context: Context, pair: Sequence[Rival]) -> list[Probe]:
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
    "probe": _probe, "edit_tokens": _edit, "substitute": _substitute, "rearrange": _rearrange,
    "disagreements": _disagreements,
}  # fmt: skip
"""What may be asked for, by name."""
