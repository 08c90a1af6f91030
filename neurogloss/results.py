"""The database as Python code asks it: ``ng.open()`` gives a `Results`."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import store
from store.queries import best_descriptions, campaign_summary, find_units, list_campaigns, unit_page
from store.rows import CampaignRow, CampaignSummary, DescribedRow, SearchHit, UnitPage
from store.search import search_text


def described_units(
    database: store.Database,
    pattern: str = "*",
    *,
    campaign: str | None = None,
    subject: str | None = None,
    kind: str | None = None,
    layer: int | None = None,
    verdict: str | None = None,
    verdict_output: str | None = None,
    does: str | None = None,
    min_f1: float | None = None,
    order: str = "support",
    limit: int | None = None,
) -> list[DescribedRow]:
    """The best description of each side of the units that fit a pattern and every filter that is not None.

    Args:
        database: Where to look.
        pattern: ``mlp:2:*``, ``head:*:*;sae:res:0-99``, ``*``.
        campaign: Descriptions of this campaign.
        subject: Name or fingerprint of a subject.
        kind: 'mlp', 'head', 'sae' or 'dir'.
        layer: Layer of the unit's site.
        verdict: Verdict on the input half: 'supported', 'refuted', 'inconclusive' or 'untested'.
        verdict_output: Verdict on the output half.
        does: What the output half claims: 'changes', 'varies', 'later', 'nothing' or 'untested'.
        min_f1: Least importance-weighted F1 on sealed text.
        order: 'support', 'f1', 'density', 'newest' or 'unit'.
        limit: How many; None for all.

    Raises:
        StoreError: The pattern is none, or there is no such campaign.
    """
    if campaign is not None:
        store.get_campaign(database, campaign)  # says which there are, when this is none of them
    every = pattern.strip() == "*"
    rows = best_descriptions(
        database, campaign=campaign, subject=subject, kind=kind, layer=layer, verdict=verdict,
        verdict_output=verdict_output, output_kind=does, min_f1=min_f1, order=order, limit=limit if every else None,
    )  # fmt: skip
    if every:
        return rows
    found = find_units(database, pattern, subject=subject, described_only=True, limit=None)
    wanted = {(one.unit.fingerprint, one.unit.unit) for one in found}
    return [row for row in rows if (row.fingerprint, row.unit) in wanted][:limit]


class Results:
    """What campaigns have found. Close it, or use it in a ``with`` statement.

    Everything that comes back is a frozen dataclass of plain values (see `store.rows`).
    """

    def __init__(self, database: store.Database) -> None:
        self.database = database
        """The open database, for queries of your own (``database.session()`` is an SQLAlchemy session)."""

    def campaigns(self) -> list[CampaignRow]:
        """All campaigns, newest first."""
        return list_campaigns(self.database)

    def campaign(self, name: str) -> CampaignSummary:
        """What came of a campaign."""
        return campaign_summary(self.database, name)

    def units(
        self,
        pattern: str = "*",
        *,
        campaign: str | None = None,
        subject: str | None = None,
        kind: str | None = None,
        layer: int | None = None,
        verdict: str | None = None,
        verdict_output: str | None = None,
        does: str | None = None,
        min_f1: float | None = None,
        order: str = "support",
        limit: int | None = None,
    ) -> list[DescribedRow]:
        """Units with their best descriptions; see `described_units`."""
        return described_units(
            self.database, pattern, campaign=campaign, subject=subject, kind=kind, layer=layer, verdict=verdict,
            verdict_output=verdict_output, does=does, min_f1=min_f1, order=order, limit=limit,
        )  # fmt: skip

    def unit(self, unit: str, *, subject: str | None = None, campaign: str | None = None) -> UnitPage:
        """Everything that is known of a unit: descriptions, scores, examples, how they were found."""
        return unit_page(self.database, unit, subject=subject, campaign=campaign)

    def search(self, text: str, limit: int = 20, *, subject: str | None = None) -> list[SearchHit]:
        """Descriptions that match words, best first."""
        return search_text(self.database, text, limit, subject=subject)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
