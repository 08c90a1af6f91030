"""Values that travel out of this room: sites, units, splits and samples of positions with activations.

All are immutable and hold numpy arrays or plain values, never tensors, so that rooms above need not know torch.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.errors import UnitError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Where a tensor is read or written, in the order in which a block computes them.
SITE_KINDS = (
    "resid_pre", "head_q", "head_k", "attn_pattern", "head_v", "head_z", "attn_out", "resid_mid", "mlp_act", "mlp_out",
    "resid_post",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Site:
    """A place in the subject where a tensor is read or written, e.g. ``resid_post.3``.

    Shapes: ``resid_*``, ``attn_out``, ``mlp_out`` are [batch, pos, d_model]; ``mlp_act`` is [batch, pos, neuron];
    ``head_z`` is [batch, pos, head, d_head]; ``attn_pattern`` is [batch, head, query, key]. What goes into a
    pattern and is mixed by it, ``head_q``, ``head_k`` and ``head_v``, is [batch, pos, head, d_head]: queries and keys
    after rotary embeddings, keys and values that heads share repeated for each of them.
    """

    layer: int
    kind: str

    @classmethod
    def parse(cls, text: str) -> Site:
        kind, _, layer = text.partition(".")
        if kind not in SITE_KINDS or not layer.isdigit():
            raise UnitError(f"'{text}' is not a site. Write KIND.LAYER with KIND one of {', '.join(SITE_KINDS)}.")
        return cls(int(layer), kind)

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}"


@dataclass(frozen=True)
class UnitId:
    """One describable component: ``mlp:3:1017``, ``head:9:6``, ``sae:NAME:1234``, ``fn:numeric:12``, ``dir:NAME``.

    `group` is the id without its last number (``mlp:3``, ``head:9``, ``sae:NAME``); a direction is a group of its own
    with index 0. Units of one group share a site and are computed together.
    """

    group: str
    index: int

    @classmethod
    def parse(cls, text: str) -> UnitId:
        kind, _, rest = text.partition(":")
        if kind == "dir" and rest and ":" not in rest:
            return cls(text, 0)
        where, _, index = rest.rpartition(":")
        fits = index.isdigit() and (re.fullmatch(r"\d+", where) if kind in ("mlp", "head") else bool(where))
        if kind not in ("mlp", "head", "sae", "fn") or not fits:
            raise UnitError(
                f"'{text}' is not a unit. Units are written mlp:LAYER:NEURON, head:LAYER:HEAD, sae:NAME:LATENT, "
                "fn:DOMAIN:NUMBER or dir:NAME."
            )
        return cls(f"{kind}:{where}", int(index))

    @property
    def kind(self) -> str:
        return self.group.partition(":")[0]

    @property
    def where(self) -> str:
        """The layer (as text) of a neuron or head, the name of a latent's dictionary or of a direction, a function's
        domain."""
        return self.group.partition(":")[2]

    def __str__(self) -> str:
        return self.group if self.kind == "dir" else f"{self.group}:{self.index}"


class Split(enum.StrEnum):
    """Which part of the corpus a document belongs to, by hash: 50 %, 15 %, 25 %, 10 %."""

    EXPLORE = "explore"
    REFINE = "refine"
    SCORE = "score"
    AUDIT = "audit"


@dataclass(frozen=True)
class UnitStatistics:
    """What a unit did over the tokens of one split of the corpus (position 0 of each context left out)."""

    unit: UnitId
    tokens: int
    mean: float
    variance: float
    minimum: float
    maximum: float
    nonzero: float
    """Share of tokens with an activation other than zero."""
    quantiles: dict[str, float]
    """Keys '0.0005', '0.001', '0.01', '0.05', '0.25', '0.5', '0.75', '0.95', '0.99', '0.999', '0.9995'."""
    histogram_edges: tuple[float, ...]
    histogram_counts: tuple[int, ...]

    def threshold(self, polarity: str = "+") -> float:
        """Magnitude above which the unit counts as active on one tail: half of the 99.95th percentile of that tail.

        Compare with ``polarity_sign * activation``. Zero or less when the tail is empty.
        """
        return 0.5 * (self.quantiles["0.9995"] if polarity == "+" else -self.quantiles["0.0005"])

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "unit": str(self.unit)}


@dataclass(frozen=True)
class Sample:
    """A weighted sample of one split's token positions with a unit's activations; arrays are parallel, length n.

    Blocks of `window` tokens are the sampling unit. Every block of the random panel is here with weight
    (blocks outside the top lists) / (panel blocks outside the top lists); every block of the unit's top and bottom
    lists is here with weight 1. So a weighted mean over the sample estimates the mean over the whole split
    (Horvitz-Thompson), and rare strong activations are never missed.
    """

    contexts: IntArray
    """Row of the token store; see `Texts`."""
    positions: IntArray
    """Position within the context; never 0."""
    values: FloatArray
    """The unit's activation there, sign kept."""
    weights: FloatArray
    """How many of the split's tokens this one stands for."""
    documents: IntArray
    """Document number, for clustering."""

    def __len__(self) -> int:
        return len(self.contexts)


@dataclass(frozen=True)
class Example:
    """A window of tokens to show: the strongest (or a typical) position of a document, with its surroundings."""

    document: str
    split: Split
    source: str
    """'top', 'bottom', 'quantile' or 'random'."""
    context: int
    start: int
    """Position of the first token within the context."""
    peak: int
    """Which of `tokens` is the example's position."""
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    weight: float
    """How many of the split's tokens the peak stands for."""
