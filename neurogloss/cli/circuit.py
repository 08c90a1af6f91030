"""``neurogloss circuit``: the parts of the model that carry a task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, TaskFile, model_verb, picture
from neurogloss.cli.patch import Name, Pairs, task_fields


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "circuit")(circuit)


def circuit(
    call: ModelCall,
    *,
    task: Name = None,
    file: TaskFile = None,
    mlps: Annotated[bool, typer.Option("--mlps", help="Also look at whole MLPs; else they stay as they are.")] = False,
    neurons: Annotated[
        int, typer.Option("--neurons", min=0, max=256, help="Also look at so many neurons, strongest by gradients.")
    ] = 0,
    latents: Annotated[
        int, typer.Option("--latents", min=0, max=256, help="Also at so many latents of attached dictionaries.")
    ] = 0,
    unit: Annotated[
        list[str] | None,
        typer.Option("--unit", metavar="UNIT", help="Also at this neuron, latent or direction; may be repeated."),
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads/--no-heads", help="Look at all heads; else they stay as they are.")
    ] = True,
    ablation: Annotated[
        Literal["resample", "mean", "zero"],
        typer.Option("--ablation", help="What ablated parts are given: their output on the twin, its mean, zero."),
    ] = "resample",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.001, max=0.5, help="How far it may be from the whole model.")
    ] = 0.05,
    draws: Annotated[int, typer.Option("--draws", min=2, max=256, help="Random sets that it is compared with.")] = 32,
    n: Pairs = 32,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the task and of random sets.")] = 0,
    plot: Plot = None,
) -> None:  # fmt: skip
    """Find the heads that carry a task, and see how good an account of it they are.

    Parts are ablated as long as the task does not suffer. What is left is judged on pairs of its own: is it enough
    (faithfulness), is nothing left outside (completeness), is each part needed (minimality), each beside random sets of
    parts of the same size. Neurons and latents of attached dictionaries can be parts, too: those that gradients find
    strongest, or named ones.

    [bold]Examples[/bold]

      neurogloss circuit induction --plot circuit.png
      neurogloss circuit ioi --subject planted
      neurogloss circuit --task docs/tasks/assign.jsonl --mlps
      neurogloss circuit --task docs/tasks/assign.jsonl --no-heads --latents 20
    """
    saved = picture(plot)
    asked, name = task_fields(call, task, file)
    subject = call.load()
    from agent.toolbox.circuit import CircuitArguments, circuit_of
    from neurogloss.render.circuit import circuit_graph, circuit_page
    from neurogloss.render.graphs import save_graph

    arguments = CircuitArguments(
        **asked, n=max(2, n), seed=seed, heads=heads, mlps=mlps, neurons=neurons, latents=latents, units=unit or None,
        ablation=ablation, tolerance=tolerance, draws=draws,
    )  # fmt: skip
    found, used, given = circuit_of(subject, arguments)
    value: dict[str, Any] = {
        "subject": subject.name, "fingerprint": subject.fingerprint, "task": name, "pairs_used": used,
        "pairs_given": given, **found.to_json(),
    }  # fmt: skip
    call.emit(value, *circuit_page(found, subject.name, name, used, given))
    if saved is not None:
        save_graph(saved, circuit_graph(found, name))
