"""Pages of heads whose attention is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.curves import Curve
from neurogloss.render.effects import signed_bar, tokens_table
from neurogloss.render.tables import facts, simple_table
from neurogloss.render.text import clean, count, fit, number, probability, score, share, visible

if TYPE_CHECKING:
    from tools.head_edges import Competition, KnockOut

_EDGES = {"all": "attention", "previous": "edges to the token before", "same": "edges to itself",
          "first": "edges to the first position", "duplicate": "edges to earlier occurrences",
          "induction": "induction edges", "delimiter": "edges to punctuation"}  # fmt: skip


def knock_out_page(found: KnockOut, subject: str, *, own_texts: bool) -> list[RenderableType]:
    """What the predictions lose."""
    done = "without" if found.factor == 0 else f"with {found.factor:g} times"
    even = ", the rest of each query's renormalised" if found.renormalise else ""
    head = Text.assemble(
        (" ".join(found.heads), "bold"), f" of {clean(subject)} {done} their {_EDGES[found.edges]}{even}"
    )
    over = "the texts given" if own_texts else "random tokens said twice"
    others = None
    if found.others:
        name, worst = max(found.others, key=lambda one: one[1])
        others = f"{worst:+.3f} at most with other heads of the layer ({fit(name, 32)})"
    repeated = None
    if found.repeated_loss is not None:
        told = f"{found.repeated_loss:.3f} {found.repeated_change:+.3f}"
        repeated = f"{told} on the {count(found.repeated)} that follow as before"
    page: list[RenderableType] = [
        head, Text(),
        facts(
            ("texts", f"{over}: {count(found.texts)} with {count(found.tokens)} predictions"),
            ("loss", f"{found.loss:.3f} {found.loss_change:+.3f} nats a token"),
            ("", repeated), ("", others), ("KL", f"{number(found.kl)} nats from the prediction as it is"),
        ),
        Text(), tokens_table(found.raised, found.lowered),
    ]  # fmt: skip
    if found.patterns:
        table = simple_table(("later head", "left"), ("attends to", "left"), ("as it is", "right"), ("now", "right"))
        for one in found.patterns:
            table.add_row(one.unit, _TOLD[one.edges], score(one.before), score(one.after))
        page += [Text(), table]
    return page


_TOLD = {"previous": "the token before", "duplicate": "earlier occurrences", "induction": "what followed them"}


def competition_page(found: Competition, subject: str, answer: str, wrong: str, attend: str) -> list[RenderableType]:
    """Which answer wins, by factor."""
    first, second, place = (f"“{fit(visible(token), 16)}”" for token in (answer, wrong, attend))
    head = Text.assemble(
        (" ".join(found.heads), "bold"), f" of {clean(subject)}: attention to {place} is {score(found.attention)}"
    )
    table = simple_table(("factor", "right"), ("logits", "right"), ("", "left"), (f"{first} wins", "right"),
                         ("KL", "right"), ("other heads", "right"))  # fmt: skip
    scale = max(abs(point.difference) for point in found.points)
    for point in found.points:
        band = f"{number(min(point.others), 2)} … {number(max(point.others), 2)}" if point.others else "–"
        table.add_row(
            f"{point.factor:g}", f"{point.difference:+.2f}", signed_bar(point.difference, scale),
            share(point.first), number(point.kl), band,
        )  # fmt: skip
    note = f"logits: {first} less {second}, mean over {found.prompts} prompt{'s' if found.prompts != 1 else ''}."
    if found.p_value is not None:
        note += (
            f" Of {len(found.other_heads)} sets of other heads of the same layers, p {probability(found.p_value)} "
            "that one moves it as far."
        )
    return [head, Text(), table, Text(), Text(note, "dim")]


def competition_curves(found: Competition) -> list[Sequence[Curve]]:
    """The difference by factor."""
    x = [point.factor for point in found.points]
    curves = [Curve(" ".join(found.heads), x, [point.difference for point in found.points])]
    if found.other_heads:
        low, high = ([pick(point.others) for point in found.points] for pick in (min, max))
        mean = [sum(point.others) / len(point.others) for point in found.points]
        curves.append(Curve("other heads", x, mean, low, high, reference=True))
    return [curves]
