"""What is not planted: random neurons and heads of realistic scale, and the units among them that have no short rule.

Random neurons of layer 0 read the identities of the current and the previous token and the concepts of the two before
it, those of later layers what the earlier ones wrote; heads mix over positions. So a random neuron of layer 1 or 2
depends a little on many tokens, and on none of them much.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tools.planted.garden import Garden
from tools.planted.layout import D_HEAD, D_MODEL, N_LAYERS, Array, Layout, Neuron
from tools.planted.realise import Gpt2, Llama
from tools.planted.truth import UnitTruth

#: Units of each kind in the two sizes.
NOISE, DENSE, DEAD = (24, 48), (8, 12), (12, 18)
#: Standard deviation of a random neuron's drive.
_DRIVE = 6.0
#: Standard deviation of the factor by which a Llama's random neuron is multiplied, beside its mean of 1.
_FACTOR = 0.3
#: Share of positions at which random neurons are on.
_BULK_DENSITY, _NOISE_DENSITY = (0.15, 0.25), (0.03, 0.08)
#: Mean of a dense unit's drive, in its standard deviations: so high that most positions exceed half of the extremes.
_DENSE_MEAN = 5.0
#: Standard deviation, of each entry of the bulk register, of what one layer of neurons adds to it.
_SCALE = 1.4
#: Logits, in standard deviations, that the bulk register adds.
_LOGITS = 0.3


class _ReachedError(Exception):
    """A forward pass has come to where something is measured."""


class Bulk:
    """Fills a model with everything that is random, and sets the norms' gains, from the first layer to the last."""

    def __init__(self, garden: Garden, model: Gpt2 | Llama, ids: Tensor, mask: Tensor) -> None:
        """Ids and mask [text, position] are of sample texts, padded at the right, on which all is measured."""
        self.garden, self.realiser = garden, model
        self.ids, self.mask = ids, mask
        self.generator = np.random.default_rng([*b"planted bulk 1", garden.spec.seed])
        self.layout: Layout = garden.layout
        self.width = self.layout.places["bulk"][1]
        self.size = 0 if garden.spec.size == "small" else 1

    def normal(self, *shape: int) -> Array:
        values: Array = self.generator.standard_normal(shape)
        return values

    def embedding(self, vocabulary: int) -> Array:
        """What tokens bring of their own into the bulk register: [vocabulary, bulk], little."""
        return 0.2 * self.normal(vocabulary, self.width)

    def logits(self, vocabulary: int) -> Array:
        """What the bulk register does to the logits: [bulk, vocabulary]."""
        scale = float(_LOGITS / np.sqrt(self.width))
        return scale * self.normal(self.width, vocabulary)

    def fill(self, heads: Sequence[tuple[int, int]]) -> list[UnitTruth]:
        """Write all that is left to be random; `heads` are those without a plan.

        Returns:
            The truth about units without a rule.
        """
        truths: list[UnitTruth] = []
        for layer in range(N_LAYERS):
            self._gain(layer, "attention")
            for _, index in (head for head in heads if head[0] == layer):
                self._head(layer, index)
            truths += self._neurons(layer, self._gain(layer, "mlp"))
        self._gain(N_LAYERS, "logits")
        return truths

    def _stream(self, layer: int, what: str) -> Tensor:
        """What the norm there is given, at all positions of the sample texts that are tokens: [n, D_MODEL]."""
        kept: list[Tensor] = []

        def keep_input(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            kept.append(inputs[0].detach())
            raise _ReachedError

        handle = self.realiser.norm(layer, what).register_forward_pre_hook(keep_input)
        with torch.no_grad(), contextlib.suppress(_ReachedError):
            self.realiser.model(input_ids=self.ids, attention_mask=torch.ones_like(self.ids))
        handle.remove()
        keep = self.mask.bool().clone()
        keep[:, 0] = False
        return kept[0][keep]

    def _gain(self, layer: int, what: str) -> Tensor:
        """Make the norm there give, on the average, what it is given, which is returned."""
        stream = self._stream(layer, what)
        spread = self.realiser.spread(stream).double().mean()
        with torch.no_grad():
            self.realiser.norm(layer, what).weight.fill_(round(float(spread), 4))  # type: ignore[operator]
        return stream

    def _head(self, layer: int, index: int) -> None:
        bulk = self.layout.slice("bulk")
        width = bulk.stop - bulk.start
        q, k, v = (np.zeros((D_MODEL, D_HEAD)) for _ in range(3))
        o = np.zeros((D_HEAD, D_MODEL))
        q[bulk], k[bulk] = (self.normal(width, D_HEAD) * 1.2 / np.sqrt(width) / D_HEAD**0.25 for _ in range(2))
        v[bulk] = self.normal(width, D_HEAD) / np.sqrt(width)
        o[:, bulk] = self.normal(D_HEAD, width) / np.sqrt(D_HEAD)
        self.realiser.raw_head(layer, index, q=q, k=k, v=v, o=o)

    def _neurons(self, layer: int, given: Tensor) -> list[UnitTruth]:
        garden = self.garden
        count = garden.free(layer)
        given = given.double()
        given = given - given.mean(-1, keepdim=True) * (0 if isinstance(self.realiser, Llama) else 1)
        stream = (given / self.realiser.spread(given)[:, None]).numpy() * self._mean_gain(layer)
        reads = self._reads(layer, count)
        drive = stream @ reads
        slope = np.round(_DRIVE / np.maximum(drive.std(axis=0), 1e-6), 3)
        truths: list[UnitTruth] = []
        densities, kinds = self._kinds(layer, count)
        bulk = self.layout.slice("bulk")
        writes = np.zeros((count, D_MODEL))
        rms = _DRIVE * 0.35
        writes[:, bulk] = self.normal(count, bulk.stop - bulk.start) * _SCALE / (rms * np.sqrt(count))
        ups = np.zeros((count, D_MODEL))
        ups[:, bulk] = self.normal(count, bulk.stop - bulk.start)
        # A gate's factor is about 1: the product of two wide spreads would have extremes that upset the norms.
        ups *= np.round(_FACTOR / np.maximum((stream @ ups.T).std(axis=0), 1e-6), 4)[:, None]
        for row in range(count):
            index, kind = garden.take(layer), kinds[row]
            at = drive[:, row] * slope[row]
            zero = at.mean() - _DENSE_MEAN * at.std() if kind == "dense" else np.quantile(at, 1 - densities[row])
            bias = -float(np.round(zero, 2))
            weights = {dim: float(value) for dim, value in enumerate(reads[:, row] * slope[row]) if value}
            up = {dim: float(value) for dim, value in enumerate(ups[row]) if value} if kind == "bulk" else {}
            if kind == "dead":
                weights, bias = {dim: 0.1 * value for dim, value in weights.items()}, -40.0
            write = {dim: float(value) for dim, value in enumerate(writes[row]) if value}
            self.realiser.neuron(Neuron(layer, index, weights, bias, write, up=up, up_bias=float(kind != "dead")))
            if kind == "dead":
                truths.append(UnitTruth(f"mlp:{layer}:{index}", "+", kind, (), 0.0, 1e-9, noise=True, inert=True,
                                        causal_note="Never fires."))  # fmt: skip
            elif kind != "bulk":
                truths.append(UnitTruth(f"mlp:{layer}:{index}", "+", kind, (), 0.0, float("inf"), noise=True,
                                        causal_note="A random function of many tokens."))  # fmt: skip
        return truths

    def _mean_gain(self, layer: int) -> float:
        weight: Tensor = self.realiser.norm(layer, "mlp").weight  # type: ignore[assignment]
        return float(weight[0])

    def _reads(self, layer: int, count: int) -> Array:
        """Reading vectors [D_MODEL, count], each register with about equal influence."""
        reads = np.zeros((D_MODEL, count))
        if layer == 0:
            for register, scale in (("code", 1.0), ("previous code", 1.0), ("concept 2 back", 5.0),
                                    ("concept 3 back", 5.0), ("bulk", 0.3)):  # fmt: skip
                part = self.layout.slice(register)
                reads[part] = scale * self.normal(part.stop - part.start, count)
        else:
            part = self.layout.slice("bulk")
            reads[part] = self.normal(part.stop - part.start, count)
        return reads

    def _kinds(self, layer: int, count: int) -> tuple[Array, list[str]]:
        """Of each random neuron the share of positions at which its drive is to be positive, and what it is called."""
        kinds = ["dead"] * _part(DEAD[self.size], N_LAYERS, layer)
        if layer > 0:
            kinds += ["noise"] * _part(NOISE[self.size], N_LAYERS - 1, layer - 1)
            kinds += ["dense"] * _part(DENSE[self.size], N_LAYERS - 1, layer - 1)
        if len(kinds) > count:
            raise ValueError(f"layer {layer} has {count} neurons left, too few for {len(kinds)} random units")
        kinds += ["bulk"] * (count - len(kinds))
        ranges = [_NOISE_DENSITY if kind == "noise" else _BULK_DENSITY for kind in kinds]
        return np.array([self.generator.uniform(*limits) for limits in ranges]), kinds


def _part(total: int, parts: int, which: int) -> int:
    """The size of one of `parts` nearly equal parts."""
    return total // parts + (which < total % parts)
