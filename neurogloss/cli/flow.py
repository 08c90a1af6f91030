"""``neurogloss flow``: where features come from, and what a prediction is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neurogloss.cli.model import ModelCall, Plot, model_verb, only, picture, texts_of
from neurogloss.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "flow")(flow)


def flow(
    call: ModelCall,
    *,
    units: Annotated[
        str | None, typer.Argument(metavar="UNITS", help="Units whose origin to find, such as sae:res:0-19.")
    ] = None,
    earlier: Annotated[
        list[str] | None,
        typer.Option("--earlier", metavar="GROUP", help="Earlier writers, such as mlp:0 or sae:NAME; may be repeated. "
                     "(the nearest earlier dictionary, else the neurons of all earlier layers)"),
    ] = None,
    through: Annotated[
        list[str] | None,
        typer.Option("--through", metavar="GROUP", help="Follow units through this group; may be repeated, in order."),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="A text whose prediction to take apart; '-': stdin.")
    ] = None,
    position: Annotated[int, typer.Option("--position", help="Whose prediction; negative counts from the end.")] = -1,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.005, max=0.5, help="Drop what contributes less to a state.")
    ] = 0.04,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="How many parts to list.")] = 25,
    plot: Plot = None,
) -> None:  # fmt: skip
    """Follow features across layers, or a prediction back through the model.

    With units, the direction that each writes is matched with what was written before: by earlier units (it persists),
    by its layer's MLP or heads (newborn), by both (processed), by none (unexplained). A match has to be closer than
    99.9 % of random directions. With a text, each residual state is taken apart into what heads brought from where and
    what MLPs added; what contributes too little is dropped.

    [bold]Examples[/bold]

      neurogloss flow sae:res:0-19
      neurogloss flow mlp:3:17 --through mlp:2 --through mlp:1 --through mlp:0
      neurogloss flow --text "def f(self):" --plot flow.svg
    """
    if (units is None) == (text is None):
        raise UsageError("Give UNITS to find their origin, or --text TEXT to take its prediction apart.")
    file = picture(plot)
    if units is not None:
        only("a --text", plot=plot)
        _origins(call, units, earlier, through)
    else:
        assert text is not None
        only("UNITS", earlier=earlier, through=through)
        (given,) = texts_of([text])
        _graph(call, {"text": given, "position": position, "threshold": threshold}, k, file)


def _origins(call: ModelCall, units: str, earlier: list[str] | None, through: list[str] | None) -> None:
    subject = call.load(units)
    from agent.toolbox.flow import UnitOriginsArguments, origins_of
    from neurogloss.render.flow import origins_page

    found = origins_of(subject, UnitOriginsArguments(units=[units], earlier=earlier or None, through=through or []))
    listed = [{**flow.to_json(), "path": steps} for flow, steps in found]
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, "units": listed}
    call.emit(value, *origins_page(subject.name, found))


def _graph(call: ModelCall, asked: dict[str, Any], k: int, file: Path | None) -> None:
    subject = call.load()
    from agent.toolbox.flow import InformationFlowArguments, graph_of
    from neurogloss.render.flow import flow_page, flow_picture
    from neurogloss.render.graphs import save_graph

    graph = graph_of(subject, InformationFlowArguments.model_validate(asked))
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, **graph.to_json()}
    call.emit(value, *flow_page(graph, subject.name, k))
    if file is not None:
        save_graph(file, flow_picture(graph))
