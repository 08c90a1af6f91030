"""What a language model is shown of a measured effect, and the claim that is read off its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from explainers.llm.kit import LlmKit
from explainers.output.claim import OutputClaim, claim_in
from explainers.output.reading import named_claim
from explainers.registry import get
from explainers.types import Evidence, Explanation, NullRecorder
from tests.explainers.prompted.conftest import Says
from tools.effects import Effects, Measured, Off, Places, Tokens
from tools.types import FloatArray, Site

EvidenceOf = Callable[..., Evidence]
N, V = 12, 30
PIECES = {3: " meow", 7: " purr\n", 9: ' "bark"'}


def measured(sizes: dict[int, float], kl: float = 0.02) -> Measured:
    change: FloatArray = np.zeros((N, V), np.float32)
    for token, size in sizes.items():
        change[:, token] = size
    ids = sorted(sizes, key=lambda token: -sizes[token])
    effects = Effects(change, np.full(N, kl, np.float32), np.full((N, 4), 1e-5, np.float32), np.zeros(N, np.float32),
                      np.ones(N, np.float32), Site(0, "mlp_out"))  # fmt: skip
    signs = np.sign([sizes[token] for token in ids]).astype(np.float32)
    return Measured(
        Places(((0, 1),) * N, np.ones(N, np.int64), np.ones(N, np.float32), np.arange(N)),
        Off("zero", np.zeros(0, np.float32)), effects, Tokens(np.array(ids, np.int64), signs),
        tuple(PIECES[token] for token in ids), np.array([sizes[token] for token in ids], np.float32),
        np.linspace(0, 2, 5, dtype=np.float32), np.tile(np.linspace(0, 0.5, 5, dtype=np.float32), (2, 1)),
    )  # fmt: skip


FOUND = measured({3: 0.6, 7: 0.5, 9: -0.4})


def cat(pieces: Any, position: int) -> float:
    return 2.0 if pieces[position] == " cat" else 0.0


def explained(name: str, kit: LlmKit, evidence: Evidence) -> tuple[Explanation, OutputClaim]:
    (found,) = get(name, kit=kit).explain(evidence, NullRecorder())
    claim = claim_in(found.details)
    assert claim is not None
    return found, claim


@pytest.mark.parametrize("name", ["output", "input-output"])
def test_what_was_measured_is_shown_and_named_tokens_become_the_claim(
    name: str, kit: LlmKit, says: Says, evidence_of: EvidenceOf
) -> None:
    assert isinstance(says.answer, dict)
    says.answer |= {"does_when_on": "Makes it purr.", "effect": "changes", "raises": [" meow", " purr⏎"], "lowers": []}
    found, claim = explained(name, kit, evidence_of(cat, output=FOUND))
    assert 'raised in all texts alike (logits): " meow" +0.60, " purr⏎" +0.50' in says.user
    assert 'lowered in all texts alike (logits): " \\"bark\\"" -0.40' in says.user
    assert "0.00, 0.12, 0.25, 0.38, 0.50" in says.user
    assert "changes by 0.02 nats, those of the tokens after it by 1e-05" in says.user
    assert claim.kind == "changes"
    assert [(token.id, token.piece, token.size) for token in claim.raised] == [(3, " meow", 0.6), (7, " purr\n", 0.5)]
    assert claim.lowered == ()
    assert claim.basis["kl"] == pytest.approx(0.02)
    assert found.output_half == "Makes it purr."


def test_others_take_what_was_measured(kit: LlmKit, says: Says, evidence_of: EvidenceOf) -> None:
    found, claim = explained("quantiles", kit, evidence_of(cat, output=FOUND))
    assert [token.piece for token in claim.raised] == [" meow", " purr\n"]
    assert found.output_half is not None
    assert found.output_half.startswith("When on, raises “ meow”")


def test_a_unit_without_effect_may_be_called_so(kit: LlmKit, says: Says, evidence_of: EvidenceOf) -> None:
    assert isinstance(says.answer, dict)
    says.answer |= {"does_when_on": "It does nothing.", "effect": "nothing"}
    _, claim = explained("input-output", kit, evidence_of(cat, output=measured({}, kl=1e-6)))
    assert claim.kind == "nothing"
    assert "no token is raised or lowered in all texts alike" in says.user


def test_tokens_are_found_as_they_were_shown_and_what_is_none_is_left_out(evidence_of: EvidenceOf) -> None:
    evidence = evidence_of(cat, output=FOUND)
    claim = named_claim("changes", ["meow", '" purr⏎"', " woof"], [' "bark"'], evidence)
    assert [token.id for token in claim.raised] == [3, 7]
    assert [token.id for token in claim.lowered] == [9]
    both = named_claim("changes", [" meow", " purr⏎"], [" meow"], evidence)
    assert [token.id for token in (*both.raised, *both.lowered)] == [7]
    nobody = named_claim("changes", [" woof", " moo"], [], evidence)
    assert nobody.kind == "untested"
    assert "' woof', ' moo'" in str(nobody.reason)
    assert named_claim(None, [" meow"], [], replace(evidence, output="not tried")).kind == "untested"
    empty = named_claim("changes", [], [], evidence)
    assert "names no tokens" in str(empty.reason)
