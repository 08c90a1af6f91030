"""The tool `attribute`: what a unit's activation, or a prediction, rests on."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Seed, Text, TopK
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded, token_of
from agent.toolbox.workbench import Workbench
from tools.ablation import Reference
from tools.attribution import Attribution, Method, Options, Target, TokenTarget, UnitTarget, attribute
from tools.errors import UnitError
from tools.subject import Subject
from tools.types import UnitId
from tools.units import check_unit, unit_activations

#: How a target that is a unit begins.
_UNIT = re.compile(r"(mlp|head|sae|dir|fn):\S")

#: Reference texts, at most.
MOST_REFERENCE = 512


class AttributeArguments(Arguments):
    """Arguments of `attribute`."""

    text: Text
    target: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="What is explained: a unit's activation (mlp:3:17), or the logit of a next token, with its leading "
        "space if it has one. Left out: the likeliest next token.",
    )
    wrong: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="A token whose logit is taken off that of the target."
    )
    position: int | None = Field(
        default=None,
        ge=-1_000_000,
        le=1_000_000,
        description="Where in the text; negative counts from its end. Left out: of a token the end, of a unit where it "
        "is strongest.",
    )
    method: Method | None = Field(
        default=None,
        description="occlusion (replace each token), anchor (the smallest set of tokens that is enough), ig, gradient, "
        "normxlogit: by tokens. ig, conductance, direct: by units. direct: by parts of the model. Left out: occlusion, "
        "or ig of units.",
    )
    units: Annotated[str, Field(min_length=4, max_length=400)] | None = Field(
        default=None, description="Attribute to these units instead of tokens: a pattern such as mlp:2:*;head:*:*."
    )
    reference: Annotated[list[Text], Field(min_length=1, max_length=MOST_REFERENCE)] | None = Field(
        default=None,
        description="Texts from which replacements are drawn, and over which means are taken. Left out: the model's "
        "own predictions, and its vocabulary.",
    )
    baseline: Literal["zero", "mean"] = Field(
        default="zero", description="What units are compared with; a mean needs a reference."
    )
    steps: int = Field(default=64, ge=8, le=1024, description="Gradients along a path, at most.")
    draws: int = Field(default=8, ge=2, le=64, description="Replacements of each token.")
    window: int = Field(default=48, ge=1, le=256, description="Tokens next to the position that are replaced.")
    k: TopK = 15
    seed: Seed = 0


def attribution_of(subject: Subject, arguments: AttributeArguments) -> Attribution:
    """What `attribute` is asked for.

    Raises:
        UnitError: The position is beyond the text, a unit is not there, or the method does not suit what is asked.
        SubjectError: The text has no tokens, or the target is neither a unit nor one token.
    """
    (ids,), _ = encoded(subject, [arguments.text])
    reference = None
    if arguments.reference is not None:
        reference = Reference.of(subject, arguments.reference, f"{len(arguments.reference)} texts that were given")
    options = Options(
        reference=reference, baseline=arguments.baseline, steps=arguments.steps, draws=arguments.draws,
        window=arguments.window, seed=arguments.seed,
    )  # fmt: skip
    method: Method = arguments.method or ("ig" if arguments.units else "occlusion")
    return attribute(
        subject, ids, _target(subject, ids, arguments), method, units=arguments.units or "", options=options
    )


def _target(subject: Subject, ids: list[int], arguments: AttributeArguments) -> Target:
    place, named = arguments.position, arguments.target
    if place is not None:
        place = place if place >= 0 else len(ids) + place
        if not 0 <= place < len(ids):
            raise UnitError(f"Position {arguments.position} is beyond the text, which has tokens 0 to {len(ids) - 1}.")
    if named is None:
        place = len(ids) - 1 if place is None else place
        wrong = None if arguments.wrong is None else token_of(subject, arguments.wrong)
        return TokenTarget(_likeliest(subject, ids, place), wrong, place)
    target = target_of(subject, named, arguments.wrong)
    if place is None and isinstance(target, UnitTarget):
        (values,) = unit_activations(subject, [target.unit], [ids])[0]
        place = 1 + int(np.abs(values[1:]).argmax()) if len(ids) > 1 else 0
    return replace(target, position=len(ids) - 1 if place is None else place)


def target_of(subject: Subject, named: str, wrong: str | None = None) -> Target:
    """A unit, or a next token less another, at the last token of whatever text.

    Raises:
        UnitError: The subject has no such unit, or a token is taken off it.
        SubjectError: It is neither a unit nor one token.
    """
    if not _UNIT.match(named):
        return TokenTarget(token_of(subject, named), None if wrong is None else token_of(subject, wrong))
    unit = UnitId.parse(named)
    check_unit(subject, unit)
    if wrong is not None:
        raise UnitError("A unit's activation is explained by itself; 'wrong' belongs to a token.")
    return UnitTarget(unit)


def _likeliest(subject: Subject, ids: list[int], place: int) -> int:
    if subject.model.get_output_embeddings() is None:
        raise UnitError(f"'{subject.name}' predicts no tokens: it has no head. Name a unit as the target.")
    logits = subject.capture(torch.tensor([ids]), None, [], logits=True).logits
    assert logits is not None
    return int(logits[0, place].argmax())


def target_name(subject: Subject, found: Attribution) -> str:
    """What was explained, in words."""
    target = found.target
    if isinstance(target, UnitTarget):
        return str(target.unit)
    pieces = subject.pieces([target.token, *([] if target.foil is None else [target.foil])])
    return f"logit of {pieces[0]!r}" + (f" less {pieces[1]!r}" if len(pieces) > 1 else "")


@tool("attribute", AttributeArguments)
def attribute_tool(workbench: Workbench, arguments: AttributeArguments) -> Finding:
    """Says what a unit's activation at a position, or the logit of a next token, rests on: which tokens of the text,
    which units, or which parts of the model. Use it to find out why a unit fired where it did. The order of the parts
    is tried out on the model: insertion and deletion near those of random orders mean that it explains nothing.
    """
    subject = workbench.subject
    found = attribution_of(subject, arguments)
    return Finding(_summary(subject, found), _data(subject, found, arguments.k))


def _data(subject: Subject, found: Attribution, k: int) -> dict[str, Any]:
    check = found.check
    rows = []
    for i in found.ranked()[:k]:
        row: dict[str, Any] = {"part": found.names[i], "score": short(found.scores[i])}
        if found.positions is not None:
            row["position"] = found.positions[i]
        if found.by_position is not None:
            row["strongest_at"] = int(np.abs(found.by_position[i]).argmax())
        if found.p_values is not None:
            row["p"] = short(found.p_values[i])
        rows.append(row)
    tried = None if check is None else {
        name: None if value is None else short(value)
        for name, value in check.to_json().items()
        if name not in ("sizes", "inserted", "deleted", "orders")
    }  # fmt: skip
    return {
        "target": target_name(subject, found),
        "position": found.target.position,
        "value": short(found.value),
        "kind": found.kind,
        "method": found.method,
        "parts": rows,
        "parts_in_all": len(found.scores),
        "baseline": found.baseline,
        "baseline_value": None if found.baseline_value is None else short(found.baseline_value),
        "reference": found.reference,
        "error": None if found.error is None else short(found.error),
        "anchor": None if found.anchor is None else found.anchor.to_json(),
        "tried_out": tried,
        "note": found.note,
    }


def _summary(subject: Subject, found: Attribution) -> str:
    told = ", ".join(f"{found.names[i]!r} {short(found.scores[i]):g}" for i in found.ranked()[:4])
    base = f"{target_name(subject, found)} is {short(found.value):g} at {found.target.position}"
    if found.anchor is not None:
        kept = ", ".join(repr(found.tokens[i]) for i in found.anchor.positions) or "nothing in particular"
        enough = "is enough" if found.anchor.certified else "is the best that was found, and not enough"
        return f"{base}; {kept} {enough} (it holds in {found.anchor.precision:.0%} of texts drawn anew)"
    check = found.check
    if check is None or check.insertion is None or check.random_insertion is None:
        return f"{base}; by {found.method} it rests on {told}"
    tried = f"insertion {check.insertion:.2f} against {check.random_insertion:.2f} of random orders"
    return f"{base}; by {found.method} it rests on {told}; tried out: {tried}"
