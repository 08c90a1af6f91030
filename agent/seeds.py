"""Everything random in a campaign is seeded by what it is for, never by when or by whom it is done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tools.types import UnitId


def seed_for(campaign_seed: int, unit: UnitId | str, step: str) -> int:
    """A 48-bit seed for one step of one unit's investigation, the same in every process and on every machine."""
    text = f"{campaign_seed}/{unit}/{step}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def sample_units(units: Iterable[UnitId], per_group: int | None, seed: int) -> list[UnitId]:
    """At most `per_group` units of each group, drawn by a seeded hash, in the order given; None keeps all.

    Which unit is drawn depends on its id and the seed alone, so a larger sample contains a smaller one.
    """
    listed = list(dict.fromkeys(units))
    if per_group is None:
        return listed
    groups: dict[str, list[UnitId]] = {}
    for unit in listed:
        groups.setdefault(unit.group, []).append(unit)
    kept = {
        unit
        for members in groups.values()
        for unit in sorted(members, key=lambda unit: seed_for(seed, unit, "sample"))[:per_group]
    }
    return [unit for unit in listed if unit in kept]
