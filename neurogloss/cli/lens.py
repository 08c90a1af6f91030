"""``neurogloss lens``: streams and directions seen through the vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, model_verb, only, picture, texts_of
from neurogloss.errors import UsageError

if TYPE_CHECKING:
    from tools.lenses.tuned import TunedLens
    from tools.subject import Subject

#: Tokens on which a fitted lens is tried out.
_TRIED = 10_000


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "lens")(lens)


def lens(
    call: ModelCall,
    *,
    unit: Annotated[
        str | None, typer.Argument(metavar="UNIT", help="A unit whose weights to read, such as mlp:2:17.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="A text whose residual streams to read; '-': stdin.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TOKEN", help="Look this token up everywhere, not the text's next ones."),
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option("--layer", metavar="N", help="Read this layer only; may be repeated.")
    ] = None,
    middle: Annotated[bool, typer.Option("--middle", help="Also read between attention and the MLP.")] = False,
    tuned: Annotated[bool, typer.Option("--tuned", help="Through the tuned lens that was fitted.")] = False,
    fit: Annotated[
        str | None,
        typer.Option("--fit", metavar="CORPUS", help="Fit the tuned lens on a corpus, and keep it in the data folder."),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1_000, help="Tokens to fit on.")] = 50_000,
    method: Annotated[
        Literal["kl", "least-squares"], typer.Option("--method", help="What the fit makes small.")
    ] = "kl",
    streams: Annotated[
        Literal["alone", "embedding"],
        typer.Option("--streams", help="What stands for a token: its stream where the unit reads, or its embedding."),
    ] = "alone",
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many tokens to list.")] = 10,
    plot: Plot = None,
) -> None:
    """See what the model would predict from an earlier layer, or what a unit reads and writes.

    With a text, each layer's residual stream is put in the place of the last one: which token it would predict, and
    how likely it finds the one that comes. With a unit, its weights are read: the tokens that excite it, and the
    tokens whose logits it raises and lowers.

    [bold]Examples[/bold]

      neurogloss lens --text "def f(self):" --plot lens.png
      neurogloss lens --text "import os" --target " os"
      neurogloss lens mlp:2:17
      neurogloss lens --fit stdlib: --tokens 50000
      neurogloss lens --text "def f(self):" --tuned
    """
    chosen = [name for name, given in (("UNIT", unit), ("--text", text), ("--fit", fit)) if given is not None]
    if len(chosen) != 1:
        but = f", not {' and '.join(chosen)} at once" if chosen else ""
        raise UsageError(f"Give one of UNIT, --text TEXT and --fit CORPUS{but}.")
    if text is None:
        only("a --text", target=target, layer=layer, middle=middle, tuned=tuned, plot=plot)
    file = picture(plot)
    if unit is not None:
        _unit(call, unit, streams, k)
    elif fit is not None:
        _fit(call, fit, tokens, method)
    else:
        assert text is not None
        (given,) = texts_of([text])
        asked = {"text": given, "target": target, "layers": layer or None, "middle": middle, "k": k}
        _text(call, asked, tuned=tuned, file=file)


def _unit(call: ModelCall, unit: str, streams: Literal["alone", "embedding"], k: int) -> None:
    subject = call.load(unit)
    from neurogloss.render.lenses import unit_page
    from tools.errors import UnitError
    from tools.lenses import read_lens, write_lens
    from tools.types import UnitId

    parsed = UnitId.parse(unit)
    read, write = read_lens(subject, parsed, k, streams), write_lens(subject, parsed, k)
    if read is None and write is None:
        raise UnitError(
            f"'{parsed}' neither reads nor writes one direction of the residual stream. For heads there is "
            f"'neurogloss heads {parsed}'."
        )
    value = {"unit": str(parsed), "subject": subject.name, "fingerprint": subject.fingerprint,
             "reads": read, "writes": write}  # fmt: skip
    call.emit(value, *unit_page(parsed, subject.name, read, write))


def _text(call: ModelCall, asked: dict[str, Any], *, tuned: bool, file: Path | None) -> None:
    subject = call.load()
    from agent.toolbox.reading import LogitLensArguments, lens_reading
    from neurogloss.render.console import has_colour
    from neurogloss.render.heatmap import save_heatmaps
    from neurogloss.render.lenses import lens_maps, text_page

    lens = _fitted(call, subject) if tuned else None
    found = lens_reading(subject, LogitLensArguments.model_validate(asked), lens)
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, **found.to_json()}
    call.emit(value, *text_page(found, subject.name, call.out.width, colour=has_colour(call.out)))
    if file is not None:
        save_heatmaps(file, *lens_maps(found))


def _place(call: ModelCall, subject: Subject) -> Path:
    return call.settings.home / "lenses" / f"{subject.fingerprint}.safetensors"


def _fitted(call: ModelCall, subject: Subject) -> TunedLens:
    from tools.lenses.tuned import TunedLens

    place = _place(call, subject)
    if not place.is_file():
        raise UsageError(f"No tuned lens of '{subject.name}' was fitted yet. Fit one: neurogloss lens --fit CORPUS")
    return TunedLens.load(place, subject)


def _fit(call: ModelCall, corpus: str, tokens: int, method: Literal["kl", "least-squares"]) -> None:
    subject = call.load()
    from neurogloss.render.lenses import fit_page
    from tools.corpora import load_corpus
    from tools.lenses.logit import lens_profile
    from tools.lenses.tuned import fit_tuned_lens
    from tools.types import Split

    read = load_corpus(corpus)
    texts: dict[Split, list[list[int]]] = {Split.EXPLORE: [], Split.REFINE: []}
    for i, document in enumerate(read.documents):
        split = read.split_of(i)
        most = {Split.EXPLORE: tokens, Split.REFINE: min(_TRIED, tokens)}.get(split, 0)
        if sum(map(len, texts.get(split, []))) < most:
            ids = subject.encode(document.text)[: 8 * subject.context]
            own = subject.context - len(subject.prefix)
            plain = ids[len(subject.prefix) :]
            texts[split] += [[*subject.prefix, *plain[j : j + own]] for j in range(0, len(plain), own)]
    call.err.print(f"Fitting on {sum(map(len, texts[Split.EXPLORE])):,} tokens …", style="dim")
    lens = fit_tuned_lens(subject, texts[Split.EXPLORE], method=method)
    path = _place(call, subject)
    lens.save(path)
    before = lens_profile(subject, texts[Split.REFINE])
    after = lens_profile(subject, texts[Split.REFINE], tuned=lens)
    value = {"file": path, "lens": lens.to_json(), "plain": before.to_json(), "tuned": after.to_json()}
    call.emit(value, *fit_page(path, lens.tokens, before, after))
