"""Reference sets: the contexts in which units have the values that ablation puts in their place."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.kinds import kind_of
from tools.subject import Subject
from tools.units import group_site, length_batches

#: Padded tokens that are run at once.
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Reference:
    """Contexts as token ids. `save` keeps them, so that a number can be had again."""

    contexts: tuple[tuple[int, ...], ...]
    source: str = ""
    """Where they are from, in words."""

    def __post_init__(self) -> None:
        if not self.contexts or any(not context for context in self.contexts):
            raise InterventionError("A reference set needs contexts of at least one token.")

    @classmethod
    def of(cls, subject: Subject, texts: Iterable[str], source: str, width: int | None = None) -> Reference:
        """The beginnings of texts, cut to `width` tokens (or the subject's context); texts without tokens left out."""
        most = min(width or subject.context, subject.context)
        encoded = (tuple(subject.encode(text, most)) for text in texts)
        return cls(tuple(ids for ids in encoded if len(ids) > len(subject.prefix)), source)

    @functools.cached_property
    def digest(self) -> str:
        """16 hex digits over the token ids, in their order."""
        return hashlib.sha256(json.dumps(self.contexts).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """What a result says of it."""
        return {"digest": self.digest, "contexts": len(self.contexts), "source": self.source}

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps({"source": self.source, "contexts": self.contexts}), encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Reference:
        """Read what `save` wrote.

        Raises:
            InterventionError: The file holds no reference set.
        """
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return cls(tuple(tuple(int(i) for i in c) for c in data["contexts"]), str(data["source"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InterventionError(f"{file} holds no reference set: {error}.") from error


def contents(subject: Subject, groups: Iterable[str], contexts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """What units of some groups hold in one batch of contexts: group -> float32 [context, pos, width, ...]."""
    ids, mask = subject.pad(contexts)
    named = list(groups)
    captured = subject.capture(ids, mask, {group_site(subject, group) for group in named})
    return {g: kind_of(g).contents(subject, g.partition(":")[2], captured) for g in named}


def position_means(subject: Subject, groups: Sequence[str], reference: Reference, width: int) -> Mapping[str, Tensor]:
    """The mean contents of groups at each position, float32 [width, unit, ...].

    Positions that no context reaches have the mean over all positions but the first.
    """
    sums: dict[str, Tensor] = {}
    longest = max(len(context) for context in reference.contexts)
    counts = torch.zeros(longest, dtype=torch.float64, device=subject.device)
    with torch.inference_mode():
        for batch in length_batches([len(c) for c in reference.contexts], _BATCH_TOKENS):
            chosen = [reference.contexts[i] for i in batch]
            mask = subject.pad(chosen)[1].to(subject.device)
            reach = mask.shape[1]
            counts[:reach] += mask.sum(0)
            for group, held in contents(subject, groups, chosen).items():
                weights = mask.double().reshape(*mask.shape, *[1] * (held.ndim - 2))
                total = sums.setdefault(group, torch.zeros(longest, *held.shape[2:], dtype=torch.float64,
                                                           device=subject.device))  # fmt: skip
                total[:reach] += (held.double() * weights).sum(0)
    means: dict[str, Tensor] = {}
    late = slice(1, None) if longest > 1 else slice(None)
    for group, total in sums.items():
        by_position = total / counts.reshape(-1, *[1] * (total.ndim - 1))
        overall = total[late].sum(0) / counts[late].sum()
        more = overall.expand(max(0, width - longest), *overall.shape)
        means[group] = torch.cat([by_position, more])[:width].float()
    return means
