"""From what a language model makes of the results to revisions; what cannot be done is told back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.claims import try_rivals
from agent.contest.llm.expected import words_alone
from agent.contest.llm.forms import RevisionAsked, RivalSaid
from agent.contest.llm.shown import Material
from agent.contest.policy import Context
from agent.contest.round import WORSE
from agent.contest.types import Revision, Rival
from agent.quoting import UnusableError
from explainers.llm.prompts import Prompt
from explainers.output.claim import KEY
from explainers.pattern.heads import Role, head_sentence
from explainers.predictors import MakesPredictors
from explainers.prompted.answers import one_line, read_rule
from explainers.prompted.asking import density
from explainers.types import Explanation

#: F1 on refine that a description may lack of the one whose place it takes; with less it stands beside it.
SLIGHTLY = 0.005
#: How many rivals each kind concerns, and with how many descriptions it comes: least and most.
COUNTS = {
    "refine": ((1, 1), (1, 1)), "split": ((1, 1), (2, 4)), "merge": ((2, 16), (1, 1)), "new": ((0, 16), (1, 1)),
    "drop": ((1, 16), (0, 0)),
}  # fmt: skip


def read_revisions(
    context: Context, asked: Sequence[RevisionAsked], material: Material, prompt: Prompt
) -> tuple[list[Revision], list[tuple[RevisionAsked, str]]]:
    """Revisions that can be done, none of which concerns a rival of an earlier one; and others with what is wrong."""
    found: list[Revision] = []
    refused: list[tuple[RevisionAsked, str]] = []
    done: set[str] = set()
    for one in asked:
        try:
            _check(context, one, done)
            described = tuple(_described(context, one, said, material, prompt) for said in one.descriptions)
            kind = "new" if _beside(context, one, described) else one.kind
        except UnusableError as problem:
            refused.append((one, str(problem)))
            continue
        if kind != "new":
            done.update(one.rivals)
        reason = one_line(one.reason) or one.kind
        found.append(Revision(kind, reason, tuple(dict.fromkeys(one.rivals)), described, origin="llm"))
    return found, refused


def _check(context: Context, asked: RevisionAsked, done: set[str]) -> None:
    keys = {rival.key for rival in context.rivals}
    if unknown := sorted(set(asked.rivals) - keys):
        raise UnusableError(f"there is no rival {unknown[0]}; there are {', '.join(sorted(keys))}")
    for number, what, (least, most) in (
        (len(set(asked.rivals)), "rivals", COUNTS[asked.kind][0]),
        (len(asked.descriptions), "descriptions", COUNTS[asked.kind][1]),
    ):
        if not least <= number <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise UnusableError(f"'{asked.kind}' takes {wanted} {what}, not {number}")
    if asked.kind != "new" and (twice := sorted(done & set(asked.rivals))):
        raise UnusableError(f"{twice[0]} is revised twice")
    if asked.kind == "drop" and context.best.key in asked.rivals:
        raise UnusableError(f"{context.best.key} has most weight; refine it, or put a new rival beside it")


def _described(
    context: Context, asked: RevisionAsked, said: RivalSaid, material: Material, prompt: Prompt
) -> Explanation:
    """A description like that of its parent, or of the rival with most weight, with other words."""
    parents = [rival for rival in context.rivals if rival.key in asked.rivals]
    parent = max(parents, key=lambda rival: rival.log_weight, default=context.best)
    rule = read_rule(said.rule, material.scale)
    if rule.error is not None:
        raise UnusableError(f"the rule of “{said.label}” is none: {rule.error}")
    fires_on = one_line(said.fires_on)
    label = one_line(said.label)
    if fires_on is None or label is None:
        raise UnusableError("a description says nothing")
    if context.evidence.edges is not None:
        roles = parent.explanation.details.get("roles")
        own = None if roles is None else [Role.from_json(role) for role in roles]
        fires_on = f"{head_sentence(context.evidence.edges, own)} Writes most where: {fires_on}"
    kept = {key: parent.explanation.details[key] for key in (KEY, "roles") if key in parent.explanation.details}
    explanation = replace(
        parent.explanation, label=label, input_half=fires_on, rule=rule.text, exceptions=one_line(said.exceptions),
        details={
            **kept, "prompt": {"name": prompt.name, "digest": prompt.digest},
            "model": _model(context), "examples": len(material.excerpts), "scale": material.scale,
            "threshold": context.evidence.threshold, "density": density(context.evidence), **rule.details,
        },
    )  # fmt: skip
    if explanation.rule is None and not _reads_words(context):
        raise UnusableError(f"“{label}” has no rule, and here rules are what is tested")
    if any(_same(explanation, rival) for rival in context.rivals):
        raise UnusableError(f"“{label}” is a rival already")
    return explanation


def _beside(context: Context, asked: RevisionAsked, described: Sequence[Explanation]) -> bool:
    """Whether a description that is to take another's place does a little worse on texts, and so stands beside it.

    As far as their rules say, on refine; it costs nothing. Results are few, and whoever mends a description by them
    alone may spoil what it said of all other texts, a little in each round.

    Raises:
        UnusableError: It does much worse.
    """
    if asked.kind not in ("refine", "merge") or described[0].rule is None:
        return False
    evidence, bench = context.evidence, context.desk.bench
    olds = [rival for rival in context.rivals if rival.key in asked.rivals and rival.explanation.rule is not None]
    rules = [described[0], *(rival.explanation for rival in olds)]
    tried = try_rivals(rules, bench.refine, evidence.unit, evidence.polarity, evidence.threshold)
    new, *marks = [mark["f1"] or 0.0 for mark in tried.marks]
    for rival, mark in zip(olds, marks, strict=True):
        if new < mark - WORSE:
            raise UnusableError(
                f"on texts of the corpus the rule of “{described[0].label}” does worse than that of {rival.key} "
                f"(F1 {new:.2f} against {mark:.2f})"
            )
    return any(new < mark - SLIGHTLY for mark in marks)


def _same(explanation: Explanation, rival: Rival) -> bool:
    other = rival.explanation
    return (explanation.input_half, explanation.exceptions, explanation.rule) == (
        other.input_half, other.exceptions, other.rule,
    )  # fmt: skip


def _reads_words(context: Context) -> bool:
    """Whether words alone are tested here, since somebody reads them."""
    return isinstance(context.desk.bench.explainer, MakesPredictors) and words_alone(context, context.best)


def _model(context: Context) -> str:
    kit = context.desk.bench.kit
    assert kit is not None, "the policy has asked"
    return kit.llm.model
