"""Splits: fixed by a document's id, disjoint, in the promised shares, near-duplicates together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tools.corpora import Corpus, Document, load_corpus, split_of_key
from tools.corpora.near_duplicates import jaccard, near_duplicate_clusters
from tools.types import Split

WORDS = [f"w{i}" for i in range(40)]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)
corpora = st.lists(texts, min_size=1, max_size=25).map(
    lambda ts: Corpus("c", tuple(Document(f"d{i}", t) for i, t in enumerate(ts)))
)


def reference_jaccard(a: str, b: str) -> float:
    """The definition, with Python's own sets of word tuples."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}

    x, y = shingles(a), shingles(b)
    return len(x & y) / len(x | y)


@given(texts, texts)
def test_similarity_is_that_of_word_5_grams(a: str, b: str) -> None:
    assert jaccard(a, b) == pytest.approx(reference_jaccard(a, b))


@settings(deadline=None, max_examples=60)
@given(corpora)
def test_every_document_has_one_split_and_clusters_share_it(corpus: Corpus) -> None:
    assert len(corpus.splits) == len(corpus)
    assert sum(corpus.counts().values()) == len(corpus)
    for i, representative in enumerate(corpus.clusters.tolist()):
        assert corpus.clusters[representative] == representative
        assert corpus.documents[representative].id <= corpus.documents[i].id
        assert corpus.split_of(i) == split_of_key(corpus.documents[representative].id)


@settings(deadline=None, max_examples=60)
@given(corpora, st.randoms(use_true_random=False))
def test_splits_do_not_depend_on_the_order(corpus: Corpus, random: object) -> None:
    shuffled = list(corpus.documents)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = Corpus("other name", tuple(shuffled))
    before = {d.id: corpus.split_of(i) for i, d in enumerate(corpus.documents)}
    assert before == {d.id: again.split_of(i) for i, d in enumerate(shuffled)}


@settings(deadline=None, max_examples=60)
@given(st.lists(texts, min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 10**6))
def test_a_text_with_one_word_changed_keeps_its_splits_company(base: list[str], which: int, where: int) -> None:
    source = base[which % len(base)].split() * 12
    changed = list(source)
    changed[where % len(source)] = "changed"
    documents = [*base, " ".join(source), " ".join(changed)]
    corpus = Corpus("c", tuple(Document(f"d{i}", t) for i, t in enumerate(documents)))
    if reference_jaccard(documents[-1], documents[-2]) >= 0.75:
        assert corpus.split_of(len(base)) == corpus.split_of(len(base) + 1)


def test_unrelated_texts_are_not_joined() -> None:
    unrelated = [" ".join(f"{i}x{j}" for j in range(30)) for i in range(300)]
    assert len(set(near_duplicate_clusters([str(i) for i in range(300)], unrelated).tolist())) == 300


def test_pairs_at_the_threshold_are_found_and_pairs_below_are_not() -> None:
    found = {"near": 0, "far": 0}
    for trial in range(60):
        words = [f"t{trial}w{i}" for i in range(204)]  # 200 shingles
        # A change in the middle of the text renews 5 shingles: 7 changes leave 165 of 235 (0.70), 16 leave 120 of 280.
        near, far = list(words), list(words)
        for j in range(7):
            near[10 + 20 * j] = "new"
        for j in range(16):
            far[10 + 12 * j] = "new"
        assert jaccard(" ".join(words), " ".join(near)) == pytest.approx(165 / 235)
        for name, other in (("near", near), ("far", far)):
            clusters = near_duplicate_clusters(["a", "b"], [" ".join(words), " ".join(other)])
            found[name] += int(clusters[0] == clusters[1])
    assert found == {"near": 60, "far": 0}


def test_chains_of_near_duplicates_share_one_split() -> None:
    words = [f"w{i}" for i in range(100)]
    chain = []
    for step in range(30):  # each version differs from the one before in one word, the last from the first in all
        chain.append(" ".join(words))
        words[3 * step] = f"new{step}"
    assert jaccard(chain[0], chain[-1]) < 0.3
    assert len(set(near_duplicate_clusters([str(i) for i in range(30)], chain).tolist())) == 1


def test_case_punctuation_and_spacing_make_no_difference() -> None:
    clusters = near_duplicate_clusters(["a", "b", "c"], ["One two, three!", "one  two\nTHREE", "four five six"])
    assert clusters.tolist() == [0, 0, 2]


