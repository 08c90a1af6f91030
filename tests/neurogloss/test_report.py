"""``neurogloss campaign report``: what it prints and writes, and that no token text breaks out of it."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from agent.reporting import CampaignReport, build_report
from agent.reporting.evidence import Claim, Evidence, Head, Job, Rivals
from neurogloss.render.report_html import report_html
from neurogloss.render.report_markdown import escape, report_markdown

Run = Callable[..., Any]

HOSTILE = (
    "<script>alert(1)</script> | `code` **bold** _em_ [a](http://evil.example) ![i](x) \x1b[2J \u202e "
    "&amp; www.evil.example a@b.example \\ # $x$ ~~s~~ \x07\r\n* item\n<img src=x onerror=alert(1)> ``` </svg></style>"
)


PREDICTED = {
    "sealed": {"f1": {"foretold": 0.8, "low": 0.7, "high": 0.9, "value": 0.75, "held": True}},
    "effect": {"foretold": 0.8, "low": 0.7, "high": 0.9, "value": 0.5, "held": False},
    "probes": [
        {"kind": kind, "probability": p, "says": p > 0.5, "active": on}
        for kind, p, on in (("fresh", 0.9, True), ("fresh", 0.8, True), ("random", 0.1, False), (HOSTILE, 0.4, True))
    ],
}  # fmt: skip


def hostile_report() -> CampaignReport:
    """A red report with hostile text wherever text comes from outside."""
    claims, jobs = [], []
    for i in range(30):
        control = None if i < 20 else ("swapped" if i % 2 else "<b>|$x$")
        unit = f"mlp:0:{i}" if i % 5 else f"dir:{HOSTILE}{i}"
        claims.append(
            Claim(
                unit=unit, polarity="+", label=HOSTILE, verdict="supported", control=control,
                value=0.9 - 0.02 * i, low=0.5, high=1.0, null=0.1, p=0.01 * i, q=0.01, complete=True, unparseable=0.0,
                refine=0.8, openings=1,
            )
        )  # fmt: skip
        jobs.append(Job(unit, "done", control, seconds=1.0))
    jobs += [Job(f"mlp:1:{i}", status, reason=HOSTILE) for i in range(12) for status in ("failed", "skipped")]
    head = Head(HOSTILE, "open", HOSTILE, HOSTILE, HOSTILE, HOSTILE, "bh", "hash", 0.05, pending=3)
    rivals = [Rivals(f"mlp:0:{i}+", HOSTILE, 0.6, [(HOSTILE, 0.4)]) for i in range(3)]
    return build_report(Evidence(head, claims, jobs, {"seconds": 30.0}, predictions=[PREDICTED] * 3, rivals=rivals))


@pytest.fixture(scope="module")
def hostile() -> CampaignReport:
    return hostile_report()


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_holds_hostile_text_as_text(hostile: CampaignReport) -> None:
    page = Page(report_html(hostile))
    assert not page.tags & {"script", "img", "iframe", "object", "link", "base", "form"}
    assert not [one for one in page.attributes if one[1].startswith("on")]
    told = "".join(page.text)
    assert "<script>alert(1)</script>" in told
    assert "<img src=x onerror=alert(1)>" in told
    assert "␛[2J" in told
    assert "\\u202e" in told
    assert all(c in "\n\t" or c.isprintable() or c.isspace() for c in told)


def test_html_loads_nothing(hostile: CampaignReport) -> None:
    text = report_html(hostile)
    page = Page(text)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert value.startswith(("#", "data:image/png")), (tag, name, value)
        if name == "style" or "url(" in value:
            assert value.count("url(") == value.count("url(#"), value
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert text.count("<svg") == 4
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in page.attributes if name == "xlink:href" and value[0] == "#"} <= set(ids)


def test_the_same_report_gives_the_same_page(hostile: CampaignReport) -> None:
    assert report_html(hostile) == report_html(hostile_report())


def test_plots_leave_the_settings_of_matplotlib_alone(hostile: CampaignReport) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    report_html(hostile)
    assert dict(mpl.rcParams) == before


def test_markdown_fits_80_columns_and_sends_nothing_to_a_terminal(hostile: CampaignReport) -> None:
    text = report_markdown(hostile)
    assert not [line for line in text.splitlines() if cell_len(line) > 80]
    assert all(c == "\n" or c.isprintable() for c in text)


def test_markdown_gives_no_meaning_to_hostile_text(hostile: CampaignReport) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(report_markdown(hostile))
    inline = [child for token in tokens for child in token.children or []]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_inline", "em_open", "s_open"}
    # Bold is ours: names of facts and checks, scores.
    text = "".join(token.content if token.type == "text" else " " for token in inline)
    assert "<script>alert(1)</script> | `code` **bold** _em_ [a](http://evil.example)" in " ".join(text.split())
    assert [token.info for token in tokens if token.type == "fence"] == ["text"]


def test_no_table_cell_of_the_markdown_spills_over(hostile: CampaignReport) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(report_markdown(hostile))
    assert sum(token.type == "table_open" for token in tokens) == 10
    # A row with too many cells loses some in the parser, so the source's own bars are counted too.
    rows = [line for line in report_markdown(hostile).splitlines() if line.startswith("| ")]
    assert sum(token.type == "tr_open" for token in tokens) + 10 == len(rows)
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    assert set(bars) == {3, 4, 5, 6, 7, 12}


def test_escaping_never_cuts_an_escape_in_two() -> None:
    for width in range(2, 60):
        cut = escape("a|b<c>&`*`" * 4, width)
        assert cell_len(cut) <= width
        assert not cut.removesuffix("…").endswith("\\") or cut.removesuffix("…").endswith("\\")
        assert cut.count("&") == cut.count(";")
    assert escape("plain words") == "plain words"


def test_report_of_a_campaign_in_the_database(run: Run, example_db: Path) -> None:
    answer = run("campaign", "report", "first", "--db", example_db)
    assert answer.code == 0, answer.err
    assert answer.err == ""
    assert not [line for line in answer.out.splitlines() if cell_len(line) > 80]
    assert all(c == "\n" or c.isprintable() for c in answer.out)
    for part in (
        "# Campaign first: red", "**subject**: tiny", "**corpus**: tiny.jsonl", "1 failed", "1 pending", "no controls",
        "the campaign is open, 1 units to go", "never active on 10 000 tokens", "head:0:3+ **0.55 [0.47, 0.61]**",
        "ValueError in step 'propose'", "## Cost",
    ):  # fmt: skip
        assert part in answer.out, part


def test_report_in_json(run: Run, example_db: Path) -> None:
    answer = run("campaign", "report", "first", "--db", example_db, "--json")
    assert answer.out.isascii()
    told = json.loads(answer.out)
    assert told["version"] == 1
    assert told["colour"] == "red"
    assert told["counts"]["units"] == {"done": 4, "failed": 1, "pending": 1, "skipped": 1}
    # Four units were described, one of them on both sides.
    assert [one["tested"] for one in told["claims"]] == [True] * 5
    # The parts of every cost are in its total, and what the claims share is what their units used.
    total, parts = told["cost"]["total"], told["cost"]["parts"]
    assert total["seconds"] == sum(part["seconds"] for part in parts)
    described = next(part for part in parts if part["part"] == "described")
    assert sum(one["seconds"] for one in told["claims"] if one["tested"]) == pytest.approx(described["seconds"])
    assert answer == run("campaign", "report", "first", "--db", example_db, "--format", "json")


@pytest.mark.parametrize(("name", "begins"), [("r.md", "# Campaign"), ("r.html", "<!doctype html>"), ("r.json", "{")])
def test_a_file_is_written_in_the_format_of_its_ending(
    run: Run, example_db: Path, tmp_path: Path, name: str, begins: str
) -> None:
    out = tmp_path / name
    out.write_text("an older report")
    answer = run("campaign", "report", "first", "--db", example_db, "--out", out)
    assert answer.code == 0, answer.err
    assert answer.out == ""
    assert "Campaign first is red" in answer.err
    assert out.read_text(encoding="utf-8").lstrip().startswith(begins)
    assert stat.S_IMODE(out.stat().st_mode) & 0o400
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == [name]


def test_format_wins_over_the_ending(run: Run, example_db: Path, tmp_path: Path) -> None:
    assert (
        run("campaign", "report", "first", "--db", example_db, "--out", tmp_path / "r.txt", "--format", "md").code == 0
    )
    assert (tmp_path / "r.txt").read_text(encoding="utf-8").startswith("# Campaign")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["second"], ["'second'", "first"]),
        (["first", "--format", "pdf"], ["pdf", "md, html, json"]),
        (["first", "--out", "report.txt"], ["report.txt", "--format"]),
        (["first", "--out", "no-such-folder/report.md"], ["no-such-folder"]),
        (["first", "--out", ".", "--format", "md"], ["folder"]),
    ],
    ids=str,
)
def test_what_cannot_be_reported_is_said_in_a_line(
    run: Run, example_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("campaign", "report", *args, "--db", example_db)
    assert answer.code == 2
    assert answer.out == ""
    assert 1 <= len(answer.err.splitlines()) <= 3
    for word in words:
        assert word in answer.err
