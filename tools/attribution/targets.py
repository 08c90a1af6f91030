"""What is explained: a number that a run gives, the logit of a token at a position or a unit's activation there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.interventions import Edit, run
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import activations, check_unit, group_site

Array: TypeAlias = npt.NDArray[np.float64]

#: Padded tokens in one batch; runs that end in logits take fewer, as each token has one logit for every word.
BATCH_TOKENS, BATCH_LOGIT_TOKENS = 4096, 1024


@dataclass(frozen=True)
class TokenTarget:
    """The logit of a token as the next one (of an encoder: at the position), less that of another."""

    token: int
    foil: int | None = None
    position: int | None = None
    """Where it is read; None: at the last token."""

    def to_json(self) -> dict[str, Any]:
        return {"kind": "token", "token": self.token, "foil": self.foil, "position": self.position}


@dataclass(frozen=True)
class UnitTarget:
    """A unit's activation."""

    unit: UnitId
    position: int | None = None
    """Where it is read; None: at the last token."""

    def to_json(self) -> dict[str, Any]:
        return {"kind": "unit", "unit": str(self.unit), "position": self.position}


Target: TypeAlias = TokenTarget | UnitTarget


@dataclass(frozen=True)
class Reader:
    """A target of one text, ready to be read off runs of the text and of its variants of the same length."""

    subject: Subject
    ids: tuple[int, ...]
    """The text; of a decoder up to the position, since nothing later matters."""
    position: int
    target: Target

    @classmethod
    def of(cls, subject: Subject, ids: Sequence[int], target: Target) -> Reader:
        """Check a target against a text.

        Raises:
            UnitError: The position is beyond the text, the token beyond the vocabulary, the subject has no such unit,
                or no logits.
        """
        given = tuple(int(i) for i in ids)
        position = len(given) - 1 if target.position is None else target.position
        if not 0 <= position < len(given):
            raise UnitError(
                f"Position {position} is beyond the text, which has {len(given)} tokens (0-{len(given) - 1})."
            )
        if isinstance(target, TokenTarget):
            for token in (target.token, target.foil):
                if token is not None and not 0 <= token < subject.vocabulary:
                    raise UnitError(
                        f"Token {token} is not in the vocabulary of '{subject.name}', which has {subject.vocabulary}."
                    )
            if subject.model.get_output_embeddings() is None:
                raise UnitError(f"'{subject.name}' has no logits to explain: it has no head. Explain a unit instead.")
        else:
            check_unit(subject, target.unit)
            if position == 0:
                raise UnitError(
                    "Position 0 cannot be explained: models use it as a sink, and what a unit does there is not the "
                    "text's. Choose a later one."
                )
        return cls(subject, given[: position + 1] if subject.causal else given, position, target)

    @property
    def logits(self) -> bool:
        """Whether runs must go on to the logits."""
        return isinstance(self.target, TokenTarget)

    @property
    def sites(self) -> list[Site]:
        """What runs must read."""
        return [] if isinstance(self.target, TokenTarget) else [group_site(self.subject, self.target.unit.group)]

    @property
    def rows(self) -> int:
        """Variants of the text that fit into one batch."""
        return max(1, (BATCH_LOGIT_TOKENS if self.logits else BATCH_TOKENS) // len(self.ids))

    def values(self, captured: Captured) -> Tensor:
        """The target's value in each row, [batch]; float32, or float64 where the model is."""
        target = self.target
        if isinstance(target, UnitTarget):
            return activations(self.subject, target.unit.group, captured)[:, self.position, target.unit.index]
        assert captured.logits is not None
        logits = captured.logits[:, self.position]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits[:, target.token] - (0.0 if target.foil is None else logits[:, target.foil])

    def evaluate(self, ids: npt.NDArray[np.int64]) -> Array:
        """The target's value in variants of the text, [n, pos] of its length."""
        found = [self.run(torch.from_numpy(ids[i : i + self.rows])) for i in range(0, len(ids), self.rows)]
        return np.concatenate(found) if found else np.zeros(0)

    def run(self, ids: Tensor, edits: Sequence[Edit] = ()) -> Array:
        """The target's value in each row of one batch [batch, pos], under edits."""
        captured = run(self.subject, ids, None, edits, read=self.sites, logits=self.logits)
        with torch.inference_mode():
            return self.values(captured).double().cpu().numpy()

    def row(self, times: int = 1) -> Tensor:
        """The text, as many times as wanted: int64 [times, pos]."""
        return torch.tensor(self.ids)[None].expand(times, -1)

    def to_json(self) -> dict[str, Any]:
        return {**self.target.to_json(), "position": self.position}
