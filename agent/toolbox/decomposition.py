"""The tool `decompose`: what heads and MLPs contribute to an answer, followed through one pass without a patch."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Finding
from agent.toolbox.patching import MOST_TOKENS, Name, TaskArguments, token_pairs
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from tools.errors import InterventionError
from tools.patching import Decomposition, Node, all_nodes, decompose
from tools.subject import Subject

#: Contributions that are told one by one.
TOLD = 48


class DecomposeArguments(TaskArguments):
    """Arguments of `decompose`."""

    sources: Annotated[list[Name], Field(min_length=1, max_length=1024)] | None = Field(
        default=None, description="Parts that are followed: head:LAYER:HEAD or mlp:LAYER; left out: all of them."
    )
    attention: Literal["all", "values"] = Field(
        default="all",
        description="'all': a part also acts through where later heads look; 'values': through what they move alone.",
    )
    baseline: Literal["corrupt", "zero"] = Field(
        default="corrupt", description="A part is what its output has over the corrupted run, or all of its output."
    )


def decomposition_of(subject: Subject, arguments: DecomposeArguments) -> Decomposition:
    """What `decompose` is asked for.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.patching.decompose`; or it is too large for one request.
    """
    pairs = token_pairs(subject, arguments)
    names = arguments.sources
    sources = all_nodes(subject) if names is None else [Node.parse(name) for name in dict.fromkeys(names)]
    tokens = len(sources) * sum(len(pair.clean) for pair in pairs)
    if tokens > MOST_TOKENS:
        raise InterventionError(
            f"This decomposition follows {tokens:,} tokens, more than the {MOST_TOKENS:,} of one request. Give fewer "
            "pairs, or name fewer sources."
        )
    return decompose(subject, pairs, sources, attention=arguments.attention, baseline=arguments.baseline)


@tool("decompose", DecomposeArguments)
def decompose_tool(workbench: Workbench, arguments: DecomposeArguments) -> Finding:
    """Follows what each head and MLP contributes to the logit difference of clean prompts through one pass of the model
    (contextual decomposition, CD-T). Nothing is patched, so it is cheaper than `path_patch` and covers direct and
    indirect effects together; effects are shares of the difference between clean and corrupted prompts, as those of
    noising. Confirm what matters with `patch`.
    """
    found = decomposition_of(workbench.subject, arguments)
    order = np.argsort(-np.abs(found.effects), kind="stable")[:TOLD]
    rows = [
        {"part": found.sources[i], "effect": short(found.effects[i]), "error": short(found.errors[i]),
         "contribution": short(found.contributions[i].mean())}
        for i in order
    ]  # fmt: skip
    told = ", ".join(f"{row['part']} {row['effect']:.2f}" for row in rows[:5])
    data = {
        "parts": rows, "parts_in_all": len(found.sources), "pairs": len(found.totals),
        "total": short(found.totals.mean()), "off": short(found.off), "attention": found.attention,
        "baseline": found.baseline,
    }  # fmt: skip
    return Finding(f"contributions to the logit difference: {told}", data)
