"""Maps sites (`resid_post.3`, `head_z.0`) to the modules of a loaded model; see `tools.probe` for how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tools.errors import SubjectError, UnitError
from tools.probe import plan_block
from tools.structure import (
    PROBE_BATCH,
    PROBE_POSITIONS,
    BlockPlan,
    Tap,
    block_signature,
    eager_attention,
    first_tensor,
    main_output,
    plain_inputs,
)
from tools.types import SITE_KINDS, Site

#: Kinds of sites in the basis of the residual stream: the stream itself, and what is added to it.
RESIDUAL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
#: The stream itself.
STREAMS = ("resid_pre", "resid_mid", "resid_post")


@dataclass(frozen=True)
class SiteMap:
    """The blocks of a model with the plan of each."""

    name: str
    blocks: tuple[nn.Module, ...]
    plans: tuple[BlockPlan, ...]

    @property
    def d_model(self) -> int:
        return self.plans[0].d_model

    def check_layer(self, layer: int, what: str) -> None:
        """Raise UnitError when `what` (as the user wrote it) lies beyond the model's layers."""
        if not 0 <= layer < len(self.blocks):
            last = len(self.blocks) - 1
            raise UnitError(f"'{what}' is beyond the subject '{self.name}', which has layers 0-{last}.")

    def tap(self, site: Site) -> Tap:
        """Where a site is read.

        Raises:
            UnitError: The layer is beyond the model, or its block has no such site (the message says why).
        """
        if site.kind not in SITE_KINDS:
            raise UnitError(f"'{site}' is not a site. Its kind must be one of {', '.join(SITE_KINDS)}.")
        self.check_layer(site.layer, str(site))
        plan = self.plans[site.layer]
        # Queries, keys and values are met while the attention module runs, which is the one that returns the pattern.
        kind = "attn_pattern" if site.kind in ("head_q", "head_k", "head_v") else site.kind
        if kind not in plan.taps:
            raise UnitError(f"The subject '{self.name}' has no site {site}: {plan.missing[kind]}.")
        return plan.taps[kind]

    def module(self, layer: int, path: str) -> nn.Module:
        """A submodule of a block by its path in the plan."""
        return self.blocks[layer].get_submodule(path)

    def width(self, site: Site) -> int:
        """Size of the last dimension of a site's tensor; heads are counted together: n_heads * d_head."""
        self.tap(site)
        plan = self.plans[site.layer]
        if site.kind == "mlp_act":
            return plan.n_neurons
        if site.kind == "head_z":
            return plan.n_heads * plan.d_head
        if site.kind == "attn_pattern":
            raise UnitError(f"{site} has no width of its own: a pattern is as wide as its context is long.")
        return plan.d_model


