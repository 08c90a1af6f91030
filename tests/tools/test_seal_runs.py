"""Thousands of random corpora and settings: no document, context or panel position of one split gets into another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tools.corpora import Corpus, Document, split_of_key
from tools.errors import SealedError
from tools.index import IndexSettings, Texts, TextsView
from tools.index.plan import PanelLayout, batches, write_texts
from tools.types import Split

WORDS = ["a", *(f"w{i}" for i in range(60))]
SPLITS = tuple(Split)


class WordTokenizer:
    """All of a subject that cutting a corpus into contexts needs: a word is a token, and 0 comes first."""

    tokenizer = ("<s>", *WORDS)

    def encode(self, text: str) -> list[int]:
        return [0, *(1 + WORDS.index(word) for word in text.split())]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.tokenizer[i] for i in ids]


def make_corpus(draw: random.Random) -> Corpus:
    """A few documents, some of them copies of others, some copies with one word changed."""
    texts: list[str] = []
    for _ in range(draw.randint(1, 10)):
        kind = draw.random()
        if texts and kind < 0.15:
            texts.append(draw.choice(texts))
        elif texts and kind < 0.4:
            words = draw.choice(texts).split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
            texts.append(" ".join(words))
        else:
            texts.append(" ".join(draw.choices(WORDS, k=draw.choice([1, 4, 12, 30, 45]))))
    ids = draw.sample(range(10_000), len(texts))
    return Corpus(
        "random", tuple(Document(f"{draw.choice('abc')}{i}", text) for i, text in zip(ids, texts, strict=True))
    )


def make_settings(draw: random.Random) -> IndexSettings:
    return IndexSettings(
        context=draw.randint(2, 24),
        panel_tokens={split: draw.choice([0, 1, 10, 40, 10_000]) for split in SPLITS},
        batch_tokens=draw.choice([1, 30, 200]),
        max_tokens=draw.choice([None, 10, 60, 200]),
        seed=draw.randrange(5),
    )


def place(document_id: str) -> Split:
    """The split of an id, written down a second time: 50 %, 15 %, 25 %, 10 % of the hashes."""
    digest = hashlib.sha256(b"neurogloss splits 1\0" + document_id.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return SPLITS[sum(share >= end for end in (0.5, 0.65, 0.9))]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def expected_splits(corpus: Corpus) -> list[Split]:
    """By definition: similar pairs linked, each cluster where its smallest id belongs."""
    sets = [shingles(document.text) for document in corpus.documents]
    cluster = list(range(len(sets)))
    for i in range(len(sets)):
        for j in range(i):
            if len(sets[i] & sets[j]) >= 0.7 * len(sets[i] | sets[j]):
                old, new = cluster[i], cluster[j]
                cluster = [new if c == old else c for c in cluster]
    ids = [document.id for document in corpus.documents]
    return [place(min(one for one, c in zip(ids, cluster, strict=True) if c == mine)) for mine in cluster]


def ask_everything(view: TextsView, texts: Texts, draw: random.Random) -> Iterator[tuple[str, list[int]]]:
    """An agent that asks a split's texts for whatever it can think of; yields the contexts that it was answered of."""
    n = texts.n_contexts
    wild = [*range(-2, n + 2), -(10**9), 10**9, np.int64(draw.randrange(n)), draw.random() * n, True]
    for context in (wild[i] for i in draw.sample(range(len(wild)), min(8, len(wild)))):
        for name in ("ids", "pieces", "length", "document", "split_of"):
            try:
                getattr(view, name)(context)
            except SealedError:
                continue
            yield name, [int(context)]
    for _ in range(4):
        rows = draw.choices(range(-1, n + 1), k=draw.randint(1, 4))
        try:
            view.padded(rows)
        except SealedError:
            continue
        yield "padded", rows
    for name, wrong in (("ids", "all"), ("pieces", None), ("length", slice(None)), ("padded", "all")):
        with pytest.raises((TypeError, ValueError)):
            getattr(view, name)(wrong)
    for document in range(-2, len(texts.document_ids) + 2):
        try:
            view.document_id(document)
        except SealedError:
            continue
        yield "document_id", np.flatnonzero(texts.documents == document).tolist()
    yield "contexts", view.contexts.tolist()


