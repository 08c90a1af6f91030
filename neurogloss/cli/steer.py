"""``neurogloss steer``: a unit turned up and down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, Texts, TextsFile, model_verb, picture, texts_of

if TYPE_CHECKING:
    from tools.steering import SteeringScore, Strength
    from tools.subject import Subject

#: Strengths among which the score chooses, as parts of the one that is asked for.
_TRIED = (0.25, 0.5, 1.0, 2.0)


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "steer")(steer)


def steer(
    call: ModelCall,
    *,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="The unit, such as mlp:3:17 or sae:res:40.")],
    text: Texts = None,
    texts: TextsFile = None,
    kl: Annotated[
        float | None,
        typer.Option("--kl", metavar="NATS", help="Strength by the KL divergence of the next token; below 0: turned "
                     "down. (0.5)"),
    ] = None,
    norms: Annotated[
        float | None,
        typer.Option("--norms", metavar="NORMS", help="Strength in norms of the residual stream where it writes."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", metavar="AMOUNT", help="Strength as it is added to the unit's activation."),
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option("--token", metavar="TOKEN", help="Follow this token, leading space and all; may be repeated. "
                     "(those that the unit moves most)"),
    ] = None,
    expected: Annotated[
        Literal["promoted", "suppressed"] | None,
        typer.Option("--expected", help="What the unit is expected to do to the tokens named."),
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="Drive it at the last token alone.")] = False,
    places: Annotated[int, typer.Option("--places", min=2, max=128, help="Places of the texts to read at.")] = 16,
    controls: Annotated[int, typer.Option("--controls", min=0, max=200, help="Random directions as strong.")] = 32,
    write: Annotated[int, typer.Option("--write", min=0, max=200, help="Tokens to write; 0: no texts.")] = 20,
    prompts: Annotated[int, typer.Option("--prompts", min=1, max=16, help="Texts to continue.")] = 3,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, max=5.0, help="Of writing.")] = 0.0,
    score: Annotated[
        bool, typer.Option("--score", help="Also score what is written for concept and fluency; takes longer.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")] = 0,
    plot: Plot = None,
) -> None:  # fmt: skip
    """Turn a unit up and down, and see which tokens follow and what the model writes.

    The unit is driven at every position but the first, at doses up to the strength that is chosen. Any vector moves
    some tokens, so random directions as strong are run beside it: tokens follow the unit when they do so monotonely,
    and more than random directions move theirs. Without texts, a dozen beginnings are used.

    [bold]Examples[/bold]

      neurogloss steer mlp:2:17
      neurogloss steer sae:res:40 --token None --expected promoted
      neurogloss steer head:3:3 --kl -0.25 --text "for i in range(10): print("
      neurogloss steer mlp:2:17 --norms 0.5 --plot curve.png
      neurogloss steer sae:res:40 --score --write 25
    """
    given = texts_of(text, texts)
    file = picture(plot)
    call.load_libraries()
    from agent.toolbox.steering import DoseResponseArguments, SteerArguments, curve_of, steered
    from neurogloss.render.curves import save_curves
    from neurogloss.render.steering import curves_of, steer_page

    how: dict[str, Any] = {"unit": unit, "texts": given or None, "kl": kl, "norms": norms, "strength": strength,
                           "seed": seed}  # fmt: skip
    dosed = DoseResponseArguments(
        **how, tokens=token, expected=expected, places=places, everywhere=not last, controls=controls, loss=True
    )
    written = SteerArguments(**how, prompts=prompts, max_new_tokens=write or 1, temperature=temperature)
    subject = call.load(unit)
    strongest, curve = curve_of(subject, dosed)
    lines = steered(subject, written) if write else None
    points = _scored(subject, written, strongest, token, controls) if score else None
    value = {
        "subject": subject.name, "fingerprint": subject.fingerprint, "strength": strongest, "curve": curve.to_json(),
        "written": None if lines is None else {"strength": lines.strength, "texts": [
            dict(zip(("prompt", "without", "with", "random"), row, strict=True)) for row in lines.rows]},
        "score": points,
    }  # fmt: skip
    call.emit(value, *steer_page(subject.name, strongest, curve, lines, points, everywhere=not last))
    if file is not None:
        panels, titles = curves_of(curve)
        save_curves(
            file, *panels, x_title="added to the activation", y_titles=titles, title=f"{unit} of {subject.name}"
        )


def _scored(
    subject: Subject, arguments: Any, strength: Strength, tokens: list[str] | None, controls: int
) -> SteeringScore:
    from agent.toolbox.steering import contexts_of
    from agent.toolbox.texts import token_of
    from tools.steering import steering_score
    from tools.types import UnitId

    return steering_score(
        subject, UnitId.parse(arguments.unit), contexts_of(subject, arguments.texts),
        [part * strength.amount for part in _TRIED],
        tokens=None if tokens is None else [token_of(subject, token) for token in tokens], controls=controls,
        max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature, seed=arguments.seed,
    )  # fmt: skip
