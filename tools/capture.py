"""Reads tensors at sites during one forward pass, with hooks on the model's own modules, and edits them on the way.

The pass ends as soon as the last requested tensor is there. Values at padded positions are meaningless. Position 0 is
read like any other; but many models put a huge, input-independent activation there (an attention sink, or the
beginning-of-sequence token), so whoever ranks activations leaves position 0 out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tools.errors import SubjectError
from tools.hooking.edits import Edit
from tools.hooking.hooks import Hooks, Stop
from tools.hooking.where import Moment
from tools.sites import SiteMap
from tools.types import Site


class Captured(Mapping[Site, Tensor]):
    """Tensors by site; see `Site` for their shapes. `logits` is [batch, pos, vocabulary] where it was asked for."""

    def __init__(
        self, tensors: Mapping[Site, Tensor], logits: Tensor | None, before: Mapping[Site, Tensor] | None = None
    ) -> None:
        self._tensors = tensors
        self._before = before or {}
        self.logits = logits

    def __getitem__(self, site: Site) -> Tensor:
        return self._tensors[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def before(self, site: Site) -> Tensor:
        """The tensor as it was before the edits at its own site, where that was asked for."""
        return self._before[site]

    def gradients(self, scalar: Tensor) -> dict[Site, Tensor]:
        """Derivatives of a number, computed from this pass, by every tensor read; for a pass run with gradients.

        Tensors that the number does not depend on have a gradient of zeros.
        """
        found = torch.autograd.grad(scalar, list(self._tensors.values()), retain_graph=True, allow_unused=True)
        return {
            site: torch.zeros_like(tensor) if by is None else by
            for (site, tensor), by in zip(self._tensors.items(), found, strict=True)
        }


def run(
    model: PreTrainedModel,
    sites: SiteMap,
    inputs: Mapping[str, Any],
    wanted: Iterable[Site],
    *,
    logits: bool,
    edits: Sequence[Edit] = (),
    before: Iterable[Site] = (),
    gradients: bool = False,
    moment: Moment | None = None,
) -> Captured:
    """One forward pass of `model(**inputs)`, reading the wanted sites.

    Args:
        model: The model.
        sites: Its sites.
        inputs: Arguments of its forward pass.
        wanted: What to read.
        logits: Whether to return the logits too.
        edits: What to change on the way.
        before: What to read as it was before the edits at its own site.
        gradients: Keep the graph, for `Captured.gradients`.
        moment: Which part of the texts it is; None: their beginning, padded on the right if at all.

    Raises:
        UnitError: A site does not exist in this model.
        InterventionError: An edit does not fit.
        SubjectError: A site's module did not run, or logits were asked of a model that has none.
    """
    wanted, before = list(wanted), list(before)
    if not wanted and not before and not logits:
        return Captured({}, None)
    stop = not logits and not before
    hooks = Hooks(model, sites, edits, wanted, wanted_before=before, track=gradients, stop=stop)
    output: Any = None
    # inference_mode(False) alone would leave gradients as a surrounding no_grad has them.
    grad = contextlib.nullcontext() if not gradients else torch.enable_grad()
    with hooks, torch.inference_mode(not gradients), grad, contextlib.suppress(Stop):
        hooks.begin(moment or Moment(*inputs["input_ids"].shape))
        output = model(**inputs)
    if left := [str(site) for site in hooks.missing()]:
        raise SubjectError(f"The subject '{sites.name}' ran without computing {', '.join(left)}.")
    if not logits:
        return Captured(hooks.tensors, None, hooks.before)
    scores = getattr(output, "logits", None)
    if not isinstance(scores, Tensor):
        raise SubjectError(f"The subject '{sites.name}' ({type(model).__name__}) has no logits: it lacks a head.")
    return Captured(hooks.tensors, scores, hooks.before)
