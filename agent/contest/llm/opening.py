"""Rounds for which no language model is asked: what is worth knowing of any unit, whatever is claimed of it.

Forward passes of the subject are cheap beside words. So the strongest texts are taken apart, and rivals whose rules
disagree are put to the corpus, before the model is asked for anything; it then revises with answers in hand. As long as
its best rule does badly on texts, its mistakes there tell it more than trials that it would have to think of: then an
example that the rule misses is taken apart in their place.
"""

from __future__ import annotations

import itertools

from agent.contest.llm.edits import rearranged, substituted
from agent.contest.llm.mistakes import standings_of
from agent.contest.llm.probing import EDITED, OPEN, REPLACEMENTS, apart
from agent.contest.pattern.bases import Material as Corpus
from agent.contest.policy import Context
from agent.contest.types import Probe, Trial
from explainers.rules.ast import Rule
from explainers.rules.language import parse_rule

#: Pairs of rivals that are put to the corpus.
PAIRS = 3


def opening(context: Context, texts: int) -> list[Trial]:
    """Trials of the first round.

    Args:
        context: Of the policy.
        texts: How many texts are taken apart: one of each clause of the best rule, those first that catch most, and
            one that no clause explains.
    """
    corpus = Corpus(context)
    rule = _best_rule(context)
    unexplained = corpus.unexplained(rule)
    bodies = [*corpus.next_bases(rule, texts)[: max(texts - len(unexplained), 1)], *unexplained][:texts]
    probes = [probe for probe in map(corpus.written, bodies) if probe is not None]
    trials = [trial for probe in dict.fromkeys(probes) for trial in taken_apart(context, probe)]
    return [*trials, *_disagreements(context)]


def further(context: Context) -> list[Trial]:
    """Of a rule that does badly on texts: an example that it misses is taken apart, if none was before."""
    corpus = Corpus(context)
    done = {text for outcome in context.outcomes for text in outcome.trial.arguments.get("texts", ())}
    probes = [probe for probe in map(corpus.written, corpus.unexplained(_best_rule(context))) if probe is not None]
    trials = [trial for probe in probes if probe.text not in done for trial in taken_apart(context, probe)]
    return [*trials, *_disagreements(context)]


def _disagreements(context: Context) -> list[Trial]:
    """Places of the corpus on which pairs of rivals disagree that were not put to it yet."""
    done = {tuple(outcome.trial.aim.get("pair", ())) for outcome in context.outcomes}
    trials: list[Trial] = []
    for pair in itertools.combinations([rival for rival in context.rivals if rival.explanation.rule], 2):
        keys = [rival.key for rival in pair]
        if tuple(keys) not in done and len(trials) < PAIRS and (found := apart(context, pair)):
            question = f"{keys[0]} and {keys[1]} disagree on these texts of the corpus: which of them is right?"
            trials.append(Trial(question, tuple(found), surprise=OPEN, aim={"pair": keys}))
    return trials


def taken_apart(context: Context, probe: Probe) -> list[Trial]:
    """Which tokens does the unit need there, what else would do as the last, does it mind distance and order?"""
    arguments = {
        "unit": str(context.desk.unit), "texts": [probe.text], "positions": [probe.position], "window": EDITED,
        "replacements": REPLACEMENTS, "seed": context.seed % 2**31,
    }  # fmt: skip
    trials = [Trial("Which tokens does it need?", tool="edit_tokens", arguments=arguments, surprise=OPEN)]
    for question, kind, variants in (
        ("Which other tokens would do as the last?", "substitute", substituted(context, probe, 0)),
        ("Does it mind distance and order?", "rearrange", rearranged(context, probe)),
    ):
        if variants:
            aim = {"kind": kind, "base": probe.text, "back": 0, "variants": [told for told, _ in variants]}
            trials.append(Trial(question, tuple(one for _, one in variants), surprise=OPEN, aim=aim))
    return trials


def _best_rule(context: Context) -> Rule | None:
    """Of the rival that does best on explore; None where none has a rule."""
    standings = standings_of(context)
    return parse_rule(standings[0].rival.explanation.rule or "") if standings else None
