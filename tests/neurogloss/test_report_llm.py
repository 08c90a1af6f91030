"""What is shown of language models: in reports, on a unit's page and on a campaign's, 80 columns wide."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import store
from agent.reporting import campaign_report
from neurogloss.render.report_html import report_html
from neurogloss.render.report_markdown import report_markdown
from neurogloss.render.text import money, thousands
from store.records import (
    Cost,
    DescriptionRecord,
    HypothesisRecord,
    InvestigationResult,
    LlmCallRecord,
    ScoreRecord,
    SubjectRecord,
    UnitRecord,
)

Run = Callable[..., Any]
UNITS = ["mlp:0:0", "mlp:0:1", "mlp:0:2"]
#: By unit: F1 before and after the second stage (None: it was not asked), agreement of words and rule.
FOUND = {"mlp:0:0": (0.9, None, 0.95), "mlp:0:1": (0.3, 0.7, 0.5), "mlp:0:2": (0.1, 0.6, 0.85)}


def call(name: str, asker: str, purpose: str, tokens: int, **more: Any) -> LlmCallRecord:
    given: dict[str, Any] = {
        "response": {"choices": []}, "asker": asker, "polarity": "+", "prompt_tokens": tokens,
        "completion_tokens": tokens // 10, "cached_tokens": 3 * tokens // 4, "seconds": 0.5, "cost_usd": tokens / 1e6,
    }  # fmt: skip
    return LlmCallRecord(purpose, "tiny-model", name, {}, **{**given, **more})


def score(metric: str, value: float, predictor: str = "marks:tiny", **more: Any) -> ScoreRecord:
    given: dict[str, Any] = {
        "low": value - 0.1, "high": value + 0.1, "n_examples": 500, "n_documents": 40, "null_mean": 0.1,
        "p_value": 0.01,
    }  # fmt: skip
    return ScoreRecord(metric, "score", predictor, f"{metric} {predictor}", value, **{**given, **more})


def result(unit: str) -> InvestigationResult:
    before, after, agreement = FOUND[unit]
    stages = [
        {"stage": 1, "explainer": "pattern", "ran": True, "f1_before": None, "f1_after": before},
        {"stage": 2, "explainer": "quantiles", "ran": after is not None, "f1_before": before,
         "f1_after": before if after is None else after},
    ]  # fmt: skip
    best = before if after is None else after
    scores = (
        score("weighted_f1", best, headline=True),
        score("rule_f1", best - 0.1, "rule"),
        score("rule_agreement", agreement),
        score("detection_balanced_accuracy", 0.8, "judge:tiny", null_mean=0.5, unparseable=0.02),
        score("detection_hard_balanced_accuracy", 0.6, "judge:tiny", null_mean=0.5, p_value=0.2),
        score("r2", 0.4, null_mean=None, p_value=None),
        score("ev_correlation", 0.7),
    )
    return InvestigationResult(
        UnitRecord(unit, density=0.01, n_tokens=1000),
        hypotheses=(HypothesisRecord("+1", "+", "quantiles", "cats", "fires on cats", status="supported"),),
        descriptions=(
            DescriptionRecord(
                "+", "cats", "It fires on cats.", "quantiles", "c1", rule="token in {' cat'}", hypothesis="+1",
                verdict_input="supported", scores=scores, details={"explainer": {"stages": stages}},
            ),
        ),
        cost=Cost(1.5, 4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def llm_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign of three units with a language model, in two stages."""
    path = tmp_path_factory.mktemp("llm") / "ng.db"
    with store.open_database(path) as db:
        subject = store.register_subject(db, SubjectRecord("tiny", "f00d"))
        budget = {"units": 10, "llm_tokens": 5_000_000, "llm_dollars": 20.0}
        campaign = store.create_campaign(
            db, "words", {"explainer": "stages", "subject": "tiny"}, "hash", budget=budget, subject_id=subject
        )
        store.add_investigations(db, campaign.id, subject, UNITS)
        while (job := store.lease_next(db, campaign.id, "me", 60)) is not None:
            calls = [
                call("m1", "marks", "predict", 4_000), call("m2", "marks", "predict", 4_000),
                call("d1", "detection", "detection", 123_456, status="failed", error="invalid answer: no JSON"),
                call("d2", "detection", "detection", 1_000), call("k", "detection", "detection", 9, cached=True),
                call("<b>|evil`", "<b>|evil` \x1b[2J an asker with a very long name", "explain", 10),
            ]  # fmt: skip
            if FOUND[job.unit][1] is not None:
                calls += [call("e1", "quantiles", "explain", 2_000), call("e2", "quantiles", "predict", 1_000)]
            store.record_calls(
                db, [(job.id, replace(one, request_hash=f"{job.id} {one.request_hash}")) for one in calls]
            )
            store.record_opening(db, job, claim="c1", polarity="+", split="score")
            store.finish(db, job, result(job.unit))
        store.close_campaign(db, campaign.id, lambda evidence: store.Judged({}, {}))
    return path


