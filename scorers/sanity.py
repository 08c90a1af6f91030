"""The two tests that decide whether a metric may headline: does it fall when a description is plainly worse?

"Evaluating Neuron Explanations: A Unified Framework with Sanity Checks" (arXiv 2506.05774) damages the labels of a
perfect description in two ways. *Missing labels*: a random half of the positive labels is dropped (the description is
too narrow). *Extra labels*: as many random negatives again are labelled positive (too broad). A metric that hardly
notices cannot tell a good description from a bad one: recall does not see the second, precision not the first, and at
low prevalence AUROC and balanced accuracy hardly see the second.
"""

from __future__ import annotations

import numpy as np

from scorers.errors import ScorerError
from scorers.metrics import METRICS, Comparison, Metric, evaluate

#: A metric must lose this share of its value. On an ideal unit a correlation falls to 1/sqrt(2), so by 29 %, F1 to 2/3.
MARKED_FALL = 0.2
#: Shares of active positions at which the tests are run; a metric must fall at each.
PREVALENCES = (0.05, 0.01, 0.002)


def falls(metric: Metric, prevalence: float, *, n: int = 40_000, seed: int = 0) -> tuple[float, float]:
    """Relative fall of a metric under (missing labels, extra labels), for an ideal binary unit, without noise.

    Args:
        metric: any metric, registered or not.
        prevalence: share of the n positions that are active.
        n: number of positions.
        seed: which labels are dropped or added.
    """
    rng = np.random.default_rng(seed)
    active = np.zeros(n, dtype=bool)
    active[rng.choice(n, round(prevalence * n), replace=False)] = True
    missing, extra = active.copy(), active.copy()
    missing[rng.choice(np.flatnonzero(active), active.sum() // 2, replace=False)] = False
    extra[rng.choice(np.flatnonzero(~active), active.sum(), replace=False)] = True

    def value(predicted: np.typing.NDArray[np.bool_]) -> float:
        result, reason = evaluate(
            metric, Comparison(active.astype(float), active, predicted.astype(float), predicted, np.ones(n))
        )
        if result is None:
            raise ValueError(f"the metric '{metric.name}' is undefined on an ideal unit: {reason}")
        return result

    best = value(active)
    return 1 - value(missing) / best, 1 - value(extra) / best


def may_headline(metric: Metric) -> bool:
    """Whether a metric falls markedly in both tests at every prevalence."""
    return all(min(falls(metric, prevalence)) >= MARKED_FALL for prevalence in PREVALENCES)


def add_metric(metric: Metric) -> Metric:
    """Register a metric of one's own.

    Raises:
        ScorerError: it is to headline and does not fall in both tests.
        ValueError: its name is taken.
    """
    if metric.headline and not may_headline(metric):
        worst = {p: tuple(round(fall, 2) for fall in falls(metric, p)) for p in PREVALENCES}
        raise ScorerError(
            f"The metric '{metric.name}' hardly falls for descriptions that are far too narrow or too broad: {worst} "
            "at those prevalences. Register it as a diagnostic (headline=False)."
        )
    return METRICS.add(metric.name, metric)
