"""One line, or two, about how a closed campaign's blind controls fared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from neurogloss.render.text import count, share


def controls_lines(outcome: Mapping[str, Any] | None) -> list[Text]:
    """Of the outcome that closing a campaign brought out; none where it had no controls or is open.

    Args:
        outcome: `agent.outcome.Outcome` as JSON.
    """
    fared = (outcome or {}).get("controls") or {}
    if outcome is None or not fared.get("controls"):
        return []
    told = Text(f"controls: {count(fared['accepted'])} of {count(fared['claims'])} accepted")
    kinds = [
        f"{kind} {count(found['accepted'])} of {count(found['claims'])}"
        for kind, found in fared["kinds"].items()
        if found["claims"]
    ]
    thrown, failed = fared["thrown_out"], fared["failed"]
    parts = [", ".join(kinds)] if kinds else []
    parts += [f"{count(thrown)} thrown out by triage"] if thrown else []
    parts += [f"{count(failed)} failed"] if failed else []
    told.append("".join(f"; {part}" for part in parts))
    lines = [told]
    if fared["excess"]:
        told.stylize("bold red")
        lines.append(
            Text(
                f"More controls were accepted than an error rate of {share(outcome['alpha'])} explains "
                f"(p = {fared['p_value']:.2g}): a supported description may say no more than one of a control.",
                "red",
            )
        )
    if outcome["accepted"]:
        lines.append(
            Text(
                f"of the {count(outcome['accepted'])} accepted descriptions at most {outcome['expected_false']:.1f} "
                f"are expected to be false ({outcome['error_method']} at {share(outcome['alpha'])})",
                "dim",
            )
        )
    return lines
