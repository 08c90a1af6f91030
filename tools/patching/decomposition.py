"""What a part contributes, followed through the model in one pass: no patch is run (CD-T).

Contextual decomposition for transformers (Hsu et al. 2024, arXiv 2407.00886): every activation is a pair beta + gamma,
what the source contributes and the rest, and each step of the forward pass takes a pair to a pair:

- norms divide by the size of the total, held as it is, and are linear then; linear layers act on both;
- a nonlinear step f (the activation function, a gate, a mixture of experts): gamma' = f(gamma), beta' = f(total) -
  gamma', so that what the source and the rest do together counts as the source's;
- attention moves values by the total's pattern (`values`), or is such a step itself, pattern and all (`all`): only then
  does a source that acts on where later heads look contribute anything;
- biases belong to gamma, where the paper splits them in proportion to the magnitudes.

Unlike the paper, beta and gamma of opposite signs are left as they are: with all patterns held and no nonlinear step on
the way, beta is then exactly what the source adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tools.capture import Captured
from tools.errors import InterventionError, SubjectError
from tools.estimates import Array, ratio
from tools.frozen import freeze, norm_making
from tools.head_weights import head_weights
from tools.interventions import run
from tools.normalisation import norm_before
from tools.patching.nodes import Node
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group, groups
from tools.patching.sweep import difference_of
from tools.structure import first_tensor, main_output, weight_in_out
from tools.subject import Subject
from tools.types import Site

Attention = Literal["values", "all"]
#: How far, relative to the largest entry, sums of pairs may be off the model's own activations.
_OFF = 1e-3


@dataclass(frozen=True)
class Decomposition:
    """Contributions to the logit difference of the clean prompts."""

    sources: tuple[str, ...]
    contributions: Array
    """[source, pair]: beta of the logit difference."""
    effects: Array
    """[source]: sum of contributions over that of clean less corrupted logit differences; as noising effects."""
    errors: Array
    """Standard errors of the effects over pairs."""
    totals: Array
    """[pair]: the logit difference, before a final function such as Gemma 2's cap."""
    off: float
    """Largest difference of beta + gamma from the model's own streams, relative to their largest entry."""
    attention: Attention
    baseline: str
    """``corrupt``: a source is what its output has over that of the corrupted run; ``zero``: all of its output."""

    def to_json(self) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class _Pair:
    """beta and gamma of a tensor, float64 [row, pos, ...]."""

    beta: Tensor
    gamma: Tensor

    @property
    def total(self) -> Tensor:
        return self.beta + self.gamma

    def __add__(self, other: _Pair) -> _Pair:
        return _Pair(self.beta + other.beta, self.gamma + other.gamma)


