"""How information flows to a prediction in one prompt: the contribution graph of Ferrando and Voita (2024,
arXiv 2403.00824), as the LM Transparency Tool draws it (Tufanov et al. 2024, arXiv 2404.07004).

Each residual state is a sum of vectors: the state before it, what every head brought from every position, the bias of
attention, the MLP. A part contributes

    c(part) = max(|whole|_1 - |whole - part|_1, ε),   normalised to sum 1 over the parts.

Parts below a threshold are dropped and the rest normalised again; the graph is what can be reached backwards from the
last state at the chosen position. Norms behind attention or the MLP are held as they are on the run (`tools.frozen`);
in post-norm blocks the sum is the one that is normalised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.frozen import freeze
from tools.head_weights import attention_input, head_weights
from tools.kinds.head import output_weights
from tools.kinds.neuron import output_directions
from tools.lenses.weights import Promotion, promotions
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site

#: The least contribution, which keeps the normalisation defined (the published value).
_LEAST = 1e-5


@dataclass(frozen=True)
class Edge:
    """A part of one residual state: from where it comes, and what it does."""

    kind: str
    """``stream`` (the state before), ``head``, or ``mlp``."""
    name: str
    """``stream``, ``head:3:1``, ``mlp:3``."""
    source: str
    """Node from which it comes: ``SITE@POSITION``."""
    target: str
    share: float
    """Contribution before the threshold."""
    weight: float
    """Contribution among what is kept: those of a node's edges sum to 1."""
    flow: float
    """What passes here of all that reaches the last state: weights multiplied along paths, and added over them."""
    promotion: Promotion | None
    """What it promotes, through the final norm and unembedding."""
    neurons: tuple[tuple[str, float], ...] = ()
    """Of an MLP: its strongest neurons, with their contributions."""


@dataclass(frozen=True)
class Node:
    """A residual state that information passes on its way."""

    name: str
    """``SITE@POSITION``."""
    site: str
    position: int
    bias: float
    """Share of attention's bias, which comes from nowhere."""
    dropped: float
    """Share of all parts below the threshold."""


