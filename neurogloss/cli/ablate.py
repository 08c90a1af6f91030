"""``neurogloss ablate``: what the model's predictions lose without some units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neurogloss.cli.model import ModelCall, Plot, Texts, TextsFile, model_verb, picture, texts_of
from neurogloss.errors import UsageError

if TYPE_CHECKING:
    from tools.ablation import Reference
    from tools.subject import Subject

#: Documents of a corpus that are looked at, texts that are run of it, contexts that serve as reference, and their size.
_DOCUMENTS, _TEXTS, _REFERENCES, _WIDTH = 400, 16, 64, 64


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "ablate")(ablate)


def ablate(
    call: ModelCall,
    *,
    units: Annotated[str, typer.Argument(metavar="UNITS", help="A unit or a pattern: head:2:5, 'mlp:1:0-9'.")],
    text: Texts = None,
    texts: TextsFile = None,
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", metavar="CORPUS", help="Where reference texts are from (and texts, if none are "
                     "given): stdlib:, a file, a folder."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE", help="A reference set kept before; or, with --keep, to be kept."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the reference set to --reference.")] = False,
    kind: Annotated[
        Literal["resample", "mean", "zero"],
        typer.Option("--kind", help="What a unit is given: its value in another text, its mean at the position, zero."),
    ] = "resample",
    together: Annotated[bool, typer.Option("--together", help="Ablate all units at once.")] = False,
    draws: Annotated[int, typer.Option("--draws", min=1, max=64, help="Other texts each text is run with.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Tokens to list.")] = 8,
    plot: Plot = None,
) -> None:  # fmt: skip
    """Take units away and see what the predictions lose.

    What takes a unit's place matters: by default it is the unit's own value in another text, at the same position.
    Without texts, some of a corpus are run; the parts of it that descriptions are tested on are never touched.

    [bold]Examples[/bold]

      neurogloss ablate head:2:5 --corpus stdlib:
      neurogloss ablate 'head:*:*' --text "def f(x): return x" --kind zero
      neurogloss ablate 'head:*:*' --corpus stdlib: --plot heads.png
      neurogloss ablate 'mlp:2:0-99' --texts snippets.jsonl --corpus stdlib: --kind mean
      neurogloss ablate mlp:1:3 --corpus stdlib: --reference ref.json --keep
    """
    given = texts_of(text, texts)
    if not given and corpus is None:
        raise UsageError("There is no text to run. Give --text TEXT, --texts FILE, or --corpus CORPUS (stdlib:).")
    if keep and reference is None:
        raise UsageError("--keep wants a file to write to: --reference FILE.")
    if together and plot is not None:
        raise UsageError("--plot compares units; leave out --together.")
    file = picture(plot)
    subject = call.load(units)
    from agent.toolbox.ablation import AblateArguments, ablation
    from neurogloss.render.ablation import ablation_maps, ablation_page
    from neurogloss.render.heatmap import save_heatmaps

    drawn, others = _from_corpus(subject, corpus) if corpus is not None else ([], None)
    kept = _reference(subject, reference, keep=keep, drawn=others)
    arguments = AblateArguments(
        units=[units], texts=given or drawn, together=together, kind=kind, draws=draws, seed=seed, k=k
    )
    found = ablation(subject, arguments, None, kept)
    value: dict[str, Any] = {"subject": subject.name, "fingerprint": subject.fingerprint, **found.to_json()}
    call.emit(value, *ablation_page(found, subject.name))
    if file is not None:
        save_heatmaps(file, *ablation_maps(found))


def _reference(subject: Subject, file: Path | None, *, keep: bool, drawn: Reference | None) -> Reference | None:
    from tools.ablation import Reference

    if file is None or (keep and drawn is not None):
        if file is not None and drawn is not None:
            drawn.save(file)
        return drawn
    return Reference.load(file)


def _from_corpus(subject: Subject, corpus: str) -> tuple[list[str], Reference]:
    """Texts to run and contexts to refer to, of different documents of the open splits."""
    from tools.ablation import Reference
    from tools.corpora import load_corpus
    from tools.types import Split

    read = load_corpus(corpus, limit=_DOCUMENTS)
    texts: dict[Split, list[str]] = {Split.EXPLORE: [], Split.REFINE: []}
    for i, document in enumerate(read.documents):
        split = read.split_of(i)
        if split in texts and len(texts[split]) < _REFERENCES:
            ids = subject.encode(document.text[: 20 * _WIDTH], _WIDTH)
            if len(ids) == min(_WIDTH, subject.context):
                texts[split].append(document.text[: 20 * _WIDTH])
    if not texts[Split.EXPLORE] or not texts[Split.REFINE]:
        raise UsageError(f"The corpus '{corpus}' has too few documents of {_WIDTH} tokens; give another.")
    cut = [
        "".join(subject.pieces(subject.encode(one, _WIDTH - 4)[len(subject.prefix) :])) for one in texts[Split.REFINE]
    ]
    reference = Reference.of(subject, texts[Split.EXPLORE], f"documents of {corpus}, the explore split", _WIDTH)
    return cut[:_TEXTS], reference
