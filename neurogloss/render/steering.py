"""Pages of steering: a dose-response table, texts with and without, the score of what was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from neurogloss.render.curves import Curve
from neurogloss.render.effects import signed_bar
from neurogloss.render.tables import facts, simple_table
from neurogloss.render.text import clean, fit, number, probability, score, visible

if TYPE_CHECKING:
    from agent.toolbox.steering import Steered
    from tools.steering import DoseResponse, SteeringScore, Strength

#: Cells of a text in the table of texts.
_TEXT = 70


def steer_page(
    subject: str, strength: Strength, curve: DoseResponse, lines: Steered | None, points: SteeringScore | None, *,
    everywhere: bool,
) -> list[RenderableType]:  # fmt: skip
    """The whole page."""
    where = "at every position but the first" if everywhere else "at the last position"
    head = Text.assemble((curve.unit, "bold"), f" of {clean(subject)}, driven {where}")
    page: list[RenderableType] = [head, Text(strength_line(strength), "dim"), Text(), *_curve(curve)]
    if lines is not None:
        page += [Text(), *_texts(lines)]
    if points is not None:
        page += [Text(), *_score(points)]
    return page


def strength_line(strength: Strength) -> str:
    """How strong the strongest dose is."""
    return (
        f"strongest: {number(strength.amount)} added, {number(strength.stream)} norms of the stream, KL "
        f"{number(strength.kl)}"
    )


def _curve(curve: DoseResponse) -> list[RenderableType]:
    tokens = " ".join(f"“{fit(visible(token), 16)}”" for token in curve.tokens[:8])
    more = f" and {len(curve.tokens) - 8} more" if len(curve.tokens) > 8 else ""
    chosen = "named" if curve.chosen == "given" else "moved most on other texts"
    table = simple_table(("added", "right"), ("norms", "right"), ("logit", "right"), ("", "left"),
                         ("random, 5-95 %", "right"), ("KL", "right"), ("loss", "right"))  # fmt: skip
    scale = max(abs(dose.logit) for dose in curve.doses)
    both = any(dose.logit < 0 for dose in curve.doses)
    for dose in curve.doses:
        band = "–"
        if dose.control_low is not None and dose.control_high is not None:
            band = f"{number(dose.control_low, 2)} … {number(dose.control_high, 2)}"
        table.add_row(
            number(dose.amount), number(dose.stream, 2), number(dose.logit),
            signed_bar(dose.logit, scale, both_sides=both), band, number(dose.kl),
            "–" if dose.loss is None else f"{dose.loss:+.3f}",
        )  # fmt: skip
    told = f"logit: of {tokens}{more} ({chosen}), relative to the mean token's, at {curve.contexts} places"
    return [table, Text(), Text(told), _verdict(curve)]


def _verdict(curve: DoseResponse) -> Text:
    trend = f"Monotone {score(curve.trend)} (p {probability(curve.trend_p)})"
    if curve.p_value is None or curve.percentile is None:
        return Text(f"{trend}; compared with nothing.")
    beyond = f"steeper than {curve.percentile:.0f} % of {curve.controls} random directions"
    way = "rise" if curve.sign > 0 else "fall"
    word, style = (f"The tokens {way} with the dose.", "green") if curve.follows() else (
        "That is not more than random directions do.", "yellow")  # fmt: skip
    return Text.assemble(f"{trend}; {beyond} (p {probability(curve.p_value)}). ", (word, style))


def _texts(lines: Steered) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text(f"What it writes, {number(lines.strength.amount)} added (KL {number(lines.strength.kl)})", "bold")
    ]
    for prompt, plain, driven, control in lines.rows:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, text, style in (("", prompt, "dim"), ("without", plain, ""), ("with", driven, "yellow"),
                                  ("random", control, "dim")):  # fmt: skip
            shown = visible(text)
            table.add_row(name, Text(_end(shown) if not name else fit(shown, _TEXT), style))
        parts.append(table)
    return parts


def _end(prompt: str) -> str:
    """The end of a prompt, which is what is continued."""
    return prompt if len(prompt) <= _TEXT else "…" + prompt[-(_TEXT - 1) :]


def _score(points: SteeringScore) -> list[RenderableType]:
    table = simple_table(("added", "right"), ("norms", "right"), ("concept", "right"), ("fluency", "right"),
                         ("score", "right"), ("lift", "right"))  # fmt: skip
    for strength, one in zip(points.strengths, points.tried, strict=True):
        style = "bold" if strength.amount == points.amount else ""
        table.add_row(*(Text(cell, style) for cell in (
            number(strength.amount), number(strength.stream, 2), score(one.concept), score(one.fluency),
            score(one.score), number(one.lift))))  # fmt: skip
    tokens = " ".join(f"“{fit(visible(token), 16)}”" for token in points.tokens[:8])
    found = points.points
    against = None
    if points.p_value is not None and points.percentile is not None:
        against = (
            f"better than {points.percentile:.0f} % of {len(points.control_scores)} (p {probability(points.p_value)})"
        )
    return [
        Text(f"Concept and fluency, 0 to 2, on {points.prompts[0]} prompts", "bold"),
        table,
        Text(),
        facts(
            ("concept", f"probability of {tokens}"),
            ("score", f"{score(found.score)} at {number(points.amount)} added, on {points.prompts[1]} other prompts"),
            ("random", against),
        ),
    ]


def curves_of(curve: DoseResponse) -> tuple[list[Sequence[Curve]], list[str]]:
    """Panels of a picture, and what their axes are."""
    x = [dose.amount for dose in curve.doses]
    tokens = " ".join(visible(token) for token in curve.tokens[:4])
    logit = [Curve(tokens, x, [dose.logit for dose in curve.doses])]
    if curve.controls:
        mean, low, high = ([getattr(dose, name) for dose in curve.doses]
                           for name in ("control", "control_low", "control_high"))  # fmt: skip
        logit.append(Curve("random directions, 5-95 %", x, mean, low, high, reference=True))
    panels: list[Sequence[Curve]] = [logit, [Curve("KL", x, [dose.kl for dose in curve.doses])]]
    titles = ["change of the logit", "KL divergence, nats"]
    if all(dose.loss is not None for dose in curve.doses):
        panels.append([Curve("loss", x, [dose.loss or 0.0 for dose in curve.doses])])
        titles.append("change of the loss, nats")
    return panels, titles
