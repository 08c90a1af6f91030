"""Trials on text that nobody wrote: random tokens of the whole vocabulary.

*random*, the search for counter-examples: short texts of random tokens, so that every token of the vocabulary comes
last as far as there is room. Where the unit is active and no rival says so, there is an example to take apart that the
corpus did not offer.

*stretch*: how far does each clause of the best rule carry? Of the end of an example of each, all that the clause does
not need gives way to random tokens. Where a clause names what only comes along with the cause, the unit is silent
there. A clause that fails so while another holds, and shares no token with it, is no sense of the unit:
the rule without it is a further rival.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from agent.contest.pattern.bases import Material, rule_of
from agent.contest.pattern.ruling import described
from agent.contest.policy import Context, ProbeTexts, rule_predictions
from agent.contest.types import Outcome, Probe, Revision, Rival, Trial
from agent.toolbox.probe import MOST
from explainers.pattern.words import input_half
from explainers.rules.ast import Clause, InSet, Rule
from explainers.rules.evaluate import matches
from explainers.rules.features import TOKENS_BACK

#: Tokens of a random text: so many that a forward pass takes all of a trial's.
LENGTH = 7
#: Random texts that are drawn at most; not all can be written down so that they are read as the same tokens.
DRAWN = 2 * MOST
#: Examples of each clause that are stretched, and clauses.
EACH, CLAUSES = 8, 12
#: Draws of random tokens for one of them.
DRAWS = 3
#: Share of a clause's texts at which the unit must be active for the clause to hold, and at most for it to fail.
HOLDS, FAILS = 0.75, 0.25
#: Fewer texts say nothing of a clause.
FEWEST = 4
#: Counter-examples that are taken apart, at most.
TAKEN = 2
#: How likely the policy holds it that an answer is one that no rival gives.
SURPRISE = {"random": 0.05, "stretch": 0.1}


def made_up_trials(material: Material, best: Rival) -> Iterator[Trial]:
    """Both, until one of them was run: they are thought of together, and once."""
    done = {str(outcome.trial.aim.get("kind")) for outcome in material.context.outcomes}
    rule = rule_of(best.explanation.rule)
    if rule is None or done & SURPRISE.keys():
        return
    texts = tuple(itertools.islice(_random_texts(material), MOST))
    if texts:
        question = "Is it active on random tokens where no rival says so?"
        yield Trial(question, texts, surprise=SURPRISE["random"], aim={"kind": "random"})
    labels, probes = _stretched(material, rule)
    if probes:
        yield Trial(
            f"Is what the clauses of {best.key} name enough, among random tokens?", tuple(probes),
            surprise=SURPRISE["stretch"], aim={"kind": "stretch", "rival": best.key, "asked": labels},
        )  # fmt: skip


def counterexamples(context: Context) -> list[list[int]]:
    """Bodies of random texts on which the unit is active and no rival in the running says so."""
    subject = context.desk.bench.subject
    found: list[list[int]] = []
    for outcome in _answered(context, "random"):
        probes = [probe for probe, on in zip(outcome.trial.probes, outcome.active, strict=True) if on]
        said = rule_predictions(context, context.rivals, probes)
        missed = [probe for probe, row in zip(probes, said.T, strict=True) if float(row.max()) < 0.5]
        found += [subject.encode(probe.text)[len(subject.prefix) :] for probe in missed]
    return found[:TAKEN]


def without_what_fails(context: Context, material: Material) -> list[Revision]:
    """The rule that was stretched, without clauses that failed and share no token with one that held; none where there
    are none of either."""
    found = []
    for outcome in _answered(context, "stretch"):
        rival = next((one for one in context.rivals if one.key == outcome.trial.aim["rival"]), None)
        rule = None if rival is None else rule_of(rival.explanation.rule)
        if rival is None or rule is None:
            continue
        counts = _counts(outcome)
        held = [number for number, (on, n) in counts.items() if n >= FEWEST and on >= HOLDS * n]
        named = {member for number in held for member in _members(rule.clauses[number])}
        failed = [
            number for number, (on, n) in counts.items()
            if n >= FEWEST and on <= FAILS * n and not named & _members(rule.clauses[number])
        ]  # fmt: skip
        if not held or not failed:
            continue
        kept = tuple(clause for number, clause in enumerate(rule.clauses) if number not in failed)
        explanation = described(replace(rule, clauses=kept), rival.explanation, material)
        reason = "; ".join(_why(rule, number, counts[number], context.evidence.threshold) for number in failed)
        found.append(Revision("new", f"another sense that trials refuted is left out: {reason}", (rival.key,),
                              (explanation,), origin="split"))  # fmt: skip
    return found


def _answered(context: Context, kind: str) -> list[Outcome]:
    return [one for one in context.outcomes if one.trial.aim.get("kind") == kind and one.error is None]


def _counts(outcome: Outcome) -> dict[int, tuple[int, int]]:
    """By clause: at how many of its texts the unit is active, and of how many."""
    counts: dict[int, tuple[int, int]] = {}
    for number, on in zip(outcome.trial.aim["asked"], outcome.active, strict=True):
        active, n = counts.get(int(number), (0, 0))
        counts[int(number)] = active + on, n + 1
    return counts


def _why(rule: Rule, number: int, count: tuple[int, int], threshold: float) -> str:
    said = input_half(Rule((rule.clauses[number],), 0.0), [1.0], threshold).rstrip(".")
    return f"“{said}”, active at {count[0]} of {count[1]} texts made up to that"


def _members(clause: Clause) -> set[str]:
    """Tokens that a clause says must stand somewhere."""
    sets = [literal for literal in clause.literals if isinstance(literal, InSet) and not literal.negated]
    return {member for literal in sets for member in literal.members}


def _random_texts(material: Material) -> Iterator[Probe]:
    """Random tokens, of which the last ones go through the vocabulary in a random order."""
    generator, vocabulary = np.random.default_rng(material.context.seed), material.vocabulary
    last: list[int] = []
    while len(last) < DRAWN:
        last += generator.permutation(vocabulary).tolist()
    for token in last[:DRAWN]:
        body = [*generator.choice(vocabulary, LENGTH - 1).tolist(), token]
        probe = material.written(body)
        if probe is not None:
            yield probe


def _stretched(material: Material, rule: Rule) -> tuple[list[int], list[Probe]]:
    """Numbers of clauses, and a text for each of their examples."""
    generator = np.random.default_rng([material.context.seed, 1])
    held, active = material.held(rule), material.active
    labels: list[int] = []
    probes: list[Probe] = []
    for number in np.unique(held[active & (held >= 0)]).tolist()[:CLAUSES]:
        rows = generator.permutation(np.flatnonzero(active & (held == number)))[: 2 * EACH]
        made = (_bare(material, rule, number, material.body(int(row)), generator) for row in rows)
        kept = list(dict.fromkeys(probe for probe in made if probe is not None))[:EACH]
        labels += [number] * len(kept)
        probes += kept
    return labels, probes


def _bare(
    material: Material, rule: Rule, number: int, body: Sequence[int], generator: np.random.Generator
) -> Probe | None:
    """The end of an example with random tokens in place of all that the clause does not need; None where that was not
    managed in `DRAWS`."""
    body = [*generator.choice(material.vocabulary, max(TOKENS_BACK - len(body), 0)).tolist(), *body[-TOKENS_BACK:]]
    for _ in range(DRAWS):
        drawn = generator.choice(material.vocabulary, len(body)).tolist()
        changed = [[*body[:at], drawn[at], *body[at + 1 :]] for at in range(len(body))]
        needed = [not holds for holds in _holds(material, rule, number, changed)]
        bare = [own if need else other for own, other, need in zip(body, drawn, needed, strict=True)]
        probe = material.written(bare)
        if probe is not None and all(_holds(material, rule, number, [bare])):
            return probe
    return None


def _holds(material: Material, rule: Rule, number: int, bodies: Sequence[Sequence[int]]) -> list[bool]:
    """Whether a clause is the first that holds at the end of each text; False where it cannot be written down."""
    probes = [material.written(body) for body in bodies]
    texts = ProbeTexts(material.context, [probe for probe in probes if probe is not None])
    found = iter((matches(rule, texts, texts.contexts, texts.positions) == number).tolist())
    return [probe is not None and next(found) for probe in probes]
