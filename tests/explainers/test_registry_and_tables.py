from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from explainers import registry
from explainers.registry import ExplainerError
from explainers.tables import TablePredictor


def test_the_pattern_explainer_is_registered_with_its_options() -> None:
    assert "pattern" in registry.names()
    assert registry.get("pattern", beam=3, edits=False).name == "pattern"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("patern", {}, "There are: "), ("pattern", {"depth": 3}, "depth"), ("pattern", {"beam": 0}, "at least 1")],
)
def test_an_unknown_explainer_or_option_is_told(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExplainerError, match=message):
        registry.get(name, **options)


def test_a_pair_table_needs_both_tokens(splits: Callable[..., Any]) -> None:
    explore, _, held_out, unit = splits(
        lambda text, position, pieces: float(pieces[position - 1 : position + 1] == [" in", " the"])
    )
    sample = held_out.sample(unit)
    found = {}
    for width in (1, 2):
        lookup = TablePredictor(width, explore.texts, explore.sample(unit))
        found[lookup.name] = lookup.predict(held_out.texts, sample.contexts, sample.positions)
    np.testing.assert_array_equal(found["pair-table"], sample.values)
    assert 0 < found["token-table"].max() < 0.5
