"""Generated functions, ``fn:numeric:12`` and ``fn:string:7``: a column of the embeddings of a ``find`` subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.hooking.edits import Edit
from tools.hooking.where import Where
from tools.kinds.registry import register
from tools.subject import Subject
from tools.types import Site


def _counts(subject: Subject) -> dict[str, int]:
    """Functions by domain, in the order of their columns; the configuration of the subject says it."""
    return dict(getattr(subject.model.config, "functions", None) or {})


@register("fn")
class GeneratedFunction:
    """The value of the function at the token, with that position's observation noise, unscaled."""

    def groups(self, subject: Subject) -> Sequence[str]:
        return list(_counts(subject))

    def check(self, subject: Subject, where: str) -> None:
        self.width(subject, where)

    def site(self, subject: Subject, where: str) -> Site:
        return Site(0, "resid_pre")

    def width(self, subject: Subject, where: str) -> int:
        counts = _counts(subject)
        if where in counts:
            return counts[where]
        has = f"it has fn:{' and fn:'.join(counts)}" if counts else "only a subject such as 'find' has any"
        raise UnitError(f"The subject '{subject.name}' has no functions 'fn:{where}': {has}.")

    def activations(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        width, first = self.width(subject, where), 0
        for domain, count in _counts(subject).items():
            if domain == where:
                break
            first += count
        return captured[self.site(subject, where)][..., first : first + width].float()

    def read_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        return None

    def write_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """None: the block behind is random, and nothing is claimed of what a function's value does."""
        return None

    def edit(
        self, subject: Subject, where: str, index: int, new: Callable[[Tensor], Tensor], places: Where
    ) -> Edit | None:
        return None

    def contents(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        return self.activations(subject, where, captured)

    def edit_group(self, subject: Subject, where: str, new: Callable[[Tensor], Tensor], places: Where) -> Edit | None:
        return None
