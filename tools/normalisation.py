"""What lies between the last residual stream and the logits, and the linear part of normalisations.

A norm layer is recognised by what it computes: LayerNorm is γ ⊙ (x - mean(x)) / std(x) + β, RMSNorm γ ⊙ x / rms(x),
whatever γ is called and however it is stored (Gemma stores γ - 1).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tools.sites import SiteMap
from tools.structure import first_tensor, is_linear, main_output, plain_inputs, weight_in_out


@dataclass(frozen=True)
class Norm:
    """The part of a norm layer that acts on a direction: its gain, and whether it removes the mean."""

    gain: Tensor
    """γ, float32 [width]."""
    centred: bool
    """Whether the mean over the width is subtracted (LayerNorm) or not (RMSNorm)."""

    def fold(self, direction: Tensor) -> Tensor:
        """γ ⊙ (d - mean(d)): the direction behind the norm, up to the positive factor 1/std of the whole stream."""
        if self.centred:
            direction = direction - direction.mean(-1, keepdim=True)
        return self.gain * direction


def read_norm(module: nn.Module, width: int, device: torch.device) -> Norm | None:
    """Read γ and centring off a norm layer by evaluating it; None if it is not a norm layer.

    f(x) - f(-x) = 2 γ ⊙ n(x) where n normalises, for odd n and any bias β. Two independent x must agree on γ.
    """
    layer = copy.deepcopy(module).float()
    generator = torch.Generator(device).manual_seed(0)
    # Entries of magnitude 0.5 to 1.5 and alternating sign keep every denominator away from zero.
    signs = torch.where(torch.arange(width, device=device) % 2 == 0, 1.0, -1.0)
    xs = [signs * (0.5 + torch.rand(width, generator=generator, device=device)) + 0.2 for _ in range(2)]
    with torch.no_grad():
        odd = [(layer(x[None, None]) - layer(-x[None, None]))[0, 0] / 2 for x in xs]
    for centred in (True, False):
        gains = []
        for x, y in zip(xs, odd, strict=True):
            n = x - x.mean() if centred else x
            gains.append(y / (n / n.square().mean().sqrt()))
        if torch.allclose(gains[0], gains[1], rtol=1e-3, atol=1e-3):
            return Norm((gains[0] + gains[1]) / 2, centred)
    return None


def norm_before(model: PreTrainedModel, block: nn.Module, path: str) -> str | None:
    """The module of a block whose output is what the submodule `path` reads; None where that is not a module's."""
    made: dict[str, Tensor] = {}
    read: list[Tensor | None] = []

    class Seen(Exception):  # noqa: N818 (no error: it ends the pass)
        """Both have been seen."""

    def keep(module: str) -> Callable[..., None]:
        def hook(_m: nn.Module, _i: Any, output: Any) -> None:
            tensor = main_output(output)
            if tensor is not None:
                made[module] = tensor

        return hook

    def stop(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read.append(first_tensor(args, kwargs))
        raise Seen

    handles = [m.register_forward_hook(keep(p)) for p, m in block.named_modules() if p and p != path]
    handles.append(block.get_submodule(path).register_forward_pre_hook(stop, with_kwargs=True))
    try:
        with torch.no_grad(), contextlib.suppress(Seen):
            model(**plain_inputs(model, torch.arange(3, device=model.device)[None]))
    finally:
        for handle in handles:
            handle.remove()
    # Dropout hands on the tensor that it was given: the first to have made it counts.
    return next((module for module, tensor in made.items() if tensor is read[0]), None)


@dataclass(frozen=True)
class Unembedding:
    """The way from the last block to the logits: norms and linear layers, in order; biases act on no direction."""

    steps: tuple[Norm | Tensor, ...]
    """Norms, and weights [in, out]; the last is the unembedding."""
    modules: tuple[nn.Module, ...]
    """The model's module of each step."""

    def project(self, direction: Tensor) -> Tensor:
        """Logits that a direction in the residual stream adds, up to the final norm's positive scale.

        Args:
            direction: float [..., d_model].

        Returns:
            float32 [..., vocabulary].
        """
        direction = direction.float()
        for step in self.steps:
            direction = step.fold(direction) if isinstance(step, Norm) else direction @ step.float()
        return direction


def find_unembedding(model: PreTrainedModel, sites: SiteMap) -> Unembedding | None:
    """Follow the tensor from the last block to the logits; None if something else than norms and linear layers is met.

    Encoders with a transformation before their prediction (BERT's dense layer and activation) have no such way.
    """
    head = model.get_output_embeddings()
    if head is None:
        return None
    last = sites.blocks[-1]
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    recording = False

    def start(_m: nn.Module, _i: Any, output: Any) -> None:
        nonlocal recording
        recording = True
        seen.append((last, torch.empty(0), _tensor(main_output(output))))

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if recording:
            tensor, result = first_tensor(args, kwargs), main_output(output)
            if tensor is not None and result is not None:
                seen.append((module, tensor, result))

    inside = {id(m) for block in sites.blocks for m in block.modules()}
    leaves = [m for m in model.modules() if not any(True for _ in m.children()) and id(m) not in inside]
    handles = [last.register_forward_hook(start)]
    handles += [m.register_forward_hook(record, with_kwargs=True) for m in leaves]
    try:
        with torch.no_grad():
            model(**plain_inputs(model, torch.arange(4, device=model.device)[None] % head.weight.shape[0]))
    finally:
        for handle in handles:
            handle.remove()
    steps: list[Norm | Tensor] = []
    modules: list[nn.Module] = []
    current = seen[0][2]
    for module, tensor, result in seen[1:]:
        if tensor.shape != current.shape or not torch.equal(tensor, current):
            continue
        if is_linear(module):
            steps.append(weight_in_out(module).detach())
            modules.append(module)
        elif not torch.equal(tensor, result):  # dropout passes its input on
            norm = read_norm(module, tensor.shape[-1], tensor.device)
            if norm is None:
                return None
            steps.append(norm)
            modules.append(module)
        current = result
        if module is head:
            return Unembedding(tuple(steps), tuple(modules))
    return None


def _tensor(value: Tensor | None) -> Tensor:
    assert value is not None, "a block returns its hidden state"
    return value