@dataclass(frozen=True)
class FlowGraph:
    """What can be reached backwards from the last state at a position."""

    tokens: tuple[str, ...]
    position: int
    threshold: float
    nodes: tuple[Node, ...]
    """From the last state backwards."""
    edges: tuple[Edge, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def contributions(parts: Tensor, whole: Tensor) -> Tensor:
    """Contribution of each part [..., part, width] to the sum [..., width]; sums to 1 over the parts."""
    near = (whole[..., None, :] - parts).abs().sum(-1)
    raw = (whole.abs().sum(-1)[..., None] - near).clamp(min=_LEAST)
    return raw / raw.sum(-1, keepdim=True)


def flow_graph(
    subject: Subject,
    ids: Sequence[int],
    *,
    position: int | None = None,
    threshold: float = 0.04,
    neurons: int = 3,
    k: int = 3,
) -> FlowGraph:
    """The graph of a prompt.

    Args:
        subject: The model.
        ids: Token ids.
        position: Whose prediction to explain; None for the last.
        threshold: Contributions below it are dropped.
        neurons: Strongest neurons of each MLP that is kept.
        k: Promoted and suppressed tokens of each edge.

    Raises:
        UnitError: The position is beyond the prompt, the threshold is not in [0, 1), or the subject lacks a site that
            the sums need.
    """
    place = len(ids) - 1 if position is None else position
    if not 0 <= place < len(ids):
        raise UnitError(f"Position {place} is beyond the prompt, which has tokens 0 to {len(ids) - 1}.")
    if not 0 <= threshold < 1:
        raise UnitError(f"A threshold of {threshold} is not in [0, 1).")
    run = _Run(subject, ids, neurons, k)
    # Each state that is asked for, with the part of the last one that passes through it.
    wanted: dict[str, float] = {f"resid_post.{subject.n_layers - 1}@{place}": 1.0}
    nodes: list[Node] = []
    edges: list[Edge] = []
    # Sites from the last to the first, so that all that a site is asked for is known when its turn comes.
    for site in run.sites():
        asked = sorted(int(name.split("@")[1]) for name in wanted if name.startswith(f"{site}@"))
        if not asked:
            continue
        for query, parts in run.states(site, asked):
            name = f"{site}@{query}"
            kept = [part for part in parts if part.share >= threshold and part.source is not None]
            total = sum(part.share for part in kept)
            bias = sum(part.share for part in parts if part.source is None)
            dropped = sum(part.share for part in parts if part.source is not None) - total
            nodes.append(Node(name, str(site), query, bias, max(dropped, 0.0)))
            shown = run.promotions([part.vector for part in kept])
            for part, promotion in zip(kept, shown, strict=True):
                assert part.source is not None
                weight = part.share / total
                passes = wanted[name] * weight
                wanted[part.source] = wanted.get(part.source, 0.0) + passes
                edges.append(
                    Edge(part.kind, part.name, part.source, name, part.share, weight, passes, promotion,
                         run.top_neurons(site, query) if part.kind == "mlp" else ())
                )  # fmt: skip
    first = sorted((n for n in wanted if n.startswith("resid_pre.0@")), key=lambda n: -int(n.split("@")[1]))
    nodes += [Node(name, "resid_pre.0", int(name.split("@")[1]), 0.0, 0.0) for name in first]
    return FlowGraph(tuple(subject.pieces(ids)), place, threshold, tuple(nodes), tuple(edges))


@dataclass(frozen=True)
class _Part:
    kind: str
    name: str
    source: str | None
    share: float
    vector: Tensor


class _Run:
    """One prompt's run, and its residual states as sums."""

    def __init__(self, subject: Subject, ids: Sequence[int], neurons: int, k: int) -> None:
        self.subject, self.neurons, self.k = subject, neurons, k
        kinds = ["resid_pre", "attn_pattern", "head_z", "attn_out", "mlp_out", "resid_post"]
        wanted = []
        for layer, plan in enumerate(subject.sites.plans):
            more = [kind for kind in ("resid_mid", "mlp_act") if kind in plan.taps]
            wanted += [Site(layer, kind) for kind in (*kinds, *more)]
        self._values: dict[int, Tensor] = {}
        self.captured: Captured = subject.capture(torch.tensor([list(ids)]), None, wanted)

    def at(self, layer: int, kind: str) -> Tensor:
        """A site's tensor [pos, ...], float32."""
        return self.captured[Site(layer, kind)][0].float()

    def sites(self) -> Iterator[Site]:
        """States that are sums, last first."""
        for layer in reversed(range(self.subject.n_layers)):
            yield Site(layer, "resid_post")
            if "resid_mid" in self.subject.sites.plans[layer].taps:
                yield Site(layer, "resid_mid")

    def states(self, site: Site, queries: list[int]) -> Iterator[tuple[int, list[_Part]]]:
        """Each queried state as a sum."""
        for query in queries:
            named: list[tuple[str, str, str | None]] = []
            vectors: list[Tensor] = []
            layer, parallel = site.layer, "resid_mid" not in self.subject.sites.plans[site.layer].taps
            if site.kind == "resid_post":
                before = "resid_pre" if parallel else "resid_mid"
                node = self._node(layer, before, query)
                named += [("stream", "stream", node), ("mlp", f"mlp:{layer}", node)]
                vectors += [self.at(layer, before)[query][None], self.at(layer, "mlp_out")[query][None]]
            if site.kind == "resid_mid" or parallel:
                if not parallel:
                    named.append(("stream", "stream", self._node(layer, "resid_pre", query)))
                    vectors.append(self.at(layer, "resid_pre")[query][None])
                brought, bias = self._brought(layer, query)
                heads, keys = brought.shape[:2]
                named += [
                    ("head", f"head:{layer}:{h}", self._node(layer, "resid_pre", key))
                    for h in range(heads) for key in range(keys)
                ]  # fmt: skip
                named.append(("bias", "bias", None))
                vectors += [brought.flatten(0, 1), bias[None]]
            parts = torch.cat(vectors)
            shares = contributions(parts, parts.sum(0)).tolist()
            yield query, [_Part(*n, share, v) for n, share, v in zip(named, shares, parts, strict=True)]

    def _node(self, layer: int, kind: str, position: int) -> str:
        """The state's name; what enters a layer is what the one before handed on."""
        if kind == "resid_pre" and layer > 0:
            return f"resid_post.{layer - 1}@{position}"
        return f"{kind}.{layer}@{position}"

    def _brought(self, layer: int, query: int) -> tuple[Tensor, Tensor]:
        """What each head brought from each key [head, key, d_model], and attention's bias [d_model]."""
        subject, plan = self.subject, self.subject.sites.plans[layer]
        assert plan.attention_out is not None, "a layer with heads has an output projection"
        weights, values = output_weights(subject, layer), self._values_of(layer)
        pattern = self.at(layer, "attn_pattern")[:, query]
        last = query + 1 if subject.causal else values.shape[1]
        brought = torch.einsum("hke,hed->hkd", pattern[:, :last, None] * values[:, :last], weights)
        projection = subject.sites.module(layer, plan.attention_out)
        bias = getattr(projection, "bias", None)
        shift = torch.zeros_like(weights[0, 0]) if not isinstance(bias, Tensor) else bias.detach().float()
        scale = plan.taps["attn_out"].scale
        if plan.attention_norm is None:
            return brought, scale * shift
        total = (self.at(layer, "head_z")[query].flatten() @ weight_in_out(projection).float() + shift)[None]
        norm = freeze(subject.sites.module(layer, plan.attention_norm), total.to(subject.dtype))
        return scale * norm.push(brought).float(), scale * (norm.push(shift) + norm.bias)[0].float()

    def _values_of(self, layer: int) -> Tensor:
        """Values [head, key, d_head]."""
        if layer not in self._values:
            own = head_weights(self.subject, layer)
            x = attention_input(self.subject, layer, self.captured[Site(layer, "resid_pre")][0])
            self._values[layer] = torch.einsum("kd,hde->hke", x, own.W_V) + own.b_V[:, None]
        return self._values[layer]

    def promotions(self, vectors: list[Tensor]) -> list[Promotion | None]:
        """What vectors promote."""
        if self.subject.unembedding is None or not vectors or not self.k:
            return [None] * len(vectors)
        return list(promotions(self.subject, torch.stack(vectors), self.k))

    def top_neurons(self, site: Site, query: int) -> tuple[tuple[str, float], ...]:
        """The neurons that contribute most to a state, among the state before, all neurons and the bias."""
        layer, plan = site.layer, self.subject.sites.plans[site.layer]
        if not self.neurons or "mlp_act" not in plan.taps:
            return ()
        writes = self.at(layer, "mlp_act")[query][:, None] * output_directions(self.subject, layer)
        out = self.at(layer, "mlp_out")[query]
        if plan.mlp_norm is not None:
            # Write directions have the norm's gain, not its division: scaled to what they add up to.
            whole = writes.sum(0)
            writes = writes * ((out @ whole) / whole.square().sum())
        before = self.at(layer, "resid_pre" if "resid_mid" not in plan.taps else "resid_mid")[query]
        parts = torch.cat([writes, before[None], (out - writes.sum(0))[None]])
        shares = contributions(parts, before + out)[: len(writes)]
        best = shares.topk(min(self.neurons, len(shares)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple((f"mlp:{layer}:{i}", share) for i, share in pairs)
