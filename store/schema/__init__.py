"""The tables of the database, typed. `store.migrations` makes them; a test keeps the two equal."""

from __future__ import annotations

from store.schema.base import Base, UtcDateTime, utc_now
from store.schema.campaigns import Campaign, Investigation, LlmCall, Opening
from store.schema.claims import Description, Experiment, Hypothesis, Observation, Score
from store.schema.invalidations import Invalidation
from store.schema.people import Annotation, Chat, ChatMessage
from store.schema.rechecks import Recheck, Rechecked
from store.schema.recordings import Recording
from store.schema.subjects import Corpus, Dictionary, Example, Index, Subject, Unit

__all__ = [
    "Annotation",
    "Base",
    "Campaign",
    "Chat",
    "ChatMessage",
    "Corpus",
    "Description",
    "Dictionary",
    "Example",
    "Experiment",
    "Hypothesis",
    "Index",
    "Invalidation",
    "Investigation",
    "LlmCall",
    "Observation",
    "Opening",
    "Recheck",
    "Rechecked",
    "Recording",
    "Score",
    "Subject",
    "Unit",
    "UtcDateTime",
    "utc_now",
]
