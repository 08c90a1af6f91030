"""The command `neurogloss`: its verbs put together."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer
from typer.core import TyperGroup

from neurogloss.cli import (
    ablate,
    activate,
    attribute,
    campaign,
    chat,
    circuit,
    concept,
    discover,
    doctor,
    evidence,
    explainer,
    flow,
    heads,
    index,
    lens,
    patch,
    patchscope,
    recheck,
    replay,
    search,
    show,
    steer,
    units,
)
from neurogloss.cli.options import Db, Debug, Home, Json, NoColor, Shared, unwrapped

HELP = """
Find out, unit by unit, what the parts of a language model do, with honest scores.

A [bold]campaign[/bold] describes a set of units (MLP neurons, attention heads, sparse-dictionary latents), tests every
description on text that the explainer never saw, and keeps what it found in a database. The other commands read that
database, or ask the model.

[bold]Start here[/bold]

  neurogloss campaign run demo      describe parts of the built-in model
  neurogloss units                  what was found, best supported first
  neurogloss show mlp:2:17          all that is known of one unit
  neurogloss evidence mlp:2:17      how it came to be known: its lab notebook
  neurogloss search "opening bracket"
  neurogloss chat                   ask about units, try things on the model
  neurogloss doctor                 what is installed, and what is missing
"""


class Ordered(TyperGroup):
    """Lists the commands in the order in which one meets them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names of the commands."""
        order = [
            "campaign", "units", "show", "evidence", "search", "chat", "replay", "recheck", "discover", "explainer",
            "index", "doctor", "activate", "lens", "attribute", "concept", "ablate", "patch", "steer", "patchscope",
            "heads", "flow",
            "circuit",
        ]  # fmt: skip
        return sorted(self.commands, key=order.index)


app = typer.Typer(
    name="neurogloss", cls=Ordered, help=unwrapped(HELP), rich_markup_mode="rich", no_args_is_help=True,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"neurogloss {version('neurogloss')}")
        raise typer.Exit


@app.callback()
def _shared(
    ctx: typer.Context,
    *,
    db: Db = None,
    home: Home = None,
    as_json: Json = False,
    no_color: NoColor = False,
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    ctx.obj = Shared(db=db, home=home, json=as_json, no_color=no_color, debug=debug)


app.add_typer(campaign.app, name="campaign")
app.add_typer(evidence.app, name="evidence")
app.add_typer(explainer.app, name="explainer")
app.add_typer(index.app, name="index")
units.register(app)
show.register(app)
search.register(app)
recheck.register(app)
replay.register(app)
discover.register(app)
chat.register(app)
activate.register(app)
attribute.register(app)
concept.register(app)
lens.register(app)
heads.register(app)
flow.register(app)
ablate.register(app)
patch.register(app)
circuit.register(app)
steer.register(app)
patchscope.register(app)
doctor.register(app)


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        # Bars, marks and token text are not ASCII; a terminal that cannot show a character gets a substitute.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if not sys.warnoptions and "--debug" not in sys.argv:
        # What libraries warn of is for developers, and would break the progress display.
        warnings.simplefilter("ignore")
    app(prog_name="neurogloss")
