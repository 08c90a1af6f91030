"""The tool `fit_tuned_lens`: maps from each layer's stream to the last one, which `logit_lens` then reads through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Seed
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from tools.errors import IndexDataError
from tools.index import SplitView
from tools.lenses.logit import LensProfile, lens_profile
from tools.lenses.tuned import TunedLens, fit_tuned_lens, lens_path
from tools.subject import Subject
from tools.types import Split

#: Tokens on which a fitted lens is tried out.
TRIED = 10_000


class FitTunedLensArguments(Arguments):
    """Arguments of `fit_tuned_lens`."""

    tokens: int = Field(default=50_000, ge=1_000, le=500_000, description="Tokens of explore documents to fit on.")
    method: Literal["kl", "least-squares"] = Field(
        default="kl", description="What the fit makes small: the divergence of predictions, or the error of streams."
    )
    seed: Seed = 0


@dataclass(frozen=True)
class FittedLens:
    """A tuned lens as it was kept, and what it is worth on texts that it was not fitted on."""

    path: Path
    lens: TunedLens
    plain: LensProfile
    """Of the logit lens."""
    tuned: LensProfile

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.path), "lens": self.lens.to_json(), "plain": self.plain.to_json(),
            "tuned": self.tuned.to_json(),
        }  # fmt: skip


def fit_and_try(
    subject: Subject, home: Path, texts: Sequence[Sequence[int]], others: Sequence[Sequence[int]],
    arguments: FitTunedLensArguments,
) -> FittedLens:  # fmt: skip
    """Fit a tuned lens, keep it in the data folder, and compare it with the logit lens on other texts.

    Raises:
        UnitError: There are too few tokens, or the subject's way to the logits is not linear up to a norm.
    """
    lens = fit_tuned_lens(subject, texts, method=arguments.method, seed=arguments.seed)
    path = lens_path(home, subject)
    lens.save(path)
    return FittedLens(path, lens, lens_profile(subject, others), lens_profile(subject, others, tuned=lens))


@tool("fit_tuned_lens", FitTunedLensArguments)
def fit_tuned_lens_tool(workbench: Workbench, arguments: FitTunedLensArguments) -> Finding:
    """Fits a tuned lens on explore documents of the activation index and keeps it, so that `logit_lens` can read
    through it: the logit lens tells little of early layers, whose streams are not made for the unembedding. Says by how
    much it comes nearer to the model on refine documents. It is needed once for each subject, and takes minutes.
    """
    if workbench.home is None:
        raise IndexDataError("There is no data folder here to keep a tuned lens in.")
    explore, refine = workbench.view(Split.EXPLORE), workbench.view(Split.REFINE)
    found = fit_and_try(
        workbench.subject, workbench.home, _contexts(explore, arguments.tokens),
        _contexts(refine, min(TRIED, arguments.tokens)), arguments,
    )  # fmt: skip
    rows = [
        {"site": str(site), "divergence_plain": short(before), "divergence_tuned": short(after)}
        for site, before, after in zip(found.plain.sites, found.plain.divergence, found.tuned.divergence, strict=True)
    ]
    told = ", ".join(f"{r['site']} {r['divergence_plain']:g} to {r['divergence_tuned']:g}" for r in rows[:-1])
    data = {"lens": found.lens.to_json(), "tried_on": found.tuned.positions, "sites": rows}
    return Finding(f"fitted on {found.lens.tokens:,} tokens; divergence from the model falls: {told}", data)


def _contexts(view: SplitView, tokens: int) -> list[list[int]]:
    """Contexts of a split until there are so many tokens."""
    found: list[list[int]] = []
    count = 0
    for context in view.texts.contexts.tolist():
        if count >= tokens:
            break
        found.append(view.texts.ids(context).tolist())
        count += len(found[-1])
    return found
