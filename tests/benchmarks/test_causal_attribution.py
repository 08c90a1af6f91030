"""The benchmark of token attribution: its truth and its figures, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.causal.attribution import causes_of, hits, table
from tools.attribution import Attribution, TokenTarget
from tools.planted.predicates import All, Before, TokenIn
from tools.planted.truth import Case, UnitTruth
from tools.subject import load_subject


def attribution(scores: list[float], value: float = 1.0) -> Attribution:
    names = tuple("abcd"[: len(scores)])
    return Attribution("input", "ig", TokenTarget(1), ("", *names), names, np.array(scores), value,
                       positions=tuple(range(1, len(scores) + 1)))  # fmt: skip


def test_average_precision_and_first_are_those_counted_by_hand() -> None:
    causes = np.array([False, True, False, True, False])
    found = hits(attribution([0.1, 0.9, 0.5, 0.2]), causes)
    # In order: b (no), c (yes), d (no), a (yes): precisions 1/2 and 2/4.
    assert found == {"ap": pytest.approx(0.5), "top1": 0.0, "chance": 0.5}
    assert hits(attribution([-0.9, 0.1, -0.8, 0.2], -1.0), causes)["ap"] == 1.0
    tied = hits(attribution([1.0, 1.0, 0.0, 0.0]), causes)
    assert 0.5 < tied["ap"] < 1.0


def test_causes_are_the_tokens_that_the_predicate_looks_at(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    ids = subject.encode("Ann saw the red ball")
    pieces = subject.pieces(ids)
    rule = All((Before(2, (pieces[-3],)), TokenIn((pieces[-1],))))
    truth = UnitTruth("mlp:0:0", "+", "bigram", (Case(rule, 6.0),), 0.0, 1.0)
    causes = causes_of(subject, truth, ids, list(range(2, 400)))
    assert np.flatnonzero(causes).tolist() == [len(ids) - 3, len(ids) - 1]


def test_the_table_has_a_line_for_each_family_and_method() -> None:
    row = {"family": "token set", "method": "ig", "ap": 0.5, "top1": 1.0, "chance": 0.1, "seconds": 1.0,
           "insertion": 0.9, "deletion": 0.1, "random_insertion": 0.5, "random_deletion": 0.5}  # fmt: skip
    told = table([dict(row), {**row, "family": "bigram", "ap": 0.25, "top1": 0.0}])
    lines = [line.split() for line in told.splitlines()]
    assert ["token", "set", "1", "0.10", "–", "–", "0.50", "–", "–", "–"] in lines
    assert ["bigram", "1", "0.10", "–", "–", "0.00", "–", "–", "–"] in lines
    assert max(map(len, told.splitlines())) <= 80
