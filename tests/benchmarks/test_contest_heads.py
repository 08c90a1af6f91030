"""The benchmark of heads' roles: what counts as right, and that its truth is true of the subject."""

from __future__ import annotations

import pytest

from benchmarks.contest.heads import ARMS, TRUTH, Found, is_right, render, right
from explainers.pattern.heads import Role
from tools.edge_kinds import EdgeKind, edge_masses
from tools.planted import build, documents, load_truth, planted_spec
from tools.subject import load_subject
from tools.types import UnitId

PAIR = EdgeKind("tokens", queries=(" to", " for"), keys=(" Anna", " Ben", " Clara"))


@pytest.mark.parametrize(
    ("role", "truth", "expected"),
    [
        (Role("previous", 0.9, 0.1), EdgeKind("previous"), True),
        (Role("first", 0.9, 0.1), EdgeKind("previous"), False),
        (Role("offset", 0.9, 0.1, offset=3), EdgeKind("offset", 2), False),
        (Role("tokens", 0.9, 0.1, 0, (" for", " to"), (" Ben",)), PAIR, True),
        (Role("tokens", 0.9, 0.1, 0, (" to",), (" Ben",)), PAIR, False),
        (Role("tokens", 0.9, 0.1, 0, (" for", " to"), (" Ben", " dog")), PAIR, False),
    ],
)
def test_what_counts_as_right(role: Role, truth: EdgeKind, expected: bool) -> None:
    assert is_right(role, truth) == expected


def test_the_table_counts_roles_and_wrong_ones_that_were_supported() -> None:
    rows = [
        Found("planted", "head:2:0", ARMS[0], "tokens", True, True, "supported", 9),
        Found("planted", "head:2:0", ARMS[1], "first", False, True, "supported", 0),
        Found("planted", "head:0:1", ARMS[1], "2 back*", True, False, "supported", 0),
        Found("planted", "head:2:1", ARMS[0], "none", None, False, "refuted", 4),
    ]
    assert (right(rows, ARMS[0]), right(rows, ARMS[1])) == (1, 1)
    text = render(rows)
    assert "contest: 1 of 1 right, 1 of them tested and supported, and 0 wrong ones;" in text
    assert "texts alone: 1 of 2 right, 0 of them tested and supported, and 1 wrong ones;" in text
    assert "0 of 1 random heads have a role; 13 forward passes of trials" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.slow
def test_its_truth_is_true_of_the_subject() -> None:
    """Where a planted head writes by its truth, it attends as the benchmark has it."""
    name = "planted:seed=1"
    subject, truths = load_subject(name, device="cpu"), load_truth(build(planted_spec(name)))
    texts = [subject.encode(one.text)[:64] for one in documents(planted_spec(name), n=200)]
    for unit, kind in TRUTH.items():
        truth = truths[f"{unit}+"]
        found = edge_masses(subject, UnitId.parse(unit), texts, kind, 0.5 * truth.level)
        assert len(found.uniform) > 20, unit
        assert float(found.mass[UnitId.parse(unit).index].mean()) > 0.95, unit
