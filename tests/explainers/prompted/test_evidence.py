from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from explainers.prompted.contrasts import QUIET, co_active, same_tokens
from explainers.prompted.evidence import (
    MOST_CHARACTERS,
    Excerpt,
    Panel,
    _at_quantiles,
    line,
    over_the_tail,
    scale_of,
    strongest,
)
from explainers.prompted.quantiles import mixed
from explainers.types import Evidence

EvidenceOf = Callable[..., Evidence]


def graded(pieces: Sequence[str], at: int) -> float:
    """Strength by the length of the noun after 'the', negative after 'a'."""
    sign = {" the": 1.0, " a": -1.0}.get(pieces[at - 1], 0.0)
    return sign * len(pieces[at]) / 2


def test_the_strongest_come_first_and_the_negative_tail_is_shown_by_its_size(evidence_of: EvidenceOf) -> None:
    for polarity, before in (("+", " the"), ("-", " a")):
        shown = strongest(evidence_of(graded, polarity=polarity), 10)
        assert [e.strength for e in shown] == sorted((e.strength for e in shown), reverse=True)
        assert len({e.context for e in shown}) == 10
        for e in shown:
            assert e.pieces[e.peak - 1] == before
            assert e.strength == len(e.pieces[e.peak]) / 2
            assert min(e.magnitudes) >= 0


def test_excerpts_are_cut_out_of_their_context_and_hold_its_activations(evidence_of: EvidenceOf) -> None:
    evidence = evidence_of(graded)
    panel = Panel(evidence)
    for row in (0, 20, 47, 60, len(panel.contexts) - 1):
        excerpt = panel.excerpt(row, 24)
        pieces = evidence.explore.texts.pieces(excerpt.context)
        context, start, stop = excerpt.place
        assert (context, start + excerpt.peak) == (panel.contexts[row], panel.positions[row])
        assert start >= 1
        assert stop - start == 24
        assert excerpt.pieces == tuple(pieces[start:stop])
        np.testing.assert_allclose(excerpt.magnitudes, [max(0.0, graded(pieces, p)) for p in range(start, stop)])


def test_the_tail_is_shown_at_the_quantiles_of_its_distribution(evidence_of: EvidenceOf) -> None:
    evidence = evidence_of(graded)
    panel = Panel(evidence)
    peaks = panel.magnitudes[panel.peaks(evidence.threshold)]
    shown = [e.strength for e in over_the_tail(evidence, 10)]
    assert shown == sorted(shown, reverse=True)
    expected = np.quantile(peaks, (np.arange(10) + 0.5) / 10)[::-1]
    assert np.abs(np.array(shown) - expected).max() <= 0.5  # strengths are 0.5 apart


def test_each_block_gives_one_peak(evidence_of: EvidenceOf) -> None:
    evidence = evidence_of(graded)
    panel = Panel(evidence)
    rows = panel.peaks(evidence.threshold, 16)
    blocks = list(zip(panel.contexts[rows].tolist(), (panel.positions[rows] // 16).tolist(), strict=True))
    assert len(set(blocks)) == len(blocks)
    every = {
        (int(c), int(p) // 16)
        for c, p, m in zip(panel.contexts, panel.positions, panel.magnitudes, strict=True)
        if m > evidence.threshold
    }
    assert set(blocks) == every
    assert np.all(np.diff(panel.magnitudes[rows]) >= 0)


def test_no_text_is_shown_twice(evidence_of: EvidenceOf) -> None:
    evidence = evidence_of(graded)
    shown = mixed(evidence, 8, 12, 24)
    assert len(shown) == 20
    assert len({e.pieces for e in shown}) == 20
    assert mixed(evidence, 8, 12, 24) == shown
    same = [["<s>", *[" the", " stone"] * 12]] * 30
    assert len(mixed(evidence_of(graded, contexts=same), 8, 12, 24)) <= 3


@pytest.mark.parametrize(
    ("weights", "n", "expected"),
    [
        ([1, 1, 1, 1], 4, [0, 1, 2, 3]),
        ([1, 1], 5, [0, 1]),
        ([1, 1, 1, 1, 1, 1], 3, [0, 2, 4]),
        ([97, 1, 1, 1], 2, [0, 1]),
        ([1, 1, 1, 97], 3, [1, 2, 3]),
        ([], 3, []),
    ],
)
def test_heavy_ones_cover_several_quantiles(weights: list[float], n: int, expected: list[int]) -> None:
    assert _at_quantiles(weights, n) == expected


def test_a_unit_below_its_threshold_is_shown_where_it_is_above_zero(evidence_of: EvidenceOf) -> None:
    shown = strongest(evidence_of(graded, threshold=100.0), 5)
    assert [e.strength for e in shown] == [3.5] * 5
    written = line(shown[0], scale_of(shown), 100.0)
    assert "« garden»" in written.text
    assert written.levels == "« garden»=10"
    assert strongest(evidence_of(lambda pieces, at: 0.0), 5) == []


def test_active_tokens_are_marked_and_given_levels() -> None:
    excerpt = Excerpt(0, 1, 2, (" of", "«x»", " the", "\n", "!"), (0.1, 0.6, 2.0, 1.1, 0.0))
    written = line(excerpt, 2.0, 0.5)
    assert written.text == " of«‹x› the⏎»!"
    assert written.levels == "«‹x›»=3, « the»=10, «⏎»=6"
    assert [piece for piece, _ in written.tokens] == [" of", "‹x›", " the", "⏎", "!"]


def test_long_texts_are_cut_around_their_peak() -> None:
    pieces = tuple(f" {'x' * 40}{i}" for i in range(24))
    excerpt = Excerpt(0, 5, 16, pieces, tuple(float(i == 16) for i in range(24)))
    written = line(excerpt, 1.0, 0.5)
    assert len(written.text) <= MOST_CHARACTERS + 2
    assert f"« {'x' * 40}16»" in written.text
    assert written.text.index("«") > len(written.text) / 3


def bank(pieces: Sequence[str], at: int) -> float:
    return float(pieces[at] == " bank" and pieces[at - 1] == " the")


def test_look_alikes_have_the_tokens_and_leave_the_unit_silent(evidence_of: EvidenceOf) -> None:
    evidence = evidence_of(bank)
    found = same_tokens(evidence, Panel(evidence), strongest(evidence, 8), 6)
    assert len(found) == 6
    assert len({e.context for e in found}) == 6
    for e in found:
        assert e.pieces[e.peak] == " bank"
        assert e.pieces[e.peak - 1] != " the"
        assert e.strongest <= QUIET * evidence.threshold
    assert found == same_tokens(evidence, Panel(evidence), strongest(evidence, 8), 6)


def test_units_that_fire_along_give_silent_texts_on_which_they_are_strong(evidence_of: EvidenceOf) -> None:
    def along(pieces: Sequence[str], at: int) -> float:
        return 2.0 * (pieces[at] in (" bank", " money"))

    def elsewhere(pieces: Sequence[str], at: int) -> float:
        return float(pieces[at] == " saw")

    evidence = evidence_of(bank, along)
    found = co_active(evidence, Panel(evidence), 5)
    assert len(found) == 5
    assert all(along(e.pieces, e.peak) for e in found)
    assert all(e.strongest == 0.0 for e in found)
    both = co_active(evidence_of(bank, elsewhere, along), Panel(evidence), 4)
    assert along(both[0].pieces, both[0].peak)  # the nearer neighbour has the first turn
    assert co_active(evidence_of(bank), Panel(evidence), 5) == []