def decompose(
    subject: Subject,
    pairs: Sequence[TokenPair],
    sources: Sequence[Node],
    *,
    attention: Attention = "all",
    baseline: Literal["corrupt", "zero"] = "corrupt",
) -> Decomposition:
    """Follow what heads and MLPs contribute to the logit difference of the clean prompts.

    Args:
        subject: A decoder whose way to the logits is linear up to norms.
        pairs: Token pairs; noise has no meaning here beyond its corrupted runs.
        sources: Heads and whole MLPs, at all positions.
        attention: What attention does to a pair; see above.
        baseline: What counts as the source's.

    Raises:
        UnitError: The subject has no such part, or its heads' weights cannot be read.
        InterventionError: There is no source, or one is a neuron.
        SubjectError: The subject cannot be decomposed; the message says where.
    """
    if not sources or any(node.kind not in ("head", "mlp") for node in sources):
        raise InterventionError("Contributions are those of heads and whole MLPs; name at least one.")
    for node in sources:
        node.check(subject)
    if subject.unembedding is None:
        raise SubjectError(
            f"'{subject.name}' cannot be decomposed: its way from the last stream to the logits is not linear up to a "
            "norm."
        )
    for layer, plan in enumerate(subject.sites.plans):
        if missing := [kind for kind in ("head_z", "attn_pattern", "attn_out", "mlp_out") if kind not in plan.taps]:
            raise SubjectError(
                f"'{subject.name}' cannot be decomposed: in layer {layer} there is no {missing[0]}, for "
                f"{plan.missing[missing[0]]}."
            )
    contributions = np.zeros((len(sources), len(pairs)))
    totals, baselines = np.zeros(len(pairs)), np.zeros((2, 1, len(pairs)))
    off = 0.0
    read = list(dict.fromkeys(node.site for node in sources))
    with subject.lock, torch.inference_mode():
        for group in groups(subject, pairs, read):
            for side, name in enumerate(("clean", "corrupt")):
                baselines[side][:, group.numbers] = group.baselines[name][:1].cpu().numpy()
            together = max(1, group.rows // len(group.pairs))
            for first in range(0, len(sources), together):
                chosen = list(sources[first : first + together])
                passing = _Pass(subject, group, chosen, attention, baseline)
                beta, total = passing.logits()
                n = len(group.pairs)
                contributions[first : first + len(chosen), list(group.numbers)] = beta.reshape(-1, n).cpu().numpy()
                totals[list(group.numbers)] = total[:n].cpu().numpy()
                off = max(off, passing.off)
    if off > _OFF:
        raise SubjectError(
            f"'{subject.name}' cannot be decomposed: what its parts add up to is off by {off:.2g} of its stream, so "
            "some step of it is of another kind."
        )
    effects, errors = ratio(contributions.T, difference_of(baselines)[0])
    return Decomposition(
        tuple(map(str, sources)), contributions, effects, errors, totals, off, attention, baseline
    )  # fmt: skip


class _Pass:
    """One forward pass of pairs, for some sources times some prompts."""

    def __init__(
        self, subject: Subject, group: Group, sources: list[Node], attention: Attention, baseline: str
    ) -> None:
        self.subject, self.sources, self.attention = subject, sources, attention
        self.n, self.off = len(group.pairs), 0.0
        self.group, self.baseline = group, baseline
        self.rows = torch.arange(self.n, device=subject.device).repeat(len(sources))
        ids = group.ids["clean"].repeat(len(sources), 1)
        sites = [
            Site(layer, kind) for layer, plan in enumerate(subject.sites.plans)
            for kind in ("resid_pre", "resid_post", "head_z", "attn_pattern", "attn_out", "mlp_out")
        ]  # fmt: skip
        with _arguments(subject) as self.calls:
            self.found: Captured = run(subject, ids, read=sites, logits=False)

    def total(self, layer: int, kind: str) -> Tensor:
        return self.found[Site(layer, kind)].double()

    def logits(self) -> tuple[Tensor, Tensor]:
        """beta and total of the logit difference at the last position, [row]."""
        start = self.total(0, "resid_pre")
        stream = _Pair(torch.zeros_like(start), start)
        for layer in range(self.subject.n_layers):
            stream = self._layer(layer, stream)
            expected = self.total(layer, "resid_post")
            wrong = float((stream.total - expected).abs().max())
            waiting = torch.tensor([node.layer > layer for node in self.sources], device=expected.device)
            if bool(waiting.any()):  # nothing is the source's before it
                wrong = max(wrong, float(stream.beta[waiting.repeat_interleave(self.n)].abs().max()))
            self.off = max(self.off, wrong / float(expected.abs().max()))
        return self._read(_Pair(stream.beta[:, -1], stream.gamma[:, -1]))

    def _layer(self, layer: int, stream: _Pair) -> _Pair:
        plan, block = self.subject.sites.plans[layer], self.subject.sites.blocks[layer]
        attended = self._attend(layer, stream)
        if "resid_mid" in plan.taps:
            middle = stream + attended
            tap = plan.taps["resid_mid"]
            module = block.get_submodule(tap.path)
            if plan.normalised_stream:
                middle = _normed(norm_making(self.subject, layer, middle.total, self._made(module, middle)), middle)
                given = middle
            else:
                given = _normed(module, middle)
            return self._settled(layer, middle + self._transform(layer, module, given))
        path = norm_before(self.subject.model, block, plan.mlp_in or plan.taps["mlp_out"].path)
        if path is None:
            raise SubjectError(f"'{self.subject.name}' cannot be decomposed: what its MLP reads is no norm's output.")
        module = block.get_submodule(path)
        return stream + attended + self._transform(layer, module, _normed(module, stream))

    def _made(self, module: nn.Module, middle: _Pair) -> Tensor:
        """What a post-norm block's first norm makes of the stream."""
        made: Tensor = module(self._cast(middle.total))
        return made

    def _settled(self, layer: int, stream: _Pair) -> _Pair:
        if not self.subject.sites.plans[layer].normalised_stream:
            return stream
        output = self.total(layer, "resid_post")
        return _normed(norm_making(self.subject, layer, stream.total, output), stream)

    def _attend(self, layer: int, stream: _Pair) -> _Pair:
        subject, plan, block = self.subject, self.subject.sites.plans[layer], self.subject.sites.blocks[layer]
        weights = head_weights(subject, layer)
        given = stream if weights.norm is None else _normed(block.get_submodule(weights.norm), stream)
        z = self.total(layer, "head_z")
        if self.attention == "all":
            assert plan.attention_out is not None, "a layer with heads has an output projection"
            replaced = "" if weights.norm is None else weights.norm
            gamma = self._run(layer, replaced, given.gamma, plan.attention_out, "input").reshape(z.shape).double()
            values = _Pair(z - gamma, gamma)
        else:
            pattern = self.total(layer, "attn_pattern")
            v_beta = torch.einsum("bkd,hde->bkhe", given.beta, weights.W_V.double())
            v_gamma = torch.einsum("bkd,hde->bkhe", given.gamma, weights.W_V.double()) + weights.b_V.double()
            values = _Pair(*(torch.einsum("bhqk,bkhe->bqhe", pattern, v) for v in (v_beta, v_gamma)))
        values = self._injected(layer, "head", values, z)
        return self._written(layer, values)

    def _written(self, layer: int, values: _Pair) -> _Pair:
        """What attention adds to the stream of its heads' vectors."""
        subject, plan = self.subject, self.subject.sites.plans[layer]
        assert plan.attention_out is not None, "a layer with heads has an output projection"
        projection = subject.sites.module(layer, plan.attention_out)
        weight = weight_in_out(projection).double()
        bias = getattr(projection, "bias", None)
        beta, gamma = (part.flatten(-2) @ weight for part in (values.beta, values.gamma))
        out = _Pair(beta, gamma if bias is None else gamma + bias.double())
        if plan.attention_norm is not None:
            out = _normed(subject.sites.module(layer, plan.attention_norm), out)
        scale = plan.taps["attn_out"].scale
        return _Pair(scale * out.beta, scale * out.gamma)

    def _transform(self, layer: int, module: nn.Module, given: _Pair) -> _Pair:
        """What the MLP adds, whatever it is made of: beta is what changes when it is given gamma alone."""
        subject, plan = self.subject, self.subject.sites.plans[layer]
        tap = plan.taps["mlp_out"]
        path = next(p for p, m in subject.sites.blocks[layer].named_modules() if m is module)
        if plan.mlp_norm is None:
            gamma = tap.scale * self._run(layer, path, given.gamma, tap.path, tap.end).double()
            pair = _Pair(self.total(layer, "mlp_out") - gamma, gamma)
        else:
            assert plan.mlp_out is not None, "a norm behind the MLP has a projection before it"
            before = (given.gamma, given.total)
            gamma, total = (self._run(layer, path, x, plan.mlp_out, "output").double() for x in before)
            pair = _normed(subject.sites.module(layer, plan.mlp_norm), _Pair(total - gamma, gamma))
            pair = _Pair(tap.scale * pair.beta, tap.scale * pair.gamma)
        return self._injected(layer, "mlp", pair, self.total(layer, "mlp_out"))

    def _injected(self, layer: int, kind: str, pair: _Pair, total: Tensor) -> _Pair:
        """Rows whose source is here begin with its output."""
        for number, node in enumerate(self.sources):
            if (node.layer, node.kind) != (layer, kind):
                continue
            rows = slice(number * self.n, (number + 1) * self.n)
            at: Any = (rows, slice(None), node.index) if kind == "head" else rows
            other = torch.zeros_like(total[at])
            if self.baseline == "corrupt":
                corrupt = self.group.runs["corrupt"][node.site].double()
                other = corrupt[:, :, node.index] if kind == "head" else corrupt
            pair.beta[at], pair.gamma[at] = total[at] - other, other
        return pair

    def _run(self, layer: int, replaced: str, value: Tensor, wanted: str, end: str) -> Tensor:
        """Run a block with a module's output (``""``: its own input) replaced; read a module's input or output."""
        block, (args, kwargs) = self.subject.sites.blocks[layer], self.calls[layer]
        new = self._cast(value)
        seen: list[Tensor | None] = []
        with ExitStack() as stack:
            if replaced:
                module = block.get_submodule(replaced)
                # Some blocks flatten batch and positions before their MLP.
                stack.callback(module.register_forward_hook(lambda _m, _a, o: new.reshape(o.shape)).remove)
            else:
                hidden = first_tensor(args, kwargs)
                args = tuple(new if a is hidden else a for a in args)
                kwargs = {key: new if a is hidden else a for key, a in kwargs.items()}
            reader = block.get_submodule(wanted)
            if end == "input":
                handle = reader.register_forward_pre_hook(
                    lambda _m, a, k: seen.append(first_tensor(a, k)), with_kwargs=True
                )
            else:
                handle = reader.register_forward_hook(lambda _m, _a, o: seen.append(main_output(o)))
            stack.callback(handle.remove)
            block(*args, **kwargs)
        (found,) = seen
        assert found is not None, "it was a tensor when the model was mapped"
        return found.reshape(*value.shape[:2], -1)

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.subject.dtype)

    def _read(self, last: _Pair) -> tuple[Tensor, Tensor]:
        way = self.subject.unembedding
        assert way is not None, "it was checked"
        for step, module in zip(way.steps[:-1], way.modules[:-1], strict=True):
            if isinstance(step, Tensor):
                bias = getattr(module, "bias", None)
                gamma = last.gamma @ step.double()
                last = _Pair(last.beta @ step.double(), gamma if bias is None else gamma + bias.double())
            else:
                last = _normed(module, last)
        final = way.steps[-1]
        assert isinstance(final, Tensor), "the last step is the unembedding"
        answer, wrong = self.group.answer[self.rows], self.group.wrong[self.rows]
        reads = (final[:, answer] - final[:, wrong]).T.double()
        bias = getattr(way.modules[-1], "bias", None)
        constant = 0.0 if bias is None else (bias[answer] - bias[wrong]).double()
        return (last.beta * reads).sum(-1), (last.total * reads).sum(-1) + constant


def _normed(module: nn.Module, pair: _Pair) -> _Pair:
    norm = freeze(module, pair.total)
    return _Pair(norm.push(pair.beta), norm.push(pair.gamma) + norm.bias)


class _arguments:  # noqa: N801 (a context manager)
    """While it lasts, notes the arguments of every block."""

    def __init__(self, subject: Subject) -> None:
        self._subject, self._stack = subject, ExitStack()
        self.calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __enter__(self) -> dict[int, tuple[tuple[Any, ...], dict[str, Any]]]:
        for layer, block in enumerate(self._subject.sites.blocks):

            def keep(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int = layer) -> None:
                self.calls[layer] = (args, kwargs)

            self._stack.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
        return self.calls

    def __exit__(self, *_: object) -> None:
        self._stack.close()
