"""``neurogloss concept``: whether the model uses a concept that texts show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurogloss.cli.model import ModelCall, Texts, TextsFile, model_verb, rows_of, texts_of
from neurogloss.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "concept")(concept)


def concept(
    call: ModelCall,
    *,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Texts with the concept and texts without, 8 or more of each: .jsonl with "
                       "the fields 'text' and 'concept' (true or false)."),
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="UNIT|TOKEN", help="A next token, or a unit whose activation to look at.")
    ],
    wrong: Annotated[
        str | None, typer.Option("--wrong", metavar="TOKEN", help="A token whose logit is taken off the target's.")
    ] = None,
    text: Texts = None,
    texts: TextsFile = None,
    layer: Annotated[
        list[int] | None, typer.Option("--layer", metavar="N", help="The output of this layer; may be repeated. (all)")
    ] = None,
    random: Annotated[int, typer.Option("--random", min=50, max=10_000, help="Random vectors beside it.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random vectors.")] = 0,
) -> None:  # fmt: skip
    """Test whether the model uses a concept for a prediction, or for a unit.

    Texts that have a concept and texts that have not differ by a vector in every layer. Where moving along it raises
    the target, by more than moving along differences between texts of one kind does, the model uses the concept there
    (TCAV). The two sets should be alike in all but the concept.

    The target is looked at behind the texts of --text and --texts (8 or more), or a dozen beginnings of texts.

    [bold]Examples[/bold]

      neurogloss concept docs/tasks/method.jsonl --target self
      neurogloss concept docs/tasks/method.jsonl --target " None" --wrong self
    """
    sides: dict[bool, list[str]] = {True: [], False: []}
    for number, row in rows_of(file):
        if not isinstance(row.get("text"), str) or not isinstance(row.get("concept"), bool):
            raise UsageError(f"Line {number} of {file} wants a 'text' and whether it has the 'concept': true or false.")
        sides[row["concept"]].append(row["text"])
    examples = texts_of(text, texts)
    subject = call.load(target if target.startswith(("mlp:", "head:", "sae:", "dir:")) else None)
    from agent.toolbox.concepts import ConceptArguments, concept_test
    from neurogloss.render.concepts import concept_page

    arguments = ConceptArguments.model_validate(
        {"concept": sides[True], "against": sides[False], "texts": examples or None, "target": target, "wrong": wrong,
         "layers": layer or None, "random": random, "seed": seed}
    )  # fmt: skip
    found = concept_test(subject, arguments)
    value = {"subject": subject.name, "fingerprint": subject.fingerprint, "target": target, **found.to_json()}
    call.emit(value, *concept_page(found, file.stem, target, wrong, subject.name))
