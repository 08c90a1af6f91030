"""What is known of a block's structure (`BlockPlan`), and the reading of modules' arguments, outputs and weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

PROBE_BATCH, PROBE_POSITIONS = 2, 5


@dataclass(frozen=True)
class Tap:
    """Where a site's tensor passes: at the input or output of the submodule `path` of the block, times `scale`."""

    path: str
    end: Literal["input", "output"]
    scale: float = 1.0


@dataclass(frozen=True)
class BlockPlan:
    """What one kind of block consists of. Paths are relative to the block."""

    taps: Mapping[str, Tap]
    """Site kind -> where to read it."""
    missing: Mapping[str, str]
    """Site kind -> why this block has no such site."""
    d_model: int
    n_heads: int
    d_head: int
    n_neurons: int
    attention_out: str | None
    """The attention's output projection."""
    attention_norm: str | None
    """A norm between that projection and the residual stream (Gemma 2)."""
    mlp_out: str | None
    mlp_norm: str | None
    mlp_in: str | None
    """The linear layer that feeds the activation function (in gated MLPs: the gate)."""
    mlp_in_start: int
    """First output row of `mlp_in` that belongs to the neurons (gate and up projection may be one layer)."""
    normalised_stream: bool
    """Whether the block's output is normalised (post-norm blocks: BERT)."""


def first_tensor(args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Tensor | None:
    """The hidden state among a module's arguments: by its usual keyword, else the first tensor."""
    if kwargs and isinstance(kwargs.get("hidden_states"), Tensor):
        return kwargs["hidden_states"]  # type: ignore[no-any-return]
    return next((a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)), None)


def main_output(output: Any) -> Tensor | None:
    """The tensor that a module returns, or the first of the several things it returns."""
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None


def find_pattern(output: Any, batch: int, queries: int) -> Tensor | None:
    """The attention pattern [batch, head, query, key] among a module's outputs, if it is there."""
    if not isinstance(output, tuple | list):
        return None
    for item in output:
        if isinstance(item, Tensor) and item.ndim == 4 and item.shape[0] == batch and item.shape[2] == queries:
            return item if item.shape[3] >= queries else None  # more of them where earlier ones are cached
    return None


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear layer: torch's, or GPT-2's `Conv1D` whose weight is transposed."""
    return isinstance(module, nn.Linear | Conv1D)


def weight_in_out(module: nn.Module) -> Tensor:
    """Weight of a linear layer as [in, out], so that output = input @ weight."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(module, Conv1D) else weight.T


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Let attention compute its pattern explicitly while the context lasts; fused kernels never form it."""
    configs: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation_internal"):
            configs[id(config)] = config
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation_internal = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


def plain_inputs(model: nn.Module, ids: Tensor) -> dict[str, Any]:
    """Arguments for one forward pass over unpadded ids, without the cache that generation keeps."""
    inputs: dict[str, Any] = {"input_ids": ids}
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs["use_cache"] = False
    return inputs


def block_signature(block: nn.Module) -> tuple[Any, ...]:
    """Blocks of equal signature have equal structure, so that one probe serves them all."""
    modules = tuple((name, type(module).__qualname__) for name, module in block.named_modules())
    return (*modules, *((name, tuple(p.shape)) for name, p in block.named_parameters()))
