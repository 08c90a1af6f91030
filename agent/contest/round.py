"""One tail's contest, a round at a time: what the nodes do with it, given the desk and a policy."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from agent.claims import try_rivals
from agent.contest.agreement import merge_alike
from agent.contest.beliefs import NOISE, Floats, expected_information, log_likelihoods, posterior
from agent.contest.policy import Context, Policy
from agent.contest.rows import trial_row
from agent.contest.types import MERGED, Contest, Outcome, Revision, Rival, Trial
from agent.contest.weighing import answered, counted, fresh, outcome_of, refuted
from agent.desk import Desk
from agent.experiments import Report
from agent.plain import plain
from agent.state import Json, hypothesis_key
from agent.toolbox import Cost, ToolResult, Workbench
from agent.triage import Tail
from explainers.predictors import predictor_of
from explainers.types import Explanation

#: Bits that a trial must be expected to bring for each forward pass.
WORTH = 0.02
#: Trials of one round: those that tell most for their cost.
TRIALS = 12
#: Rounds without a change in weights or rivals after which a contest is given up.
IDLE = 2
#: A weight that changes by less has not changed.
MOVED = 0.01
#: F1 on refine that a description may lack of the one whose place it takes. Trials are few and far from what is
#: written: who mends a description by them alone may spoil what it said of all other texts.
WORSE = 0.05
#: Tokens of a forward pass, as `tools.units.unit_activations` batches them.
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Ring:
    """Where the contest of one tail is held."""

    desk: Desk
    tail: Tail
    policy: Policy
    name: str
    """Of the policy."""

    def begin(self, explanations: list[Explanation]) -> Contest:
        """The contest of the explainer's rivals, equally likely."""
        each = float(np.log((1 - NOISE) / max(len(explanations), 1)))
        rivals = [
            Rival(hypothesis_key(self.tail.polarity, number), one, one.explainer, log_weight=each)
            for number, one in enumerate(explanations)
        ]
        return Contest(tuple(self._fitted(rivals)), log_noise=float(np.log(NOISE)))

    def plan(self, contest: Contest) -> Contest:
        """With the trials of the next round, or stopped."""
        settings = self.desk.bench.spec.contest
        left = settings.forward_passes - contest.passes
        if contest.idle >= IDLE:
            return replace(contest, stopped=f"futile: {IDLE} rounds changed nothing")
        if len(contest.rounds) >= settings.rounds:
            return replace(contest, stopped=f"budget: {settings.rounds} rounds")
        if left < 1:
            return replace(contest, stopped=f"budget: {contest.passes} forward passes")
        context = self._context(contest, "plan")
        with self._charged():
            proposed = [self._weighed(context, trial) for trial in self.policy.trials(context)]
        worth = sorted((trial for trial in proposed if trial.ratio >= WORTH), key=lambda trial: -trial.ratio)
        chosen = [trial for trial in proposed if trial.refused]  # they cost nothing, and are told of
        most = TRIALS + len(chosen)
        for trial in worth:
            if len(chosen) < most and trial.passes <= left:
                chosen.append(trial)
                left -= trial.passes
        if chosen:
            return replace(contest, planned=tuple(chosen))
        if worth:
            return replace(contest, stopped=f"budget: no trial fits in {left} forward passes")
        if len(contest.alive) == 1:
            return replace(contest, stopped="decided: one rival is left, and no trial is expected to change that")
        return replace(contest, stopped="undecided: no trial is expected to tell the rivals apart")

    def run(self, contest: Contest) -> Contest:
        """With what the planned trials' tools gave."""
        answers = []
        for trial in contest.planned:
            asked = trial.asked(str(self.desk.unit))
            used = self._refused(trial) if trial.refused else self.desk.use(trial.tool, asked)
            answers.append(plain(used.to_json()))
        return replace(contest, answers=tuple(answers))

    def update(self, contest: Contest) -> tuple[Contest, list[Json]]:
        """With the rivals weighed and the refuted ones dropped; and the rows of the notebook."""
        bench, tail, now = self.desk.bench, self.tail, contest
        seed = bench.seed(self.desk.unit, f"contest {tail.polarity}")
        outcomes: list[Outcome] = []
        rows: list[Json] = []
        before = answered(contest.outcomes)
        for trial, answer in zip(contest.planned, contest.answers, strict=True):
            outcome = outcome_of(trial, answer, tail)
            rivals = now.alive
            now, ratios = counted(now, outcome, before)
            before |= answered([outcome])
            report = Report(bench, self.desk.unit, tail.polarity, seed, None, {"kind": "tool", **answer})
            rows.append(trial_row(report, outcome, rivals, ratios, len(contest.rounds) + 1))
            # What was expected is in the row; the state is written at every step and is kept small.
            outcomes.append(replace(outcome, trial=replace(trial, predictions={})))
        moved = float(np.abs(_weights(now) - _weights(contest)).max(initial=0.0)) >= MOVED
        now = replace(
            now, rounds=(*contest.rounds, tuple(outcomes)), planned=(), answers=(),
            passes=contest.passes + sum(outcome.passes for outcome in outcomes), idle=0 if moved else contest.idle + 1,
        )  # fmt: skip
        return refuted(now, bench.spec.contest.alpha), rows

    def revise(self, contest: Contest) -> Contest:
        """With what the policy makes of the answers, and those that say the same merged."""
        now = contest
        with self._charged():
            for revision in self.policy.revise(self._context(contest, "revise")):
                now = self._revised(now, revision)
        now = merge_alike(self.desk, self.tail, now)
        same = [rival.key for rival in now.alive] == [rival.key for rival in contest.alive]
        return now if same else replace(now, idle=0)

    def _refused(self, trial: Trial) -> ToolResult:
        """What comes of a trial that cannot be run."""
        origin = Workbench.of(self.desk.bench).origin
        return ToolResult(trial.tool, trial.arguments, trial.refused, None, Cost(), origin, trial.refused)

    def _charged(self) -> AbstractContextManager[object]:
        return self.desk.charged(self.tail.polarity, f"contest:{self.name}")

    def _context(self, contest: Contest, step: str) -> Context:
        bench, unit, polarity = self.desk.bench, self.desk.unit, self.tail.polarity
        seed = bench.seed(unit, f"contest {polarity} {len(contest.rounds)} {step}")
        evidence = bench.evidence(unit, polarity, self.tail.threshold, measured=False)
        return Context(self.desk, evidence, contest, seed)

    def _fitted(self, rivals: list[Rival]) -> list[Rival]:
        """With their F1 on refine; a language model is not asked for it."""
        bench, tail = self.desk.bench, self.tail
        cheap = [
            rival for rival in rivals if not getattr(predictor_of(bench.explainer, rival.explanation), "costly", False)
        ]
        tried = try_rivals(
            [rival.explanation for rival in cheap], bench.refine, self.desk.unit, tail.polarity, tail.threshold,
            explainer=bench.explainer, seed=bench.spec.seed,
        )  # fmt: skip
        fits = {rival.key: mark["f1"] for rival, mark in zip(cheap, tried.marks, strict=True)}
        return [replace(rival, fit=fits.get(rival.key)) for rival in rivals]

    def _weighed(self, context: Context, trial: Trial) -> Trial:
        """With what the rivals expect, the information and the cost."""
        if trial.refused:
            return replace(trial, information=0.0, passes=0)
        rivals, lengths = context.rivals, self._lengths(trial)
        if not trial.probes or any(probe.position >= lengths[probe.text] for probe in trial.probes):
            # A probe that cannot be read is left to the tool, which says what is wrong with it.
            nothing = np.zeros((1, 0))
            return replace(trial, information=expected_information([0.0], nothing, seed=0, surprise=trial.surprise))
        new = fresh(trial.probes, answered(context.outcomes))
        if not new:
            return replace(trial, information=0.0)
        filed = [trial.predictions.get(rival.key) for rival in rivals]
        predictions = (
            self.policy.predictions(context, rivals, trial.probes) if None in filed else np.array(filed, np.float64)
        )
        digest = int.from_bytes(hashlib.sha256(trial.question.encode()).digest()[:4], "little")
        information = expected_information(
            [rival.log_weight for rival in rivals], predictions[:, new], seed=(context.seed + digest) % 2**32,
            surprise=trial.surprise,
        )  # fmt: skip
        expected = {rival.key: tuple(row) for rival, row in zip(rivals, predictions.tolist(), strict=True)}
        return replace(trial, predictions=expected, information=information, passes=batches(list(lengths.values())))

    def _lengths(self, trial: Trial) -> dict[str, int]:
        """Tokens of each probe's text, as far as the subject reads it."""
        subject = self.desk.bench.subject
        return {
            text: min(len(subject.encode(text)), subject.context)
            for text in dict.fromkeys(p.text for p in trial.probes)
        }

    def _revised(self, contest: Contest, revision: Revision) -> Contest:
        """With one revision done. What concerns a rival that is no longer in the running is left out."""
        alive = {rival.key for rival in contest.alive}
        if revision.kind != "new" and not (revision.rivals and set(revision.rivals) <= alive):
            return contest
        if revision.kind == "drop" and alive <= set(revision.rivals):
            return contest  # somebody must be left
        known = {(rival.explanation.input_half, rival.explanation.rule) for rival in contest.rivals}
        for explanation in revision.explanations:
            if revision.kind == "refine" and (explanation.input_half, explanation.rule) in known:
                return contest
            contest = self._added(contest, explanation, revision)
        if revision.kind == "new":
            return contest
        spoilt = _spoilt(contest, revision)
        if spoilt is not None:
            return replace(contest, rivals=(*contest.rivals[:-1], contest.rivals[-1].ended("dropped", spoilt)))
        status = {"refine": "refined", "split": "split", "merge": MERGED, "drop": "dropped"}[revision.kind]
        rivals = (
            rival.ended(status, revision.reason) if rival.key in revision.rivals else rival for rival in contest.rivals
        )
        return replace(contest, rivals=tuple(rivals))

    def _added(self, contest: Contest, explanation: Explanation, revision: Revision) -> Contest:
        """With a further rival, weighed by all trials so far; evidence against it begins with the next one."""
        first = sum(not rival.parents for rival in contest.rivals) or 1
        each = float(np.log((1 - NOISE) / first))
        origin = {"refine": "refined", "split": "split", "merge": MERGED}.get(revision.kind, revision.origin or "new")
        key = hypothesis_key(self.tail.polarity, len(contest.rivals))
        [rival] = self._fitted([Rival(key, explanation, origin, revision.rivals, each)])
        before = answered(contest.outcomes)
        if before:
            predictions = self.policy.predictions(self._context(contest, "add"), [rival], list(before))
            likelihoods = log_likelihoods(predictions, np.array(list(before.values())))
            rival = replace(rival, log_weight=each + float(likelihoods[0]))
        return replace(contest, rivals=(*contest.rivals, rival))


def _spoilt(contest: Contest, revision: Revision) -> str | None:
    """Why the description that was added last must not take the place of others; None where it may."""
    new = contest.rivals[-1]
    if revision.kind not in ("refine", "merge") or new.fit is None:
        return None
    for rival in contest.rivals[:-1]:
        if rival.key in revision.rivals and rival.fit is not None and new.fit < rival.fit - WORSE:
            return f"does worse on texts than {rival.key}: F1 {new.fit:.2f} on refine against {rival.fit:.2f}"
    return None


def _weights(contest: Contest) -> Floats:
    return posterior([*(rival.log_weight for rival in contest.alive), contest.log_noise])


def batches(lengths: list[int]) -> int:
    """Forward passes for texts of these lengths, batched by length."""
    passes, rows = 1, 0
    for length in sorted(lengths):
        if rows and length * (rows + 1) > BATCH_TOKENS:
            passes, rows = passes + 1, 0
        rows += 1
    return passes
