"""``neurogloss attribute``: what an activation or a prediction rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, model_verb, picture, texts_of

Methods = Literal["occlusion", "ig", "gradient", "normxlogit", "anchor", "conductance", "direct"]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "attribute")(attribute)


def attribute(
    call: ModelCall,
    *,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text; '-' reads standard input.")],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="UNIT|TOKEN",
                     help="A unit whose activation to explain, or a next token. (the likeliest next token)"),
    ] = None,
    wrong: Annotated[
        str | None, typer.Option("--wrong", metavar="TOKEN", help="A token whose logit is taken off the target's.")
    ] = None,
    position: Annotated[
        int | None,
        typer.Option("--position", metavar="N",
                     help="Where; negative counts from the end. (the end; of a unit where it is strongest)"),
    ] = None,
    method: Annotated[
        Methods | None, typer.Option("--method", help="How. (occlusion; with --unit ig)", show_default=False)
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", metavar="UNITS", help="Attribute to units, not tokens: a pattern such as 'mlp:2:*'."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE",
                     help="Texts that replacements and means are from: .jsonl with a field 'text', or plain text."),
    ] = None,
    baseline: Annotated[
        Literal["zero", "mean"],
        typer.Option("--baseline", help="What units are compared with; mean needs --reference."),
    ] = "zero",
    steps: Annotated[int, typer.Option("--steps", min=8, max=1024, help="Gradients along a path, at most.")] = 64,
    draws: Annotated[int, typer.Option("--draws", min=2, max=64, help="Replacements of each token.")] = 8,
    window: Annotated[
        int, typer.Option("--window", min=1, max=256, help="Tokens next to the position that are replaced.")
    ] = 48,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many parts to list.")] = 15,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of whatever is drawn at random.")] = 0,
    plot: Plot = None,
) -> None:  # fmt: skip
    """See which tokens, units or parts of the model an activation or a prediction rests on.

    By tokens: occlusion puts other tokens that could stand there in the place of each; anchor finds the smallest set
    that is enough; ig, gradient and normxlogit are cheaper, and less to be relied on. By units (--unit): ig,
    conductance, direct. By parts: direct, which splits a logit into what heads and MLPs write.

    Replacements come from --reference where it is given, else from the model's own predictions. Whatever the method,
    its order is tried out on the model, and compared with random orders.

    [bold]Examples[/bold]

      neurogloss attribute "import os" --target mlp:2:17
      neurogloss attribute "for i in" --target " range" --plot why.png
      neurogloss attribute "def f(self): return self" --target mlp:1:259 --method anchor
      neurogloss attribute "for i in" --method direct
      neurogloss attribute "for i in" --unit 'mlp:2:*'
    """
    (given,) = texts_of([text])
    known = texts_of(None, reference)
    file = picture(plot)
    subject = call.load(target if target is not None and target.startswith(("mlp:", "head:", "sae:", "dir:")) else None)
    from agent.toolbox.attribute import MOST_REFERENCE, AttributeArguments, attribution_of, target_name
    from neurogloss.render.attribution import attribution_map, attribution_page
    from neurogloss.render.console import has_colour
    from neurogloss.render.heatmap import save_heatmaps

    asked: dict[str, Any] = {
        "text": given, "target": target, "wrong": wrong, "position": position, "method": method, "units": unit,
        "reference": known[:MOST_REFERENCE] or None, "baseline": baseline, "steps": steps, "draws": draws,
        "window": window, "k": k, "seed": seed,
    }  # fmt: skip
    found = attribution_of(subject, AttributeArguments.model_validate(asked))
    name = target_name(subject, found)
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, **found.to_json()}
    call.emit(value, *attribution_page(found, name, subject.name, k, colour=has_colour(call.out)))
    if file is not None:
        save_heatmaps(file, attribution_map(found, name, k))
