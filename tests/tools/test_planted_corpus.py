"""The corpora of planted subjects: known shares of words and concepts, options, texts at the edge of a rule."""

from __future__ import annotations

from collections import Counter

import pytest

from tools.corpora import load_corpus
from tools.errors import CorpusError, SubjectError
from tools.planted import PlantedSpec, documents, near_misses, planted_spec, prevalences
from tools.planted.concepts import LADDER, concepts
from tools.planted.corpus import LONGEST, word_shares
from tools.planted.predicates import (
    All,
    AnyOf,
    Before,
    Earlier,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    Within,
)
from tools.planted.truth import Case, UnitTruth
from tools.planted.words import TOKENS, piece

SPEC = PlantedSpec()


def words(fresh: int, n: int) -> list[list[str]]:
    return [document.text.split() for document in documents(SPEC, fresh, n)]


def test_words_and_concepts_are_as_frequent_as_the_tables_say() -> None:
    texts = words(3, 1500)
    total = sum(len(text) for text in texts)
    shares = word_shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert {piece(word) for text in texts for word in text} <= set(shares)
    for concept in concepts(SPEC):
        members = {token.strip() for token in concept.tokens}
        per_text = [sum(word in members for word in text) for text in texts]
        mean = sum(per_text) / len(texts)
        # Texts are independent draws; the error of a ratio of totals (Cochran 1977, 6.4).
        share = sum(per_text) / total
        residuals = [count - share * len(text) for count, text in zip(per_text, texts, strict=True)]
        error = (sum(r * r for r in residuals) / len(texts)) ** 0.5 / (len(texts) ** 0.5 * total / len(texts))
        assert mean > 0, concept.name
        assert abs(share - prevalences(SPEC)[concept.name]) < 4.5 * error, concept.name


def test_concepts_are_as_frequent_as_a_half_and_as_rare_as_one_in_a_thousand() -> None:
    shares = prevalences(PlantedSpec(seed=5))
    for target in LADDER:
        assert shares[f"ladder {target:g}"] == pytest.approx(target, rel=0.1)


def test_documents_fit_a_context_and_are_the_same_for_every_size_and_architecture() -> None:
    texts = words(0, 1500)
    assert max(len(text) for text in texts) <= LONGEST
    assert len({tuple(text) for text in texts}) == len(texts)
    other = PlantedSpec(size="large", arch="llama")
    assert list(documents(other, n=20)) == list(documents(SPEC, n=50))[:20]
    assert words(1, 20) != texts[:20]
    assert list(documents(PlantedSpec(seed=1), n=20)) != list(documents(SPEC, n=20))


def test_the_corpus_scheme_gives_documents_that_are_hardly_ever_near_duplicates() -> None:
    corpus = load_corpus("planted:docs=1200,size=large")
    assert len(corpus) == 1200
    assert corpus.documents[0].id == "planted-s0/000000"
    assert len(set(corpus.clusters.tolist())) > 0.98 * len(corpus)
    fresh = load_corpus("planted:fresh=2,docs=10")
    assert not {d.id for d in fresh.documents} & {d.id for d in corpus.documents}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("planted:sed=3", "seed=….*docs=….*fresh="),
        ("planted:docs=0", "docs is a whole number from 1"),
        ("planted:fresh=one", "fresh is a whole number"),
        ("planted:size=huge", "small, large"),
    ],
)
def test_a_wrong_option_of_the_corpus_is_named_with_the_right_ones(spec: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_corpus(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("planted:sed=3", "'sed=3'.*seed=….*size=….*arch="),
        ("planted:seed", "'seed' is no option"),
        ("planted:docs=5", "'docs=5' is no option"),
        ("planted:seed=-1", "seed is a whole number from 0"),
        ("planted:seed=1,seed=2", "twice"),
        ("planted:size=huge", "small, large"),
        ("planted:arch=bert", "gpt2, llama"),
        ("planned", "no planted subject"),
    ],
)
def test_a_wrong_option_of_the_subject_is_named_with_the_right_ones(spec: str, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        planted_spec(spec)


def test_a_spec_has_one_canonical_text() -> None:
    spec = planted_spec("planted: arch=llama , seed=07")
    assert spec == PlantedSpec(7, "small", "llama")
    assert planted_spec(spec.text) == spec
    assert spec.name == "planted-s7-small-llama"
    assert planted_spec("planted") == PlantedSpec()


ANIMALS, COLOURS = (" dog", " cat"), (" red", " blue")
RULES: list[Predicate] = [
    TokenIn(ANIMALS),
    All((Before(1, COLOURS), TokenIn(ANIMALS))),
    All((Within(3, COLOURS), TokenIn(ANIMALS))),
    All((TokenIn(ANIMALS), Not(Before(2, COLOURS)))),
    All((TokenIn(ANIMALS), Not(Within(2, COLOURS)))),
    All((TokenIn(ANIMALS), Repeated())),
    All((TokenIn(ANIMALS), Induction())),
    All((Position(5, 8), TokenIn(ANIMALS))),
    All((TokenIn(ANIMALS), Earlier(TokenIn(COLOURS)))),
    AnyOf((TokenIn(ANIMALS), All((Before(1, COLOURS), TokenIn((" pear",)))))),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_near_misses_hold_in_about_every_second_text_and_are_ordinary_texts(rule: Predicate) -> None:
    truth = UnitTruth("mlp:0:0", "+", "any", (Case(rule, 6.0),), 0.0, 0.1)
    texts = near_misses(truth, SPEC, 60, seed=1)
    assert len(texts) == 60
    assert texts == near_misses(truth, SPEC, 60, seed=1)
    assert texts != near_misses(truth, SPEC, 60, seed=2)
    pieces = [["<s>", *(piece(word) for word in text.split())] for text in texts]
    assert all(set(one[1:]) <= set(TOKENS) and len(one) <= LONGEST + 1 for one in pieces)
    holds = Counter((i % 2 == 0, bool(rule.holds(one)[1:].any())) for i, one in enumerate(pieces))
    assert holds[True, True] >= 27, "a text that is to hold does not"
    assert holds[False, False] >= 15, "a text that is to fail holds"


def test_near_misses_of_a_unit_without_a_rule_are_ordinary_texts() -> None:
    noise = UnitTruth("mlp:0:0", "+", "noise", (), 0.0, float("inf"), noise=True)
    assert len(near_misses(noise, SPEC, 7, seed=0)) == 7
