"""The page of a test with a concept's vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.lenses import site_name
from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, fit, number, probability, score, share, visible

if TYPE_CHECKING:
    from tools.attribution import ConceptTest


def concept_page(
    found: ConceptTest, concept: str, target: str, wrong: str | None, subject: str
) -> list[RenderableType]:  # fmt: skip
    """What moving along the concept does to the target, by layer, beside random vectors."""
    told = f"“{fit(visible(target), 24)}”" + ("" if wrong is None else f" less “{fit(visible(wrong), 24)}”")
    head = Text.assemble((f"The concept of {fit(clean(concept), 30)}", "bold"), f" in {clean(subject)}, for {told}")
    table = simple_table(
        ("stream", "left"), ("tells apart", "right"), ("raised in", "right"), ("slope", "right"), ("p", "right"),
        ("random slopes, 5-95 %", "right"), ("", "left"),
    )  # fmt: skip
    for site, separation, p, one in zip(
        found.sites, found.separations, found.adjusted, found.sensitivities, strict=True
    ):
        low, high = np.quantile(one.random_derivatives, (0.05, 0.95))
        table.add_row(
            site_name(site), score(separation), share(one.share), number(one.derivative), probability(p),
            f"{number(low, 2)} … {number(high, 2)}", "*" if p < 0.05 else "",
        )  # fmt: skip
    one = found.sensitivities[0]
    note = (
        f"Of {found.texts[0]} texts with the concept and {found.texts[1]} without; at the end of {one.examples} texts. "
        "tells apart: how well a vector of half of the texts tells apart the rest; 0.5 is no concept. slope: by how "
        f"much the target rises along the vector, in the mean. p: of {len(one.random_derivatives)} random vectors as "
        "steep, for all streams together."
    )
    return [head, Text(), table, Text(note, "dim")]
