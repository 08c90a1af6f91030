"""The attention heads of planted subjects, and a circuit of three of them.

Layer 0 looks back: a previous-token head, heads two and three tokens back, and a duplicate-token head. Layer 1 has an
induction head, a head that recognises a repeated pair, and an inhibition head; layer 2 a name mover. The last two and
the duplicate-token head are a small version of the circuit of Wang et al. 2023 ("Interpretability in the Wild"): after
"to" or "for" the inhibition head fetches the name that was repeated, and the name mover looks for names other than that
and predicts them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.planted.layout import CODE, CODE_SIZE, LAGS, LOGITS, Head, Layout, Vector
from tools.planted.predicates import All, Earlier, Induction, Position, Predicate, Repeated, TokenIn
from tools.planted.truth import Case, Effect, UnitTruth
from tools.planted.words import pieces

#: No position is beyond it.
LAST = 1_000_000
#: Logits by which heads outdo each other: this times a unit of agreement between codes.
_SHARP = 10.0
#: What is taken off at the query itself, and the score of the resting place, in units of agreement. A token's own code
#: agrees with itself in 40, with others in at most 18, so 29 (itself, less this; or others, where the measure of
#: distance is at its worst) < 30.6 < 32.2 (the same token, one back).
_NOT_ITSELF, _REST = 11.0, 30.6
#: Norm of the marks that heads leave in the dead register, beside which what they copy hardly changes the norm.
_MARK = 6.0
#: Factor of the name mover's copy against the induction head's.
_MOVER = 3.0


@dataclass(frozen=True)
class Circuits:
    """Planned heads and what is known of them."""

    heads: tuple[Head, ...]
    truths: tuple[UnitTruth, ...]


def _codes(layout: Layout, query: str, key: str, scale: float) -> list[tuple[Vector, Vector]]:
    """Terms by which two codes are compared; equal ones score CODE times `scale`."""
    size = 1.0 / CODE_SIZE
    return [({layout.dim(query, j): scale * size}, {layout.dim(key, j): size}) for j in range(CODE)]


def _copy(layout: Layout, source: str, target: str, size: int, factor: float = 1.0) -> list[tuple[Vector, Vector]]:
    return [({layout.dim(source, j): 1.0}, {layout.dim(target, j): factor}) for j in range(size)]


def _rest(layout: Layout, score: float) -> tuple[Vector, Vector]:
    """The beginning-of-sequence token has this score from everywhere.

    It is a head's first term: a Llama compares the first ones in the dimensions that turn least.
    """
    return layout.constant(score), {layout.dim("start"): 1.0}


def _not_start(layout: Layout) -> Vector:
    """1 at every token but the beginning-of-sequence token, where it is 0."""
    return {**layout.constant(1.0), layout.dim("start"): -1.0}


def _mark(layout: Layout, index: int, size: float = _MARK) -> tuple[Vector, Vector]:
    return _not_start(layout), {layout.dim("dead", index): size}


def circuits(layout: Layout, lagged: int, name: int, end: int, name_group: int) -> Circuits:
    """Plan all heads.

    Args:
        layout: Of the stream.
        lagged: Number of concepts that are known of earlier tokens.
        name: Number of the concept of names.
        end: Number of the concept of words after which a name is due.
        name_group: Number of the output group of names.
    """
    names, ends = pieces("name"), pieces("give to")
    heads, truths = [], []

    def add(head: Head, family: str, norm: tuple[Predicate, float, float], note: str,
            effect: Effect | None = None) -> None:  # fmt: skip
        """`norm` says where the head writes, how much, and how far the norm of that may be off."""
        heads.append(head)
        when, level, tolerance = norm
        unit = f"head:{head.layer}:{head.index}"
        truths.append(
            UnitTruth(unit, "+", family, (Case(when, level),), 0.0, tolerance, effect=effect, causal_note=note)
        )

    for index, lag in enumerate(LAGS):
        values = _copy(layout, "concept", f"concept {lag} back", lagged)
        if lag == 1:
            values += _copy(layout, "code", "previous code", CODE)
        values.append(_mark(layout, index))
        squares = (CODE * CODE_SIZE**2 if lag == 1 else 0.0) + _MARK**2
        add(
            Head(0, index, (), tuple(values), offset=lag, peak=80.0),
            "previous-token head" if lag == 1 else "offset head",
            (Position(lag + 1, LAST), (squares + 0.5) ** 0.5, 0.35),
            f"Attends to the token {lag} back and writes its concepts" + (" and its identity." if lag == 1 else "."),
        )
    add(
        Head(0, 3, (_rest(layout, _REST * _SHARP), *_codes(layout, "code", "code", _SHARP)),
             ((_not_start(layout), {layout.dim("flag", 0): 1.0}), _mark(layout, 3, 3.0)),
             not_itself=_NOT_ITSELF * _SHARP),
        "duplicate-token head", (Repeated(), 10.0**0.5, 0.1),
        "Attends to earlier occurrences of the current token and writes that there are any.",
    )  # fmt: skip
    add(
        Head(1, 0, (_rest(layout, 2.0 * 29.0), *_codes(layout, "code", "previous code", 2.0)),
             (*_copy(layout, "code", "copy", CODE), _mark(layout, 4))),
        "induction head", (Repeated(), (_MARK**2 + 5.0) ** 0.5, 0.45),
        "Attends to the tokens after earlier occurrences of the current token and makes them more likely to come next.",
    )  # fmt: skip
    pairs = _codes(layout, "code", "code", _SHARP) + _codes(layout, "previous code", "previous code", _SHARP)
    add(
        Head(1, 1, (_rest(layout, (_REST + CODE) * _SHARP), *pairs),
             ((_not_start(layout), {layout.dim("flag", 1): 1.0}), _mark(layout, 5, 3.0)),
             not_itself=_NOT_ITSELF * _SHARP),
        "induction head", (Induction(), 10.0**0.5, 0.1),
        "Attends to earlier occurrences of the current token after the same token, and writes that there are any.",
    )  # fmt: skip
    at_end = layout.dim("concept", end)
    is_name = layout.dim("concept", name)
    add(
        Head(1, 2, (({at_end: 40.0}, {is_name: 1.0, layout.dim("flag", 0): 1.0}), _rest(layout, 60.0)),
             (*_copy(layout, "code", "inhibited", CODE), (_not_start(layout), {layout.dim("flag", 2): 1.0}),
              _mark(layout, 6))),
        "inhibition head",
        (All((TokenIn(ends), Earlier(All((TokenIn(names), Repeated()))))), (_MARK**2 + 6.0) ** 0.5, 0.45),
        "Attends from 'to' or 'for' to names that occurred before and keeps the name mover (head:2:0) off them.",
    )  # fmt: skip
    inhibited = [
        ({layout.dim("inhibited", j): -1.0 / CODE_SIZE}, {layout.dim("code", j): 1.0 / CODE_SIZE}) for j in range(CODE)
    ]
    add(
        Head(2, 0, (_rest(layout, 30.0), ({at_end: 100.0}, {is_name: 1.0}), *inhibited),
             (*_copy(layout, "code", "copy", CODE, _MOVER),
              (_not_start(layout), {layout.dim("flag", 3): 1.0, layout.dim("group", name_group): 1.0}),
              _mark(layout, 7, 4 * _MARK))),
        "name-mover head",
        (All((TokenIn(ends), Earlier(TokenIn(names)))), (16 * _MARK**2 + 50.0) ** 0.5, 0.95),
        "Attends from 'to' or 'for' to names other than the one that head:1:2 inhibits, and predicts them.",
        Effect(names, 1, 0.5 * LOGITS),
    )  # fmt: skip
    return Circuits(tuple(heads), tuple(truths))
