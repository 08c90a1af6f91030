"""The policy `llm`: a language model thinks of trials, says before they are run what each rival expects, and revises.

In each round it is asked once for trials, and once for revisions where something came that the best rival had not
expected. What it asks for and cannot be done is told back once; what is still wrong then is a failed row of the
notebook. An answer that cannot be used at all is one, too, and costs the round.

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
from agent.contest.llm.forms import RevisionsAsked, TrialsAsked
from agent.contest.llm.probing import Refused, read_trials, words_alone
from agent.contest.llm.revising import read_revisions
from agent.contest.llm.shown import material, variables
from agent.contest.policy import Context, ProbeTexts, register, rule_predictions
from agent.contest.types import Outcome, Probe, Revision, Rival, Trial
from explainers.llm.kit import LlmKit
from explainers.llm.types import AnswerError, CallError, Form, LlmError, Message, Request
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule

#: Probability with which a rule beside words speaks for them.
RULE_FOR_WORDS = 0.8
#: Tokens of an answer: three trials of four probes take some 500, a revision with a rule some 200.
MAX_TOKENS = 1500

T = TypeVar("T")


@register("llm")
class LlmPolicy:
    """Asks the campaign's language model.

    Args:
        trials: How many it is asked for in a round.
        probes: Of how many places each.
        examples: Texts of the corpus that it is shown.
    """

    def __init__(self, *, trials: int = 3, probes: int = 4, examples: int = 6) -> None:
        self.n_trials, self.n_probes, self.n_examples = trials, probes, examples

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
        """See `agent.contest.policy.Policy`; for places on which nothing was filed."""
        rows = np.zeros((len(rivals), len(probes)))
        for row, rival in zip(rows, rivals, strict=True):
            row[:] = _expected(context, rival, probes)
        return rows

    def trials(self, context: Context) -> list[Trial]:
        """See `agent.contest.policy.Policy`."""
        kit = _kit(context)
        shown = material(context, self.n_examples)
        if not shown.scale:
            return []  # nothing was active, and nothing was described
        prompt = kit.prompts.get("contest-trials")
        messages = prompt.render(
            **variables(context, shown, rules=False), n=self.n_trials, probes=self.n_probes,
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
        if not context.contest.rounds or not any(_tells(context, one) for one in context.contest.rounds[-1]):
            return []
        kit = _kit(context)
        shown = material(context, self.n_examples)
        prompt = kit.prompts.get("contest-revise")
        messages = prompt.render(**variables(context, shown, rules=True))

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
        predictions = {
            rival.key: trial.predictions.get(rival.key) or tuple(_expected(context, rival, trial.probes).tolist())
            for rival in context.rivals
        }
        told = {key: [round(100 * p) for p in row] for key, row in predictions.items()}
        return replace(trial, predictions=predictions, aim={**trial.aim, "expected": told})


def _expected(context: Context, rival: Rival, probes: Sequence[Probe]) -> Floats:
    """What a rival expects at places on which nothing is filed, [n_probes]."""
    if not words_alone(context, rival):
        return np.asarray(rule_predictions(context, [rival], probes)[0], np.float64)
    if rival.explanation.rule is None:
        return np.full(len(probes), 0.5)
    texts = ProbeTexts(context, probes)
    said = RulePredictor(parse_rule(rival.explanation.rule)).predict(texts, texts.contexts, texts.positions)
    return np.where(said > context.evidence.threshold, RULE_FOR_WORDS, 1 - RULE_FOR_WORDS)


def _tells(context: Context, outcome: Outcome) -> bool:
    """Whether it brought something that the best rival had not expected."""
    if outcome.error is not None:
        return False
    if outcome.data is not None:
        return True
    expected = outcome.trial.aim.get("expected", {}).get(context.best.key)
    return expected is None or any((p > 50) != on for p, on in zip(expected, outcome.active, strict=True))


def _asked(
    kit: LlmKit,
    request: Request,
    form: type[Form],
    read: Callable[[Form], tuple[list[T], list[Any]]],
    told: Callable[[Any], tuple[str, str]],
) -> tuple[list[T], list[Any]]:
    """What can be used of an answer, and what cannot, even after that was told back once.

    Args:
        kit: The language model.
        request: What is asked.
        form: Of the answer.
        read: From an answer to what can be used and what cannot.
        told: From one of the latter to its name and what is wrong with it.
    """
    answer = kit.llm.ask(request, form)
    found, refused = read(answer)
    if not refused:
        return found, []
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
        return found, refused
    left = still if mended or still else refused
    return [*found, *(one for one in mended if one not in found)], left


def _kit(context: Context) -> LlmKit:
    kit = context.desk.bench.kit
    if kit is None:
        raise LlmError("The contest's policy 'llm' asks a language model, and none is named (--llm).")
    return kit
