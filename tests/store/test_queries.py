"""What is found is what was written, by every filter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import store
from store.records import (
    DescriptionRecord,
    DictionaryRecord,
    ExampleRecord,
    InvestigationResult,
    ScoreRecord,
    SubjectRecord,
    UnitRecord,
)

UNITS = [*(f"mlp:1:{i}" for i in range(6)), "head:0:3", "sae:res:12"]


@pytest.fixture(scope="module")
def full(
    make: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, result: Callable[..., InvestigationResult]
) -> Any:
    """mlp:1:0…3 with F1 0.9, 0.4, 0.6 (refuted), 0.7; mlp:1:4 failed, mlp:1:5 dead; a head; the latent is pending."""
    bench = make(tmp_path_factory.mktemp("full") / "full.db", UNITS)
    plan = {
        "mlp:1:0": (0.9, "supported"), "mlp:1:1": (0.4, "supported"), "mlp:1:2": (0.6, "refuted"),
        "mlp:1:3": (0.7, "inconclusive"), "head:0:3": (0.8, "supported"),
    }  # fmt: skip
    jobs = [store.lease_next(bench.db, bench.campaign_id, "me", 60) for _ in range(8)]
    for job in jobs:
        assert job is not None
        if job.unit in plan:
            f1, verdict = plan[job.unit]
            store.finish(bench.db, job, result(job.unit, f1=f1, verdict=verdict))
        elif job.unit == "mlp:1:4":
            store.fail(bench.db, job, "HTTP 500", retry=False)
        elif job.unit == "mlp:1:5":
            store.finish(bench.db, job, InvestigationResult(UnitRecord(job.unit, state="dead"), skipped="dead"))
        else:
            store.release(bench.db, job)
    bench.db.close()
    return bench


@pytest.fixture
def filled(full: Any, copy: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    found = copy(full, tmp_path / "filled.db")
    yield found
    found.db.close()


def units(rows: list[Any]) -> list[str]:
    return [row.unit for row in rows]


def test_best_descriptions_put_what_is_surely_good_first(filled: Any) -> None:
    rows = store.best_descriptions(filled.db)
    assert units(rows) == ["mlp:1:0", "head:0:3", "mlp:1:1", "mlp:1:3", "mlp:1:2"]
    top = rows[0]
    assert (top.f1, top.f1_low, top.f1_high, top.f1_p, top.pearson) == (0.9, 0.8, 1.0, 0.001, 0.7)
    assert (top.subject, top.campaign, top.label, top.verdict_output) == (
        "tiny", "first", "the article 'the'", "untested",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"kind": "head"}, ["head:0:3"]),
        ({"layer": 0}, ["head:0:3"]),
        ({"layer": 1, "limit": 2}, ["mlp:1:0", "mlp:1:1"]),
        ({"layer": 1, "limit": 2, "offset": 1}, ["mlp:1:1", "mlp:1:3"]),
        ({"verdict": "refuted"}, ["mlp:1:2"]),
        ({"min_f1": 0.7, "order": "f1"}, ["mlp:1:0", "head:0:3", "mlp:1:3"]),
        ({"order": "unit", "limit": None}, ["head:0:3", "mlp:1:0", "mlp:1:1", "mlp:1:2", "mlp:1:3"]),
        ({"campaign": "other"}, []),
        ({"subject": "f00d", "explainer": "pattern", "limit": 1}, ["mlp:1:0"]),
        ({"subject": "tiny", "dictionary": "res"}, []),
    ],
)
def test_best_descriptions_are_filtered(filled: Any, filters: dict[str, Any], expected: list[str]) -> None:
    assert units(store.best_descriptions(filled.db, **filters)) == expected


def test_an_unknown_order_is_refused(filled: Any) -> None:
    with pytest.raises(store.StoreError, match="'best' is not an order"):
        store.best_descriptions(filled.db, order="best")


def test_the_best_of_several_campaigns_is_chosen_for_each_tail(
    filled: Any, result: Callable[..., InvestigationResult]
) -> None:
    second = store.create_campaign(filled.db, "second", {}, "h2")
    store.add_investigations(filled.db, second.id, filled.subject_id, ["mlp:1:0", "mlp:1:1"])
    for f1 in (0.95, 0.99):
        job = store.lease_next(filled.db, second.id, "me", 60)
        assert job is not None
        verdict = "refuted" if job.unit == "mlp:1:1" else "supported"
        store.finish(filled.db, job, result(job.unit, label="second thoughts", f1=f1, verdict=verdict))
    best = {row.unit: row for row in store.best_descriptions(filled.db)}
    assert best["mlp:1:0"].campaign == "second"
    assert best["mlp:1:1"].campaign == "first", "a refuted description is not better for its higher F1"
    own = {row.unit: row.f1 for row in store.best_descriptions(filled.db, campaign="first")}
    assert own["mlp:1:0"] == 0.9
    assert [row.campaign for row in store.list_campaigns(filled.db)] == ["second", "first"]


def test_both_tails_and_runners_up_are_kept_and_versions_superseded(
    bench: Any, result: Callable[..., InvestigationResult]
) -> None:
    job = store.lease_next(bench.db, bench.campaign_id, "me", 60)
    assert job is not None
    base = result(job.unit)
    plus = base.descriptions[0]
    minus = DescriptionRecord("-", "digits", "It fires on digits.", "pattern", "c-")
    older = dataclasses.replace(plus, label="older words", scores=())
    newer = dataclasses.replace(plus, version=2, claim="claim-2")
    rival = dataclasses.replace(plus, rank=2, label="a rival", claim="c-r", scores=())
    examples = [*base.examples, ExampleRecord("explore", "bottom", "-", "d2", 1, 0, 0, ["7"], [-0.2], 1.0)]
    store.finish(bench.db, job, dataclasses.replace(base, descriptions=[newer, minus, rival, older], examples=examples))
    page = store.unit_page(bench.db, job.unit)
    assert [row.label for row in page.descriptions] == ["the article 'the'", "digits", "a rival", "older words"]
    assert page.descriptions[-1].superseded_by == page.descriptions[0].description_id
    assert [(row.label, row.polarity) for row in store.best_descriptions(bench.db)] == [
        ("the article 'the'", "+"), ("digits", "-"),
    ]  # fmt: skip


def test_a_runner_up_stands_beside_what_is_asserted_and_nowhere_else(
    bench: Any, result: Callable[..., InvestigationResult]
) -> None:
    job = store.lease_next(bench.db, bench.campaign_id, "me", 60)
    assert job is not None
    base = result(job.unit, verdict="refuted")
    first = dataclasses.replace(base.descriptions[0], details={"standing": {"selection": 0.7}})
    rival = dataclasses.replace(
        first, rank=2, label="a rival of it", claim="c-r", scores=(), verdict_input="untested", hypothesis="h2",
        details={"standing": {"selection": 0.25}},
    )  # fmt: skip
    store.finish(bench.db, job, dataclasses.replace(base, descriptions=[first, rival]))
    for [row] in (
        store.best_descriptions(bench.db),
        store.best_descriptions(bench.db, controls=True),
        store.find_units(bench.db, job.unit)[0].descriptions,
    ):
        assert (row.verdict_input, row.rank, row.selection) == ("refuted", 1, 0.7), (
            "untested is not better than refuted"
        )
        assert [(one.rank, one.label, one.selection) for one in row.runners_up] == [(2, "a rival of it", 0.25)]
    assert [row.rank for row in store.unit_page(bench.db, job.unit).descriptions] == [1, 2]
    [campaign] = store.list_campaigns(bench.db)
    assert (campaign.descriptions, campaign.supported) == (1, 0)
    summary = store.campaign_summary(bench.db, campaign.campaign)
    assert summary.total.verdicts_input == {"refuted": 1}
    assert [claim.verdict_input for claim in store.campaign_evidence(bench.db, campaign.campaign)] == ["refuted"]
    assert store.search_text(bench.db, "rival") == []


def test_a_unit_page_tells_all_and_is_ready_for_json(filled: Any) -> None:
    page = store.unit_page(filled.db, "mlp:1:0")
    assert json.loads(json.dumps(dataclasses.asdict(page), allow_nan=False))["unit"]["unit"] == "mlp:1:0"
    assert (page.unit.density, page.unit.n_tokens, page.corpus) == (0.01, 10_000, "tiny.jsonl")
    assert page.profile == {"promoted": [["cat", 1.5]]}
    description = page.descriptions[0]
    assert (description.hypothesis, description.exceptions) == ("h1", "not in titles")
    headline = description.scores[0]
    assert (headline.metric, headline.low, headline.null_mean, headline.n_documents) == ("weighted_f1", 0.8, 0.05, 90)
    assert headline.cost == {"seconds": 0.25}
    assert [(row.key, row.status) for row in page.hypotheses] == [("h1", "supported"), ("h2", "refuted")]
    assert [(row.status, row.error, len(row.observations)) for row in page.experiments] == [
        ("done", None, 2), ("failed", "the text is empty", 0),
    ]  # fmt: skip
    assert page.experiments[0].observations[1].hypothesis == "h2"
    assert [row.activation for row in page.examples] == [3.5, 2.5, 1.5]
    assert page.examples[0].tokens == [" the", " cat"]
    job = page.investigations[0]
    assert (job.campaign, job.status, job.seconds, job.tool_calls, job.llm_calls) == ("first", "done", 1.5, 4, 0)
    assert str(job.finished_at).endswith("Z")


def test_a_unit_without_result_has_a_page_too(filled: Any) -> None:
    page = store.unit_page(filled.db, "sae:res:12")
    assert (page.unit.dictionary, page.unit.unit_index, page.descriptions, page.examples) == ("res", 12, [], [])
    assert page.investigations[0].status == "pending"


def test_unknown_and_ambiguous_units_are_told(filled: Any) -> None:
    with pytest.raises(store.StoreError, match="no unit mlp:9:9"):
        store.unit_page(filled.db, "mlp:9:9")
    with pytest.raises(store.StoreError, match="campaign 'other' has no unit"):
        store.unit_page(filled.db, "mlp:1:0", campaign="other")
    twin = store.register_subject(filled.db, SubjectRecord("tiny shuffled", "beef"))
    store.add_investigations(filled.db, filled.campaign_id, twin, ["mlp:1:0"])
    with pytest.raises(store.StoreError, match=r"tiny \(f00d\), tiny shuffled \(beef\)\.\nSay which with --subject"):
        store.unit_page(filled.db, "mlp:1:0")
    assert store.unit_page(filled.db, "mlp:1:0", subject="beef").descriptions == []
    assert len(store.unit_page(filled.db, "mlp:1:0", subject="tiny").descriptions) == 1


def test_a_campaign_is_summed_up_by_kind(filled: Any) -> None:
    summary = store.campaign_summary(filled.db, "first")
    assert (summary.seed, summary.campaign.investigations, summary.campaign.descriptions) == (7, 8, 5)
    assert summary.total.investigations == {"done": 5, "failed": 1, "pending": 1, "skipped": 1}
    assert summary.total.verdicts_input == {"inconclusive": 1, "refuted": 1, "supported": 3}
    assert summary.total.median_f1 == 0.7
    assert (summary.total.well_described, summary.total.well_described_share) == (2, 2 / 6)
    mlp = summary.kinds["mlp"]
    assert (mlp.descriptions, mlp.well_described_share, mlp.states) == (4, 1 / 5, {"alive": 4, "dead": 1})
    assert summary.kinds["sae"].median_f1 is None
    assert summary.kinds["sae"].well_described_share is None
    assert [(row.unit, row.reason) for row in summary.failures] == [("mlp:1:4", "HTTP 500")]
    json.dumps(dataclasses.asdict(summary))
    with pytest.raises(store.StoreError, match="no campaign 'nope'"):
        store.campaign_summary(filled.db, "nope")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", 8),
        ("mlp:*:*", 6),
        ("mlp:1:0-2", 3),
        ("mlp:1:0,4-5", 3),
        ("mlp:2-9:*", 0),
        ("head:*:*;sae:res:*", 2),
        ("sae:r*:12", 1),
        ("sae:%:12", 0),
        ("*:1:*", 6),
        ("dir:*", 0),
    ],
)
def test_units_are_found_by_pattern(filled: Any, pattern: str, expected: int) -> None:
    assert len(store.find_units(filled.db, pattern)) == expected


def test_units_are_found_by_what_is_known_of_them(filled: Any) -> None:
    find = store.find_units
    assert [one.unit.unit for one in find(filled.db, state="dead")] == ["mlp:1:5"]
    assert len(find(filled.db, described_only=True)) == 5
    assert len(find(filled.db, min_density=0.005, max_density=0.02)) == 5
    assert find(filled.db, min_density=0.02) == []
    assert [one.unit.unit for one in find(filled.db, "mlp:*:*", limit=2, offset=1)] == ["mlp:1:1", "mlp:1:2"]
    assert [row.label for row in find(filled.db, "mlp:1:0")[0].descriptions] == ["the article 'the'"]
    assert find(filled.db, subject="someone else") == []


@pytest.mark.parametrize("pattern", ["", ";", "mlp", "mlp:1", "mlp:x:1", "mlp:1:1-", "mlp:1:-1", "mlp:1:'; DROP"])
def test_what_is_no_pattern_is_refused(filled: Any, pattern: str) -> None:
    with pytest.raises(store.StoreError, match="pattern"):
        store.find_units(filled.db, pattern)


def test_records_refuse_what_is_not_so() -> None:
    with pytest.raises(store.StoreError, match=r"ScoreRecord.value is nan"):
        ScoreRecord("weighted_f1", "score", "rule", "p", float("nan"))
    with pytest.raises(store.StoreError, match="one of: supported, refuted"):
        DescriptionRecord("+", "a", "b", "pattern", "c", verdict_input="true")
    with pytest.raises(store.StoreError, match="2 tokens but 1 activations"):
        ExampleRecord("explore", "top", "+", "d", 0, 0, 0, ["a", "b"], [1.0], 1.0)
    with pytest.raises(store.StoreError, match="is not a unit"):
        UnitRecord("neuron")


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("mlp:3:1017", ("mlp", 3, None, 1017)),
        ("head:9:6", ("head", 9, None, 6)),
        ("sae:res:4:12", ("sae", None, "res:4", 12)),
        ("dir:7", ("dir", None, None, 0)),
    ],
)
def test_unit_columns_come_from_the_id(unit: str, expected: tuple[Any, ...]) -> None:
    record = UnitRecord(unit)
    assert (record.kind, record.layer_number, record.dictionary, record.unit_index) == expected


def test_another_dictionary_of_the_same_name_is_refused(bench: Any) -> None:
    record = DictionaryRecord("res", "aa", "standard", "resid_post.1", 32, 128)
    first = store.register_dictionary(bench.db, bench.subject_id, record)
    assert store.register_dictionary(bench.db, bench.subject_id, record) == first
    with pytest.raises(store.StoreError, match="Attach this one under another name"):
        store.register_dictionary(bench.db, bench.subject_id, dataclasses.replace(record, fingerprint="bb"))
