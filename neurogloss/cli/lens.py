"""``neurogloss lens``: streams and directions seen through the vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, model_verb, only, picture, texts_of
from neurogloss.errors import UsageError


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
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", metavar="MODEL", help="Let the decoder of this encoder-decoder model write from each "
                     "layer of its encoder: a folder or hub id."),
    ] = None,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, max=256, help="That the decoder writes.")] = 20,
    streams: Annotated[
        Literal["alone", "embedding"],
        typer.Option("--streams", help="What stands for a token: its stream where the unit reads, or its embedding."),
    ] = "alone",
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many tokens to list.")] = 10,
    plot: Plot = None,
) -> None:  # fmt: skip
    """See what the model would predict from an earlier layer, or what a unit reads and writes.

    With a text, each layer's residual stream is put in the place of the last one: which token it would predict, and
    how likely it finds the one that comes. With a unit, its weights are read: the tokens that excite it, and the
    tokens whose logits it raises and lowers.

    Encoder-decoder models (T5, BART) have --decoder: their decoder writes from an earlier layer of the encoder.

    [bold]Examples[/bold]

      neurogloss lens --text "def f(self):" --plot lens.png
      neurogloss lens --text "import os" --target " os"
      neurogloss lens mlp:2:17
      neurogloss lens --fit stdlib: --tokens 50000
      neurogloss lens --text "def f(self):" --tuned
      neurogloss lens --decoder google-t5/t5-small --text "translate"
    """
    chosen = [name for name, given in (("UNIT", unit), ("--text", text), ("--fit", fit)) if given is not None]
    if len(chosen) != 1:
        but = f", not {' and '.join(chosen)} at once" if chosen else ""
        raise UsageError(f"Give one of UNIT, --text TEXT and --fit CORPUS{but}.")
    if text is None:
        only("a --text", target=target, layer=layer, middle=middle, tuned=tuned, decoder=decoder, plot=plot)
    file = picture(plot)
    if unit is not None:
        _unit(call, unit, streams, k)
    elif fit is not None:
        _fit(call, fit, {"tokens": tokens, "method": method})
    else:
        assert text is not None
        (given,) = texts_of([text])
        if decoder is not None:
            only("a subject; --decoder names a model of its own", subject=call.choice.subject, target=target,
                 layer=layer, middle=middle, tuned=tuned, plot=plot)  # fmt: skip
            _decoder(call, decoder, given, new_tokens, k)
            return
        asked = {"text": given, "target": target, "layers": layer or None, "middle": middle, "tuned": tuned, "k": k}
        _text(call, asked, file)


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


def _text(call: ModelCall, asked: dict[str, Any], file: Path | None) -> None:
    subject = call.load()
    from agent.toolbox.reading import LogitLensArguments, lens_reading
    from neurogloss.render.console import has_colour
    from neurogloss.render.heatmap import save_heatmaps
    from neurogloss.render.lenses import lens_maps, text_page

    found = lens_reading(subject, LogitLensArguments.model_validate(asked), call.settings.home)
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, **found.to_json()}
    call.emit(value, *text_page(found, subject.name, call.out.width, colour=has_colour(call.out)))
    if file is not None:
        save_heatmaps(file, *lens_maps(found))


def _fit(call: ModelCall, corpus: str, asked: dict[str, Any]) -> None:
    subject = call.load()
    from agent.toolbox.tuned import TRIED, FitTunedLensArguments, fit_and_try
    from neurogloss.render.lenses import fit_page
    from tools.corpora import load_corpus
    from tools.types import Split

    arguments = FitTunedLensArguments.model_validate(asked)
    read = load_corpus(corpus)
    texts: dict[Split, list[list[int]]] = {Split.EXPLORE: [], Split.REFINE: []}
    for i, document in enumerate(read.documents):
        split = read.split_of(i)
        most = {Split.EXPLORE: arguments.tokens, Split.REFINE: min(TRIED, arguments.tokens)}.get(split, 0)
        if sum(map(len, texts.get(split, []))) < most:
            ids = subject.encode(document.text)[: 8 * subject.context]
            own = subject.context - len(subject.prefix)
            plain = ids[len(subject.prefix) :]
            texts[split] += [[*subject.prefix, *plain[j : j + own]] for j in range(0, len(plain), own)]
    call.err.print(f"Fitting on {sum(map(len, texts[Split.EXPLORE])):,} tokens …", style="dim")
    found = fit_and_try(subject, call.settings.home, texts[Split.EXPLORE], texts[Split.REFINE], arguments)
    call.emit(found.to_json(), *fit_page(found))


def _decoder(call: ModelCall, model: str, text: str, new_tokens: int, k: int) -> None:
    call.load_libraries()
    from neurogloss.render.lenses import decoder_page
    from tools.lenses.decoder import decoder_lens, load_encoder_decoder

    chosen = load_encoder_decoder(model, device=call.choice.device, dtype=call.choice.dtype)
    found = decoder_lens(chosen.model, chosen.tokenizer, text, max_new_tokens=new_tokens, k=k)
    value = {"model": chosen.name, "fingerprint": chosen.fingerprint, **found.to_json()}
    call.emit(value, *decoder_page(found, chosen.name))
