"""Testing what a head is said to attend to: attention mass on the described edges, on held-out text.

A claim such as "attends to the previous token" names an edge type. Its test statistic is the mean, over destination
positions at which such an edge exists, of the attention mass on edges of that type. Mass alone says little (a head that
attends everywhere puts some on every type), so it is compared with other heads on the same destinations and with
uniform causal attention. The arrays come from the caller: this room does not run models.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from scorers.bootstrap import TAIL, mean_resamples
from scorers.errors import ScorerError
from scorers.types import DoubleArray, Null, Score, protocol_hash
from tools.types import IntArray, Split

NAME: Final = "edges"
VERSION: Final = 1
METRIC: Final = "edge_mass"


def score_edges(
    mass: DoubleArray,
    documents: IntArray,
    *,
    other_heads: DoubleArray,
    uniform: DoubleArray,
    split: Split,
    edge: str,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """Score a head's described edge type.

    Args:
        mass: [n] attention mass (0 to 1) on edges of the type, at each destination where one exists.
        documents: [n] document of each destination.
        other_heads: [heads, n] the same for other heads of the subject, at the same destinations; may be [0, n].
        uniform: [n] the same for uniform causal attention: edges of the type / positions that can be attended to.
        split: the split that the contexts come from.
        edge: name of the edge type, e.g. 'previous'.
        resamples: bootstrap resamples.
        seed: decides them.

    Returns:
        A diagnostic score, metric 'edge_mass'. Its first null, behind `p_value`, is other heads' mean mass (absent
        without other heads); 'uniform' compares with uniform attention, by the document bootstrap of the difference.

    Raises:
        ScorerError: shapes do not fit, or a mass is not within 0 and 1.
    """
    began = time.perf_counter()
    n = len(mass)
    if mass.shape != (n,) or documents.shape != (n,) or uniform.shape != (n,) or other_heads.shape[1:] != (n,):
        raise ScorerError(
            f"Edge masses {mass.shape}, documents {documents.shape}, other heads {other_heads.shape} and uniform "
            f"attention {uniform.shape} are not over the same destinations."
        )
    for values in (mass, other_heads, uniform):
        if not ((values >= 0) & (values <= 1 + 1e-4)).all():
            raise ScorerError("Attention mass must lie between 0 and 1.")
    n_documents = len(np.unique(documents))
    value = float(mass.mean()) if n else None
    low, high = None, None
    own = (
        Null.of("heads", value, other_heads.mean(axis=1), keep=True) if value is not None and len(other_heads) else None
    )
    nulls = [own] if own else []
    if value is not None and n_documents > 1:
        rng = np.random.default_rng(seed)
        means = mean_resamples(mass, documents, resamples=resamples, rng=rng)
        low, high = (float(end) for end in np.quantile(means, [TAIL, 1 - TAIL]))
        # The bootstrap of the difference, moved to a mean of zero, is what the difference would be by chance.
        spread = mean_resamples(mass - uniform, documents, resamples=resamples, rng=rng) - float(
            (mass - uniform).mean()
        )
        nulls.append(Null.of("uniform", value, float(uniform.mean()) + spread))
    return Score(
        scorer=NAME,
        metric=METRIC,
        value=value,
        low=low,
        high=high,
        n_examples=n,
        n_documents=n_documents,
        n_active=int((mass > 0).sum()),
        null_mean=own.mean if own else None,
        p_value=own.p_value if own else None,
        split=str(split),
        predictor=f"edge:{edge}",
        protocol_hash=protocol_hash(NAME, VERSION, {"resamples": resamples, "edge": edge}, METRIC),
        headline=False,
        reason=None if n else f"no destination has an edge of the type '{edge}'",
        nulls=tuple(nulls),
        cost={"seconds": time.perf_counter() - began, "positions": float(n)},
    )
