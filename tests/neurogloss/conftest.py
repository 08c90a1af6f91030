"""A database with every kind of result in it, made through the store, and the command run in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import store
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

#: Token text that would recolour, clear or spoof a terminal if it were sent as it is.
HOSTILE = ["[red]", "\x1b[2J", " the", "\x9b31m", "\u202eevil", "\r", " ", "\n", "[/]", "\x07", "日本"]
UNITS = ["mlp:2:17", "mlp:2:18", "mlp:2:19", "mlp:2:20", "head:0:3", "sae:res:1234", "mlp:1:5"]


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in this process, 80 columns wide, with a home of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NEUROGLOSS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEUROGLOSS_DB", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*args: str | Path, stdin: str | None = None) -> Answer:
        from neurogloss.cli.app import app

        result = CliRunner().invoke(app, [str(a) for a in args], input=stdin)
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def example_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign 'first': four units described (one on both sides), one dead, one failed, one pending."""
    path = tmp_path_factory.mktemp("db") / "example.db"
    with store.open_database(path) as db:
        subject = store.register_subject(db, SubjectRecord("tiny", "f00df00df00df00d", {"n_layers": 3}))
        corpus = store.register_corpus(db, CorpusRecord("tiny.jsonl", "c0ffee", 400))
        index = store.register_index(db, subject, corpus, IndexRecord("key", "indexes/key", 10_000))
        spec = {"subject": "tiny", "units": UNITS, "corpus": "tiny.jsonl", "explainer": "pattern"}
        campaign = store.create_campaign(
            db, "first", spec, "hash", budget={"units": 50}, subject_id=subject, corpus_id=corpus, index_id=index
        )
        store.add_investigations(db, campaign.id, subject, UNITS)
        for unit in UNITS[:-1]:
            lease = store.lease_next(db, campaign.id, "test", 60)
            assert lease is not None
            assert lease.unit == unit
            if unit == "mlp:2:19":
                store.fail(db, lease, "ValueError in step 'propose': no [bold]tail[/bold] \x1b[31m here", retry=False)
                continue
            store.finish(db, lease, result(unit))
    return path


def result(unit: str) -> InvestigationResult:
    """Results whose numbers depend on the unit alone."""
    f1 = {"mlp:2:17": 0.81, "mlp:2:18": 0.12, "head:0:3": 0.55, "sae:res:1234": 0.93}.get(unit)
    if f1 is None:
        return InvestigationResult(
            unit=UnitRecord(unit, state="dead", density=0.0, index_key="key"), skipped="never active on 10 000 tokens"
        )
    both = unit == "mlp:2:17"
    return InvestigationResult(
        unit=UnitRecord(
            unit, layer=2, density=0.0042, minimum=-0.2, maximum=3.5, mean=0.02, variance=0.3, n_tokens=10_000,
            statistics={
                "quantiles": {"0.9995": 3.0, "0.0005": -0.1},
                "histogram_edges": [-0.5 + 0.1 * i for i in range(41)],
                "histogram_counts": [0, 0, 30, 300, 5000, 4000] + [20] * 30 + [0] * 3 + [1, 2][:1],
                "tails": [{"polarity": "+", "threshold": 1.5, "density": 0.0042}],
            },
            profile={
                "promotion": {"promoted": [["cat", 1.5], ["[red]", 1.0]], "suppressed": [["\x1b[2J", -1.0]]},
                "edges": {"previous": 0.8, "induction": 0.1, "baseline": {"previous": 0.1, "induction": 0.02}}
                if unit.startswith("head") else None,
            },
            index_key="key",
        ),
        examples=[
            ExampleRecord(
                "explore", "top" if sign == "+" else "bottom", sign, f"d{rank:03}", 5, 3, peak, HOSTILE,
                [(1 if sign == "+" else -1) * (3.5 - rank if i == peak else 0.3 * i) for i in range(len(HOSTILE))],
                1.0,
            )
            for sign in ("+-" if both else "+")
            for rank, peak in enumerate((2, 0, 10))
        ],
        hypotheses=[
            HypothesisRecord("+1", "+", "pattern", "the article", "fires on it", rule="r", status="supported"),
            HypothesisRecord("+2", "+", "pattern", "nouns [red]", "fires on nouns", status="dropped"),
        ],
        experiments=[
            ExperimentRecord("edit", seed=3, seconds=0.5, observations=[ObservationRecord("silenced", {}, "+1")]),
            ExperimentRecord("edit", status="failed", error="the text is empty"),
        ],
        descriptions=[
            description(sign, unit, f1 - (0.4 if sign == "-" else 0)) for sign in ("+-" if both else "+")
        ],
        cost=Cost(seconds=1.5, tool_calls=4),
    )  # fmt: skip


def description(sign: str, unit: str, f1: float) -> DescriptionRecord:
    """A description, long and hostile enough to break a page that is not careful."""
    values: dict[str, Any] = {"split": "score", "predictor": "rule", "protocol_hash": "p1", "headline": True}
    return DescriptionRecord(
        sign, f"the article 'the' before nouns [red] \x1b[2J of {unit}",
        f"It fires on the article. {'Long words. ' * 12}", "pattern", f"claim{sign}",
        output_half="It raises the words for animals.", exceptions="not in titles",
        rule="token(' the') and not bracket('[bold]')", verdict_input="supported" if f1 > 0.5 else "refuted",
        verdict_output="inconclusive", hypothesis="+1",
        scores=[
            ScoreRecord("weighted_f1", value=f1, low=f1 - 0.08, high=f1 + 0.06, n_examples=12_500, n_documents=90,
                        null_mean=0.05, p_value=0.0005, **values),
            ScoreRecord("average_precision", value=f1 - 0.02, low=f1 - 0.1, high=f1 + 0.05, n_examples=12_500,
                        n_documents=90, null_mean=0.04, p_value=0.001, **values),
            ScoreRecord("pearson", value=None, **values),
        ],
    )  # fmt: skip
