"""Tokens of language models per description and per score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.llm.ledger import CallTokens
from benchmarks.planted.tables import table

PUBLISHED = 38_000
"""Tokens per feature of a one-shot description with detection and fuzzing (Paulo et al. 2024, arXiv 2410.13928: 17.0k
of detection and 19.6k of fuzzing with 100 examples each, beside the description)."""
PUBLISHED_CACHEABLE = 0.70
DEFAULT = ("explain", "predict")
"""Purposes of calls that are made by default: the description and its score."""
CONTEST = (*DEFAULT, "trials", "revise")
"""These, and those of a contest by the policy `llm`."""
COMPARED = ("explain", "detection", "fuzzing")
"""Purposes of the published figure."""


@dataclass(frozen=True)
class Group:
    """Calls of one purpose by one asker."""

    purpose: str
    asker: str
    claims: int
    """Descriptions that it worked on: one for each tail of each unit, blind controls among them."""
    calls: int
    failed: int
    prompt: int
    cacheable: int
    completion: int
    billed: int

    @property
    def each(self) -> float:
        """Tokens per description."""
        return (self.prompt + self.completion) / self.claims if self.claims else 0.0


def grouped(calls: Iterable[CallTokens]) -> list[Group]:
    """Calls by purpose and asker, dearest first."""
    found: dict[tuple[str, str], list[CallTokens]] = defaultdict(list)
    for call in calls:
        found[call.purpose, call.asker].append(call)
    groups = [
        Group(
            purpose, asker, len({(c.investigation, c.polarity) for c in own}), len(own), sum(c.failed for c in own),
            sum(c.prompt for c in own), sum(c.cacheable for c in own), sum(c.completion for c in own),
            sum(c.billed for c in own),
        )
        for (purpose, asker), own in found.items()
    ]  # fmt: skip
    return sorted(groups, key=lambda group: -(group.prompt + group.completion))


def figures(groups: list[Group], claims: int) -> dict[str, Any]:
    """All figures as JSON values.

    Args:
        groups: of one campaign.
        claims: descriptions that language models worked on.
    """

    def total(own: list[Group]) -> dict[str, Any]:
        prompt, completion = sum(g.prompt for g in own), sum(g.completion for g in own)
        return {
            "calls": sum(g.calls for g in own), "failed": sum(g.failed for g in own), "prompt": prompt,
            "completion": completion, "per_description": (prompt + completion) / claims if claims else None,
            "cacheable": sum(g.cacheable for g in own) / prompt if prompt else None,
            "billed": sum(g.billed for g in own),
        }  # fmt: skip

    return {
        "claims": claims,
        "groups": [{**vars(group), "per_description": group.each} for group in groups],
        "all": total(groups),
        "default": total([group for group in groups if group.purpose in DEFAULT]),
        "contest": total([group for group in groups if group.purpose in CONTEST]),
        "compared": total([group for group in groups if group.purpose in COMPARED]),
        "published": {"per_description": PUBLISHED, "cacheable": PUBLISHED_CACHEABLE},
    }


def render(found: dict[str, Any]) -> str:
    """The figures as a table of at most 80 columns."""
    rows = []
    for group in found["groups"]:
        cacheable = group["cacheable"] / group["prompt"] if group["prompt"] else None
        rows.append(_row(f"{group['purpose']} ({group['asker']})", group["calls"], group["claims"], group, cacheable))
    for name, key in (
        ("default: description and score", "default"),
        ("with the contest", "contest"),
        ("explain, detection, fuzzing", "compared"),
        ("all", "all"),
    ):
        rows.append(_row(name, found[key]["calls"], found["claims"], found[key], found[key]["cacheable"]))
    published = [f"{PUBLISHED:,}", f"{PUBLISHED_CACHEABLE:.0%}"]
    rows.append(["published (one-shot, both)", "", "", "", "", *published])
    return "\n".join(table(["tokens per description", "calls", "claims", "prompt", "answer", "sum", "cached"], rows))


def _row(name: str, calls: int, claims: int, of: dict[str, Any], cacheable: float | None) -> list[str]:
    each = [f"{of[key] / claims:,.0f}" if claims else "-" for key in ("prompt", "completion")]
    return [
        name[:32], f"{calls:,}", f"{claims:,}", *each, f"{of['per_description'] or 0:,.0f}",
        "-" if cacheable is None else f"{cacheable:.0%}",
    ]  # fmt: skip
