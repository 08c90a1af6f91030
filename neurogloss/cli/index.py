"""``neurogloss index``: build an activation index by itself, or say what is in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from neurogloss.cli.options import Call, pairs, unwrapped, verb
from neurogloss.errors import UsageError
from neurogloss.render.progress import INDEX_STAGES, Stage, make_display
from neurogloss.render.tables import facts, simple_table
from neurogloss.render.text import clean, count, duration, fit, size

if TYPE_CHECKING:
    from tools.index import IndexInfo

app = typer.Typer(
    no_args_is_help=True,
    help=unwrapped(
        """Activation indexes: what units do over a corpus, kept on disk.

    A campaign builds the index that it needs by itself. Build one ahead to spread the work over time or machines; the
    campaign finds it by its content (subject, corpus, units and settings)."""
    ),
)


def build(
    call: Call,
    *,
    subject: Annotated[str, typer.Option(metavar="MODEL", help="Built-in name, folder or hub id.")],
    corpus: Annotated[str, typer.Option(metavar="CORPUS", help="stdlib:, a .jsonl, .txt or .parquet file, a folder.")],
    units: Annotated[list[str], typer.Option(metavar="PATTERN", help="Units, such as 'mlp:2:*'; may be repeated.")],
    dictionary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Sparse dictionary to attach; may be repeated."),
    ] = None,
    corpus_limit: Annotated[int | None, typer.Option(min=1, help="Take at most so many documents.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Take at most so many tokens.")] = None,
    context: Annotated[int | None, typer.Option(min=2, help="Tokens the model sees at once.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
) -> None:
    """Run a corpus through a model once and keep what its units did.

    Kill it at any time: the same command goes on from the last checkpoint.

    [bold]Example[/bold]

      neurogloss index build --subject pycode --corpus stdlib: --units 'mlp:*:*' --units 'head:*:*'
    """
    call.load_libraries()
    from neurogloss.probe import load
    from tools.corpora import load_corpus, require_enough
    from tools.index import IndexSettings, Progress, build_index, describe
    from tools.units import expand

    model = load(subject, dictionaries=pairs(dictionary, "--dictionary"), device=device, dtype=dtype)
    wanted = [unit for pattern in units for unit in expand(model, pattern)]
    documents = load_corpus(corpus, limit=corpus_limit, seed=seed)
    require_enough(documents)
    settings = IndexSettings(context=context, max_tokens=max_tokens, seed=seed)

    with make_display(call.err) as display:

        def show(progress: Progress) -> None:
            done, total, rate = progress.tokens_done, progress.tokens_total, progress.rate or None
            left = (total - done) / rate if rate and total is not None else None
            display.stage(Stage(INDEX_STAGES[progress.stage], done, total, "tokens", rate, left))

        index = build_index(model, documents, wanted, call.settings.home.expanduser(), settings, progress=show)
    told = describe(index.path)
    call.emit(told, page(told))


def info(
    call: Call,
    *,
    which: Annotated[
        str | None, typer.Argument(metavar="PATH|KEY", help="Folder of an index, or how its key begins.")
    ] = None,
) -> None:
    """Say what is in an index: subject, corpus, units, tokens, size on disk. Without a name: list all of them.

    [bold]Examples[/bold]

      neurogloss index info
      neurogloss index info 3f9a --json
    """
    from tools.errors import NeuroglossError
    from tools.index import describe

    if which is not None:
        told = describe(find(which, call.settings.indexes))
        call.emit(told, page(told))
        return
    found, damaged = [], []
    for folder in folders(call.settings.indexes):
        try:
            found.append(describe(folder))
        except NeuroglossError as error:
            damaged.append({"path": str(folder), "error": str(error)})
    empty = Text(f"There is no index in {call.settings.indexes} yet.")
    problems = [Text(fit(clean(f"{d['path']}: {d['error']}"), 400), "yellow") for d in damaged]
    call.emit({"indexes": found, "damaged": damaged}, listing(found) if found else empty, *problems)


verb(app, "build")(build)
verb(app, "info")(info)


def folders(home: Path) -> list[Path]:
    """Folders of complete indexes."""
    return sorted(path.parent for path in home.glob("*/manifest.json") if not path.parent.name.endswith(".building"))


def find(which: str, home: Path) -> Path:
    """The folder of an index given by path, by key or by the beginning of its key."""
    if Path(which).is_dir():
        return Path(which)
    fitting = [folder for folder in folders(home) if folder.name.startswith(which)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(f.name for f in folders(home)[:4]) or "none"
    raise UsageError(
        f"'{which}' is the beginning of {len(fitting)} index keys; give more of it."
        if fitting
        else f"There is no index '{which}' in {home} (there: {known})."
    )


def page(told: IndexInfo) -> RenderableType:
    """One index."""
    lines = facts(
        ("index", told.key),
        ("folder", told.path),
        ("subject", told.subject),
        ("corpus", f"{told.corpus}, {count(told.n_documents)} documents in {count(told.n_contexts)} contexts"),
        ("tokens", _by_name(told.tokens)),
        ("kept whole", f"{_by_name(told.panel_tokens)} (a random panel of contexts)"),
        ("units", _by_name(told.units)),
        ("latents", _by_name(told.latents) or None),
        ("size", f"{size(told.bytes)}, built in {duration(told.seconds)}, {count(told.tokens_per_second)} tokens/s"),
    )
    return Padding(lines, (0, 0, 1, 0))


def listing(found: Sequence[IndexInfo]) -> Table:
    """All indexes, one a line."""
    table = simple_table(("key", "left"), ("subject", "left"), ("corpus", "left"), ("tokens", "right"),
                         ("units", "right"), ("size", "right"))  # fmt: skip
    for one in found:
        units = sum(one.units.values()) + sum(one.latents.values())
        table.add_row(
            one.key, fit(clean(Path(one.subject).name), 14), fit(clean(one.corpus), 20),
            count(sum(one.tokens.values())), count(units), size(one.bytes),
        )  # fmt: skip
    return table


def _by_name(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{clean(name)} {count(n)}" for name, n in counts.items())