def test_shares_are_as_promised() -> None:
    counts = Counter(split_of_key(f"doc {i}") for i in range(20_000))
    shares = {split: counts[split] / 20_000 for split in Split}
    for split, share in {"explore": 0.5, "refine": 0.15, "score": 0.25, "audit": 0.1}.items():
        assert shares[Split(split)] == pytest.approx(share, abs=0.015)


def test_split_of_a_known_id_never_changes() -> None:
    """A changed rule would let documents that people have looked at into a sealed split."""
    assert [split_of_key(f"ts{i:04}").value for i in range(8)] == [
        "refine",
        "explore",
        "explore",
        "refine",
        "audit",
        "refine",
        "explore",
        "explore",
    ]


def test_a_document_keeps_its_split_when_the_corpus_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"id": "d{i}", "text": "alpha{i} beta{i} gamma{i}"}}\n' for i in range(300)))
    whole, part = load_corpus(str(path)), load_corpus(str(path), limit=60)
    splits = {d.id: whole.split_of(i) for i, d in enumerate(whole.documents)}
    assert all(splits[d.id] == part.split_of(i) for i, d in enumerate(part.documents))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts, min_size=2, max_size=30, unique=True), st.integers(1, 30), st.integers(0, 10**6))
def test_limits_and_seeds_move_a_document_only_with_its_likes(
    tmp_path: Path, some: list[str], limit: int, seed: int
) -> None:
    """A document without near-duplicates has the split of its id under every limit; ids stay one to a document."""
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(some)))
    whole, part = load_corpus(str(path)), load_corpus(str(path), limit=limit, seed=seed)
    alone = {number for number, times in Counter(whole.clusters.tolist()).items() if times == 1}
    single = {whole.documents[number].id for number in alone}
    assert len(part) == min(limit, len(some)) == len({document.id for document in part.documents})
    for i, document in enumerate(part.documents):
        if document.id in single:
            assert part.split_of(i) == split_of_key(document.id)
        representative = part.documents[part.clusters[i]].id
        assert part.split_of(i) == split_of_key(representative)
        assert jaccard_chain(part, i)


def jaccard_chain(corpus: Corpus, i: int) -> bool:
    """Whether a document of a cluster of several is similar to another one of it."""
    others = [j for j in range(len(corpus)) if j != i and corpus.clusters[j] == corpus.clusters[i]]
    text = corpus.documents[i].text
    return not others or any(jaccard(text, corpus.documents[j].text) >= 0.7 for j in others)


def test_splits_are_the_same_in_every_process(tiny_corpus_file: Path) -> None:
    program = (
        "import sys; from tools.corpora import load_corpus; c = load_corpus(sys.argv[1]); "
        "print(c.id, *(s.value for s in c.splits))"
    )
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", program, str(tiny_corpus_file)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        outputs.add(done.stdout)
    corpus = load_corpus(str(tiny_corpus_file))
    assert outputs == {" ".join([corpus.id, *(s.value for s in corpus.splits)]) + "\n"}


def test_encodings_of_the_standard_library_cluster() -> None:
    corpus = load_corpus("stdlib:")
    names = {d.id: i for i, d in enumerate(corpus.documents)}
    latin, windows = names["encodings/iso8859_1.py"], names["encodings/iso8859_15.py"]
    assert corpus.clusters[latin] == corpus.clusters[windows]
    assert corpus.clusters[latin] != corpus.clusters[names["argparse.py"]]


def test_a_thousand_copies_with_small_changes_are_clustered_quickly() -> None:
    words = [f"w{i}" for i in range(200)]
    versions = []
    for i in range(1000):
        version = list(words)
        version[i % 200] = f"new{i}"
        versions.append(" ".join(version))
    began = time.process_time()
    clusters = near_duplicate_clusters([str(i) for i in range(1000)], versions)
    assert len(set(clusters.tolist())) == 1
    assert time.process_time() - began < 20


def test_real_stories_are_split_within_seconds(shared_data: Path) -> None:
    corpus = load_corpus(str(shared_data / "tinystories.jsonl"))
    began = time.process_time()
    assert min(corpus.counts().values()) > 100
    assert time.process_time() - began < 10
