"""The tools `knock_out` and `scale_attention`: heads that may not look, or look more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Seed, Text, TopK, Units
from agent.toolbox.heads import HeadPatternsArguments, pattern_contexts
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded, token_of
from agent.toolbox.workbench import Workbench
from tools.errors import InterventionError
from tools.head_edges import Competition, Contest, EdgeKind, KnockOut, competition, knock_out
from tools.subject import Subject
from tools.types import UnitId
from tools.units import expand

Factor = Annotated[float, Field(ge=-1000, le=1000)]
Token = Annotated[str, Field(min_length=1, max_length=200, description="A token, with its leading space if any.")]


class KnockOutArguments(Arguments):
    """Arguments of `knock_out`."""

    heads: Units = Field(description="Heads, or patterns of them; they go together.")
    texts: Annotated[list[Text], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Texts to predict; left out: random tokens said twice, whose second half induction "
        "predicts.",
    )  # fmt: skip
    edges: EdgeKind = Field(
        default="all", description="Which of their edges: all, or those to the token before, to the same position, the "
        "first position, earlier occurrences of the token (duplicate), what followed them (induction), punctuation.",
    )  # fmt: skip
    factor: Factor = Field(default=0.0, description="What their weights are multiplied by; 0 knocks them out.")
    renormalise: bool = Field(default=False, description="Give what is taken away to the query's other edges.")
    others: int = Field(default=16, ge=0, le=64, description="Sets of other heads of these layers to compare with.")
    k: TopK = 8
    seed: Seed = 0


class ContestArguments(Arguments):
    """A prompt with two answers, and the place that speaks for one of them."""

    text: Text = Field(description="The prompt; its last token predicts.")
    attend: Token = Field(description="The token attended to, at all of its places before the last token.")
    answer: Token = Field(description="What may come next.")
    wrong: Token = Field(description="What it is compared with.")


class ScaleAttentionArguments(Arguments):
    """Arguments of `scale_attention`."""

    heads: Units = Field(description="Heads, or patterns of them; they go together.")
    contests: Annotated[list[ContestArguments], Field(min_length=1, max_length=32, description="Prompts.")]
    factors: Annotated[list[Factor], Field(min_length=1, max_length=16)] = Field(
        default=[0.0, 0.5, 2.0, 5.0], description="What the weights are multiplied by."
    )
    renormalise: bool = Field(default=False, description="Take from, or give to, the last token's other edges.")
    others: int = Field(default=32, ge=0, le=64, description="Sets of other heads of these layers to compare with.")
    seed: Seed = 0


def heads_of(subject: Subject, patterns: Sequence[str]) -> list[UnitId]:
    """Heads by their patterns; `tools.head_edges` refuses what is none."""
    return expand(subject, ";".join(patterns))


def knocked_out(subject: Subject, arguments: KnockOutArguments) -> KnockOut:
    """What `knock_out` is asked for.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.head_edges` raises them.
    """
    texts = pattern_contexts(subject, HeadPatternsArguments(texts=arguments.texts, seed=arguments.seed))
    return knock_out(
        subject, heads_of(subject, arguments.heads), texts, edges=arguments.edges, factor=arguments.factor,
        renormalise=arguments.renormalise, others=arguments.others, k=arguments.k, seed=arguments.seed,
    )  # fmt: skip


def competing(subject: Subject, arguments: ScaleAttentionArguments) -> Competition:
    """What `scale_attention` is asked for.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.head_edges` raises them; a token is not in its prompt.
    """
    contests = []
    for one in arguments.contests:
        ((ids,), _) = encoded(subject, [one.text])
        token = token_of(subject, one.attend)
        keys = tuple(i for i, known in enumerate(ids[:-1]) if known == token)
        if not keys:
            raise InterventionError(f"{one.attend!r} is no token of {one.text!r} before its last one.")
        contests.append(Contest(tuple(ids), keys, token_of(subject, one.answer), token_of(subject, one.wrong)))
    return competition(
        subject, heads_of(subject, arguments.heads), contests, arguments.factors, renormalise=arguments.renormalise,
        others=arguments.others, seed=arguments.seed,
    )  # fmt: skip


@tool("knock_out", KnockOutArguments)
def knock_out_tool(workbench: Workbench, arguments: KnockOutArguments) -> Finding:
    """Takes heads' attention away, all of it or one kind of edges, and measures what the predictions lose, on all
    tokens and on those that repeat what was said before, which tokens rise and fall, and which later heads no longer
    find what they attend to. Other heads of the same layers are compared. Use it to test what a head is for.
    """
    found = knocked_out(workbench.subject, arguments)
    data = {
        "loss": short(found.loss),
        "loss_change": short(found.loss_change),
        "repeated_tokens": found.repeated,
        "repeated_loss": None if found.repeated_loss is None else short(found.repeated_loss),
        "repeated_change": None if found.repeated_change is None else short(found.repeated_change),
        "kl": short(found.kl),
        "raised": [[piece, short(value)] for piece, value in found.raised],
        "lowered": [[piece, short(value)] for piece, value in found.lowered],
        "later_heads": [
            {"unit": one.unit, "edges": one.edges, "before": short(one.before), "after": short(one.after)}
            for one in found.patterns
        ],
        "other_heads": [[name, short(change)] for name, change in found.others],
    }
    return Finding(knock_out_summary(found), data)


def knock_out_summary(found: KnockOut) -> str:
    """What knocking heads out does, in a sentence."""
    what = "attention" if found.edges == "all" else f"{found.edges} edges"
    told = f"without the {what} of {' '.join(found.heads)} the loss changes by {found.loss_change:+.3f} nats a token"
    if found.factor:
        told = f"with {found.factor:g} times " + told.removeprefix("without ")
    if found.repeated_change is not None:
        told += f", by {found.repeated_change:+.3f} on tokens that repeat"
    if found.others:
        told += f"; with other heads of the layer by at most {max(change for _, change in found.others):+.3f}"
    return told


@tool("scale_attention", ScaleAttentionArguments)
def scale_attention_tool(workbench: Workbench, arguments: ScaleAttentionArguments) -> Finding:
    """Scales heads' attention from the last token of prompts to one of their tokens, and measures which of two answers
    wins. Use it where two mechanisms compete, such as copying from the text and recalling a fact: which heads carry the
    one, and how much of their attention it takes for it to win.
    """
    found = competing(workbench.subject, arguments)
    points = [
        {"factor": one.factor, "difference": short(one.difference), "answer_wins": short(one.first),
         "kl": short(one.kl), "other_heads": [short(value) for value in one.others]}
        for one in found.points
    ]  # fmt: skip
    data = {"attention": short(found.attention), "prompts": found.prompts, "points": points,
            "p_value": None if found.p_value is None else short(found.p_value)}  # fmt: skip
    return Finding(competition_summary(found), data)


def competition_summary(found: Competition) -> str:
    """A competition in a sentence."""
    told = ", ".join(f"{one.difference:+.2f} at {one.factor:g}" for one in found.points)
    return f"logit of the answer less that of the other, by the factor on {' '.join(found.heads)}: {told}"
