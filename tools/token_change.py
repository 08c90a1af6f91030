"""What a unit does to the model's next-token logits when its activation is set: measured, not read off the weights.

Token change (Gur-Arieh et al. 2025, arXiv 2501.08319): on texts of a corpus the unit's activation is set to a value at
every position, and each token's logit is compared with that of the plain run, as a mean over positions. Unlike
`tools.lenses.write_lens` this has in it what later layers make of the write, and it is known for heads, too.

Setting an activation changes one tensor only, so the plain run also tells what must be added to it: what the unit would
write at the value, less what it writes as it is. For a dictionary's latent that leaves the part of the tensor that the
dictionary does not explain as it was. A head, whose activation is the norm of its write, has its write stretched to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.kinds import kind_of
from tools.lenses import Promotion
from tools.sites import RESIDUAL
from tools.structure import first_tensor, main_output
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import check_unit, group_site, length_batches

BATCH_TOKENS = 512
"""Padded tokens in one batch: each has logits over the whole vocabulary."""


def token_change(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], value: float, k: int = 10
) -> Promotion | None:
    """Tokens whose logits rise and fall most when a unit's activation is `value` at every position but the first.

    Args:
        subject: The model.
        unit: Any unit that writes.
        contexts: Token ids, at least one of two tokens or more.
        value: The activation that is set; of a head, the norm of its write.
        k: How many tokens of each kind.

    Returns:
        The mean change of their logits over the positions, relative to its mean over the vocabulary. None for units
        whose activation cannot be set in this subject (a site that nothing writes alone), and for a subject without
        logits.

    Raises:
        UnitError: The subject has no such unit, or no context is long enough.
    """
    check_unit(subject, unit)
    usable = [list(map(int, context)) for context in contexts if len(context) > 1]
    if not usable:
        raise UnitError("Token changes need a context of at least 2 tokens; none of the given contexts has as many.")
    place = _place(subject, unit)
    if place is None or subject.model.get_output_embeddings() is None:
        return None
    total = torch.zeros(subject.vocabulary, dtype=torch.float64)
    positions = 0
    with subject.lock, torch.inference_mode():
        for batch in length_batches([len(c) for c in usable], BATCH_TOKENS):
            ids, mask = subject.pad([usable[i] for i in batch])
            plain = subject.capture(ids, mask, {group_site(subject, unit.group), place}, logits=True)
            change = _change(subject, unit, value, plain)
            # The first position is left as it is: many models rest there, and its activations are not the text's.
            counted = mask.bool().to(change.device)
            counted[:, 0] = False
            change = change * counted.reshape(*counted.shape, *[1] * (change.ndim - 2)).to(change.dtype)
            assert plain.logits is not None
            set_to = _logits_with(subject, place, change, ids, mask)
            difference = (set_to - plain.logits).float()[counted.to(set_to.device)]
            total += difference.double().sum(0).cpu()[: len(total)]
            positions += len(difference)
    scores = (total / positions)[: len(subject.tokenizer)]
    scores = scores - scores.mean()
    k = min(k, len(scores))
    high, low = scores.topk(k), scores.topk(k, largest=False)

    def rows(values: Tensor, tokens: Tensor) -> tuple[tuple[str, float], ...]:
        return tuple(zip(subject.pieces(tokens.tolist()), values.tolist(), strict=True))

    return Promotion(rows(high.values, high.indices), rows(low.values, low.indices))


def _place(subject: Subject, unit: UnitId) -> Site | None:
    """The site that is changed; None where there is none that can be, as nothing is added there alone."""
    if unit.kind == "fn":
        return None
    site = subject.dictionaries[unit.where].site_out if unit.kind == "sae" else group_site(subject, unit.group)
    taps = subject.sites.plans[site.layer].taps
    if site.kind == "attn_pattern" or site.kind not in taps:
        return None
    if site.kind == "resid_mid" and taps["resid_mid"].end == "input":
        # That is where a norm reads the stream; the stream itself changes with what attention adds to it.
        return Site(site.layer, "attn_out") if "attn_out" in taps else None
    return site


def _change(subject: Subject, unit: UnitId, value: float, read: Captured) -> Tensor:
    """What must be added to the changed site's tensor, in the shape of the unit's own site (heads apart)."""
    site = group_site(subject, unit.group)
    now = kind_of(unit.group).activations(subject, unit.where, read)[..., unit.index]
    missing = value - now
    if unit.kind == "mlp":
        change = torch.zeros_like(read[site], dtype=torch.float32)
        change[..., unit.index] = missing
        return change
    if unit.kind == "head":
        change = torch.zeros_like(read[site], dtype=torch.float32)
        stretch = torch.where(now > 0, missing / now.clamp(min=1e-12), torch.zeros_like(now))
        change[..., unit.index, :] = read[site][..., unit.index, :].float() * stretch[..., None]
        return change
    if unit.kind == "sae":
        dictionary = subject.dictionaries[unit.where]
        latents = dictionary.encode(read[dictionary.site])
        other = latents.clone()
        other[..., unit.index] = value
        like = read[dictionary.site]
        return (dictionary.decode(other, like) - dictionary.decode(latents, like)).float()
    vector = subject.directions[unit.where].vector
    tensor = read[site]
    return (missing[..., None] * vector).reshape(tensor.shape)


def _logits_with(subject: Subject, place: Site, change: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits of a run in which `change` is added to a site's tensor."""
    tap = subject.sites.tap(place)
    scale = tap.scale if place.kind in RESIDUAL else 1.0

    def added(tensor: Tensor) -> Tensor:
        return tensor + (change.reshape(tensor.shape) / scale).to(tensor.dtype)

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = first_tensor(args, kwargs)
        assert given is not None, f"{place} was a tensor when the model was mapped"
        new = added(given)
        return tuple(new if a is given else a for a in args), {k: new if a is given else a for k, a in kwargs.items()}

    def after(_: Any, __: Any, output: Any) -> Any:
        given = main_output(output)
        assert given is not None, f"{place} was a tensor when the model was mapped"
        return added(given) if isinstance(output, Tensor) else type(output)((added(given), *output[1:]))

    module = subject.sites.module(place.layer, tap.path)
    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if tap.end == "input"
        else module.register_forward_hook(after)
    )
    try:
        logits = subject.capture(ids, mask, [], logits=True).logits
    finally:
        handle.remove()
    assert logits is not None
    return logits
