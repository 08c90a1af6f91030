"""The control that asks the agent's trials by chance: they are the same ones, and no more is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.contest.types import Contest
from benchmarks.contest import chance  # noqa: F401  (registers it)

#: Fires on a comma, semicolon or colon right after a number.
UNIT = "mlp:2:135"
RULE = 'rule v1\n6.0 if before[1] is digit and token in {" ,"}\nelse 0.0'


@pytest.mark.parametrize("passes", [0, 2])
def test_no_more_passes_are_spent_than_are_allowed(arena: Any, tmp_path: Path, passes: int) -> None:
    allowed = tmp_path / "passes.json"
    allowed.write_text(json.dumps({f"{UNIT}+": passes}), encoding="utf-8")
    state = arena.investigate(UNIT, [RULE], policy="chance", options={"passes": str(allowed)})
    contest = Contest.from_json(state["contest"]["+"])
    assert contest.passes == passes
    assert {one.trial.aim["kind"] for one in contest.outcomes} <= {"places", "members", "groups", "random", "stretch"}
