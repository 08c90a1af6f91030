"""The tool `concept`: whether the model uses a concept, which texts show, for a prediction or a unit (TCAV)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.plain import short
from agent.toolbox.attribute import target_of
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Layers, Seed, Text
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.attribution import ConceptTest, Target, TokenTarget, concept_sensitivity
from tools.lenses.logit import layer_sites
from tools.steering.prompts import default_prompts
from tools.subject import Subject
from tools.types import Site
from tools.units import group_site

Some = Annotated[list[Text], Field(min_length=8, max_length=512)]


class ConceptArguments(Arguments):
    """Arguments of `concept`."""

    concept: Some = Field(description="Texts that have the concept.")
    against: Some = Field(description="Texts that have not, and are like the others in all else.")
    texts: Some | None = Field(
        default=None, description="Texts at the end of which the target is looked at; left out: a dozen beginnings."
    )
    target: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="The logit of a next token (leading space included), or a unit's activation (mlp:3:17)."
    )
    wrong: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="A token whose logit is taken off that of the target."
    )
    layers: Layers | None = Field(default=None, description="Layers whose outputs to look at; left out: all there are.")
    random: int = Field(default=500, ge=50, le=10_000, description="Random vectors that it is compared with.")
    seed: Seed = 0


def concept_test(subject: Subject, arguments: ConceptArguments) -> ConceptTest:
    """What `concept` is asked for.

    Raises:
        UnitError: A layer or the unit is not there, or the target is computed before a layer.
        SubjectError: A text has no tokens, or the target is neither a unit nor one token.
    """
    given = (arguments.concept, arguments.against, arguments.texts or default_prompts(subject))
    concept, against, texts = (encoded(subject, texts)[0] for texts in given)
    target = target_of(subject, arguments.target, arguments.wrong)
    return concept_sensitivity(
        subject, (concept, against), texts, target, _sites(subject, target, arguments.layers), random=arguments.random,
        seed=arguments.seed,
    )  # fmt: skip


def _sites(subject: Subject, target: Target, layers: list[int] | None) -> list[Site]:
    """Residual streams, those before the target."""
    if layers is not None:
        return [Site(layer, "resid_post") for layer in dict.fromkeys(layers)]
    before = subject.n_layers if isinstance(target, TokenTarget) else group_site(subject, target.unit.group).layer
    return [site for site in layer_sites(subject) if site.kind == "resid_pre" or site.layer < before]


@tool("concept", ConceptArguments)
def concept_tool(workbench: Workbench, arguments: ConceptArguments) -> Finding:
    """Tests whether moving the residual stream along a concept raises a next token's logit or a unit's activation
    (TCAV). The concept is the difference between texts that have it and like texts that have not. Each layer is
    compared with contrasts between random halves of those texts; a concept's vector means nothing where it does not
    tell apart texts that it was not made of (separation near 0.5).
    """
    found = concept_test(workbench.subject, arguments)
    rows = [
        {
            "site": site, "separation": short(separation), "share_raised": short(one.share),
            "derivative": short(one.derivative), "p": short(one.p_derivative), "p_adjusted": short(p),
            "p_share": short(one.p_share),
        }
        for site, separation, p, one in zip(
            found.sites, found.separations, found.adjusted, found.sensitivities, strict=True
        )
    ]  # fmt: skip
    best = min(range(len(rows)), key=lambda i: (found.adjusted[i], -abs(found.sensitivities[i].derivative)))
    one = found.sensitivities[best]
    summary = (
        f"most at {found.sites[best]}: the concept raises {arguments.target!r} in {one.share:.0%} of {one.examples} "
        f"texts, derivative {short(one.derivative):g} (p {short(found.adjusted[best]):g} for all layers), separation "
        f"{found.separations[best]:.2f}"
    )
    return Finding(summary, {"sites": rows, "examples": one.examples, "random": len(one.random_shares)})
