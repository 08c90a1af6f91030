"""Errors that people see: what is wrong with the database, and what to do."""

from __future__ import annotations


class StoreError(Exception):
    """A condition of the database that the user can mend; the message stands alone, in one to three lines."""


class LeaseLostError(StoreError):
    """This process no longer holds the investigation: its lease ran out and was taken over, or it is finished.

    The right answer is to drop the work: nothing of it was written, and whoever holds the lease does it.
    """


class SealBrokenError(StoreError):
    """A split was to be opened a second time for a claim whose scores are already stored."""
