"""Attention heads, ``head:LAYER:HEAD``: the norm of what a head writes into the residual stream."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.hooking.edits import Edit, Selection
from tools.hooking.where import Where
from tools.kinds.neuron import layer_number
from tools.kinds.registry import register
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site

_FACTORS: weakref.WeakKeyDictionary[Subject, dict[int, Tensor]] = weakref.WeakKeyDictionary()


def output_weights(subject: Subject, layer: int) -> Tensor:
    """W_O split by head, float32 [head, d_head, d_model], scaled as its output is added to the residual stream."""
    plan = subject.plan(layer, f"head:{layer}")
    if "head_z" not in plan.taps or plan.attention_out is None:
        raise UnitError(f"The subject '{subject.name}' has no heads in layer {layer}: {plan.missing['head_z']}.")
    weight = weight_in_out(subject.sites.module(layer, plan.attention_out)).detach().float()
    scale = plan.taps["attn_out"].scale if "attn_out" in plan.taps and plan.attention_norm is None else 1.0
    return scale * weight.reshape(plan.n_heads, plan.d_head, -1)


def _factors(subject: Subject, layer: int) -> Tensor:
    """R of the QR factorisation of each head's W_O^T: |z W_O| = |R z|, in d_head instead of d_model dimensions.

    Equal to the norm by the Gram matrix W_O W_O^T = R^T R, without squaring its condition number.
    """
    known = _FACTORS.setdefault(subject, {})
    if layer not in known:
        # Kept for passes that are differentiated, too, whatever pass asks first.
        with torch.inference_mode(False), torch.no_grad():
            weights = output_weights(subject, layer).transpose(1, 2).cpu()
            known[layer] = torch.linalg.qr(weights, mode="r").R.to(subject.device)
    return known[layer]


@register("head")
class Head:
    """The norm of z_h W_O^h at each token, the projection's bias left out, before a norm behind it (Gemma 2)."""

    def groups(self, subject: Subject) -> Sequence[str]:
        return [str(layer) for layer, plan in enumerate(subject.sites.plans) if "head_z" in plan.taps]

    def check(self, subject: Subject, where: str) -> None:
        subject.sites.tap(self.site(subject, where))

    def site(self, subject: Subject, where: str) -> Site:
        return Site(layer_number(subject, "head", where), "head_z")

    def width(self, subject: Subject, where: str) -> int:
        self.check(subject, where)
        return subject.sites.plans[int(where)].n_heads

    def activations(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        z = captured[self.site(subject, where)].float()
        write: Tensor = torch.einsum("bphd,hed->bphe", z, _factors(subject, int(where)))
        norm: Tensor = torch.linalg.vector_norm(write, dim=-1)
        return norm

    def read_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        return None

    def write_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        return None

    def edit(
        self, subject: Subject, where: str, index: int, new: Callable[[Tensor], Tensor], places: Where
    ) -> Edit | None:
        """Stretches the head's write to another norm; where it writes nothing, it stays so."""
        factors = _factors(subject, int(where))[index]

        def stretched(old: Tensor, _: Selection) -> Tensor:
            norm = torch.linalg.vector_norm(old @ factors.to(old).T, dim=-1, keepdim=True)
            stretch = torch.where(norm > 0, new(norm) / norm.clamp(min=1e-30), torch.ones_like(norm))
            return old * stretch

        return Edit(self.site(subject, where), places.channel(index), stretched)

    def contents(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        return captured[self.site(subject, where)].float()

    def edit_group(self, subject: Subject, where: str, new: Callable[[Tensor], Tensor], places: Where) -> Edit | None:
        """Turns all heads' vectors [..., head, d_head] into others."""
        return Edit(self.site(subject, where), places, lambda old, _: new(old))
