from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scorers.edges import score_edges
from scorers.errors import ScorerError
from tools.types import Split


def masses(seed: int, strength: float, heads: int = 31, documents: int = 40, per: int = 30) -> dict[str, Any]:
    """Attention mass on an edge type for a head of given strength, for other heads, and if it were uniform."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(documents), per)
    uniform = 1 / (2 + np.tile(np.arange(per), documents))
    level = np.clip(strength + 0.1 * rng.normal(size=documents), 0, 1)[document]
    mass = np.clip(level + 0.1 * rng.normal(size=len(document)), 0, 1)
    others = np.clip(uniform * rng.uniform(0.2, 2, (heads, 1)) + 0.02 * rng.normal(size=(heads, len(document))), 0, 1)
    return {"mass": mass, "documents": document, "other_heads": others, "uniform": uniform}


def test_a_previous_token_head_stands_out_from_other_heads_and_from_uniform_attention() -> None:
    score: Any = score_edges(**masses(0, 0.8), split=Split.SCORE, edge="previous")
    assert score.metric == "edge_mass"
    assert not score.headline
    assert score.value == pytest.approx(0.8, abs=0.05)
    assert score.low < score.value < score.high
    assert score.p_value == pytest.approx(1 / 32)
    assert [null.name for null in score.nulls] == ["heads", "uniform"]
    assert score.nulls[1].p_value < 0.01
    assert (score.n_examples, score.n_documents) == (1200, 40)


def test_a_head_that_attends_evenly_does_not() -> None:
    given = masses(1, 0.5)
    score: Any = score_edges(**{**given, "mass": given["uniform"]}, split=Split.SCORE, edge="previous")
    assert score.p_value > 0.1
    assert score.nulls[1].p_value > 0.05


def test_the_interval_covers_the_head_s_true_mass() -> None:
    covered = 0
    for seed in range(200):
        score: Any = score_edges(**masses(seed, 0.5, heads=0), split=Split.SCORE, edge="previous", resamples=300)
        covered += score.low <= 0.5 <= score.high
        assert score.p_value is None
    assert 0.9 <= covered / 200 <= 0.985


def test_no_such_edge_is_a_reason_and_not_a_number() -> None:
    nothing: dict[str, Any] = {
        "mass": np.zeros(0),
        "documents": np.zeros(0, int),
        "other_heads": np.zeros((5, 0)),
        "uniform": np.zeros(0),
    }
    score: Any = score_edges(**nothing, split=Split.SCORE, edge="induction")
    assert (score.value, score.low, score.p_value, score.nulls) == (None, None, None, ())
    assert "no destination has an edge of the type 'induction'" in score.reason


def test_arrays_over_different_destinations_are_refused() -> None:
    given = masses(0, 0.5)
    with pytest.raises(ScorerError, match="not over the same destinations"):
        score_edges(**{**given, "uniform": given["uniform"][:-1]}, split=Split.SCORE, edge="same")
    with pytest.raises(ScorerError, match="between 0 and 1"):
        score_edges(**{**given, "mass": given["mass"] + 1}, split=Split.SCORE, edge="same")
