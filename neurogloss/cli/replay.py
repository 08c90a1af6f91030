"""``neurogloss replay`` and ``campaign replay``: what was found, done again from what was recorded, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from neurogloss.cli.options import Call, prices, verb
from neurogloss.errors import ExitCode, UsageError
from neurogloss.render.text import clean, count, fit, interval, number, score

if TYPE_CHECKING:
    from agent.claim_changes import Change, ClaimChange
    from agent.replay import Changes, Mode, Replayed

#: Cells of a difference that is shown, and claims; --json has all of them.
_SHOWN, _CLAIMS = 240, 20
_MODES = ("exact", "tools-live", "llm-live")
_NAMES = {"input_half": "fires on", "output_half": "when on", "exceptions": "except", "verdict_input": "fires on is",
          "verdict_output": "when on is", "weighted_f1": "F1", "average_precision": "average precision"}  # fmt: skip

Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the replay in this new database. (thrown away)")]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Investigations at once.")]


def register(app: typer.Typer) -> None:
    """Adds the verb that replays investigations."""
    verb(app, "replay")(replay)


def register_campaign(app: typer.Typer) -> None:
    """Adds the verb to the group of campaign verbs."""
    verb(app, "replay")(replay_campaign)


def replay(
    call: Call,
    *,
    investigation: Annotated[
        str,
        typer.Argument(
            metavar="INVESTIGATION",
            help="I12 (as evidence names it), CAMPAIGN/UNIT, or CAMPAIGN for all.",
        ),
    ],
    mode: Annotated[str, typer.Option(help="exact, tools-live or llm-live: how much is computed anew.")] = "exact",
    llm: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="llm-live: ask this one. (the campaign's own)")
    ] = None,
    llm_price: Annotated[
        str | None, typer.Option(metavar="PROMPT,ANSWER", help="llm-live: dollars for a million tokens.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="llm-live: NAME.md files in place of the prompts of those names."),
    ] = None,
    out: Out = None,
    workers: Workers = None,
) -> None:
    """Do investigations of a finished campaign again from what was recorded, and compare claim by claim.

    [bold]exact[/bold] runs nothing on the model and asks no language model. What came of gathering evidence, proposing
    rivals, planning and running trials, revising, scoring and trying predictions is played back, and found only if
    everything before it comes to the same to the last bit. Done again: triage, the weighing of rivals, the choice among
    them, the claim, its digest and predictions, verdicts, error control, all rows. The database's content must have the
    same hash. (The model's weights and its activation index are read.)

    [bold]tools-live[/bold] runs the model again, from the start; language models' answers are those on record. Numbers
    must agree to 1e-5 and all else must be the same.

    [bold]llm-live[/bold] asks language models again too: the campaign's, another (--llm), or with other prompts
    (--prompts). What became of each claim is told.

    The work is done in a copy of the campaign. The status is 0 when both say the same and 1 when they do not.

    [bold]Examples[/bold]

      neurogloss replay demo/mlp:2:17
      neurogloss replay I12 --mode tools-live
      neurogloss replay demo --json
      neurogloss replay words --mode llm-live --prompts ./my-prompts
    """
    if mode not in _MODES:
        raise UsageError(f"--mode is one of {', '.join(_MODES)}, not '{mode}'.")
    if mode != "llm-live" and (llm or prompts or llm_price):
        raise UsageError(f"--llm, --llm-price and --prompts are for --mode llm-live; {mode} asks no language model.")
    if prompts is not None and not prompts.is_dir():
        raise UsageError(f"There is no folder {prompts}. Prompts are NAME.md files in a folder.")
    _replay(call, investigation, mode, out, workers, changes=(llm, llm_price, prompts))  # type: ignore[arg-type]


def replay_campaign(
    call: Call,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A finished campaign of the database.")],
    out: Out = None,
    workers: Workers = None,
) -> None:
    """Run a finished campaign again from what was recorded, and compare.

    The model under study runs as before; language models are not asked, their answers are those of the database. What
    both runs found is then compared, but for moments, costs and numbers of attempts. The status is 0 when they say the
    same and 1 when they do not. It is `neurogloss replay NAME --mode tools-live`, which has other modes, too.

    [bold]Examples[/bold]

      neurogloss campaign replay demo
      neurogloss campaign replay demo --out again.db
    """
    _replay(call, name, "tools-live", out, workers)


def _replay(
    call: Call,
    name: str,
    mode: Mode,
    out: Path | None,
    workers: int | None,
    *,
    changes: tuple[str | None, str | None, Path | None] = (None, None, None),
) -> None:
    import store

    with call.database() as database:
        if not name.removeprefix("I").isdigit():
            store.get_campaign(
                database, name.partition("/")[0]
            )  # before the libraries are loaded: names those there are
    call.load_libraries()
    from agent.replay import Changes, find_investigations, replay_campaign
    from neurogloss.cli.interrupt import stopping_on_ctrl_c
    from neurogloss.cli.watch import Watcher
    from neurogloss.render.progress import make_display

    llm, price, prompts = changes
    settings = {} if price is None else {"price": prices(price)}
    changed: Changes | None = Changes(llm, prompts, settings) if mode == "llm-live" else None
    with make_display(call.err) as display, stopping_on_ctrl_c(display) as stop, call.database() as database:
        campaign, only = find_investigations(database, name)
        found = replay_campaign(
            database, campaign, home=call.settings.home.expanduser(), only=only, mode=mode, changes=changed, out=out,
            workers=workers, observer=Watcher(display, tell_estimate=False), stop=stop,
        )  # fmt: skip
    if found is None:
        raise KeyboardInterrupt
    call.emit(found.to_json(), *_told(found))
    if not found.same:
        raise typer.Exit(int(ExitCode.FAULT))


def _told(found: Replayed) -> list[RenderableType]:
    answers = f", {count(found.answers)} answers of language models from the record" if found.answers else ""
    asked = f", {count(found.asked)} calls to language models" if found.asked else ""
    played = f", {count(found.played)} steps played back" if found.played else ""
    did = f"{count(found.investigations)} investigations ({found.mode}){played}{answers}{asked}"
    head = f"campaign '{clean(found.campaign)}', {did}."
    lines: list[RenderableType] = []
    if found.same:
        lines.append(Text(f"The same: {head}", "green"))
    elif found.mode == "llm-live":
        lines.append(Text(f"{count(len(found.claims))} claims are others: {head}", "bold"))
    else:
        lines.append(Text(f"Different: {head} In the database ≠ in the replay:", "bold red"))
        lines += [Text(f"  {fit(clean(line), _SHOWN)}") for line in found.differences]
    if found.mode == "exact" and found.same:
        lines.append(Text(f"content {found.hashes[0]}", "dim"))
    elif found.largest is not None:
        lines.append(Text(f"largest difference of a number: {number(found.largest)}", "dim"))
    for claim in found.claims[:_CLAIMS]:
        lines += _claim(claim)
    if len(found.claims) > _CLAIMS:
        lines.append(Text(f"and {len(found.claims) - _CLAIMS} more claims: --json has all of them", "dim"))
    kept = [Text(f"The replay is kept in {clean(found.out)}.")] if found.out is not None else []
    return [*lines, *kept]


def _claim(claim: ClaimChange) -> list[RenderableType]:
    head = {"gone": " is there no longer", "new": " is new"}.get(claim.kind, "")
    return [Text(f"\n{clean(claim.unit)}{head}", "bold"), *(line for one in claim.changes for line in _change(one))]


def _change(one: Change) -> list[RenderableType]:
    name = _NAMES.get(one.what, clean(one.what).replace("_", " "))
    before, after = _shown(one.before), _shown(one.after)
    if len(name) + len(before) + len(after) < 60:
        return [Text(f"  {name}: {before} → {after}")]
    return [
        Text(f"  {name}:"), Text(f"    - {fit(before, _SHOWN)}", "red"), Text(f"    + {fit(after, _SHOWN)}", "green")
    ]  # fmt: skip


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple) and len(value) == 3:
        return score(value[0]) if value[1] is None else interval(*value)
    return clean(str(value))