def written(folder: Path, corpus: Corpus, chosen: IndexSettings) -> tuple[Texts, Any]:
    """The token store and the panel, as they are planned; but for the tokens, they stay in memory."""
    subject: Any = WordTokenizer()
    files: dict[str, Any] = {}

    def keep(path: Path, value: Any) -> None:
        files[path.name] = value

    with pytest.MonkeyPatch.context() as patch:
        # Ten thousand runs of ten files each would be about the disk.
        patch.setattr("os.fsync", lambda handle: None)
        patch.setattr("tools.index.plan.write_array", keep)
        patch.setattr("tools.index.plan.write_json", keep)
        write_texts(folder, subject, corpus, chosen, lambda _: None)
    texts = Texts(
        tokens=np.fromfile(folder / "tokens.bin", dtype="<i4"),
        starts=files["context_starts.npy"],
        lengths=files["context_lengths.npy"],
        documents=files["context_documents.npy"],
        document_ids=files["document_ids.json"],
        split_bounds=tuple(files["split_bounds.npy"].tolist()),
        vocabulary=files["vocabulary.json"],
        context_length=chosen.length,
    )
    return texts, files["panel_contexts.npy"]


def check_run(seed: int, folder: Path) -> int:
    """One run: a corpus divided, cut, numbered, its panel chosen, and asked of. Returns the answers that were given."""
    draw = random.Random(seed)
    corpus, chosen = make_corpus(draw), make_settings(draw)
    splits = expected_splits(corpus)
    assert list(corpus.splits) == splits
    # What else the corpus holds can only join a document to its likes: by itself it has the split of its id.
    assert all(split_of_key(document.id) == place(document.id) for document in corpus.documents)
    texts, panel = written(folder, corpus, chosen)
    owner = [splits[texts.document(context)] for context in range(texts.n_contexts)]
    for context, split in enumerate(owner):
        assert texts.split_of(context) == split
        words = corpus.documents[texts.document(context)].text.split()
        assert "".join(texts.pieces(context)[1:]) in "".join(words)
    documents = {split: {texts.document(c) for c, mine in enumerate(owner) if mine == split} for split in SPLITS}
    assert sum(map(len, documents.values())) == len(set.union(*documents.values()))
    answered = 0
    for which, split in enumerate(SPLITS):
        layout = PanelLayout.of(texts, panel, which)
        assert {owner[context] for context in layout.contexts} <= {split}
        assert {owner[context] for context in layout.rows} <= {split}
        for name, contexts in ask_everything(TextsView(texts, split), texts, draw):
            assert {owner[context] for context in contexts} <= {split}, name
            answered += len(contexts)
    for batch in batches(texts, chosen.batch_tokens):
        assert {owner[context] for context in range(batch.first, batch.last)} == {SPLITS[batch.split]}
    return answered


RUNS = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(RUNS, max_examples=400)
@given(seed=st.integers(0, 10**9))
def test_no_split_gets_anything_of_another(seed: int, tmp_path: Path) -> None:
    check_run(seed, tmp_path)


@pytest.mark.slow
@settings(RUNS, max_examples=10_000)
@given(seed=st.integers(0, 10**9))
def test_no_split_gets_anything_of_another_in_ten_thousand_runs(seed: int, tmp_path: Path) -> None:
    check_run(seed, tmp_path)


def test_runs_hold_what_could_leak(tmp_path: Path) -> None:
    """The runs above would find nothing in empty corpora: most have near-duplicates, sealed text and answers."""
    seen = SimpleNamespace(clusters=0, sealed=0, answers=0)
    for seed in range(100):
        corpus = make_corpus(random.Random(seed))
        seen.clusters += len(set(corpus.clusters.tolist())) < len(corpus)
        seen.sealed += bool(set(corpus.splits) - {Split.EXPLORE, Split.REFINE})
        seen.answers += check_run(seed, tmp_path) > 0
    assert min(seen.clusters, seen.sealed, seen.answers) > 60, seen
