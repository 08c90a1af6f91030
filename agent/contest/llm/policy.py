"""The policy `llm`: a language model thinks of trials, says before they are run what each rival expects, and revises.

In the first round no model is asked: the strongest texts are taken apart (`agent.contest.llm.opening`). After a round
in which something came that the best rival had not expected it is asked for revisions, and in each further round for
trials, until its own trials come out as the best rival expects. What it asks for and cannot be done is a failed row of
the notebook, which later prompts show; where nothing of an answer can be done that is told back once. An answer that
cannot be used at all is such a row, too, and costs the round.

What a rival expects: one that is tested by its rule, as the rule says; one that is tested by its words, as the model
filed with the trial. Nobody reads words again for that. Of a place on which nothing is filed (one that was asked before
the rival was there, or that was found in the corpus), a rule beside the words is taken at `RULE_FOR_WORDS`; without one
the rival is undecided: it is neither praised nor blamed for what it was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from agent.contest.beliefs import Floats
from agent.contest.llm.expected import expected_at, humbler, share_of, shares, words_alone
from agent.contest.llm.forms import RevisionsAsked, TrialsAsked
from agent.contest.llm.mistakes import mistake_lines, standings_of
from agent.contest.llm.opening import further, opening
from agent.contest.llm.probing import PROBES, Refused, read_trials
from agent.contest.llm.revising import read_revisions
from agent.contest.llm.shown import material, variables
from agent.contest.policy import Context, register
from agent.contest.types import Outcome, Probe, Revision, Rival, Trial
from explainers.llm.kit import LlmKit
from explainers.llm.types import AnswerError, CallError, Form, LlmError, Message, Request

#: F1 on explore below which the best rule's mistakes on texts are looked at before further trials are thought of.
POOR = 0.9
#: F1 on explore from which on its mistakes there are too few to be worth a prompt by themselves.
GOOD = 0.97
#: Rounds with nothing better on texts after which no more is asked.
PATIENCE = 3
#: Tokens of an answer: three trials of four probes take some 500, a revision with a rule some 200.
MAX_TOKENS = 1500

T = TypeVar("T")


@register("llm")
class LlmPolicy:
    """Asks the campaign's language model.

    Args:
        opening: Texts that are taken apart in the first round, before the model is asked for trials; 0: it is asked.
        trials: How many it is asked for in a round.
        probes: Of how many places each; twice as many where nothing need be filed.
        examples: Texts of the corpus that it is shown.
    """

    def __init__(self, *, opening: int = 2, trials: int = 3, probes: int = 4, examples: int = 6) -> None:
        self.n_opening, self.n_trials, self.n_probes, self.n_examples = opening, trials, probes, examples

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
        """See `agent.contest.policy.Policy`; for places on which nothing was filed."""
        counts = shares(context)
        share = np.array([counts.get(probe, 1.0) for probe in probes])
        return np.array([humbler(expected_at(context, rival, probes), share) for rival in rivals])

    def trials(self, context: Context) -> list[Trial]:
        """See `agent.contest.policy.Policy`."""
        standings = standings_of(context)
        if standings and _stalled(context, standings[0].rival):
            return []
        if self.n_opening:
            found = []
            if not context.contest.rounds:
                found = opening(context, self.n_opening)
            elif standings and standings[0].f1 < POOR:
                found = further(context)
            if found:
                return [self._filed(context, trial) for trial in found]
        if _settled(context):
            return []
        kit = _kit(context)
        shown = material(context, self.n_examples)
        if not shown.scale:
            return []  # nothing was active, and nothing was described
        prompt = kit.prompts.get("contest-trials")
        filed = any(words_alone(context, rival) for rival in context.rivals)
        messages = prompt.render(
            **variables(context, shown, standings), n=self.n_trials, filed=filed,
            probes=self.n_probes if filed else min(2 * self.n_probes, PROBES),
        )  # fmt: skip

        def read(answer: TrialsAsked) -> tuple[list[Trial], list[Refused]]:
            return read_trials(context, answer.trials)

        request = Request("trials", messages, MAX_TOKENS, prompt_digest=prompt.digest)
        try:
            found, refused = _asked(kit, request, TrialsAsked, read, lambda one: (one.asked.question, one.why))
        except (AnswerError, CallError) as error:
            return [Trial("What would tell the rivals apart?", tool="unnamed", refused=str(error))]
        return [*(self._filed(context, trial) for trial in found), *(one.trial for one in refused)]

    def revise(self, context: Context) -> list[Revision]:
        """See `agent.contest.policy.Policy`."""
        rounds = context.contest.rounds
        if not rounds:
            return []
        standings = standings_of(context)
        rules_alone = bool(standings) and not words_alone(context, standings[0].rival)
        mendable = rules_alone and standings[0].f1 < GOOD
        if not mendable and not any(_tells(context, one) for one in rounds[-1]):
            return []
        kit = _kit(context)
        shown = material(context, self.n_examples)
        prompt = kit.prompts.get("contest-revise")
        messages = prompt.render(
            **variables(context, shown, standings), best=standings[0].rival.key if standings else None,
            mistakes=mistake_lines(context, standings[0]) if standings else [],
        )  # fmt: skip

        def read(answer: RevisionsAsked) -> tuple[list[Revision], list[Any]]:
            return read_revisions(context, answer.revisions, shown, prompt)

        request = Request("revise", messages, MAX_TOKENS, prompt_digest=prompt.digest)
        try:
            found, _ = _asked(kit, request, RevisionsAsked, read, lambda one: (one[0].reason, one[1]))
        except (AnswerError, CallError):
            return []  # it is on record as a failed call; the rivals stay as they are
        return found

    def _filed(self, context: Context, trial: Trial) -> Trial:
        """With what all rivals expect, in per cent for later rounds too, whose prompts show it beside what came."""
        if not trial.probes:
            return trial
        share = share_of(trial)
        predictions = {
            rival.key: trial.predictions.get(rival.key)
            or tuple(humbler(expected_at(context, rival, trial.probes), share).tolist())
            for rival in context.rivals
        }
        told = {key: [round(100 * p) for p in row] for key, row in predictions.items()}
        return replace(trial, predictions=predictions, aim={**trial.aim, "expected": told})


def _tells(context: Context, outcome: Outcome) -> bool:
    """Whether it brought something that the best rival had not expected."""
    if outcome.error is not None:
        return False
    if outcome.data is not None:
        return True
    expected = outcome.trial.aim.get("expected", {}).get(context.best.key)
    return expected is None or any((p > 50) != on for p, on in zip(expected, outcome.active, strict=True))


def _stalled(context: Context, best: Rival) -> bool:
    """Whether the rival that does best on texts did so `PATIENCE` rounds ago: nothing better was found since."""
    rounds = context.contest.rounds
    return len(rounds) > PATIENCE and any(
        best.key in outcome.trial.aim.get("expected", {}) for outcome in rounds[-PATIENCE]
    )


def _settled(context: Context) -> bool:
    """Whether the model's own last trials came out as the best rival had expected: more would hardly tell more."""
    *before, last = context.contest.rounds or ((),)
    run = [outcome for outcome in last if outcome.error is None]
    return bool(before and run) and not any(_tells(context, outcome) for outcome in run)