def map_sites(model: PreTrainedModel, name: str) -> SiteMap:
    """Find the blocks of a model and their parts.

    Raises:
        SubjectError: No run of equal blocks was found, or they are not transformer blocks.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise SubjectError(
            f"'{name}' is an encoder-decoder model ({type(model).__name__}). Subjects are decoders (GPT, Llama) "
            "or encoders (BERT), whose blocks form one residual stream."
        )
    ids = _probe_ids(model)
    try:
        blocks, calls = _find_blocks(model, name, ids)
        _check_called_once(model, name, ids, blocks)
        heads = getattr(model.config.get_text_config(), "num_attention_heads", None)
        plans: dict[tuple[Any, ...], BlockPlan] = {}
        for block in blocks:
            signature = block_signature(block)
            if signature not in plans:
                plans[signature] = plan_block(block, *calls[id(block)], heads if isinstance(heads, int) else None)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
        raise SubjectError(
            f"Cannot map '{name}' ({type(model).__name__}): it does not run on {ids.numel()} plain token ids "
            f"({type(error).__name__}: {str(error)[:150]})."
        ) from error
    ordered = tuple(plans[block_signature(block)] for block in blocks)
    if all("head_z" in plan.missing and "mlp_act" in plan.missing for plan in ordered):
        first = ordered[0].missing
        raise SubjectError(
            f"Cannot map '{name}': looked in its {len(blocks)} blocks ({type(blocks[0]).__name__}) for the output "
            f"projections of attention and MLP; found that {first['head_z']}, and that {first['mlp_act']}."
        )
    return SiteMap(name, tuple(blocks), ordered)


def find_blocks(model: PreTrainedModel, name: str) -> tuple[nn.Module, ...]:
    """The blocks of a stack that runs on token ids alone, such as the encoder of an encoder-decoder model.

    Raises:
        SubjectError: There is no run of equal blocks.
    """
    return tuple(_find_blocks(model, name, _probe_ids(model))[0])


def _probe_ids(model: PreTrainedModel) -> Tensor:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    ids = torch.arange(PROBE_BATCH * PROBE_POSITIONS, device=next(model.parameters()).device)
    return torch.remainder(ids.reshape(PROBE_BATCH, -1), vocabulary)


def _find_blocks(
    model: PreTrainedModel, name: str, ids: Tensor
) -> tuple[list[nn.Module], dict[int, tuple[tuple[Any, ...], dict[str, Any]]]]:
    lists = _candidate_lists(model)
    with eager_attention(model):
        calls = _observe(model, ids, [block for blocks in lists.values() for block in blocks])
    return _choose_blocks(name, model, lists, calls), calls


def _choose_blocks(
    name: str, model: PreTrainedModel, lists: Mapping[str, list[nn.Module]], calls: Mapping[int, Any]
) -> list[nn.Module]:
    """The longest list whose every module was seen to map a hidden state to the next."""
    found = {path: blocks for path, blocks in lists.items() if all(id(b) in calls for b in blocks)}
    if not found:
        raise SubjectError(
            f"Cannot map '{name}' ({type(model).__name__}): looked for a list of equal blocks that each turn a hidden "
            f"state into the next; found {_describe(lists) or 'no list of modules'}."
        )
    return found[max(found, key=lambda path: len(found[path]))]


def _candidate_lists(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Lists of modules of one class, outermost only: the lists of experts within a block are longer at times."""
    lists: dict[str, list[nn.Module]] = {}
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not inside and len({type(m) for m in module}) == 1:
            lists[path] = list(module)
    return lists


def _describe(lists: Mapping[str, list[nn.Module]]) -> str:
    return ", ".join(f"'{path}' ({len(blocks)} x {type(blocks[0]).__name__})" for path, blocks in lists.items())


def _observe(
    model: PreTrainedModel, ids: Tensor, modules: list[nn.Module]
) -> dict[int, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of each module that maps a hidden state [batch, pos, width] to another, by id of the module."""
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        hidden, result = first_tensor(args, kwargs), main_output(output)
        if hidden is None or result is None or hidden.shape != result.shape:
            return
        if hidden.ndim == 3 and tuple(hidden.shape[:2]) == tuple(ids.shape):
            calls[id(module)] = (args, kwargs)

    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in modules]
    try:
        with torch.no_grad():
            model(**plain_inputs(model, ids))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _check_called_once(model: PreTrainedModel, name: str, ids: Tensor, blocks: list[nn.Module]) -> None:
    """A block that runs several times (ALBERT) would stand for several layers."""
    counts: Counter[int] = Counter()
    handles = [b.register_forward_hook(lambda m, _i, _o: counts.update([id(m)])) for b in blocks]
    try:
        with torch.no_grad():
            model(**plain_inputs(model, ids))
    finally:
        for handle in handles:
            handle.remove()
    if set(counts.values()) != {1}:
        raise SubjectError(
            f"Cannot map '{name}': its {len(blocks)} blocks ({type(blocks[0]).__name__}) run {max(counts.values())} "
            "times in one forward pass; layers that share weights cannot be told apart."
        )
