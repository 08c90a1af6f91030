"""The tool `rearrange_text`: does a unit mind what stands next to what?"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from pydantic import Field

from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Position, Seed, Text, Unit
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.rearranging import rearranged
from tools.types import UnitId
from tools.units import unit_activations


class RearrangeArguments(Arguments):
    """Arguments of `rearrange_text`."""

    unit: Unit
    text: Text = Field(description="A text on which the unit is active.")
    position: Position | None = Field(
        default=None, description="Where the activation is read; left out: where it is strongest."
    )
    window: int = Field(default=8, ge=1, le=64, description="How many tokens up to the position are changed.")
    insertions: int = Field(default=4, ge=1, le=32, description="Random tokens that are put in at each place.")
    orders: int = Field(default=4, ge=1, le=32, description="Other orders of the tokens before the position.")
    seed: Seed = 0


@tool("rearrange_text", RearrangeArguments)
def rearrange_text(workbench: Workbench, arguments: RearrangeArguments) -> Finding:
    """Puts a random token in between each two tokens before a position, and the tokens before it in other orders, and
    reads the unit's activation at the same token again. Use it to tell whether the unit needs two tokens side by side,
    one anywhere before the other, or minds no order at all. Tokens to put in are drawn from the text.
    """
    subject, unit = workbench.subject, UnitId.parse(arguments.unit)
    (ids,), _ = encoded(subject, [arguments.text])
    position = arguments.position
    if position is None:
        values = unit_activations(subject, [unit], [ids])[0][0]
        start = max(len(subject.prefix), 1)
        position = start + int(np.abs(values[start:]).argmax()) if len(values) > start else 0
    found = rearranged(
        subject, unit, ids, position, window=arguments.window, insertions=arguments.insertions,
        orders=arguments.orders, seed=arguments.seed,
    )  # fmt: skip
    broken = [repr(one.before) for one in found.insertions if abs(one.inserted) < 0.5 * abs(found.original)]
    kept = sum(abs(value) >= 0.5 * abs(found.original) for value in found.orders)
    return Finding(
        f"a token put before {', '.join(broken[:8]) or 'none of the tokens'} takes away more than half of {unit}'s "
        f"activation; {kept} of {len(found.orders)} other orders leave at least half",
        {"position": position, **asdict(found)},
    )
