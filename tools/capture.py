"""Reads tensors at sites during one forward pass, with hooks on the model's own modules.

The pass ends as soon as the last requested tensor is there. Values at padded positions are meaningless. Position 0 is
read like any other; but many models put a huge, input-independent activation there (an attention sink, or the
beginning-of-sequence token), so whoever ranks activations leaves position 0 out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from tools.errors import SubjectError
from tools.sites import SiteMap
from tools.structure import Tap, eager_attention, find_pattern, first_tensor, main_output
from tools.types import Site


class Captured(Mapping[Site, Tensor]):
    """Tensors by site; see `Site` for their shapes. `logits` is [batch, pos, vocabulary] where it was asked for."""

    def __init__(self, tensors: dict[Site, Tensor], logits: Tensor | None) -> None:
        self._tensors = tensors
        self.logits = logits

    def __getitem__(self, site: Site) -> Tensor:
        return self._tensors[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class _Stop(Exception):  # noqa: N818 (no error: it ends the pass)
    """Ends the forward pass once every requested site has been read."""


def run(
    model: PreTrainedModel, sites: SiteMap, inputs: Mapping[str, Any], wanted: Iterable[Site], *, logits: bool
) -> Captured:
    """One forward pass of `model(**inputs)`, reading the wanted sites.

    Raises:
        UnitError: A site does not exist in this model.
        SubjectError: A site's module did not run, or logits were asked of a model that has none.
    """
    batch, positions = inputs["input_ids"].shape
    taps = {site: sites.tap(site) for site in dict.fromkeys(wanted)}
    tensors: dict[Site, Tensor] = {}
    if not taps and not logits:
        return Captured(tensors, None)

    def keep(site: Site, tensor: Tensor) -> None:
        tensors[site] = tensor
        if len(tensors) == len(taps) and not logits:
            raise _Stop

    handles: list[RemovableHandle] = []
    patterns = any(site.kind == "attn_pattern" for site in taps)
    output: Any = None
    try:
        for site, tap in taps.items():
            module = sites.module(site.layer, tap.path)
            read = _reader(site, tap, sites, (batch, positions), keep)
            if tap.end == "input":
                handles.append(module.register_forward_pre_hook(read, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(lambda m, _i, out, read=read: read(m, (out,), {})))
        eager = eager_attention(model) if patterns else contextlib.nullcontext()
        with torch.inference_mode(), eager, contextlib.suppress(_Stop):
            output = model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    if left := [str(site) for site in taps if site not in tensors]:
        raise SubjectError(f"The subject '{sites.name}' ran without computing {', '.join(left)}.")
    if not logits:
        return Captured(tensors, None)
    scores = getattr(output, "logits", None)
    if not isinstance(scores, Tensor):
        raise SubjectError(f"The subject '{sites.name}' ({type(model).__name__}) has no logits: it lacks a head.")
    return Captured(tensors, scores)


def _reader(
    site: Site, tap: Tap, sites: SiteMap, shape: tuple[int, int], keep: Callable[[Site, Tensor], None]
) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
    plan = sites.plans[site.layer]
    batch, positions = shape

    def read(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if site.kind == "attn_pattern":
            pattern = find_pattern(args[0], batch, positions)
            if pattern is None:
                raise SubjectError(f"'{sites.name}' computed no pattern at {site}; is its attention fused?")
            keep(site, pattern)
            return
        tensor = first_tensor(args, kwargs) if tap.end == "input" else main_output(args[0])
        assert tensor is not None, f"{site} was a tensor when the model was mapped"
        if site.kind == "head_z":
            keep(site, tensor.reshape(batch, positions, plan.n_heads, plan.d_head))
        elif site.kind == "mlp_act":
            keep(site, tensor.reshape(batch, positions, plan.n_neurons))
        else:
            # Some models add to the residual stream in place, which would change what was read.
            tensor = tensor.reshape(batch, positions, plan.d_model)
            keep(site, tensor.clone() if tap.scale == 1.0 else tensor * tap.scale)

    return read
