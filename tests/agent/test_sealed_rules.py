"""What keeps sealed data away from explainers beside the views: imports, hooks, and by what a claim is known."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.claims import claim_digest
from explainers.types import Explanation
from tools.errors import UnitError
from tools.subject import load_subject
from tools.types import Site, UnitId
from tools.unhooked import unhooked

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = UnitId("head:1", 0)
CLAIM = Explanation("made", "short", "fires on x", None, "rule v1", None, {"roles": [{"name": "previous"}], "f1": 0.5})


@pytest.mark.parametrize("path", sorted((ROOT / "explainers").rglob("*.py")), ids=lambda path: path.stem)
def test_explainers_have_no_other_way_to_text_than_their_evidence(path: Path) -> None:
    """A corpus or an index that an explainer could open by itself would be one without splits."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert not {name for name in named if name.startswith(("tools.index", "tools.corpora", "store"))}


def test_hooks_of_others_neither_hear_nor_change_what_runs_unhooked(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    heard: list[str] = []
    blocks = list(subject.sites.blocks)
    before = blocks[0].register_forward_pre_hook(lambda *_: heard.append("before"))
    after = blocks[1].register_forward_hook(lambda _, _i, output: heard.append("after"))
    subject.model.register_forward_pre_hook(lambda *_: heard.append("model"))
    site = Site(2, "resid_post")

    def run() -> torch.Tensor:
        return subject.capture(torch.arange(1, 9)[None], None, [site])[site]

    plain = run()
    assert heard == ["model", "before", "after"]
    with unhooked(subject):
        assert torch.equal(run(), plain)
        assert len(heard) == 3
    with pytest.raises(UnitError), unhooked(subject):
        subject.plan(99)  # whatever happens within, they come back
    run()
    assert heard == 2 * ["model", "before", "after"]
    before.remove()
    after.remove()
    run()
    assert heard[6:] == ["model"]


def test_claim_that_says_or_is_tested_on_anything_else_is_another_claim() -> None:
    class Predicting:
        name = "predicting"

        def explain(self, evidence: Any, recorder: Any) -> list[Explanation]:
            raise NotImplementedError

        def predictor(self, explanation: Explanation) -> None:
            return None

    def digest(claim: Explanation = CLAIM, explainer: Any = None, threshold: float = 0.5) -> str:
        return claim_digest(UNIT, "+", threshold, claim, explainer)

    changed = [
        *(replace(CLAIM, **{name: "other"}) for name in ("label", "input_half", "output_half", "rule", "exceptions")),
        replace(CLAIM, details={"roles": [{"name": "induction"}], "f1": 0.5}),
        replace(CLAIM, details={}),
    ]
    digests = [digest(), digest(threshold=0.6), *map(digest, changed)]
    assert len(set(digests)) == len(digests)
    # How well it did on refine is no part of what it says, unless its predictions are made of it.
    better = replace(CLAIM, details={**CLAIM.details, "f1": 0.6})
    assert digest(better) == digest()
    assert digest(better, Predicting()) != digest(CLAIM, Predicting())
