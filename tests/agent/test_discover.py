"""Which units respond to something: planted units whose predicate is known, and texts made by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.discover import LEAST, PAIRS, SETS, DiscoverError, Sets, discover, sets_from_corpus, sets_from_model
from explainers.llm.kit import LlmKit
from scorers.errors import ScorerError
from scorers.separation import auroc, separating
from tests.serving import Faults, ProgrammableServer
from tools.corpora import load_corpus
from tools.planted import TokenIn, UnitTruth, documents, load_truth, planted_spec, subject_folder
from tools.responses import responses
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import expand, unit_activations

SEED = 3


@pytest.fixture(scope="module")
def planted() -> tuple[Subject, dict[str, UnitTruth]]:
    return load_subject(f"planted:seed={SEED}", device="cpu"), load_truth(subject_folder(f"seed={SEED}")[1])


def texts_by(subject: Subject, truth: UnitTruth, each: int) -> Sets:
    """Beginnings of planted documents in which the unit's predicate holds somewhere, and in which it does not."""
    found: dict[bool, list[str]] = {True: [], False: []}
    for document in documents(planted_spec(f"planted:seed={SEED}"), n=2000):
        ids = subject.encode(document.text, 32)
        held = bool(truth.active(subject.pieces(ids))[1:].any())
        shown = "".join(subject.pieces(ids)[len(subject.prefix) :])
        if len(found[held]) < each and shown not in found[held] and subject.encode(shown) == ids:
            found[held].append(shown)
    return Sets(tuple(found[True]), tuple(t for t in found[False] if t not in found[True]), "planted")


