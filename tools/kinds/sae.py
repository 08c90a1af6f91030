"""Latents of attached sparse dictionaries, ``sae:NAME:LATENT``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tools.capture import Captured
from tools.dictionaries import Dictionary
from tools.errors import UnitError
from tools.hooking.attention import INSIDE
from tools.hooking.edits import Edit, Selection
from tools.hooking.where import Where
from tools.kinds.registry import register
from tools.sites import RESIDUAL
from tools.subject import Subject
from tools.types import Site


def _dictionary(subject: Subject, name: str) -> Dictionary:
    if name not in subject.dictionaries:
        attached = ", ".join(sorted(subject.dictionaries)) or "none"
        raise UnitError(
            f"The subject '{subject.name}' has no dictionary '{name}' (attached: {attached}). Attach it when the "
            "subject is loaded, as NAME=FOLDER."
        )
    return subject.dictionaries[name]


@register("sae")
class Latent:
    """What a dictionary's encoder says of the tensor at its site."""

    def groups(self, subject: Subject) -> Sequence[str]:
        return sorted(subject.dictionaries)

    def check(self, subject: Subject, where: str) -> None:
        _dictionary(subject, where)

    def site(self, subject: Subject, where: str) -> Site:
        return _dictionary(subject, where).site

    def width(self, subject: Subject, where: str) -> int:
        return _dictionary(subject, where).d_sae

    def activations(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        dictionary = _dictionary(subject, where)
        return dictionary.encode(captured[dictionary.site]).float()

    def read_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """Encoder column."""
        return _dictionary(subject, where).W_enc[:, index].float()

    def write_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """Decoder row, if the dictionary writes into the residual stream; else None."""
        dictionary = _dictionary(subject, where)
        return dictionary.W_dec[index].float() if dictionary.site_out.kind in RESIDUAL else None

    def edit(
        self, subject: Subject, where: str, index: int, new: Callable[[Tensor], Tensor], places: Where
    ) -> Edit | None:
        """Adds what the decoder makes of the change to the tensor that the dictionary writes."""

        def one(latents: Tensor) -> Tensor:
            other = latents.clone()
            other[..., index] = new(latents[..., index])
            return other

        return self.edit_group(subject, where, one, places)

    def contents(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        return self.activations(subject, where, captured)

    def edit_group(self, subject: Subject, where: str, new: Callable[[Tensor], Tensor], places: Where) -> Edit | None:
        """Latents change together: each is what the encoder says before any of them is edited."""
        dictionary = _dictionary(subject, where)
        site, site_out = dictionary.site, dictionary.site_out
        if {site.kind, site_out.kind} & set(INSIDE):
            return None

        def changed(old: Tensor, at: Selection) -> Tensor:
            like = old if site == site_out else at.now(site)
            latents = dictionary.encode(like)
            other = new(latents.float()).to(latents.dtype)
            difference = dictionary.decode(other, like) - dictionary.decode(latents, like)
            return old + difference.reshape(old.shape).to(old.dtype)

        return Edit(site_out, places, changed, needs=() if site == site_out else (site,))
