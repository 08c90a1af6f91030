"""The tool `edges` reads what the model's own pattern says, and tells what is wrong with its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.toolbox import Workbench, call
from tools.heads import pattern
from tools.subject import load_subject
from tools.types import UnitId


def test_it_reads_the_heads_own_weights_and_runs_each_text_once(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    texts = ["one two three four five six", "a b c d"]
    asked = {"unit": "head:1:2", "texts": [texts[0], texts[1], texts[0]], "positions": [4, 2, 3],
             "sources": [[1, 2], [0], [3]]}  # fmt: skip
    with Workbench.open(subject) as bench:
        found = call(bench, "edges", asked)
    assert found.error is None
    patterns = [pattern(subject, UnitId.parse("head:1:2"), subject.encode(text)) for text in texts]
    expected = [patterns[0][4, 1] + patterns[0][4, 2], patterns[1][2, 0], patterns[0][3, 3]]
    assert found.data["values"] == pytest.approx(expected, rel=1e-3)
    assert found.cost.forward_passes == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"unit": "mlp:1:2"}, "not an attention head"),
        ({"sources": [[900]]}, "an edge from 1 to \\[900\\] is not in it"),
        ({"sources": [[1], [2]]}, "give one of each for each"),
        ({"sources": [[]]}, "do not fit"),
    ],
)
def test_what_cannot_be_read_is_told(tiny_gpt2_folder: Path, changed: dict[str, object], told: str) -> None:
    import re

    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    with Workbench.open(subject) as bench:
        found = call(bench, "edges", {"unit": "head:0:0", "texts": ["a b c"], "positions": [1], "sources": [[0]],
                                      **changed})  # fmt: skip
    assert found.error is not None
    assert re.search(told, found.error), found.error
