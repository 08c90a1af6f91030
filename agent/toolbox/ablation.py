"""The tool `ablate`: what predictions lose when units are taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Seed, Text, Texts, TopK, Units
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.ablation import Ablation, AblationEffect, Reference
from tools.ablation import ablate as ablate_sets
from tools.errors import UnitError
from tools.index import SplitView
from tools.subject import Subject
from tools.types import Split
from tools.units import expand

#: Tokens that are run with something ablated, over sets, texts and draws.
MOST_TOKENS = 2_000_000
#: Contexts of an index that serve as reference.
REFERENCES = 64

AblationKind = Literal["resample", "mean", "zero"]


class AblateArguments(Arguments):
    """Arguments of `ablate`."""

    units: Units
    texts: Texts
    together: bool = Field(default=False, description="Ablate all units at once, and not each by itself.")
    kind: AblationKind = Field(
        default="resample",
        description="What a unit is given: its value in another text, its mean at the position, or zero.",
    )
    reference: Annotated[list[Text], Field(min_length=1, max_length=256)] | None = Field(
        default=None,
        description="Texts that values are from, as long as `texts`; left out: the corpus, or else the other texts.",
    )
    draws: int = Field(default=4, ge=1, le=64, description="Other texts that each text is run with, for 'resample'.")
    k: TopK = 5
    seed: Seed = 0


def ablation(
    subject: Subject, arguments: AblateArguments, view: SplitView | None = None, reference: Reference | None = None
) -> Ablation:
    """What `ablate` is asked for.

    Args:
        subject: The model.
        arguments: The request.
        view: Where reference texts are from if none are named.
        reference: These, if they are known already.

    Raises:
        UnitError: There is no such unit, or they are too many for one request.
        InterventionError, SubjectError: As `tools.ablation.ablate`.
    """
    units = expand(subject, ";".join(arguments.units))
    sequences, _ = encoded(subject, arguments.texts)
    sets = [units] if arguments.together else [[unit] for unit in units]
    draws = arguments.draws if arguments.kind == "resample" else 1
    tokens = len(sets) * draws * sum(map(len, sequences))
    if tokens > MOST_TOKENS:
        raise UnitError(
            f"{len(sets)} ablations on these texts run {tokens:,} tokens, more than the {MOST_TOKENS:,} of one "
            "request. Name fewer units, shorter texts, or fewer draws."
        )
    if reference is None and arguments.kind != "zero":
        reference = _reference(subject, arguments, sequences, view)
    return ablate_sets(
        subject, sets, sequences, arguments.kind, reference, draws=draws, seed=arguments.seed, k=arguments.k
    )


def _reference(
    subject: Subject, arguments: AblateArguments, sequences: Sequence[Sequence[int]], view: SplitView | None
) -> Reference:
    if arguments.reference is not None:
        return Reference.of(subject, arguments.reference, "texts that were given")
    if view is None:
        if len(sequences) == 1:
            raise UnitError(
                "There is one text, and nothing else to take values from. Give reference texts (a corpus), more texts, "
                "or ablate with 'zero'."
            )
        return Reference(tuple(map(tuple, sequences)), "the texts themselves")
    longest = max(map(len, sequences))
    numbers = sorted((c for c in view.texts.contexts.tolist()), key=lambda c: -min(view.texts.length(c), longest))
    chosen = tuple(tuple(view.texts.ids(c).tolist()) for c in numbers[:REFERENCES])
    return Reference(chosen, f"{len(chosen)} contexts of the {view.split} split")


@tool("ablate", AblateArguments)
def ablate(workbench: Workbench, arguments: AblateArguments) -> Finding:
    """Takes units away at every position of some texts but the first, and measures what next-token predictions lose:
    the divergence (KL), the change of the loss (above 0 where the units help), and which tokens' logits fall and rise
    most. Use it to find out whether a unit does anything at all, and what for. Resampling is to be preferred.
    """
    view = workbench.views.get(Split.EXPLORE)
    found = ablation(workbench.subject, arguments, view)
    rows = [
        {
            "units": [str(unit) for unit in one.units],
            "kl": short(one.kl),
            "kl_error": short(one.kl_error),
            "loss_change": None if one.loss_change is None else short(one.loss_change),
            "loss_error": None if one.loss_error is None else short(one.loss_error),
            "lowered": [[piece, short(value)] for piece, value in one.lowered],
            "raised": [[piece, short(value)] for piece, value in one.raised],
            "peak": {**vars(one.peak), "kl": short(one.peak.kl)},
        }
        for one in found.effects
    ]
    data = {"kind": found.kind, "reference": found.reference, "tokens": found.tokens, "since": found.since,
            "effects": rows}  # fmt: skip
    return Finding(_summary(found), data)


def _summary(found: Ablation) -> str:
    best = sorted(found.effects, key=lambda one: -one.kl)[:4]
    told = "; ".join(f"{named(one)} KL {one.kl:.3g}, lowers {one.lowered[0][0]!r}" for one in best)
    return f"{found.kind} ablation of {len(found.effects)} sets over {found.tokens} tokens, largest: {told}"


def named(one: AblationEffect) -> str:
    """A set of units, short."""
    return str(one.units[0]) if len(one.units) == 1 else f"{one.units[0]} and {len(one.units) - 1} more"
