"""A database with a campaign in it, and results as an investigation would hand them in."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

import store
from store import migrate
from store.records import (
    CorpusRecord,
    Cost,
    DescriptionRecord,
    ExampleRecord,
    ExperimentRecord,
    HypothesisRecord,
    IndexRecord,
    InvestigationResult,
    ObservationRecord,
    ScoreRecord,
    SubjectRecord,
    UnitRecord,
)


@dataclass(frozen=True)
class Bench:
    """An open database and the ids in it."""

    db: store.Database
    subject_id: int
    campaign_id: int


def make_bench(url: str | Path, units: list[str], name: str = "first") -> Bench:
    db = store.open_database(url)
    subject_id = store.register_subject(db, SubjectRecord("tiny", "f00d", {"n_layers": 3}))
    corpus_id = store.register_corpus(db, CorpusRecord("tiny.jsonl", "c0ffee", 400))
    index_id = store.register_index(db, subject_id, corpus_id, IndexRecord("key", "indexes/key", 10_000))
    campaign = store.create_campaign(
        db, name, {"units": units}, "hash", seed=7, subject_id=subject_id, corpus_id=corpus_id, index_id=index_id
    )
    store.add_investigations(db, campaign.id, subject_id, units)
    return Bench(db, subject_id, campaign.id)


def reopened(template: Bench, path: Path) -> Bench:
    """A copy of a closed database, which is quicker than making another."""
    shutil.copy(template.db.url, path)
    return replace(template, db=store.open_database(path))


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    path = tmp_path_factory.mktemp("store") / "template.db"
    found = make_bench(path, [f"mlp:1:{i}" for i in range(6)] + ["head:0:3", "sae:res:12"])
    found.db.close()
    return found


@pytest.fixture
def bench(_template: Bench, tmp_path: Path) -> Iterator[Bench]:
    found = reopened(_template, tmp_path / "test.db")
    yield found
    found.db.close()


@pytest.fixture(scope="session")
def copy() -> Callable[[Bench, Path], Bench]:
    return reopened


@pytest.fixture(scope="session")
def older() -> Callable[[Path, Path, str], None]:
    return make_older


def make_older(path: Path, source: Path, revision: str) -> None:
    """A database as an earlier release left it: of an older revision, with the rows of another as far as they fit."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = migrate._config()
        config.attributes.update(connection=connection, version_table=migrate.VERSION_TABLE)
        command.upgrade(config, revision)
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("ATTACH ? AS source", (str(source),))
        tables = [row[0] for row in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table.startswith(("descriptions_fts", migrate.VERSION_TABLE, "sqlite_")):
                continue
            now = {row[1] for row in connection.execute(f"PRAGMA source.table_info({table})")}
            columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})") if row[1] in now]
            named = ", ".join(columns)
            connection.execute(f"INSERT INTO main.{table} ({named}) SELECT {named} FROM source.{table}")
        assert connection.execute("SELECT count(*) FROM main.scores").fetchone()[0] > 0


@pytest.fixture(scope="session")
def make() -> Callable[..., Bench]:
    return make_bench


@pytest.fixture(scope="session")
def result() -> Callable[..., InvestigationResult]:
    return make_result


def make_result(
    unit: str,
    *,
    label: str = "the article 'the'",
    f1: float = 0.8,
    verdict: str = "supported",
    claim: str = "claim-1",
    **changes: Any,
) -> InvestigationResult:
    """A result with a row in every table; the numbers depend on the unit alone."""
    score = ScoreRecord(
        metric="weighted_f1", split="score", predictor="rule", protocol_hash="p1", value=f1, low=f1 - 0.1,
        high=f1 + 0.1, n_examples=500, n_documents=90, null_mean=0.05, p_value=0.001, headline=True,
        cost={"seconds": 0.25},
    )  # fmt: skip
    values: dict[str, Any] = {
        "unit": UnitRecord(
            unit, layer=1, density=0.01, minimum=-0.2, maximum=3.5, mean=0.02, variance=0.3, n_tokens=10_000,
            statistics={"quantiles": {"0.9995": 3.0}}, profile={"promoted": [["cat", 1.5]]}, index_key="key",
        ),
        "examples": [
            ExampleRecord("explore", "top", "+", "d001", 5, 3, 1, [" the", " cat"], [0.0, 3.5 - rank], 1.0)
            for rank in range(3)
        ],
        "hypotheses": [
            HypothesisRecord("h1", "+", "pattern", label, f"fires on {label}", rule="token('the')", status="supported"),
            HypothesisRecord("h2", "+", "pattern", "nouns", "fires on nouns", status="refuted"),
        ],
        "experiments": [
            ExperimentRecord(
                "edit", {"texts": ["the cat"]}, seed=3, digest="d1", seconds=0.5,
                observations=[
                    ObservationRecord("silenced", {"ratio": 0.02}, "h1", "supported"),
                    ObservationRecord("unmoved", {"ratio": 0.98}, "h2", "refuted"),
                ],
            ),
            ExperimentRecord("edit", {"texts": [""]}, status="failed", error="the text is empty"),
        ],
        "descriptions": [
            DescriptionRecord(
                "+", label, f"It fires on {label}.", "pattern", claim, exceptions="not in titles", rule="token('the')",
                verdict_input=verdict, hypothesis="h1",
                scores=[score, ScoreRecord("pearson", "score", "rule", "p1", 0.7, headline=True)],
            )
        ],
        "cost": Cost(seconds=1.5, tool_calls=4),
    }  # fmt: skip
    return InvestigationResult(**{**values, **changes})
