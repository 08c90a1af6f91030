"""What earlier campaigns say of a unit's neighbours: who they are, and that a campaign sees what there was at first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store
from agent import load_spec, run_campaign
from agent.neighbours import Earlier
from agent.replay import replay_campaign
from agent.toolbox import Workbench, call
from store.queries.earlier import EarlierRow, Shelf, earlier_descriptions, finished_shelf
from tools.subject import Direction, Subject, load_subject
from tools.types import Site, UnitId


def row(unit: str, number: int, polarity: str = "+", rule: str | None = None, campaign: str = "old") -> EarlierRow:
    text = rule or f'rule v1\n2.0 if token in {{"{unit}"}}\nelse 0.0'
    return EarlierRow(number, f"claim {number}", campaign, unit, polarity, unit, f"Fires on {unit}.", text, 1.0)


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    """With directions of known angles: `along` and `near` at a cosine of 0.8, `against` the opposite of `along`."""
    loaded = load_subject(str(tiny_gpt2_folder), device="cpu")
    along = np.zeros(loaded.d_model, np.float32)
    along[0] = 1
    near = along * 0.8
    near[1] = 0.6
    import torch

    for name, vector in (("along", along), ("near", near), ("against", -along), ("apart", np.roll(along, 5))):
        loaded.directions[name] = Direction(Site(1, "resid_post"), torch.from_numpy(vector))
    return loaded


def found(earlier: Earlier, subject: Subject, polarity: str = "+", n: int = 5) -> list[tuple[str, str, float]]:
    unit = UnitId.parse("dir:along")
    return [(f"{one.row.unit}{one.row.polarity}", one.by, one.likeness)
            for one in earlier.neighbours(subject, None, unit, polarity, n)]  # fmt: skip


def test_neighbours_write_alike_and_the_unit_itself_comes_first(subject: Subject) -> None:
    earlier = Earlier([row("dir:apart", 1), row("dir:near", 2), row("dir:along", 3), row("mlp:0:1", 4)])
    assert found(earlier, subject)[:2] == [("dir:along+", "itself", 1.0), ("dir:near+", "direction", 0.8)]
    assert "dir:apart+" not in [name for name, *_ in found(earlier, subject)]
    assert found(earlier, subject, n=1) == [("dir:along+", "itself", 1.0)]


def test_who_writes_the_opposite_counts_with_the_other_tail(subject: Subject) -> None:
    earlier = Earlier([row("dir:against", 1, "+"), row("dir:against", 2, "-"), row("dir:near", 3, "-")])
    assert found(earlier, subject, "+") == [("dir:against-", "direction", -1.0)]
    assert found(earlier, subject, "-") == [("dir:against+", "direction", -1.0), ("dir:near-", "direction", 0.8)]


def test_of_what_several_campaigns_say_of_a_tail_the_newest_counts(subject: Subject) -> None:
    newer = row("dir:near", 9, rule='rule v1\n2.0 if token in {"new"}\nelse 0.0')
    [one] = Earlier([row("dir:near", 2), newer]).neighbours(subject, None, UnitId.parse("dir:along"), "+", 5)
    assert one.row.description_id == 9


def test_units_that_are_not_here_any_more_are_passed_over(subject: Subject) -> None:
    assert found(Earlier([row("sae:gone:3", 1), row("dir:gone", 2)]), subject) == []


def test_the_tool_says_where_there_is_nothing_to_read(subject: Subject) -> None:
    with Workbench.open(subject) as workbench:
        told = call(workbench, "neighbours", {"unit": "dir:along"})
    assert told.error is not None
    assert "rivals_from" in told.error
    with Workbench.open(subject, earlier=Earlier([row("dir:near", 2)])) as workbench:
        result = call(workbench, "neighbours", {"unit": "dir:along"})
    assert result.error is None
    assert result.data["neighbours"][0]["description_id"] == 2
    assert result.cost.forward_passes == 0


@pytest.fixture(scope="module")
def campaigns(tiny: dict[str, Any], tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> store.Database:
    """`first`, and `second` that may look at what `first` found, with an explainer that is worse."""
    db = store.open_database(tmp_path_factory.mktemp("neighbours") / "ng.db")
    quick = {**tiny, "units": ["mlp:1:0-1"], "predictions": "off", "output": "off", "contest": "off"}
    worse = {"explainer_options": {"max_clauses": 1, "beam": 1, "edits": False}, "rivals_from": ["database"]}
    for name, changes in (("first", {}), ("second", worse)):
        run_campaign(load_spec(None, {**quick, "name": name, **changes}), db=db, home=tiny_home)
    return db


@pytest.mark.slow
def test_descriptions_of_an_earlier_campaign_are_rivals_with_their_provenance(
    campaigns: store.Database, subject: Subject
) -> None:
    told = {
        one.description_id: one
        for one in earlier_descriptions(campaigns, finished_shelf(campaigns, subject.fingerprint))
    }
    rivals = []
    for unit in range(2):
        page = store.unit_page(campaigns, f"mlp:1:{unit}", campaign="second")
        rivals += [one for one in page.hypotheses if one.explainer == "neighbour"]
    assert rivals
    for rival in rivals:
        source = rival.details["explainer"]["neighbour"]
        assert source["campaign"] == "first"
        assert told[source["description_id"]].claim == source["claim"]


@pytest.mark.slow
def test_a_look_at_neighbours_is_a_row_of_the_notebook(campaigns: store.Database) -> None:
    page = store.unit_page(campaigns, "mlp:1:0", campaign="second")
    assert "neighbours" in {one.kind for one in page.experiments}
    page = store.unit_page(campaigns, "mlp:1:0", campaign="first")
    assert "neighbours" not in {one.kind for one in page.experiments}


@pytest.mark.slow
def test_what_ends_later_is_not_seen(campaigns: store.Database, subject: Subject) -> None:
    begun = store.get_campaign(campaigns, "second").estimates["earlier"]
    assert begun["campaigns"] == [store.get_campaign(campaigns, "first").id]
    now = finished_shelf(campaigns, subject.fingerprint, but="third")
    assert len(now.campaigns) == 2
    assert {one.campaign for one in earlier_descriptions(campaigns, Shelf(**begun))} == {"first"}
    assert earlier_descriptions(campaigns, Shelf(now.campaigns, 0)) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["exact", "tools-live"])
def test_a_campaign_that_looked_at_neighbours_is_replayed(
    campaigns: store.Database, tiny_home: Path, mode: Any
) -> None:
    replayed = replay_campaign(campaigns, "second", home=tiny_home, mode=mode)
    assert replayed is not None
    assert replayed.same, replayed.differences
