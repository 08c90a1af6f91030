"""The interchange of descriptions' rules in a campaign: asked for, measured on sealed text, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import store
from agent.reporting.evidence import Claim
from agent.reporting.output import output_use
from agent.spec import load_spec
from neurogloss.render.report_output import sentences
from store.queries import campaign_evidence

Run = Callable[..., Any]


@pytest.mark.slow
def test_an_interchange_is_scored_or_says_why_not_and_decides_nothing(run: Run, tmp_path: Path) -> None:
    run(interchange=True, units=["mlp:1:1"], controls=0, output="off")
    with store.open_database(tmp_path / "ng.db") as db:
        rows = campaign_evidence(db, "tiny")
    assert rows
    measured = 0
    for row in rows:
        shift, switch = row.scores["interchange_shift"], row.scores["interchange_switch"]
        assert not shift.headline
        assert shift.predictor == "rule"
        if shift.value is None:
            continue
        measured += 1
        assert switch.value is not None
        assert shift.low is not None
        assert shift.high is not None
        assert shift.low <= shift.value <= shift.high
        assert shift.null_mean is not None
        assert shift.p is not None
        assert shift.n_documents >= 2
        assert shift.q is None  # no verdict rests on it, so it is no part of the family
    assert measured


def test_it_is_left_out_unless_asked_for_and_old_campaigns_keep_their_hash(run: Run, tmp_path: Path) -> None:
    run(units=["mlp:1:1"], controls=0, output="off")
    with store.open_database(tmp_path / "ng.db") as db:
        (row,) = campaign_evidence(db, "tiny")[:1]
    assert not [name for name in row.scores if name.startswith("interchange")]
    plain = {"subject": "pycode", "corpus": "stdlib:", "units": "mlp:1:1"}
    assert load_spec(None, {**plain, "interchange": False}).spec_hash == load_spec(None, plain).spec_hash
    assert load_spec(None, {**plain, "interchange": True}).spec_hash != load_spec(None, plain).spec_hash


def test_a_report_sums_interchanges_up() -> None:
    claim = Claim("mlp:0:1", "+", "a", "supported", carried=0.4, carried_null=0.1, carried_p=0.03)
    others = [replace(claim, carried=0.2, carried_p=0.3), replace(claim, carried=None, carried_p=None)]
    use = output_use([claim, *others, replace(claim, control="swapped")])
    assert use is not None
    assert use.carried is not None
    assert (use.carried.share.count, use.carried.share.total) == (1, 2)
    assert use.carried.median == pytest.approx(0.3)
    (told,) = sentences(use)
    assert "1 of 2 units carry" in told
    assert "0.30 of the way, and 0.10 with others" in told
    assert output_use([replace(claim, carried=None)]) is None
