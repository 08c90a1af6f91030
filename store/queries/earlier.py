"""What finished campaigns hold of a subject, as it stood at a moment: descriptions with a rule, for other campaigns."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from store import schema
from store.database import Database
from store.records import CONTROL_KIND


@dataclass(frozen=True)
class EarlierRow:
    """What a campaign asserted of one tail of a unit, as it was first written."""

    description_id: int
    claim: str
    """The digest by which the claim is known."""
    campaign: str
    unit: str
    polarity: str
    label: str
    input_half: str
    rule: str
    threshold: float
    """Magnitude above which the unit counts as active there."""


@dataclass(frozen=True)
class Shelf:
    """Which descriptions there are: those of some campaigns, up to the last one that had been written."""

    campaigns: tuple[int, ...]
    """Ids."""
    last: int
    """Id of the newest description; what was written later is not among them."""


def finished_shelf(db: Database, fingerprint: str, *, corpus: str | None = None, but: str | None = None) -> Shelf:
    """The descriptions that finished campaigns hold of a subject now.

    Args:
        db: The database.
        fingerprint: Of the subject.
        corpus: Digest of a corpus: of campaigns on this one alone. None: on any.
        but: Name of a campaign that does not count.
    """
    campaign = schema.Campaign
    wanted = (
        sa.select(campaign.id)
        .join(schema.Subject, schema.Subject.id == campaign.subject_id)
        .where(campaign.status == "done", schema.Subject.fingerprint == fingerprint)
        .order_by(campaign.id)
    )
    if corpus is not None:
        wanted = wanted.join(schema.Corpus, schema.Corpus.id == campaign.corpus_id).where(
            schema.Corpus.digest == corpus
        )
    if but is not None:
        wanted = wanted.where(campaign.name != but)
    with db.session() as session:
        found = tuple(session.scalars(wanted).all())
        newest = sa.select(sa.func.max(schema.Description.id)).where(schema.Description.campaign_id.in_(found))
        return Shelf(found, session.scalar(newest) or 0)


def earlier_descriptions(db: Database, shelf: Shelf) -> list[EarlierRow]:
    """The rules that campaigns asserted, in the order in which they were written; not those of blind controls, nor
    what people wrote over them."""
    table, unit, campaign = schema.Description, schema.Unit, schema.Campaign
    threshold = table.details["tail"]["threshold"].as_float()
    query = (
        sa.select(
            table.id, table.claim, campaign.name, unit.unit, table.polarity, table.label, table.input_half, table.rule,
            threshold,
        )
        .join(unit, unit.id == table.unit_id)
        .join(campaign, campaign.id == table.campaign_id)
        .where(
            table.campaign_id.in_(shelf.campaigns), table.id <= shelf.last, table.rank == 1, table.version == 1,
            table.rule.is_not(None), unit.kind != CONTROL_KIND, threshold.is_not(None),
        )
        .order_by(table.id)
    )  # fmt: skip
    with db.session() as session:
        return [EarlierRow(*row) for row in session.execute(query)]
