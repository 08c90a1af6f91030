"""From measurements of a unit's effect on the output to a claim, and from a claim to words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explainers.output.attach import with_claim
from explainers.output.claim import KEY, OutputClaim, claim_in, measured_claim
from explainers.output.words import output_half
from explainers.types import Evidence, Explanation
from tools.effects import Effects, Measured, Off, Places, consistent_tokens, cross_fitted_shift
from tools.lenses import Promotion
from tools.types import FloatArray, Site, UnitId

N, V = 16, 50
PIECES = tuple(f"t{i}" for i in range(V))
PROMOTION = Promotion((("self", 1.0),), (("cls", -1.0),))


def measured(change: FloatArray, kl: float = 0.0, later: float = 0.0) -> Measured:
    """As from a model whose logits change like this."""
    n = len(change)
    tokens = consistent_tokens(change, 0.1)
    effects = Effects(
        change, np.full(n, kl, np.float32), np.full((n, 4), later, np.float32), np.full(n, 0.1, np.float32),
        np.ones(n, np.float32), Site(1, "mlp_out"),
    )  # fmt: skip
    places = Places(((0, 1),) * n, np.ones(n, np.int64), np.ones(n, np.float32), np.arange(n))
    curve = np.tile(np.linspace(0, 1, 5, dtype=np.float32), (n if len(tokens.ids) else 0, 1))
    return Measured(
        places, Off("resample", np.zeros(3, np.float32)), effects, tokens, tuple(PIECES[i] for i in tokens.ids),
        change.mean(0)[tokens.ids], np.linspace(0, 2, 5, dtype=np.float32), curve,
    )  # fmt: skip


def changes(seed: int = 0, noise: float = 0.02) -> FloatArray:
    """Tokens 3 and 7 rise by 0.6 and 0.5, token 9 falls by 0.4, token 11 rises by 0.2."""
    change = np.random.default_rng(seed).normal(0, noise, (N, V)).astype(np.float32)
    change[:, [3, 7, 9, 11]] += np.array([0.6, 0.5, -0.4, 0.2], np.float32)
    return change


def test_tokens_that_change_alike_everywhere_are_named_strongest_first() -> None:
    claim = measured_claim(measured(changes(), kl=0.01))
    assert claim.kind == "changes"
    assert [token.piece for token in claim.raised] == ["t3", "t7"]  # t11 moves by less than half of the strongest
    assert [token.piece for token in claim.lowered] == ["t9"]
    assert claim.raised[0].size == pytest.approx(0.6, abs=0.02)
    assert claim.tokens.ids.tolist() == [3, 7, 9]
    assert claim.tokens.signs.tolist() == [1, 1, -1]
    assert output_half(claim) == "When on, raises “t3”, “t7” (by 0.55 logits) and lowers “t9” (by 0.4 logits)."
    assert OutputClaim.from_json(claim.to_json()) == claim


def test_tokens_that_chance_puts_first_are_not_named() -> None:
    """Noise so large that the best of 50 tokens looks like an effect on the places on which it was chosen."""
    noise = np.random.default_rng(1).normal(0, 0.5, (8, 4000)).astype(np.float32)
    assert len(consistent_tokens(noise, 0.1).ids) > 0
    shift = cross_fitted_shift(noise, 0.1)
    assert shift is None or abs(shift) < 0.1
    assert measured_claim(measured(noise[:, :V], kl=0.01)).kind == "varies"


def test_what_changes_nothing_or_only_later_predictions_is_called_so() -> None:
    still = np.random.default_rng(0).normal(0, 0.01, (N, V)).astype(np.float32)
    kinds = {
        "nothing": measured_claim(measured(still)),
        "varies": measured_claim(measured(still, kl=0.02)),
        "later": measured_claim(measured(still, later=0.02)),
    }
    assert {kind: claim.kind for kind, claim in kinds.items()} == {kind: kind for kind in kinds}
    assert output_half(kinds["nothing"]).startswith("Does nothing measurable when on")
    assert "0.02 nats" in output_half(kinds["varies"])
    assert "later positions read" in output_half(kinds["later"])


def test_what_was_not_measured_says_why_and_what_the_weights_say() -> None:
    claim = measured_claim("it is an encoder")
    assert (claim.kind, claim.reason) == ("untested", "it is an encoder")
    assert output_half(claim) == "What it does was not measured: it is an encoder."
    assert output_half(claim, PROMOTION) == (
        "By its weights it would raise “self” and lower “cls”. Not measured: it is an encoder."
    )
    assert output_half(claim, PROMOTION, "-").startswith("By its weights it would raise “cls” and lower “self”.")


def test_what_is_asserted_leaves_out_how_large_it_was() -> None:
    one, other = (measured_claim(measured(changes(seed), kl=0.01)) for seed in (0, 1))
    assert one != other
    assert one.asserted == other.asserted
    assert replace(one, lowered=()).asserted != one.asserted


def test_every_description_gets_a_claim_and_keeps_its_own() -> None:
    evidence = Evidence(UnitId("mlp:1", 2), "+", None, None, None, 1.0, 0, output=measured(changes()))  # type: ignore[arg-type]
    bare = Explanation("e", "l", "i", None, None, None, {})
    given = with_claim(bare, evidence)
    assert given.output_half is not None
    assert "“t3”" in given.output_half
    assert claim_in(given.details) == measured_claim(evidence.output)
    assert with_claim(given, replace(evidence, output="elsewhere")) == given
    own = with_claim(replace(bare, output_half="It purrs."), evidence)
    assert own.output_half == "It purrs."
    assert own.details[KEY]["kind"] == "untested"
    assert "name no tokens" in own.details[KEY]["reason"]
