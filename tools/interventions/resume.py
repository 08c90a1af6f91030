"""Skipping the blocks whose output an edit further up cannot change."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tools.errors import InterventionError
from tools.structure import first_tensor, plain_inputs
from tools.subject import Subject
from tools.types import Site


@dataclass(frozen=True)
class Resume:
    """Where to take up a run: the residual stream that enters a layer, from a run that is the same below it."""

    layer: int
    stream: Tensor
    """``resid_pre`` of the layer, [batch or 1, pos, d_model]; one row stands for all."""


#: Whether the blocks of a subject's model hand on a tensor alone, by subject.
_PLAIN: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


@contextmanager
def skipping(subject: Subject, resume: Resume, ids: Tensor, touched: Sequence[Site]) -> Iterator[None]:
    """Within it, blocks below the layer are not computed; the layer is given the stored stream.

    Models whose blocks hand on more than a tensor run in full: the result is the same.

    Raises:
        InterventionError: A site below the layer is to be read or edited, or the stream does not fit the text.
    """
    subject.sites.check_layer(resume.layer, f"layer {resume.layer}")
    below = [site for site in touched if site.layer < resume.layer]
    if below:
        raise InterventionError(f"A run that resumes at layer {resume.layer} does not come by {below[0]}.")
    batch, width, d_model = *ids.shape, subject.d_model
    if resume.stream.shape[0] not in (1, batch) or tuple(resume.stream.shape[1:]) != (width, d_model):
        raise InterventionError(
            f"The stream to resume from is {list(resume.stream.shape)}, and the text needs [{batch} or 1, {width}, "
            f"{d_model}]."
        )
    if resume.layer == 0 or not _plain(subject):
        yield
        return
    stream = resume.stream.expand(batch, -1, -1)
    with ExitStack() as stack:
        for layer, block in enumerate(subject.sites.blocks[: resume.layer]):
            stack.enter_context(_forward(block, _given(stream) if layer == resume.layer - 1 else _pass_on))
        yield


def _pass_on(*args: Any, **kwargs: Any) -> Any:
    return first_tensor(args, kwargs)


def _given(stream: Tensor) -> Callable[..., Tensor]:
    # A copy each time, for what follows may add to it in place.
    return lambda *_args, **_kwargs: stream.clone()


@contextmanager
def _forward(block: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    own = block.__dict__.get("forward")
    block.forward = function
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


def _plain(subject: Subject) -> bool:
    if subject.model not in _PLAIN:
        kinds: list[bool] = []
        handles = [
            block.register_forward_hook(lambda _m, _i, output: kinds.append(isinstance(output, Tensor)))
            for block in _each(subject.sites.blocks)
        ]
        try:
            with torch.inference_mode():
                subject.model(
                    **plain_inputs(subject.model, torch.zeros(1, 2, dtype=torch.int64, device=subject.device))
                )
        finally:
            for handle in handles:
                handle.remove()
        _PLAIN[subject.model] = all(kinds)
    return _PLAIN[subject.model]


def _each(blocks: Iterable[nn.Module]) -> Iterator[nn.Module]:
    yield from blocks
