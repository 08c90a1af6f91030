"""What an edit of a forward pass is, and the elementary ones.

An edit takes the entries of a site's tensor that its place picks and gives back new ones. It computes in float32
whatever the model's own precision is (float64 stays float64), so that an edit which changes nothing changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.hooking.where import EVERYWHERE, AttentionWhere, Moment, Picked, Where
from tools.types import Site

Value: TypeAlias = Tensor | float


@dataclass(frozen=True)
class Selection:
    """What an edit is about to change, and the means to look up what belongs to it."""

    picked: Picked
    seen: Mapping[Site, Tensor]
    """The tensors of this pass at the sites that the edit needs, as they are after the edits there."""
    device: torch.device

    def of(self, source: Tensor) -> Tensor:
        """The same entries of a whole site's tensor of another run, [batch or 1, pos, ...]."""
        whole = self.picked.whole
        if source.shape[0] == 1 and isinstance(whole[0], Tensor):
            whole = (torch.zeros_like(whole[0]), *whole[1:])
        return source.to(self.device)[whole]

    def now(self, site: Site) -> Tensor:
        """The vectors at the same rows and positions of a site that the edit needs."""
        return self.seen[site][self.picked.index[:2]]

    def per_row(self, values: Tensor) -> Tensor:
        """Of values [row or cell, ...] the one of each entry."""
        return values.to(self.device)[self.picked.lines.to(self.device)]


New: TypeAlias = Callable[[Tensor, Selection], Tensor]


@dataclass(frozen=True)
class Edit:
    """One edit of a forward pass."""

    site: Site
    where: Where | AttentionWhere
    new: New
    """From the picked entries, float32 [..., trailing dimensions], to those in their place."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """What is done, as plain values, for the record."""
    needs: tuple[Site, ...] = ()
    """Sites whose tensors `new` looks at; they must come before `site` in the forward pass."""

    def apply(self, tensor: Tensor, moment: Moment, seen: Mapping[Site, Tensor]) -> Tensor:
        """The site's tensor with the edit in it; the given one is left as it is."""
        if self.site.kind in ("head_k", "head_v"):
            moment = replaced(moment, offset=0)  # of all positions so far, in each pass
        picked = self.where.pick(tensor.shape, moment, tensor.device)
        if picked is None:
            return tensor
        old = tensor[picked.index]
        exact = old if old.dtype == torch.float64 else old.float()
        try:
            new = self.new(exact, Selection(picked, seen, tensor.device)).to(tensor.dtype).expand(old.shape)
        except (RuntimeError, IndexError) as error:
            raise InterventionError(
                f"The edit '{self.spec.get('op', 'change')}' at {self.site} does not fit: it is to change a tensor "
                f"of shape {list(old.shape)} ({str(error).splitlines()[0][:120]})."
            ) from error
        if all(isinstance(part, slice) for part in picked.index):
            return new.clone()
        changed = tensor.clone()
        changed[picked.index] = new
        return changed

    def to_json(self) -> dict[str, Any]:
        """What is done, and where."""
        return {"site": str(self.site), **self.spec, "where": self.where.to_json()}