def test_responses_are_the_largest_activations_of_each_tail(planted: tuple[Subject, dict[str, UnitTruth]]) -> None:
    subject, _ = planted
    units = [UnitId("mlp:0", 3), UnitId("head:1", 2), UnitId("mlp:1", 8)]
    rng = np.random.default_rng(0)
    texts = [[*subject.prefix, *rng.integers(5, 200, 4 + i).tolist()] for i in range(12)]
    found = responses(subject, units, texts, batch_tokens=64)
    for column, values in enumerate(unit_activations(subject, units, texts)):
        np.testing.assert_allclose(found.positive[:, column], values[:, 1:].max(1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.negative[:, column], -values[:, 1:].min(1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["token set", "skip-gram", "negative tail"])
def test_a_planted_unit_is_found_by_what_it_fires_on(
    planted: tuple[Subject, dict[str, UnitTruth]], family: str
) -> None:
    subject, truths = planted
    candidates = [t for t in truths.values() if t.family == family and t.unit.startswith("mlp:")]
    chosen = None
    for truth in candidates:
        sets = texts_by(subject, truth, 40)
        if min(len(sets.positive), len(sets.negative)) >= 30:
            chosen = truth, sets
            break
    assert chosen is not None
    truth, sets = chosen
    layer = truth.unit.split(":")[1]
    found = discover(subject, expand(subject, f"mlp:{layer}:*"), sets, causal=False, most=400)
    [own] = [one for one in found.found if f"{one.unit}{one.polarity}" == truth.key]
    assert own.confirmed
    assert own.auroc > 0.95
    assert own.auroc >= max(one.auroc for one in found.found) - 0.02


@pytest.mark.slow
def test_taking_it_away_tells_a_cause_from_a_look_alike(planted: tuple[Subject, dict[str, UnitTruth]]) -> None:
    subject, truths = planted
    for family, causal in (("token set", True), ("inert look-alike", False)):
        seen = []
        for truth in (t for t in truths.values() if t.family == family and t.unit.startswith("mlp:")):
            sets = texts_by(subject, truth, 24)
            if min(len(sets.positive), len(sets.negative)) < 20:
                continue
            layer = truth.unit.split(":")[1]
            units = expand(subject, f"mlp:{layer}:*")
            found = discover(subject, units, sets, most=400)
            own = [one for one in found.found if f"{one.unit}{one.polarity}" == truth.key and one.cause is not None]
            seen += [one.cause for one in own]
            if len(seen) == 3:
                break
        assert seen, family
        if causal:
            assert all(cause.kl_positive > cause.kl_negative for cause in seen)
            assert sum(cause.causal for cause in seen) >= len(seen) - 1
        else:
            assert not any(cause.causal for cause in seen)
            assert max(cause.kl_positive for cause in seen) < 1e-4


def test_texts_that_differ_in_nothing_find_nothing(planted: tuple[Subject, dict[str, UnitTruth]]) -> None:
    """Random halves of one set: at 5 % false discoveries a confirmed one is rare."""
    subject, _ = planted
    texts = []
    for document in documents(planted_spec(f"planted:seed={SEED}"), n=60):
        ids = subject.encode(document.text, 32)
        texts.append("".join(subject.pieces(ids)[len(subject.prefix) :]))
    texts = list(dict.fromkeys(texts))
    confirmed = 0
    for trial in range(4):
        order = np.random.default_rng(trial).permutation(len(texts))
        half = len(texts) // 2
        sets = Sets(tuple(texts[i] for i in order[:half]), tuple(texts[i] for i in order[half:]), "nothing")
        found = discover(subject, expand(subject, "mlp:0:0-199"), sets, causal=False, seed=trial)
        confirmed += sum(one.confirmed for one in found.found)
    assert confirmed <= 1


def test_false_discoveries_stay_below_the_rate() -> None:
    """200 units, 10 that respond: the realised rate over 40 draws, and all of the ten found."""
    rng = np.random.default_rng(5)
    rates, power = [], []
    positive = np.arange(60) < 30
    for trial in range(40):
        high = rng.normal(size=(200, 60)).astype(np.float32)
        high[:10, :30] += 2.5
        found = separating(high, rng.normal(size=(200, 60)).astype(np.float32), positive, seed=trial)
        false = [one for one in found if one.row >= 10 or one.polarity == "-"]
        rates.append(len(false) / max(1, len(found)))
        power.append(sum(one.confirmed and one.row < 10 and one.polarity == "+" for one in found) / 10)
    assert np.mean(rates) < 0.05 + 2 * np.std(rates) / 40**0.5
    assert np.mean(power) > 0.95


def test_auroc_counts_pairs() -> None:
    positive, negative = np.array([[3.0, 1.0, 2.0]]), np.array([[0.0, 2.0]])
    pairs = [(p > n) + 0.5 * (p == n) for p in positive[0] for n in negative[0]]
    assert float(auroc(positive, negative)[0]) == pytest.approx(np.mean(pairs))


def test_a_sentence_is_looked_up_in_documents_that_may_be_seen(
    planted: tuple[Subject, dict[str, UnitTruth]], tmp_path: Path
) -> None:
    subject, _ = planted
    rows = [
        {"id": f"d{i}", "text": f"text {i} " + ("the zebra runs home again " if i % 3 == 0 else "a house is here ") * 3}
        for i in range(300)
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load_corpus(str(file))
    sets = sets_from_corpus("zebra", corpus, load_subject("pycode", device="cpu"))
    assert all("zebra" in text for text in sets.positive)
    assert not any("zebra" in text for text in sets.negative)
    assert "bm25" in sets.source
    with pytest.raises(DiscoverError, match="words of 'quagga'"):
        sets_from_corpus("quagga", corpus, subject)


def test_what_cannot_be_discovered_is_told(planted: tuple[Subject, dict[str, UnitTruth]]) -> None:
    subject, _ = planted
    few = Sets(("a b", "b c"), ("c d", "d e"), "few")
    with pytest.raises(DiscoverError, match="at least 8"):
        discover(subject, [UnitId("mlp:0", 0)], few)
    both = Sets(("a b",), ("a b",), "both")
    with pytest.raises(DiscoverError, match="both sets"):
        discover(subject, [UnitId("mlp:0", 0)], both)
    with pytest.raises(ScorerError, match="at least 8"):
        separating(np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32), np.arange(4) < 2)


def test_a_language_model_writes_texts_and_near_misses(llm_kit: LlmKit, llm_server: ProgrammableServer) -> None:
    sets = sets_from_model('mentions of "zebra"', llm_kit.llm)
    assert len(sets.positive) == PAIRS * SETS
    assert all("zebra" in text for text in sets.positive)
    assert not any("zebra" in text for text in sets.negative)
    assert sets.source == "texts that test-model wrote of 'mentions of \"zebra\"', against near misses"
    assert {chat.sections["SENTENCE"] for chat in llm_server.chats()} == {'mentions of "zebra"'}


def test_sets_that_fail_cost_no_others_and_too_few_texts_are_told(
    llm_kit: LlmKit, llm_server: ProgrammableServer
) -> None:
    llm_server.faults = Faults(0.4, ("ignores schema",), seed=1)
    assert LEAST <= len(sets_from_model('mentions of "zebra"', llm_kit.llm).positive) <= PAIRS * SETS
    llm_server.faults = Faults(1.0, ("ignores schema",))
    with pytest.raises(DiscoverError, match=r"test-model wrote 0 texts of 'quagga' .*No usable answer"):
        sets_from_model("quagga", llm_kit.llm)


@pytest.mark.slow
def test_a_sentence_finds_the_planted_units_that_it_speaks_of(
    planted: tuple[Subject, dict[str, UnitTruth]], llm_kit: LlmKit
) -> None:
    """Words of a planted token set, in a sentence: units of that set come out, not others."""
    subject, truths = planted
    sets = [t for t in truths.values() if t.family == "token set" and t.unit.startswith("mlp:")][:3]
    assert sets
    for truth in sets:
        predicate = truth.cases[0].when
        assert isinstance(predicate, TokenIn)
        sentence = "on " + ", ".join(f'"{token.strip()}"' for token in sorted(predicate.tokens)[:6])
        layer = truth.unit.split(":")[1]
        found = discover(
            subject, expand(subject, f"mlp:{layer}:*"), sets_from_model(sentence, llm_kit.llm), causal=False
        )
        assert truth.key in {f"{one.unit}{one.polarity}" for one in found.found[:20]}
