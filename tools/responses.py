"""How strongly units respond to each of some texts: the largest activation of either tail, in one pass for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tools.errors import UnitError
from tools.subject import Subject
from tools.types import FloatArray, UnitId
from tools.units import activations, check_unit, group_site, length_batches


@dataclass(frozen=True)
class Responses:
    """Per unit and text; position 0 of each text is left out."""

    units: tuple[UnitId, ...]
    positive: FloatArray
    """[unit, text] the largest activation."""
    negative: FloatArray
    """[unit, text] the largest magnitude below zero: minus the smallest activation."""

    def of(self, polarity: str) -> FloatArray:
        """[unit, text] of one tail."""
        return self.positive if polarity == "+" else self.negative


def responses(
    subject: Subject,
    units: Sequence[UnitId],
    texts: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 4096,
    progress: Callable[[int, int], None] | None = None,
) -> Responses:
    """Read every unit on every text.

    Args:
        subject: The model.
        units: Any of its units.
        texts: Token ids, at least two in each.
        batch_tokens: Padded tokens of a forward pass.
        progress: Told (texts done, texts in all) after each batch.

    Raises:
        UnitError: There are no units or the subject lacks one, or a text has a single token.
    """
    if not units:
        raise UnitError("There are no units to read.")
    short = [i for i, text in enumerate(texts) if len(text) < 2]
    if short or not texts:
        raise UnitError(f"Responses need texts of at least 2 tokens; text {short[0] + 1 if short else 1} has fewer.")
    groups: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        check_unit(subject, unit)
        groups.setdefault(unit.group, []).append(row)
    sites = {group_site(subject, group) for group in groups}
    high = np.empty((len(units), len(texts)), dtype=np.float32)
    low = np.empty_like(high)
    done = 0
    for batch in length_batches([len(text) for text in texts], batch_tokens):
        ids, mask = subject.pad([texts[i] for i in batch])
        captured = subject.capture(ids, mask, sites)
        counted = mask.bool().to(subject.device)
        counted[:, 0] = False
        for group, rows in groups.items():
            with torch.inference_mode():
                columns = torch.tensor([units[row].index for row in rows], device=subject.device)
                values = activations(subject, group, captured)[..., columns]
                outside = ~counted[..., None]
                peaks = values.masked_fill(outside, -torch.inf).amax(1), values.masked_fill(outside, torch.inf).amin(1)
            for into, found in ((high, peaks[0]), (low, -peaks[1])):
                into[np.asarray(rows)[:, None], np.asarray(batch)[None]] = found.T.cpu().numpy()
        done += len(batch)
        if progress is not None:
            progress(done, len(texts))
    return Responses(tuple(units), high, low)
