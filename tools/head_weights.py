"""Query, key, value and output weights of attention heads, whatever the layout in which a model keeps them.

Fused or interleaved projections, grouped keys and values, transposed weights and scaled queries all come out alike,
because the weights are read off by evaluation: a copy of the layer's attention is run on the basis vectors, each as a
sequence of its own at position 0, and the two matrix products of attention (Vaswani et al. 2017, eq. 1) are observed:
queries with keys, and the pattern with values. At position 0 rotary embeddings turn by nothing, so what is read is what
the projections compute. With x the input of attention, for each head

    q = x W_Q + b_Q    k = x W_K + b_K    v = x W_V + b_V    score = scale * q . k    write = z W_O

Norms of queries and keys (Qwen 3, Gemma 3) are not linear: their gain is in W_Q and W_K, their division is not.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tools.errors import UnitError
from tools.kinds.head import output_weights
from tools.loading import quiet
from tools.normalisation import norm_before, read_norm
from tools.structure import eager_attention, first_tensor, plain_inputs
from tools.subject import Subject

#: Basis vectors that are run at once.
_ROWS = 1024
#: Positions of the run from which the scale and what acts beside the scores are read.
_POSITIONS = 6
_TOLERANCE = 2e-3
#: What is left out of the scores of models that turn queries and keys; see `rotation`.
ROTARY = "rotary position embedding: the preference is that of two tokens at the same position"
#: Layers of a subject whose weights are kept at hand.
_KEPT = 8
_KNOWN: weakref.WeakKeyDictionary[Subject, dict[int, HeadWeights]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class HeadWeights:
    """One layer's heads, float32 on the subject's device; grouped keys and values are repeated for each query head."""

    W_Q: Tensor
    """[head, d_model, d_head], as W_K and W_V."""
    W_K: Tensor
    W_V: Tensor
    b_Q: Tensor  # noqa: N815
    """[head, d_head], as b_K and b_V; zero where the model has none."""
    b_K: Tensor  # noqa: N815
    b_V: Tensor  # noqa: N815
    W_O: Tensor
    """[head, d_head, d_model], scaled as it is added to the stream; before a norm behind it (Gemma 2)."""
    scale: float
    """Factor of q . k in the scores, mostly 1 / sqrt(d_head)."""
    norm: str | None
    """Path in the block of the norm between the residual stream and x; None where x is the stream (post-norm)."""
    left_out: tuple[str, ...]
    """What acts on the scores besides q . k, in words."""


def head_weights(subject: Subject, layer: int) -> HeadWeights:
    """The weights of a layer's heads.

    Raises:
        UnitError: The layer is beyond the model, has no heads, or its attention cannot be read so (the message says
            why).
    """
    known = _KNOWN.setdefault(subject, {})
    if layer not in known:
        weights = _read(subject, layer)
        while len(known) >= _KEPT:
            known.pop(next(iter(known)))
        known[layer] = weights
    return known[layer]


def attention_input(subject: Subject, layer: int, stream: Tensor) -> Tensor:
    """x, what a layer's attention reads of a residual stream [..., d_model]: behind the block's first norm."""
    path = head_weights(subject, layer).norm
    if path is None:
        return stream.float()
    with torch.inference_mode():
        normed: Tensor = subject.sites.module(layer, path)(stream.to(subject.dtype))
    return normed.float()


def rotation(subject: Subject, layer: int, offset: int) -> Tensor:
    """R, by which rotary embeddings turn queries that stand so many positions behind their keys (Su et al. 2021, arXiv
    2104.09864, eq. 16): the score of a query q and a key k, both as `HeadWeights` makes them, is then scale (q R) . k.

    It is found by evaluation, too: R takes a layer's queries at position 0 to those at position `offset`.

    Returns:
        float32 [d_head, d_head].

    Raises:
        UnitError: The offset is beyond the subject's context, the layer turns no queries, or does so in another way.
    """
    if not 0 <= offset < subject.context - 1:
        raise UnitError(f"There is no offset {offset}: texts of '{subject.name}' have {subject.context} tokens.")
    if ROTARY not in head_weights(subject, layer).left_out:
        raise UnitError(
            f"Layer {layer} of '{subject.name}' turns no queries by position (it has no rotary embedding): by q . k, "
            "tokens prefer each other alike at every offset. Leave the offset out."
        )
    plan = subject.sites.plans[layer]
    n = 1 + 2 * plan.d_head // plan.n_heads
    with subject.lock, torch.no_grad(), quiet():
        attention = _Attention(subject, layer)
        generator = torch.Generator(subject.device).manual_seed(0)
        inputs = torch.randn(n, 1, plan.d_model, generator=generator, device=subject.device)
        # One position further, too: there the same offset must make the same score.
        seen = attention(inputs.expand(-1, offset + 2, -1).contiguous())
        first, turned = (seen.q[:, :, place].flatten(0, 1).double().cpu() for place in (0, offset))
        # Queries may lie in few dimensions, and the shortest solution is then as good on all of them.
        found = torch.linalg.lstsq(first, turned, driver="gelsd").solution
        later = torch.einsum("bhd,bhd->bh", seen.q[:, :, offset + 1], seen.k[:, :, 1])
    expected = torch.einsum("bhd,bhd->bh", seen.q[:, :, offset], seen.k[:, :, 0])
    errors = [float((a - b).abs().max() / b.abs().max()) for a, b in ((first @ found, turned), (later, expected))]
    if max(errors) > _TOLERANCE:
        raise UnitError(
            f"How layer {layer} of '{subject.name}' turns queries depends on more than how far back they look."
        )
    R: Tensor = found.float().to(subject.device)
    return R


def _read(subject: Subject, layer: int) -> HeadWeights:
    W_O = output_weights(subject, layer)
    plan = subject.sites.plans[layer]
    if "attn_pattern" not in plan.taps:
        raise UnitError(
            f"The query, key and value weights of layer {layer} of '{subject.name}' cannot be read: "
            f"{plan.missing['attn_pattern']}."
        )
    width, d_head = plan.d_model, plan.d_head
    with subject.lock, torch.no_grad(), quiet():
        attention = _Attention(subject, layer)
        basis = torch.cat([torch.zeros(1, width), torch.eye(width)]).to(subject.device)
        chunks = [attention(part[:, None]) for part in torch.split(basis, _ROWS)]
        q, k, v = (torch.cat([getattr(c, name)[:, :, 0] for c in chunks]) for name in ("q", "k", "v"))
        weights = [(t[1:] - t[:1]).transpose(0, 1).contiguous() for t in (q, k, v)]
        biases = [t[0].clone() for t in (q, k, v)]
        if q.shape[1:] != (plan.n_heads, d_head) or v.shape != q.shape:
            raise UnitError(
                f"The heads of layer {layer} of '{subject.name}' cannot be read: their queries are {list(q.shape[1:])} "
                f"and their values {list(v.shape[1:])} [head, d_head], not {[plan.n_heads, d_head]}."
            )
        generator = torch.Generator(subject.device).manual_seed(0)
        sample = torch.randn(8, 1, width, generator=generator, device=subject.device)
        seen = attention(sample)
        for name, weight, bias in zip(("q", "k", "v"), weights, biases, strict=True):
            expected = torch.einsum("bd,hde->bhe", sample[:, 0], weight) + bias
            error = (getattr(seen, name)[:, :, 0] - expected).abs().max()
            if float(error) > _TOLERANCE * float(expected.abs().max()):
                raise UnitError(
                    f"The heads of layer {layer} of '{subject.name}' cannot be read: their {name} is not linear in the "
                    "input of attention."
                )
        scale, left_out = attention.scores(generator)
    (W_Q, W_K, W_V), (b_Q, b_K, b_V) = weights, biases
    return HeadWeights(
        W_Q, W_K, W_V, b_Q, b_K, b_V, W_O, scale, attention.norm, (*attention.left_out, *left_out)
    )  # fmt: skip


@dataclass(frozen=True)
class _Products:
    """Queries, keys and values [batch, head, pos, d_head], and the pattern [batch, head, query, key]."""

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Tensor


class _Attention:
    """A float32 copy of a layer's attention, run on inputs of our own with the other arguments that the model gives."""

    def __init__(self, subject: Subject, layer: int) -> None:
        self.subject, self.layer = subject, layer
        self.plan = subject.sites.plans[layer]
        self.path = self.plan.taps["attn_pattern"].path
        self.norm = norm_before(subject.model, subject.sites.blocks[layer], self.path)
        self.module = copy.deepcopy(subject.sites.module(layer, self.path)).float()
        self.left_out: list[str] = []
        normed = [child for child in self.module.modules() if child is not self.module and self._straighten(child)]
        if normed:
            self.left_out.append("the division by the norm of queries and keys")

    def _straighten(self, child: nn.Module) -> bool:
        """Let a norm within attention apply its gain alone, if it is one."""
        weight = getattr(child, "weight", None)
        if any(True for _ in child.children()) or not isinstance(weight, Tensor) or weight.ndim != 1:
            return False
        norm = read_norm(child, len(weight), self.subject.device)
        if norm is None:
            return False
        child.register_forward_hook(lambda _m, args, _out: norm.fold(args[0]))
        return True

    def __call__(self, hidden: Tensor) -> _Products:
        args, kwargs = self._arguments(*hidden.shape[:2])
        given = first_tensor(args, kwargs)
        args = tuple(hidden if a is given else _float(a) for a in args)
        kwargs = {key: hidden if a is given else _float(a) for key, a in kwargs.items()}
        with torch.no_grad(), eager_attention(self.module), _Watch(self.plan.n_heads, *hidden.shape[:2]) as watch:
            self.module(*args, **kwargs)
        missing = [name for name in ("q", "k", "v", "pattern") if name not in watch.found]
        if missing:
            raise UnitError(
                f"The heads of layer {self.layer} of '{self.subject.name}' cannot be read: its attention "
                f"({type(self.module).__name__}) does not multiply queries with keys and the pattern with values."
            )
        return _Products(**watch.found)

    def _arguments(self, batch: int, positions: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the model hands to the layer's attention for a batch of that shape."""
        found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def keep(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append((args, kwargs))
            raise _Seen

        module = self.subject.sites.module(self.layer, self.path)
        with _hook(module.register_forward_pre_hook(keep, with_kwargs=True)), eager_attention(self.subject.model):
            try:
                ids = torch.ones(batch, positions, dtype=torch.int64, device=self.subject.device)
                self.subject.model(**plain_inputs(self.subject.model, ids))
            except _Seen:
                pass
        return found[0]

    def scores(self, generator: torch.Generator) -> tuple[float, list[str]]:
        """The factor of q . k in the scores, and what else acts on them."""
        shape = (4, _POSITIONS, self.plan.d_model)
        hidden = torch.randn(shape, generator=generator, device=self.subject.device)
        probe = self(hidden)
        # Scores of a spread of about 1 leave a pattern in which none vanishes.
        typical = float(torch.einsum("bhqd,bhkd->bhqk", probe.q, probe.k).std())
        small = self(hidden * (1.0 / max(typical, 1e-12)) ** 0.5)
        scale, error = _slope(small)
        left_out = []
        same = self(hidden[:, :1].expand(shape).contiguous())
        if not torch.allclose(same.q[:, :, 0], same.q[:, :, -1], rtol=1e-3, atol=1e-4 * float(same.q.abs().max())):
            left_out.append(ROTARY)
        if error > 0.01:
            left_out.append("a bias of the scores that depends on position")
        elif abs(_slope(self(hidden * (40.0 / max(abs(scale) * typical, 1e-12)) ** 0.5))[0] / scale - 1) > 0.01:
            left_out.append("a cap on large scores")
        return scale, left_out


class _Watch(TorchFunctionMode):
    """Observes the two matrix products of attention among the calls of torch."""

    def __init__(self, heads: int, batch: int, positions: int) -> None:
        super().__init__()
        self.heads, self.batch, self.positions = heads, batch, positions
        self.found: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)]
        if getattr(func, "__name__", "") in ("matmul", "__matmul__", "bmm", "baddbmm") and isinstance(result, Tensor):
            left, right = tensors[-2:]
            if result.ndim in (3, 4) and left.ndim == right.ndim == result.ndim:
                self._see(left, right, result)
        return result

    def _see(self, left: Tensor, right: Tensor, result: Tensor) -> None:
        square = (self.positions, self.positions)
        if tuple(result.shape[-2:]) == square and "q" not in self.found:
            self.found["q"] = self._by_head(left)
            self.found["k"] = self._by_head(right.transpose(-1, -2))
        elif tuple(left.shape[-2:]) == square and "q" in self.found and "v" not in self.found:
            self.found["pattern"], self.found["v"] = self._by_head(left), self._by_head(right)

    def _by_head(self, tensor: Tensor) -> Tensor:
        """[batch, head, pos, width]; a model may have put batch and head together, or have one head for all."""
        apart = tensor.detach().float().reshape(self.batch, -1, *tensor.shape[-2:])
        return apart.repeat_interleave(self.heads // apart.shape[1], dim=1)


class _Seen(Exception):  # noqa: N818 (no error: it ends a pass)
    """What was to be seen has been seen."""


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _float(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    return type(value)(_float(item) for item in value) if isinstance(value, tuple | list) else value


def _slope(seen: _Products) -> tuple[float, float]:
    """Least squares of log pattern on q . k, each less its mean over a query's keys; and the unexplained share."""
    allowed = seen.pattern > 0
    logs = torch.where(allowed, seen.pattern, 1.0).log()
    products = torch.einsum("bhqd,bhkd->bhqk", seen.q, seen.k)
    counts = allowed.sum(-1, keepdim=True)

    def centred(values: Tensor) -> Tensor:
        return torch.where(allowed, values - torch.where(allowed, values, 0.0).sum(-1, keepdim=True) / counts, 0.0)

    y, x = centred(logs).double(), centred(products).double()
    slope = float((x * y).sum() / (x * x).sum())
    return slope, float((y - slope * x).square().sum() / y.square().sum())
