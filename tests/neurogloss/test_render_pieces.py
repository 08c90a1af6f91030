"""Pieces of the terminal output: safe text, highlighted tokens, histograms, progress lines, JSON."""

from __future__ import annotations

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from neurogloss.render import text as t
from neurogloss.render.console import has_colour, make_console, print_json, print_to, to_plain
from neurogloss.render.histogram import histogram
from neurogloss.render.progress import PlainDisplay, Stage
from neurogloss.render.tokens import heat_text, intensity, keyword_line

HOSTILE = ["[red]", "\x1b[2J", "\x9b31m", "\u202e", "\r", "\x07", "\u200b", "a\nb", "\t", "\ud800", "日本", "[/]"]


def printed(renderable: object, width: int = 80) -> str:
    stream = io.StringIO()
    console = make_console(stream)
    console.width = width
    print_to(console, renderable)  # type: ignore[arg-type]
    return stream.getvalue()


def test_white_space_and_control_characters_are_shown() -> None:
    assert t.visible(" a\n\tb\x1b\x7f") == "·a⏎⇥b␛␡"
    assert t.visible("\x9b") == "\\x9b"
    assert t.visible("\u202e\u200b") == "\\u202e\\u200b"
    assert t.clean("two\n\nlines \x1b[2J") == "two lines ␛[2J"


@given(st.text(max_size=40))
def test_visible_text_can_be_printed_whatever_it_was(text: str) -> None:
    shown = t.visible(text)
    assert all(c.isprintable() for c in shown)
    shown.encode("utf-8")
    assert " " not in shown


@given(st.text(max_size=40), st.integers(1, 30))
def test_fit_never_takes_more_cells_than_given(text: str, width: int) -> None:
    assert cell_len(t.fit(t.visible(text), width)) <= max(width, 1)


def test_numbers_are_short() -> None:
    assert [t.number(x) for x in (None, math.nan, 0.0, 1.23456, -0.00012, 123456.7, 1e9)] == [
        "–", "–", "0", "1.23", "-1.2e-4", "123457", "1.0e9"
    ]  # fmt: skip
    assert t.interval(0.714, 0.64, 0.778) == "0.71 [0.64, 0.78]"
    assert t.interval(None, None, None) == "–"
    assert [t.duration(s) for s in (None, 4.21, 59.7, 200)] == ["–", "4.2 s", "1 min 00 s", "3 min 20 s"]
    assert t.duration(7500) == "2 h 05 min"
    assert [t.share(x) for x in (0.0, 0.5, 0.0123, 0.00004)] == ["0 %", "50 %", "1.2 %", "0.004 %"]
    assert t.count(1234567) == "1,234,567"


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("peak", [0, 5, 11])
def test_examples_fit_their_width_and_keep_the_peak_at_one_column(peak: int, colour: bool) -> None:
    values = [float(i) for i in range(len(HOSTILE))]
    for width in (20, 40, 70):
        line = keyword_line(HOSTILE, values, peak, width=width, colour=colour)
        assert line.cell_len <= width
        assert "\x1b" not in line.plain
        if peak == 0:
            assert cell_len(line.plain) - cell_len(line.plain.lstrip()) == width * 5 // 8


def test_peak_is_marked_where_there_is_no_colour() -> None:
    line = keyword_line([" the", " cat", " sat"], [0.6, 0.1, 1.0], 2, width=60, colour=False)
    assert "‹·the›·cat«·sat»" in line.plain
    run = keyword_line(["a", "b", "c", "d", "e"], [0.1, 0.9, 0.8, 1.0, 0.7], 3, width=60, colour=False)
    assert "a‹bc›«d»‹e›" in run.plain
    negative = keyword_line(["a", "b"], [5.0, -1.0], 1, width=40, sign=-1, colour=False)
    assert "a«b»" in negative.plain


def test_intensity_grows_with_the_activation_and_tells_signs_apart() -> None:
    steps = [intensity(x / 8, 1.0).bgcolor for x in range(9)]
    assert steps[0] is None
    assert len({str(s) for s in steps}) == 5
    assert intensity(-1.0, 1.0).bgcolor != intensity(1.0, 1.0).bgcolor
    assert intensity(1.0, 0.0).bgcolor is None


def test_token_text_is_neither_markup_nor_a_terminal_sequence() -> None:
    shown = printed(heat_text(HOSTILE, [1.0] * len(HOSTILE), colour=False))
    assert "[red]" in shown
    assert "[/]" in shown
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    assert "\x9b" not in shown


def test_histogram_shows_rare_bins_and_both_ends() -> None:
    edges = [x / 10 for x in range(-10, 41)]
    counts = [100_000 if i == 10 else 0 for i in range(49)] + [1]
    drawn = histogram(edges, counts, width=50, threshold=2.0, colour=False).plain.splitlines()
    assert len(drawn) == 4
    assert drawn[0][10] == "█"
    assert drawn[2].rstrip()[-1] != " "
    assert drawn[2][20] == " "
    assert drawn[3].startswith("-1")
    assert drawn[3].endswith("4")
    assert drawn[3].index("▲") == 30
    assert all(cell_len(line) <= 50 for line in drawn)


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=80),
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.booleans(),
    st.one_of(st.none(), st.floats(-1e6, 1e6)),
)
def test_histogram_of_anything_fits(
    counts: list[int], low: float, span: float, outside: bool, threshold: float | None
) -> None:
    n = len(counts)
    edges = [low + span * i / n for i in range(n + 1)]
    if outside:
        edges[0], edges[-1] = -math.inf, math.inf
    drawn = histogram(edges, counts, width=60, threshold=threshold).plain
    assert all(cell_len(line) <= 60 for line in drawn.splitlines())


def test_histogram_takes_edges_without_the_outer_ones() -> None:
    inner = histogram([0.0, 1.0, 2.0], [5, 1, 1, 7], width=30).plain
    assert inner == histogram([0.0, 1.0, 2.0], [6, 8], width=30).plain


def test_json_holds_no_raw_control_characters_and_no_nan() -> None:
    stream = io.StringIO()
    print_json({"tokens": HOSTILE, "nan": math.nan, "inf": [math.inf, 1.5]}, stream)
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()
    assert json.loads(stream.getvalue()) == {"tokens": HOSTILE, "nan": None, "inf": [None, 1.5]}
    with pytest.raises(TypeError):
        to_plain(object())


def test_a_stream_that_is_no_terminal_gets_80_columns_and_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console = make_console(io.StringIO())
    assert console.width == 80
    assert not has_colour(console)


def test_plain_progress_speaks_at_intervals_and_at_the_ends() -> None:
    stream, now = io.StringIO(), [0.0]
    display = PlainDisplay(make_console(stream), clock=lambda: now[0])
    for second in range(101):
        now[0] = float(second)
        display.stage(Stage("Indexing", second * 10, 1000, "tokens", 10.0, 100.0 - second))
    display.say(Text("done"))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("Indexing: 0/1,000 tokens, 10/s")
    assert lines[-2].startswith("Indexing: 1,000/1,000 tokens")
    assert 5 <= len(lines) <= 10
