"""What is studied: subjects, dictionaries, corpora, activation indexes, units and their examples."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.records import POLARITIES, UNIT_STATES
from store.schema.base import Base, Big, Created, Key, one_of


class Subject(Base):
    """A model under study."""

    __tablename__ = "subjects"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(index=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    info: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class Dictionary(Base):
    """A sparse dictionary attached to a subject."""

    __tablename__ = "dictionaries"
    __table_args__ = (sa.UniqueConstraint("subject_id", "name"),)

    id: Mapped[Key]
    subject_id: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id", ondelete="CASCADE"))
    name: Mapped[str]
    fingerprint: Mapped[str]
    architecture: Mapped[str]
    site: Mapped[str]
    d_in: Mapped[int]
    d_sae: Mapped[int]
    info: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class Corpus(Base):
    """A set of documents."""

    __tablename__ = "corpora"

    id: Mapped[Key]
    spec: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    n_documents: Mapped[int]
    info: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class Index(Base):
    """An activation index: a subject's activations over a corpus, kept on disk."""

    __tablename__ = "indexes"

    id: Mapped[Key]
    subject_id: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id", ondelete="CASCADE"), index=True)
    corpus_id: Mapped[int] = mapped_column(sa.ForeignKey("corpora.id", ondelete="CASCADE"), index=True)
    key: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    n_tokens: Mapped[Big]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class Unit(Base):
    """One describable component of a subject, with its statistics over the index it was last studied on."""

    __tablename__ = "units"
    __table_args__ = (
        sa.UniqueConstraint("subject_id", "unit"),
        sa.Index("ix_units_place", "subject_id", "kind", "layer", "unit_index"),
        one_of("state", UNIT_STATES),
    )

    id: Mapped[Key]
    subject_id: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id", ondelete="CASCADE"))
    unit: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    layer: Mapped[int | None]
    dictionary: Mapped[str | None]
    unit_index: Mapped[int]
    state: Mapped[str] = mapped_column(default="alive")
    duplicate_of: Mapped[str | None]
    density: Mapped[float | None] = mapped_column(index=True)
    minimum: Mapped[float | None]
    maximum: Mapped[float | None]
    mean: Mapped[float | None]
    variance: Mapped[float | None]
    n_tokens: Mapped[int | None] = mapped_column(sa.BigInteger)
    statistics: Mapped[dict[str, Any]]
    profile: Mapped[dict[str, Any]]
    index_id: Mapped[int | None] = mapped_column(sa.ForeignKey("indexes.id", ondelete="SET NULL"))
    created_at: Mapped[Created]
    updated_at: Mapped[dt.datetime]


class Example(Base):
    """A window of tokens with a unit's activations, kept because a description rests on it."""

    __tablename__ = "examples"
    __table_args__ = (
        sa.Index("ix_examples_unit", "unit_id", "polarity", "source"),
        one_of("polarity", POLARITIES),
    )

    id: Mapped[Key]
    unit_id: Mapped[int] = mapped_column(sa.ForeignKey("units.id", ondelete="CASCADE"))
    investigation_id: Mapped[int] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"), index=True)
    split: Mapped[str]
    source: Mapped[str]
    polarity: Mapped[str]
    rank: Mapped[int]
    document: Mapped[str]
    context: Mapped[Big]
    start: Mapped[int]
    peak: Mapped[int]
    activation: Mapped[float]
    weight: Mapped[float]
    tokens: Mapped[list[str]]
    activations: Mapped[list[float]]
