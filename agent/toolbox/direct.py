"""The tool `direct_attribution`: a logit as the sum of what each part writes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Text, TopK
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded, token_of
from agent.toolbox.workbench import Workbench
from tools.attribution import DirectAttribution, direct_attribution
from tools.errors import UnitError
from tools.kinds import kind_of
from tools.subject import Subject

Token = Annotated[str, Field(min_length=1, max_length=200)]
Groups = Annotated[
    list[Annotated[str, Field(min_length=4, max_length=100)]],
    Field(max_length=64, description="Groups whose single units to rank as well: mlp:LAYER, sae:NAME, or mlp:*."),
]


class DirectAttributionArguments(Arguments):
    """Arguments of `direct_attribution`."""

    text: Text
    answer: Token | None = Field(
        default=None, description="The next token whose logit is explained; left out: the likeliest."
    )
    wrong: Token | None = Field(default=None, description="The token whose logit is taken off.")
    position: int = Field(
        default=-1, ge=-1_000_000, le=1_000_000, description="Where in the text to look; negative counts from its end."
    )
    groups: Groups = Field(default=[])
    k: TopK = 15


def attribution_of(subject: Subject, arguments: DirectAttributionArguments) -> tuple[DirectAttribution, list[int]]:
    """What `direct_attribution` is asked for, and the text's tokens.

    Raises:
        UnitError: The position is beyond the text, a group is not there, or logits cannot be attributed directly.
        SubjectError: The text has no tokens, or an answer is not one token.
    """
    (ids,), _ = encoded(subject, [arguments.text])
    place = arguments.position if arguments.position >= 0 else len(ids) + arguments.position
    if not 0 <= place < len(ids):
        raise UnitError(f"Position {arguments.position} is beyond the text, which has tokens 0 to {len(ids) - 1}.")
    if arguments.answer is None:
        likeliest = subject.capture(*subject.pad([ids]), [], logits=True).logits
        assert likeliest is not None
        answer = int(likeliest[0, place].argmax())
    else:
        answer = token_of(subject, arguments.answer)
    wrong = None if arguments.wrong is None else [token_of(subject, arguments.wrong)]
    groups = [g for name in arguments.groups for g in _groups(subject, name)]
    found = direct_attribution(subject, [ids], [answer], wrong, positions=[place], groups=groups, sources=True)
    return found, ids


def _groups(subject: Subject, name: str) -> list[str]:
    kind, _, where = name.partition(":")
    return [f"{kind}:{place}" for place in kind_of(kind).groups(subject)] if where == "*" else [name]


def strongest_sources(found: DirectAttribution, k: int) -> list[tuple[int, int, int, float]]:
    """The strongest shares of a head from one source position, as (layer, head, position, share)."""
    assert found.sources is not None
    shares = found.sources[0]
    order = np.argsort(-np.abs(shares), axis=None)[:k]
    places = np.unravel_index(order, shares.shape)
    return [(int(a), int(h), int(p), float(shares[a, h, p])) for a, h, p in zip(*places, strict=True)]


def strongest_units(found: DirectAttribution, k: int) -> list[tuple[str, float]]:
    """The units of the wanted groups with the largest shares."""
    rows = [(f"{group}:{i}", float(values[0, i])) for group, values in found.units.items()
            for i in np.argsort(-np.abs(values[0]))[:k]]  # fmt: skip
    return sorted(rows, key=lambda row: -abs(row[1]))[:k]


@tool("direct_attribution", DirectAttributionArguments)
def direct_attribution_tool(workbench: Workbench, arguments: DirectAttributionArguments) -> Finding:
    """Splits the logit of an answer (less that of a wrong one) at one position into the shares that the embedding,
    every head, every MLP and every bias write directly, which sum to it; heads also by the position that they attend
    to, and single neurons or latents where asked for. What later layers make of a write counts as theirs.
    """
    subject = workbench.subject
    found, ids = attribution_of(subject, arguments)
    pieces = subject.pieces(ids)
    order = np.argsort(-np.abs(found.values[0]))[: arguments.k]
    parts = [{"part": found.parts[i].name, "share": short(found.values[0, i])} for i in order]
    sources = [
        {"head": f"head:{layer}:{head}", "position": place, "token": pieces[place], "share": short(share)}
        for layer, head, place, share in strongest_sources(found, arguments.k)
    ]
    (answer,) = subject.pieces([found.targets[0]])
    told = ", ".join(f"{part['part']} {part['share']:g}" for part in parts[:4])
    return Finding(
        f"the logit {found.logits[0]:.3g} of {answer!r} is mostly {told}",
        {
            "answer": answer,
            "wrong": None if found.foils is None else subject.pieces(found.foils)[0],
            "logit": short(found.logits[0]),
            "total": short(found.totals[0]),
            "error": short(found.error),
            "parts": parts,
            "rest": short(found.values[0].sum() - found.values[0, order].sum()),
            "sources": sources,
            "units": [{"unit": unit, "share": short(share)} for unit, share in strongest_units(found, arguments.k)],
        },
    )
