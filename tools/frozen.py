"""Norms as linear maps: the division by the size of what they are given is held as it is on a run.

With it a norm of a sum is a sum of parts, each through the same map, and a bias: y = s γ ⊙ (x - mean(x)) + β. The
factor s, one a position, is read off what the module makes of x, so that its small numbers and precision are in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tools.errors import SubjectError
from tools.normalisation import Norm, read_norm
from tools.subject import Subject

#: How closely a norm's output must be what a block hands on to count as the one that made it.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class FrozenNorm:
    """A norm at the positions of one run; float64."""

    norm: Norm
    scale: Tensor
    """s, [..., 1]."""
    bias: Tensor
    """β, [width]."""

    def push(self, part: Tensor) -> Tensor:
        """What becomes of a part [..., width] of the norm's input."""
        return self.scale * self.norm.fold(part.double())

    def pull(self, read: Tensor) -> Tensor:
        """The vector [..., width] that reads from a part before the norm what `read` reads from it behind."""
        gained = self.scale * self.norm.gain * read
        return gained - gained.mean(-1, keepdim=True) if self.norm.centred else gained


def freeze(module: nn.Module, total: Tensor) -> FrozenNorm:
    """A norm layer at the inputs [..., width] that a run gave it.

    Raises:
        SubjectError: The module is not a norm.
    """
    norm = read_norm(module, total.shape[-1], total.device)
    if norm is None:
        raise SubjectError(f"A {type(module).__name__} is no norm: it cannot be held as a linear map.")
    with torch.inference_mode():
        given = total.to(next(module.parameters()).dtype)
        output, bias = module(given).double(), module(torch.zeros_like(given[..., :1, :])).double()
        folded = norm.fold(given.double())
        bias = bias.reshape(-1, bias.shape[-1])[0]
        scale = ((output - bias) * folded).sum(-1, keepdim=True) / folded.square().sum(-1, keepdim=True)
    return FrozenNorm(norm, scale, bias)


def norm_making(subject: Subject, layer: int, total: Tensor, output: Tensor) -> nn.Module:
    """The norm of a block that makes `output` of `total` (post-norm blocks), found by trying.

    Raises:
        SubjectError: The block has none.
    """
    for module in subject.sites.blocks[layer].modules():
        weight = getattr(module, "weight", None)
        if any(True for _ in module.children()) or not isinstance(weight, Tensor) or weight.ndim != 1:
            continue
        with torch.inference_mode():
            made = module(total.to(weight.dtype))
        if torch.allclose(made.float(), output.float(), rtol=_TOLERANCE, atol=_TOLERANCE * float(output.abs().mean())):
            return module
    raise SubjectError(f"Layer {layer} of '{subject.name}' has no norm that makes its output of what it adds up.")
