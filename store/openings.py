"""The record of who looked at sealed data, and for which claim."""

from __future__ import annotations

import sqlalchemy as sa

from store import schema
from store.campaigns import update_held
from store.database import Database
from store.errors import SealBrokenError
from store.work import Investigation, Opening


def record_opening(
    db: Database, investigation: Investigation, *, claim: str, polarity: str, split: str, predictions: str | None = None
) -> Opening:
    """Record that a sealed split is about to be opened for a claim, before it is looked at.

    A claim is known by a digest of all that it asserts. A new claim is the next version; the same claim, opened by an
    earlier attempt that was killed before it could finish, is the same opening. What was predicted of the split is
    known by a digest too, which goes on record with the opening and cannot be exchanged afterwards.

    Raises:
        SealBrokenError: this attempt opened the split for this claim already, or its scores are stored, or an earlier
            attempt opened it on other predictions.
        LeaseLostError: the lease is somebody else's by now.
    """
    table = schema.Opening
    with db.transaction() as session:
        # Also locks the row on Postgres, so that versions are counted by one process at a time.
        update_held(session, investigation, leases=investigation.lease)
        same_tail = sa.and_(table.investigation_id == investigation.id, table.polarity == polarity)
        row = session.scalars(
            sa.select(table).where(same_tail, table.claim == claim, table.split == split)
        ).one_or_none()
        if row is not None and (row.description_id is not None or row.lease == investigation.lease):
            raise SealBrokenError(
                f"The {split} split was opened before for this claim about {investigation.unit} ({polarity}). "
                "A split opens once for each version of a claim: revise the claim, or use the scores that there are."
            )
        if row is not None and row.predictions != predictions:
            raise SealBrokenError(
                f"The {split} split was opened before for this claim about {investigation.unit} ({polarity}), on other "
                "predictions. What is predicted is fixed before the split is opened, and stays."
            )
        if row is None:
            version = session.scalar(sa.select(sa.func.min(table.version)).where(same_tail, table.claim == claim))
            if version is None:
                version = 1 + (session.scalar(sa.select(sa.func.max(table.version)).where(same_tail)) or 0)
            row = table(
                investigation_id=investigation.id, claim=claim, polarity=polarity, version=version, split=split,
                predictions=predictions, opened_by=investigation.owner, lease=investigation.lease,
            )  # fmt: skip
            session.add(row)
        row.opened_by, row.lease = investigation.owner, investigation.lease
        session.flush()
        return Opening(row.id, investigation.id, claim, polarity, row.version, split, predictions)
