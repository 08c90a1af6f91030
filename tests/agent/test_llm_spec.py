"""Specifications that name language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import SpecError, load_spec

PLAN: dict[str, Any] = {"subject": "pycode", "corpus": "stdlib:", "units": ["mlp:1:0"]}
ENDPOINT = "openai:wise@http://127.0.0.1:1/v1"


def test_an_endpoint_as_explainer_is_the_default_explainer_with_that_model() -> None:
    spec = load_spec(None, {**PLAN, "explainer": ENDPOINT})
    assert spec.explainer == "quantiles"
    assert spec.llm is not None
    assert spec.llm.endpoints == (ENDPOINT,)
    assert spec.llm.model == "wise"


def test_naming_a_model_makes_an_explainer_that_asks_it_the_default() -> None:
    assert load_spec(None, {**PLAN, "llm": {"endpoints": ENDPOINT}}).explainer == "quantiles"
    assert load_spec(None, {**PLAN, "llm": {"endpoints": ENDPOINT}, "explainer": "pattern"}).explainer == "pattern"


def test_what_a_campaign_is_does_not_depend_on_where_its_model_runs_or_what_it_costs() -> None:
    plain = load_spec(None, {**PLAN, "explainer": ENDPOINT})
    elsewhere = load_spec(
        None,
        {
            **PLAN,
            "llm": {
                "endpoints": ["openai:wise@http://127.0.0.1:2/v1", "openai:wise@http://127.0.0.1:3/v1"],
                "concurrency": 3, "price": {"prompt": 1, "completion": 2},
            },
        },
    )  # fmt: skip
    other = load_spec(None, {**PLAN, "explainer": "openai:wiser@http://127.0.0.1:1/v1"})
    simulated = load_spec(None, {**PLAN, "llm": {"endpoints": ENDPOINT, "predictor": "simulation"}})
    assert plain.spec_hash == elsewhere.spec_hash
    assert len({plain.spec_hash, other.spec_hash, simulated.spec_hash}) == 3


def test_campaigns_of_before_keep_their_hash() -> None:
    """What had no model, no contest and no predictions, and did not test what units do, is found by its old hash."""
    before = {**PLAN, "output": "off", "contest": "off", "predictions": "off", "rivals_from": []}
    assert load_spec(None, before).spec_hash == "7b01d299dbaf6025"
    assert load_spec(None, PLAN).spec_hash != "7b01d299dbaf6025"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"explainer": "openai:wise"}, "@http"),
        ({"llm": {"endpoints": ["nonsense:x"]}}, "names no endpoint"),
        ({"llm": {"concurrency": 3}}, "'llm.endpoints' is missing"),
        ({"llm": {"endpoints": ENDPOINT, "colour": 1}}, "concurrency"),
        ({"explainer": ENDPOINT, "llm": {"endpoints": ENDPOINT}}, "named twice"),
        ({"diagnostics": ["detection"]}, "language model"),
        ({"llm": {"endpoints": ENDPOINT}, "budget": {"llm_dollars": 1}}, "llm.price"),
        ({"stages": [{"explainer": "pattern", "below": 0.5}]}, "first"),
        ({"llm": {"endpoints": [ENDPOINT, "openai:other@http://127.0.0.1:1"]}}, "one model"),
    ],
)
def test_what_does_not_make_sense_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_spec(None, {**PLAN, **given})


def test_waiting_for_a_model_leaves_room_for_more_investigations_at_once() -> None:
    assert load_spec(None, PLAN).crew == 1
    assert load_spec(None, {**PLAN, "explainer": ENDPOINT}).crew == 16
    assert load_spec(None, {**PLAN, "explainer": ENDPOINT, "workers": 2}).crew == 2


def test_a_folder_is_known_by_its_content_and_a_plan_keeps_the_name(tmp_path: Path) -> None:
    for name, text in (("one/wise", "{}"), ("two/wise", "{ }")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(text)
    one, two = (load_spec(None, {**PLAN, "explainer": f"vllm:{tmp_path}/{name}/wise"}) for name in ("one", "two"))
    assert one.llm is not None
    assert one.llm.model.startswith("wise")
    assert one.spec_hash != two.spec_hash
    kept = one.model_dump(mode="json")
    (tmp_path / "one" / "wise" / "config.json").unlink()
    assert load_spec(None, kept).spec_hash == one.spec_hash
