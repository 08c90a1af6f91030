"""What one unit does on one text: the model is loaded, run once, and the activation at every token handed back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.subject import Subject


@dataclass(frozen=True)
class Attended:
    """For a head: where it looked most from one token."""

    position: int
    token: str
    weight: float


@dataclass(frozen=True)
class Probe:
    """A unit's activation at every token of a text."""

    subject: str
    fingerprint: str
    unit: str
    text: str
    truncated: bool
    """Whether the text was longer than the model's context; what did not fit is left out."""
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """Parallel to `tokens`. The first is a sink in most models and means little."""
    attended: tuple[Attended, ...] | None
    """For a head, parallel to `tokens`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self)


def probe(subject: Subject, unit: str, text: str) -> Probe:
    """Runs `text` through `subject` once and reads `unit` at every token.

    Raises:
        UnitError: The subject has no such unit.
    """
    import torch

    from tools import units
    from tools.types import Site, UnitId

    wanted = UnitId.parse(unit)
    units.check_unit(subject, wanted)
    ids = subject.encode(text)
    kept = ids[: subject.context]
    sites = [units.group_site(subject, wanted.group)]
    if wanted.kind == "head":
        sites.append(Site(int(wanted.where), "attn_pattern"))
    with torch.inference_mode():
        captured = subject.capture(torch.tensor([kept], device=subject.device), None, sites)
        values = units.activations(subject, wanted.group, captured)[0, :, wanted.index].float().tolist()
        attended = None
        tokens = tuple(subject.pieces(kept))
        if wanted.kind == "head":
            weights, sources = captured[sites[1]][0, wanted.index].float().max(dim=-1)
            attended = tuple(
                Attended(source, tokens[source], weight)
                for source, weight in zip(sources.tolist(), weights.tolist(), strict=True)
            )
    return Probe(
        subject.name, subject.fingerprint, unit, text, len(kept) < len(ids), tuple(int(i) for i in kept), tokens,
        tuple(values), attended,
    )  # fmt: skip


def load(name: str, *, dictionaries: Mapping[str, str], device: str = "auto", dtype: str = "auto") -> Subject:
    """Loads a subject with dictionaries; the import of the model libraries is put off until here."""
    from tools.subject import load_subject

    return load_subject(name, device=device, dtype=dtype, dictionaries=dict(dictionaries))
