"""Where what is kept in the residual stream of a planted subject, and the plans of the parts that read and write it.

Each register is a range of dimensions. Two of them hold constants that are large beside all else, so that the norm
before each part divides by nearly the same number at every token: what a part reads is what was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
#: A sparse vector over the residual stream: dimension -> weight.
Vector = Mapping[int, float]

D_MODEL = 512
N_LAYERS = 3
N_HEADS = 4
D_HEAD = D_MODEL // N_HEADS
#: Positions of a GPT-2, the beginning-of-sequence token's included.
CONTEXT = 64
#: The size of the constants.
LARGE = 1000.0
#: Dimensions of the code by which a token is known, and the size of its entries.
CODE, CODE_SIZE = 40, 0.5
LAGS = (1, 2, 3)
#: Positions t for which the stream says whether the position is t or later.
STEPS = (2, 3, 4, 5, 6, 8, 9, 10, 12)
#: What a neuron's drive is where it is on (at least) and off (at most minus this).
ON = 6.0
#: The flags of heads and what they say.
FLAGS = ("repeated", "pair repeated", "inhibition", "name")
GROUPS = 40
#: Logits that 1 in a group's dimension adds to the group's tokens: what a unit does that is on.
LOGITS = 3.0
DERIVED = 40


def _registers(concepts: int, lagged: int) -> dict[str, int]:
    sizes = {
        "constant": 2, "ballast": 1, "start": 1, "filler": 1, "concept": concepts,
        **{f"concept {lag} back": lagged for lag in LAGS},
        "code": CODE, "previous code": CODE, "copy": CODE, "inhibited": CODE, "derived": DERIVED, "flag": len(FLAGS),
        "decay": 1, "step": len(STEPS), "place": CONTEXT // 2, "group": GROUPS, "dead": 16,
    }  # fmt: skip
    return {**sizes, "bulk": D_MODEL - sum(sizes.values())}


@dataclass(frozen=True)
class Layout:
    """Register name -> first dimension and size."""

    places: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, concepts: int, lagged: int) -> Layout:
        """The registers for so many concepts, of which so many are known of earlier tokens as well."""
        places, start = {}, 0
        for name, size in _registers(concepts, lagged).items():
            if size < 1:
                raise ValueError(f"no room for the register '{name}' in {D_MODEL} dimensions")
            places[name] = (start, size)
            start += size
        return cls(places)

    def dim(self, register: str, index: int = 0) -> int:
        """The dimension of one entry of a register."""
        start, size = self.places[register]
        if not 0 <= index < size:
            raise IndexError(f"'{register}' has {size} entries, no {index}")
        return start + index

    def slice(self, register: str) -> slice:
        """All dimensions of a register."""
        start, size = self.places[register]
        return slice(start, start + size)

    def constant(self, value: float) -> dict[int, float]:
        """The reading vector that gives `value` at every token."""
        return {self.dim("constant", 0): value / LARGE}


@dataclass(frozen=True)
class Neuron:
    """A planted neuron. Its drive is `reads` x + `bias`; it is on where the drive is `ON` or more, off at -`ON`.

    A neuron of a GPT-2 is gelu(drive); one of a Llama is silu(2 drive) (`up` x + `up_bias`) / 2. So both give about the
    drive itself when on, and about 0 when off.
    """

    layer: int
    index: int
    reads: Vector
    bias: float
    writes: Vector
    """What each unit of activation adds to the stream."""
    negative: bool = False
    """On is the bottom of the activation function's negative tail. The drive has two values only, -`ON` and `ON`."""
    up: Vector = field(default_factory=dict)
    """Llama only."""
    up_bias: float = 1.0


@dataclass(frozen=True)
class Head:
    """A planted attention head.

    The score of key j at query i is the sum of (q x_i)(k x_j) over `terms`, plus `peak` at j = i - `offset` (and
    clearly less elsewhere), less `not_itself` at j = i (and clearly less elsewhere).
    """

    layer: int
    index: int
    terms: tuple[tuple[Vector, Vector], ...]
    values: tuple[tuple[Vector, Vector], ...]
    """Pairs of what is read at the key and what is written for each unit of it at the query."""
    offset: int = 0
    peak: float = 0.0
    not_itself: float = 0.0


def dense(vector: Vector) -> Array:
    """float64 [D_MODEL]."""
    out = np.zeros(D_MODEL)
    for dim, weight in vector.items():
        out[dim] = weight
    return out


def codes(n: int, seed: str) -> Array:
    """[n, CODE] of +-1: a code for each token, no two of which agree or disagree in more than `SIMILAR` of the sum.

    Drawn at random, and drawn again where it is too close to an earlier one.
    """
    generator = np.random.default_rng(list(seed.encode()))
    out = np.zeros((n, CODE))
    for row in range(n):
        while True:
            batch = generator.integers(0, 2, (64, CODE)) * 2.0 - 1.0
            clash = np.abs(batch @ out[:row].T).max(axis=1, initial=0.0)
            good = np.flatnonzero(clash <= SIMILAR)
            if len(good):
                out[row] = batch[good[0]]
                break
    return out


#: Largest inner product of two tokens' codes; a code with itself has `CODE`.
SIMILAR = 18
