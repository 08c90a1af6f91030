"""``neurogloss patch``: parts of one run put into another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neurogloss.cli.model import (
    Answer,
    Clean,
    Corrupt,
    ModelCall,
    Plot,
    TaskFile,
    Wrong,
    model_verb,
    only,
    pairs_of,
    picture,
)
from neurogloss.errors import UsageError

if TYPE_CHECKING:
    from neurogloss.render.heatmap import HeatMap
    from tools.subject import Subject

Name = Annotated[
    str | None, typer.Argument(metavar="TASK", help="A built-in task: induction, or ioi (on --subject planted).")
]
Pairs = Annotated[int, typer.Option("-n", "--pairs", min=1, max=256, help="Pairs of a built-in task.")]
Site = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_act", "head_z", "head_q", "head_k",
               "head_v", "attn_pattern"]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "patch")(patch)


def task_fields(call: ModelCall, name: str | None, file: Path | None, **pair: str | None) -> tuple[dict[str, Any], str]:
    """The part of a request that says which pairs, and what to call them.

    Raises:
        UsageError: No task and no pair, or several of them.
    """
    given = {key: value for key, value in pair.items() if value is not None}
    if name is not None:
        if file is not None or given:
            raise UsageError("Give a task's name, or prompts of your own, and not both.")
        return {"task": name}, name
    if file is None and not given:
        own = "--clean TEXT with --corrupt TEXT, or many pairs" if pair else "pairs of your own"
        raise UsageError(f"There are no prompts. Name a task (induction), or give {own} with --task FILE.")
    return {"pairs": pairs_of(call, file, **pair)}, "the prompts given" if file is None else file.name


def patch(
    call: ModelCall,
    *,
    task: Name = None,
    clean: Clean = None,
    corrupt: Corrupt = None,
    answer: Answer = None,
    wrong: Wrong = None,
    file: TaskFile = None,
    site: Annotated[Site | None, typer.Option("--site", help="What is patched. (head_z)", show_default=False)] = None,
    positions: Annotated[
        str | None,
        typer.Option("--positions", metavar="each|all|N,N", help="Each position, all at once, or these. (heads: all, "
                     "else each)"),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option("--channels", metavar="each|all|N,N", help="Heads or neurons. (heads: each, else all)"),
    ] = None,
    layer: Annotated[list[int] | None, typer.Option("--layer", metavar="N", help="This one; may be repeated.")] = None,
    window: Annotated[int, typer.Option("--window", min=1, max=64, help="Layers patched together.")] = 1,
    metric: Annotated[
        Literal["logit_difference", "probability", "kl"], typer.Option("--metric", help="What is shown of all three.")
    ] = "logit_difference",
    screen: Annotated[
        int, typer.Option("--screen", min=0, max=256, metavar="N", help="Estimate by gradients and run only the N "
                          "strongest, and N others.")
    ] = 0,
    senders: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="PART", help="Patch paths from this head, MLP or unit; may be repeated."),
    ] = None,
    receivers: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="INPUT", help="And to this input: head:2:0:q, mlp:2, sae:res:3, logits. (logits)"),
    ] = None,
    hold_mlps: Annotated[bool, typer.Option("--hold-mlps", help="Hold MLPs between sender and receiver.")] = False,
    decomposed: Annotated[
        bool,
        typer.Option("--decompose", help="Patch nothing: follow what heads and MLPs (or --from) contribute (CD-T)."),
    ] = False,
    attention: Annotated[
        Literal["all", "values"] | None,
        typer.Option("--attention", help="Decomposed: through where heads look too, or what they move alone. (all)",
                     show_default=False),
    ] = None,
    baseline: Annotated[
        Literal["corrupt", "zero"] | None,
        typer.Option("--baseline", help="Decomposed: a part's output over the corrupted run's, or all. (corrupt)",
                     show_default=False),
    ] = None,
    noise_at: Annotated[
        str | None,
        typer.Option("--noise-at", metavar="N,N", help="Where noise falls on prompts without a twin. (all but 0)"),
    ] = None,
    sigmas: Annotated[float, typer.Option("--sigmas", min=0.01, max=20, help="Size of the noise.")] = 3.0,
    draws: Annotated[int, typer.Option("--draws", min=1, max=64, help="Draws of noise.")] = 10,
    n: Pairs = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of tasks and noise.")] = 0,
    plot: Plot = None,
) -> None:  # fmt: skip
    """Find out which parts of the model carry a behaviour.

    A clean prompt shows the behaviour, its corrupted twin does not. Parts of the clean run are put into the corrupted
    one (denoising: what is enough), and the other way round (noising: what is needed). 1 is as much as the whole
    prompt does. Paths between parts are patched with --from and --to. With --decompose nothing is patched: each part's
    contribution is followed through one pass.

    [bold]Examples[/bold]

      neurogloss patch induction
      neurogloss patch induction --site resid_post --plot streams.png
      neurogloss patch --task docs/tasks/assign.jsonl --positions each --screen 10
      neurogloss patch ioi --subject planted --from head:0:3 --to head:1:2:k --to logits
      neurogloss patch induction --decompose
      neurogloss patch --clean "for i in" --answer " range" --noise-at 2,3
    """
    saved = picture(plot)
    patched = {"site": site, "positions": positions, "channels": channels, "layer": layer, "screen": screen}
    if not decomposed:
        only("--decompose", attention=attention, baseline=baseline)
    else:
        only("patches, of which --decompose makes none", **patched, to=receivers, hold_mlps=hold_mlps,
             noise_at=noise_at)  # fmt: skip
    if senders or receivers:
        only("sweeps; paths with --from and --to have none", **patched)
    asked, name = task_fields(call, task, file, clean=clean, corrupt=corrupt, answer=answer, wrong=wrong)
    subject = call.load()
    from agent.toolbox.patching import PatchArguments, PathPatchArguments, patching, paths, screening
    from neurogloss.render.console import has_colour
    from neurogloss.render.heatmap import save_heatmaps
    from neurogloss.render.patching import paths_maps, paths_page, screen_maps, screen_page, sweep_maps, sweep_page

    value: dict[str, Any] = {"subject": subject.name, "fingerprint": subject.fingerprint, "task": name}
    if decomposed:
        chosen = {"sources": senders or None, "attention": attention or "all", "baseline": baseline or "corrupt"}
        maps = _decomposed(call, subject, {**asked, **chosen, "n": n, "seed": seed}, value)
    elif senders or receivers:
        found_paths = paths(
            subject,
            PathPatchArguments(**asked, n=n, seed=seed, senders=senders or _every_head(subject),
                               receivers=receivers or ["logits"], hold_mlps=hold_mlps),
        )  # fmt: skip
        call.emit({**value, **found_paths.to_json()}, *paths_page(found_paths, subject.name))
        maps = paths_maps(found_paths)
    else:
        site = site or "head_z"
        heads = site.startswith("head_") or site == "attn_pattern"
        arguments = PatchArguments(
            **asked, n=n, seed=seed, site=site, layers=layer, window=window, screen=screen, sigmas=sigmas, draws=draws,
            positions=_choice(positions, "--positions") or ("all" if heads else "each"),
            channels=_choice(channels, "--channels"), noise_positions=_numbers(noise_at, "--noise-at"),
        )  # fmt: skip
        if screen:
            screens = screening(subject, arguments)
            call.emit({**value, "screens": [one.to_json() for one in screens]}, *screen_page(screens, subject.name))
            maps = screen_maps(screens)
        else:
            found = patching(subject, arguments)
            page = sweep_page(found, subject.name, metric, call.out.width, colour=has_colour(call.out))
            call.emit({**value, **found.to_json()}, *page)
            maps = sweep_maps(found, metric)
    if saved is not None:
        save_heatmaps(saved, *maps)


def _decomposed(call: ModelCall, subject: Subject, asked: dict[str, Any], value: dict[str, Any]) -> list[HeatMap]:
    """Contributions of parts, shown; and their map."""
    from agent.toolbox.decomposition import DecomposeArguments, decomposition_of
    from neurogloss.render.console import has_colour
    from neurogloss.render.decomposition import decomposition_maps, decomposition_page

    found = decomposition_of(subject, DecomposeArguments.model_validate(asked))
    page = decomposition_page(found, subject.name, call.out.width, colour=has_colour(call.out))
    call.emit({**value, **found.to_json()}, *page)
    return decomposition_maps(found)


def _every_head(subject: Any) -> list[str]:
    from tools.patching import all_nodes

    return [str(node) for node in all_nodes(subject, mlps=False)]


def _choice(text: str | None, option: str) -> Any:
    return text if text in (None, "each", "all") else _numbers(text, option)


def _numbers(text: str | None, option: str) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} wants numbers joined by commas, not '{text}'.") from error