def _asked(
    kit: LlmKit,
    request: Request,
    form: type[Form],
    read: Callable[[Form], tuple[list[T], list[Any]]],
    told: Callable[[Any], tuple[str, str]],
) -> tuple[list[T], list[Any]]:
    """What can be used of an answer, and what cannot. Where nothing can, that is told back once.

    Otherwise it is not worth another prompt: the next round's shows what could not be done.

    Args:
        kit: The language model.
        request: What is asked.
        form: Of the answer.
        read: From an answer to what can be used and what cannot.
        told: From one of the latter to its name and what is wrong with it.
    """
    answer = kit.llm.ask(request, form)
    found, refused = read(answer)
    if found or not refused:
        return found, refused
    wrong = "\n".join(f"- “{name}”: {why}." for name, why in map(told, refused))
    again = (
        *request.messages,
        Message("assistant", answer.model_dump_json()),
        Message(
            "user", f"Of this, the following cannot be done:\n{wrong}\nAnswer again with these alone, put right; leave "
            "out what cannot be put right.",
        ),
    )  # fmt: skip
    try:
        mended, still = read(kit.llm.ask(replace(request, messages=again), form))
    except (AnswerError, CallError):
        return [], refused
    return mended, still if mended or still else refused


def _kit(context: Context) -> LlmKit:
    kit = context.desk.bench.kit
    if kit is None:
        raise LlmError("The contest's policy 'llm' asks a language model, and none is named (--llm).")
    return kit