def digest(value: Value) -> Any:
    """A number itself; of a tensor its shape and 16 hex digits over its values."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.numel() == 1:
        return float(value)
    data = value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return {"shape": list(value.shape), "sha256": hashlib.sha256(data).hexdigest()[:16]}


def _checked(value: Value, what: str) -> Tensor:
    tensor = torch.as_tensor(value).detach()
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    if not bool(torch.isfinite(tensor).all()):
        raise InterventionError(f"{what} holds numbers that are not finite; an edit needs finite ones.")
    return tensor


def _lookup(value: Value, what: str, per_row: bool) -> Callable[[Tensor, Selection], Tensor]:
    tensor = _checked(value, what)
    if per_row and not tensor.ndim:
        raise InterventionError(f"{what} is to differ by row, but is a single number.")

    def find(old: Tensor, selection: Selection) -> Tensor:
        found = selection.per_row(tensor) if per_row else tensor.to(old.device)
        if per_row:
            found = found.reshape(*found.shape, *[1] * (old.ndim - found.ndim))
        return found.to(old.dtype)

    return find


def add(site: Site, vector: Value, where: Where = EVERYWHERE, *, per_row: bool = False) -> Edit:
    """Add a vector.

    Args:
        site: Where.
        vector: A number, or a tensor that broadcasts against the picked entries' trailing dimensions. With `per_row`
            it has one more dimension in front: one vector for each row (of paired places: for each cell).
        where: Which entries.
        per_row: Whether rows differ.
    """
    find = _lookup(vector, "The vector to add", per_row)
    return Edit(site, where, lambda old, at: old + find(old, at), {"op": "add", "value": digest(vector)})


def set_to(site: Site, value: Value, where: Where = EVERYWHERE, *, per_row: bool = False) -> Edit:
    """Set the entries to a value; arguments as in `add`."""
    find = _lookup(value, "The value to set", per_row)
    return Edit(
        site, where, lambda old, at: torch.zeros_like(old) + find(old, at), {"op": "set", "value": digest(value)}
    )


def scale(site: Site, factor: Value, where: Where = EVERYWHERE, *, per_row: bool = False) -> Edit:
    """Multiply the entries by a factor; arguments as in `add`."""
    find = _lookup(factor, "The factor", per_row)
    return Edit(site, where, lambda old, at: old * find(old, at), {"op": "scale", "value": digest(factor)})


def project_out(site: Site, direction: Tensor, where: Where = EVERYWHERE) -> Edit:
    """Take the component along a direction [width] out of the vectors."""
    vector = _checked(direction, "The direction")
    length = float(vector.norm())
    if not length:
        raise InterventionError("A direction of length 0 cannot be projected out.")
    unit = vector / length

    def new(old: Tensor, _: Selection) -> Tensor:
        along = unit.to(old)
        return old - (old @ along)[..., None] * along

    return Edit(site, where, new, {"op": "project out", "value": digest(unit)})


def replace(site: Site, source: Tensor, where: Where = EVERYWHERE) -> Edit:
    """Put the entries of another run in their place.

    Args:
        site: Where.
        source: The whole site's tensor of that run, [batch or 1, pos, ...], without padding on the left.
        where: Which entries; the same ones are read from `source`.
    """
    return Edit(site, where, lambda old, at: at.of(source).to(old.dtype), {"op": "replace", "value": digest(source)})


def change(site: Site, function: Callable[[Tensor], Tensor], where: Where = EVERYWHERE, *, name: str) -> Edit:
    """Any function of the picked entries; `name` says what it does, for the record."""
    return Edit(site, where, lambda old, _: function(old), {"op": name})


def scale_attention(layer: int, factor: float, where: AttentionWhere, *, renormalise: bool = False) -> Edit:
    """Multiply attention weights (Ortu et al. 2024, arXiv 2402.11655, do so without renormalising).

    Args:
        layer: Whose pattern.
        factor: 0 knocks the edges out.
        where: Which edges.
        renormalise: Scale the other keys' weights of the same query so that its weights sum to what they did. A query
            all of whose weight lies on the chosen keys keeps what the factor leaves.
    """
    find = _lookup(factor, "The factor", False)
    spec = {"op": "scale attention", "value": float(factor), "renormalise": renormalise}
    site = Site(layer, "attn_pattern")
    if not renormalise:
        return Edit(site, where, lambda old, at: old * find(old, at), spec)
    if where.paired:
        raise InterventionError("Renormalising needs a grid of edges, not paired places.")
    every_key = AttentionWhere(where.rows, where.heads, where.queries)
    keys = where._list("keys")

    def new(old: Tensor, at: Selection) -> Tensor:
        chosen = torch.zeros(old.shape[-1], dtype=torch.bool, device=old.device)
        if keys is None:
            chosen[:] = True
        else:
            inside_keys = torch.tensor(keys, device=old.device)
            if int(inside_keys.max()) >= len(chosen):
                raise InterventionError(f"There is no key {max(keys)}: the text has {len(chosen)} positions so far.")
            chosen[inside_keys] = True
        return _evened(old, torch.where(chosen, old * find(old, at), old), chosen)

    return Edit(site, every_key, new, {**spec, "keys": None if keys is None else list(keys)})


def multiply_attention(layer: int, factors: Tensor, heads: Sequence[int], *, renormalise: bool = False) -> Edit:
    """Multiply attention weights of some heads, each edge of each row by a factor of its own.

    Args:
        layer: Whose pattern.
        factors: [batch or 1, query, key] of the whole texts; 1 leaves an edge as it is.
        heads: Which heads, all alike.
        renormalise: As in `scale_attention`; the other keys are those with a factor of 1.
    """
    exact = _checked(factors, "The factors")
    all_heads = exact[:, None].expand(-1, max(heads) + 1, -1, -1)

    def new(old: Tensor, at: Selection) -> Tensor:
        by = at.of(all_heads).to(old.dtype)
        return _evened(old, old * by, by != 1) if renormalise else old * by

    spec = {"op": "multiply attention", "value": digest(exact), "renormalise": renormalise}
    return Edit(Site(layer, "attn_pattern"), AttentionWhere(heads=list(heads)), new, spec)


def _evened(old: Tensor, scaled: Tensor, chosen: Tensor) -> Tensor:
    """Scaled weights with those that were not chosen stretched, so that each query's sum to what they did."""
    others = torch.where(chosen, torch.zeros_like(old), old).sum(-1, keepdim=True)
    wanted = old.sum(-1, keepdim=True) - (scaled.sum(-1, keepdim=True) - others)
    stretch = torch.where(others > 0, wanted / others.clamp(min=1e-30), torch.ones_like(others))
    return torch.where(chosen, scaled, scaled * stretch.clamp(min=0.0))


def replace_attention(layer: int, source: Tensor, where: AttentionWhere) -> Edit:
    """Put attention weights of another run [batch or 1, head, query, key] in place."""
    return Edit(
        Site(layer, "attn_pattern"), where, lambda old, at: at.of(source).to(old.dtype),
        {"op": "replace attention", "value": digest(source)},
    )  # fmt: skip