@pytest.fixture
def markdown(llm_db: Path) -> str:
    with store.open_database(llm_db) as db:
        return report_markdown(campaign_report(db, "words"))


def test_a_report_says_what_language_models_cost_and_what_it_bought(llm_db: Path) -> None:
    with store.open_database(llm_db) as db:
        use = campaign_report(db, "words").llm
        total = store.list_campaigns(db)[0]
    assert use is not None
    assert use.total.tokens == total.tokens == sum(part.tokens for part in use.parts)
    assert use.total.calls == total.llm_calls == 3 * 5 + 2 * 2
    assert use.total.dollars == pytest.approx(total.dollars)
    assert use.tokens_per_description == pytest.approx(total.tokens / 3)
    parts = {(part.asker, part.purpose): part for part in use.parts}
    detection = parts["detection", "detection"]
    assert (detection.calls, detection.known, detection.invalid, detection.unanswered) == (6, 3, 3, 0)
    assert parts["quantiles", "explain"].prompt_tokens == 2 * 2_000

    found = use.agreement
    assert found is not None
    assert (found.claims, found.median, found.agreeing) == (3, 0.85, 2)
    assert found.words_f1 == pytest.approx(0.7)
    assert found.rule_f1 == pytest.approx(0.6)
    assert found.tokens == 3 * 2 * 4_400, "of testing these words, and no other calls"

    assert [(one.explainer, one.tails, one.ran) for one in use.stages] == [("pattern", 3, 3), ("quantiles", 3, 2)]
    second = use.stages[1]
    assert second.before == pytest.approx(0.2)
    assert second.after == pytest.approx(0.65)
    assert second.tokens == 2 * 3_300

    rows = {one.metric: one for one in use.diagnostics}
    assert "rule_agreement" not in rows
    assert "weighted_f1" not in rows
    easy, hard = rows["detection_balanced_accuracy"], rows["detection_hard_balanced_accuracy"]
    assert (easy.median, easy.chance, easy.significant) == (0.8, 0.5, 3)
    assert easy.invalid == pytest.approx(0.02)
    assert (hard.significant, hard.published) == (0, easy.published)
    assert rows["r2"].published == "explained variance (Bills et al. 2023)"


def test_the_reports_forms_show_it_within_80_columns(markdown: str, llm_db: Path) -> None:
    section = markdown.partition("## Language models")[2]
    assert max(cell_len(line) for line in markdown.splitlines()) <= 80
    for title in ("### Words and rules", "### Stages", "### Diagnostics"):
        assert title in section
    assert "\x1b" not in markdown
    assert "<b>" not in markdown
    with store.open_database(llm_db) as db:
        html = report_html(campaign_report(db, "words"))
    for told in ("Language models", "quantiles: explain", "detection hard balanced accuracy", "2 quantiles"):
        assert told in html
    assert "<b>" not in html


def test_a_campaign_without_language_models_says_nothing_of_them(example_db: Path) -> None:
    with store.open_database(example_db) as db:
        report = campaign_report(db, "first")
    assert report.llm is None
    assert "Language models" not in report_markdown(report)
    assert "Language models" not in report_html(report)


def test_a_units_page_has_its_cost_and_its_diagnostics(run: Run, llm_db: Path) -> None:
    page = run("show", "mlp:0:1", "--db", llm_db).out
    told = " ".join(page.split())
    assert "7 LLM calls with 149,012 tokens ($0.14)" in told
    assert "put to a judge detection 0.80 (hard 0.60, null 0.50)" in told
    assert "the rule alone F1 0.60, agreement with the words 0.50" in told
    assert max(cell_len(line) for line in page.splitlines()) <= 80


def test_a_campaigns_page_has_tokens_and_dollars_beside_their_limits(run: Run, llm_db: Path) -> None:
    page = run("campaign", "show", "words", "--db", llm_db).out
    told = " ".join(page.split())
    assert "19 LLM calls" in told
    assert "443,736 LLM tokens of 5,000,000" in told
    assert "$0.40 of $20.00" in told
    assert max(cell_len(line) for line in page.splitlines()) <= 80
    value = json.loads(run("campaign", "report", "words", "--db", llm_db, "--json").out)
    assert value["llm"]["total"]["calls"] == 19


def test_large_numbers_and_small_sums_are_short() -> None:
    shown = [thousands(n) for n in (0, 9_994, 12_345, 999_499, 999_600, 4_560_000, 123_456_789, 2_000_000_000)]
    assert shown == ["0", "9,994", "12.3k", "999k", "1M", "4.56M", "123M", "2G"]
    assert [money(x) for x in (None, 0, 0.0042, 1.5, 1234.5)] == ["–", "$0.00", "$0.0042", "$1.50", "$1,234.50"]
