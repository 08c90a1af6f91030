"""``neurogloss patchscope``: hidden states, put into another text."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, model_verb, picture, texts_of


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "patchscope")(patchscope)


def patchscope(
    call: ModelCall,
    *,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text whose states to look at; '-': stdin.")],
    position: Annotated[
        int | None,
        typer.Option("--position", metavar="N", min=0, help="Of the state, from 0. (the last token)"),
    ] = None,
    prompt: Annotated[
        Literal["identity", "description"],
        typer.Option("--prompt", help="Put it into examples of tokens, or of descriptions."),
    ] = "identity",
    into: Annotated[
        str | None, typer.Option("--into", metavar="TEXT", help="Or into a text of yours, at its last token.")
    ] = None,
    into_position: Annotated[
        int | None, typer.Option("--into-position", metavar="N", min=0, help="Or at this one.")
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option("--layer", metavar="N", help="Read behind this layer only; may be repeated.")
    ] = None,
    into_layer: Annotated[
        list[int] | None,
        typer.Option("--into-layer", metavar="N", help="Put behind this layer; may be repeated. (where it was read)"),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Every layer into every layer.")] = False,
    write: Annotated[int, typer.Option("--write", min=0, max=100, help="Tokens to write after the text.")] = 0,
    gold: Annotated[
        str | None, typer.Option("--gold", metavar="WORDS", help="Look for these words in what is written.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Likeliest tokens to list.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random vectors.")] = 0,
    plot: Plot = None,
) -> None:
    """Put the hidden state of a token into another text, and read what the model makes of it.

    Layer by layer, the state takes the place of one in the other text: what is predicted there, or written, is what it
    means to the model. Any vector makes the model say something, so each cell is compared with random vectors as long;
    cells without a mark say no more than these.

    [bold]Examples[/bold]

      neurogloss patchscope "def add(self, value"
      neurogloss patchscope "import os.path" --position 2 --write 8
      neurogloss patchscope "for i in range(" --into "x = y" --grid --plot grid.png
      neurogloss patchscope "Diana, princess of Wales" --prompt description --write 20 --gold Britain
    """
    (given,) = texts_of([text])
    file = picture(plot)
    call.load_libraries()
    from agent.toolbox.patchscopes import PatchscopeArguments, inspected
    from neurogloss.errors import UsageError
    from neurogloss.render.heatmap import save_heatmaps
    from neurogloss.render.patchscopes import patchscope_maps, patchscope_page

    if grid and into_layer:
        raise UsageError("--grid already puts states behind every layer; leave out --into-layer.")
    arguments = PatchscopeArguments(
        text=given, position=position, prompt=prompt, target=into, target_position=into_position, layers=layer or None,
        target_layers=into_layer or None, write=write, gold=gold, k=k, seed=seed,
    )  # fmt: skip
    subject = call.load()
    if grid:
        arguments = arguments.model_copy(update={"target_layers": list(range(subject.n_layers))})
    found = inspected(subject, arguments)
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, **found.to_json()}
    call.emit(value, *patchscope_page(found, subject.name))
    if file is not None:
        save_heatmaps(file, *patchscope_maps(found))
