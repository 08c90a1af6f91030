"""The benchmark of patching measures the same thing three ways, and finds the circuits that were planted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.causal import __main__ as command
from benchmarks.causal.speed import measure, pairs_of
from tools.subject import load_subject


@pytest.mark.slow
def test_all_ways_find_the_same_and_are_timed(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    pairs = pairs_of(subject, 2, 6, 3)
    assert [pair.first for pair in pairs] == [3, 3]
    found = measure(subject, pairs, repeats=1)
    assert found.patches == 3 * 5 * 4 * 2
    assert found.error < 1e-4
    assert found.batched > 0
    assert found.looped > 0


@pytest.mark.slow
def test_the_planted_circuits_are_found_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "causal.json"
    monkeypatch.setattr(
        sys, "argv", ["causal", "--skip-speed", "--figures", str(tmp_path / "figures"), "--json", str(kept)]
    )
    assert command.main() == 0
    found = {(one["model"], one["task"]): one for one in json.loads(kept.read_text())["circuits"]}
    assert [n["name"] for n in found["planted", "ioi"]["nodes"]] == ["head:0:3", "head:1:2", "head:2:0"]
    assert [n["name"] for n in found["planted", "induction"]["nodes"]] == ["head:0:0", "head:1:0"]
    assert found["pycode", "induction"]["criteria"]["faithfulness"] > 0.85
    assert len(list((tmp_path / "figures").glob("*.png"))) == 3
