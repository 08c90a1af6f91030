"""The policy `pattern`: trials by which rules are told apart and mended, without a language model.

Where rivals disagree on texts, it asks which is right (`differences`). The best rule is not believed but taken apart:
an example of each of its clauses, and of the activity that none explains, is changed token by token, until it is known
which tokens it needs and at which distances, which others would do, where in the text it must stand, and what silences
it (`taking_apart`). What comes of it is a rule of its own (`ruling`), a further rival. What a head attends to is asked
on texts on which its rivals expect it to look to different places (`attention`). Random tokens show what no text of the
corpus does (`made_up`): activity that no rival expects, which is taken apart too, and clauses that do not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.contest.beliefs import Floats
from agent.contest.edges import role_of
from agent.contest.pattern.attention import Attention
from agent.contest.pattern.bases import Material, rule_of
from agent.contest.pattern.casefile import CaseFile, pursued, read
from agent.contest.pattern.differences import disagreements
from agent.contest.pattern.made_up import counterexamples, made_up_trials, without_what_fails
from agent.contest.pattern.ruling import rebuilt
from agent.contest.pattern.taking_apart import Taking
from agent.contest.policy import Context, register, rule_predictions
from agent.contest.types import Contest, Probe, Revision, Rival, Trial
from explainers.pattern.heads import with_roles

#: F1 on refine from which on a rule is worth taking apart.
NEARLY = 0.5
#: Examples that are taken apart at once, and in all.
AT_ONCE, IN_ALL = 3, 6
#: A unit whose rule by trials fits refine worse by so much F1 is not of a kind that can be taken apart.
HOPELESS = 0.2
#: Origins of a rule that trials made, and of one that lacks the clauses that did not hold.
TRIALS, SPLIT = "trials", "split"


@register("pattern")
class PatternPolicy:
    """Thinks of trials by what the rivals' rules say.

    Args:
        bases: Examples that are taken apart, at most.
    """

    def __init__(self, *, bases: int = IN_ALL) -> None:
        self.bases = bases

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
        """See `agent.contest.policy.Policy`."""
        return rule_predictions(context, rivals, probes)

    def trials(self, context: Context) -> list[Trial]:
        """See `agent.contest.policy.Policy`."""
        material = Material(context)
        found = [*Attention(material).trials(), *disagreements(context)]
        of_trials = _of_trials(context.contest)
        own = [rival.fit or 0.0 for rival in self._own(context)]
        by_trials = [rival.fit or 0.0 for rival in context.contest.rivals if rival.key in of_trials]
        if max(own) < NEARLY or (by_trials and max(by_trials) < max(own) - HOPELESS):
            return found
        cases = read(context.outcomes)
        further = [trial for case in pursued(cases) for trial in Taking(material, case).next()]
        found += further
        if cases:  # the first passes are for what the corpus offers
            found += made_up_trials(material, context.best)
        if len(cases) < self.bases and not further:
            rule = rule_of(context.best.explanation.rule)
            known = [case.body for case in cases]
            fresh = material.next_bases(rule, AT_ONCE) if not cases else material.unexplained(rule)
            fresh += counterexamples(context)
            for body in [body for body in fresh if not any(body[-len(one) :] == one for one in known)]:
                trial = Taking(material, CaseFile(len(cases), body)).first()
                if trial is not None:
                    found.append(trial)
                    cases.append(CaseFile(len(cases), body))
        return found

    def revise(self, context: Context) -> list[Revision]:
        """See `agent.contest.policy.Policy`."""
        last = {str(outcome.trial.aim.get("kind")) for outcome in context.contest.rounds[-1]}
        material, best = Material(context), context.best
        completed = _completed(context)
        split = without_what_fails(context, material) if "stretch" in last else []
        if not last & {"members", "groups", "position", "singles", "moves", "twins", "lone"}:
            return [*completed, *split]
        own = self._own(context)
        own = [rival for rival in own if rival.alive] or own
        before = max(own, key=lambda rival: (rival.fit or 0.0, rival.log_weight))
        known = {one.rivals: one.explanations[0] for one in completed}
        explanation = rebuilt(read(context.outcomes), known.get((before.key,), before.explanation), material)
        if explanation is None or explanation.rule in {rival.explanation.rule for rival in context.contest.rivals}:
            return [*completed, *split]
        reason = "examples that were taken apart say which tokens are needed, which would do, and what silences it"
        of_trials = _of_trials(context.contest)
        earlier = [rival for rival in context.rivals if rival.key in of_trials]
        if earlier:  # it knows more than the one that was made of the same examples before
            completed = [one for one in completed if one.rivals != (earlier[-1].key,)]
            return [*completed, *split, Revision("refine", reason, (earlier[-1].key,), (explanation,))]
        return [*completed, *split, Revision("new", reason, (best.key,), (explanation,), origin=TRIALS)]

    @staticmethod
    def _own(context: Context) -> list[Rival]:
        """The explainer's own descriptions, with the tokens to which a head attends completed or not."""
        of_trials = _of_trials(context.contest)
        return [one for one in context.contest.rivals if one.key not in of_trials and one.origin != SPLIT]


def _of_trials(contest: Contest) -> set[str]:
    """Keys of the rivals whose rule is one of examples that were taken apart, or comes of such a one."""
    found: set[str] = set()
    for rival in contest.rivals:  # parents come before their children
        if rival.origin == TRIALS or (rival.origin != SPLIT and found & set(rival.parents)):
            found.add(rival.key)
    return found


def _completed(context: Context) -> list[Revision]:
    """Rivals about a head that attends to certain tokens, with those that trials found it to attend to."""
    profile, attention = context.evidence.edges, Attention(Material(context))
    found = []
    for rival in context.rivals:
        role = role_of(rival)
        kind = None if role is None else attention.keys(role.kind)
        if role is None or profile is None or kind is None or kind == role.kind:
            continue
        bench, evidence = context.desk.bench, context.evidence
        masses = bench.edge_masses(evidence.unit, kind, bench.explore, evidence.threshold)
        if not len(masses.uniform):
            continue
        mass, even = float(masses.mass[evidence.unit.index].mean()), float(masses.uniform.mean())
        more, less = len(set(kind.keys) - set(role.keys)), len(set(role.keys) - set(kind.keys))
        changes = [f"to {more} more"] * (more > 0) + [f"not to {less} of those named"] * (less > 0)
        reason = f"of the tokens tried in the place it attends {', and '.join(changes)}"
        said = [replace(role, mass=mass, baseline=even, keys=kind.keys)]
        found.append(Revision("refine", reason, (rival.key,), (with_roles(rival.explanation, profile, said),)))
    return found
