"""Near-duplicate documents by MinHash (Broder 1997, "On the resemblance and containment of documents").

A document is the set of its word 5-grams. `PERMUTATIONS` random hash functions keep the smallest hash of each set; two
documents agree in one of these minima with a probability equal to the Jaccard similarity of their sets. Documents that
agree in all `ROWS` minima of one band are candidates (locality-sensitive hashing, Leskovec et al. 2020, chapter 3.4): a
pair of similarity 0.7 is found with probability 1 - (1 - 0.7^4)^32 = 0.9998. Candidates are verified on the sets
themselves, and verified pairs are joined transitively.

Everything is deterministic: no hash depends on the process.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tools.types import IntArray

SHINGLE = 5
BANDS, ROWS = 32, 4
PERMUTATIONS = BANDS * ROWS
JACCARD = 0.7
#: Shingles hashed at a time.
BATCH = 1 << 16

UInt64Array = npt.NDArray[np.uint64]
UInt32Array = npt.NDArray[np.uint32]

_WORD = re.compile(r"\w+")
_GENERATOR = np.random.Generator(np.random.PCG64(20240501))
#: The hash functions x -> a x + b modulo 2^32, a odd: permutations of the 32-bit numbers.
_FACTORS: UInt32Array = _GENERATOR.integers(0, 2**32, PERMUTATIONS, dtype=np.uint32) | np.uint32(1)
_OFFSETS: UInt32Array = _GENERATOR.integers(0, 2**32, PERMUTATIONS, dtype=np.uint32)


def near_duplicate_clusters(ids: Sequence[str], texts: Sequence[str]) -> IntArray:
    """[document] the index of the member with the smallest id of each document's cluster.

    Args:
        ids: Document ids; they decide nothing but who represents a cluster.
        texts: The documents' texts, parallel to `ids`.
    """
    vocabulary: dict[str, int] = {}
    digests: dict[bytes, int] = {}
    first = []  # for each document the first one with the very same text
    for i, text in enumerate(texts):
        first.append(digests.setdefault(hashlib.blake2b(text.encode(), digest_size=16).digest(), i))
    unique = [i for i in range(len(texts)) if first[i] == i]
    unique_texts = [texts[i] for i in unique]
    signatures = _signatures(unique_texts, vocabulary)
    clustering = _Clustering(unique_texts, signatures, vocabulary)
    for bucket in _buckets(signatures):
        clustering.join_similar(bucket)
    root = {document: unique[clustering.root(k)] for k, document in enumerate(unique)}
    smallest: dict[int, int] = {}
    for i, f in enumerate(first):
        r = root[f]
        if r not in smallest or ids[i] < ids[smallest[r]]:
            smallest[r] = i
    return np.array([smallest[root[f]] for f in first], dtype=np.int64)


def jaccard(a: str, b: str) -> float:
    """Jaccard similarity of two texts' sets of word 5-grams (case ignored)."""
    vocabulary: dict[str, int] = {}
    return _similarity(_shingles(a, vocabulary), _shingles(b, vocabulary))


def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def _shingles(text: str, vocabulary: dict[str, int]) -> UInt64Array:
    """Sorted distinct 64-bit hashes of a text's word 5-grams; a shorter text is one shingle of all it has.

    `vocabulary` caches the words' hashes, since hashing each word once is what makes it fast.
    """
    words = _WORD.findall(text.lower())
    if not words:
        return np.array([_word_hash(text.strip())], dtype=np.uint64)
    codes = []
    for word in words:
        code = vocabulary.get(word)
        if code is None:
            code = vocabulary[word] = _word_hash(word)
        codes.append(code)
    hashes = np.array(codes, dtype=np.uint64)
    width = min(SHINGLE, len(hashes))
    count = len(hashes) - width + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(width):  # a polynomial in an odd constant: the order of the words matters
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + hashes[offset : offset + count]
    return np.unique(_scramble(mixed))


def _scramble(x: UInt64Array) -> UInt64Array:
    """SplitMix64's finaliser, a bijection that spreads every input bit (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _signatures(texts: Sequence[str], vocabulary: dict[str, int]) -> UInt32Array:
    """[document, PERMUTATIONS] the smallest hash of each document's shingles under each hash function.

    It works in 32 bits, which processors multiply several at a time, and on batches that stay in their cache.
    """
    signatures = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    pending: list[UInt64Array] = []
    begin = size = 0
    for i, text in enumerate(texts):
        pending.append(_shingles(text, vocabulary))
        size += len(pending[-1])
        if size >= BATCH or i == len(texts) - 1:
            starts = np.cumsum([0] + [len(p) for p in pending[:-1]])
            flat = (np.concatenate(pending) >> np.uint64(32)).astype(np.uint32)
            hashes = np.empty_like(flat)
            for p, (factor, offset) in enumerate(zip(_FACTORS, _OFFSETS, strict=True)):
                np.multiply(flat, factor, out=hashes)
                np.add(hashes, offset, out=hashes)
                signatures[begin : i + 1, p] = np.minimum.reduceat(hashes, starts)
            pending, begin, size = [], i + 1, 0
    return signatures


def _buckets(signatures: UInt32Array) -> Iterable[list[int]]:
    """Groups of two or more documents that agree in a whole band."""
    for band in range(BANDS):
        rows = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        keys = rows.view(np.dtype((np.void, rows.itemsize * ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
        for start, end in edges.reshape(-1, 2).tolist():
            yield order[start : end + 1].tolist()


class _Clustering:
    """Disjoint sets of documents (union-find); the root of a set is its smallest index."""

    def __init__(self, texts: Sequence[str], signatures: UInt32Array, vocabulary: dict[str, int]) -> None:
        self.parent = list(range(len(texts)))
        self.signatures = signatures
        self.sets = _ShingleSets(texts, vocabulary)
        self.rejected: set[tuple[int, int]] = set()  # bands bring the same pairs again

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join_similar(self, bucket: list[int]) -> None:
        """Joins all pairs of a bucket whose verified similarity reaches the threshold.

        Pairs that are in one cluster already are not compared, and the likeliest partners come first, so that a
        bucket of many versions of one text costs about one verification a version.
        """
        members, roots = np.array(bucket), np.array([self.root(i) for i in bucket])
        if (roots == roots[0]).all():
            return
        rows = self.signatures[members]
        for k in range(1, len(bucket)):
            others = np.flatnonzero(roots[:k] != roots[k])
            # The share of equal minima estimates the similarity with a standard error of 0.04: three of them below
            # the threshold there is nothing to verify.
            estimates = (rows[others] == rows[k]).mean(1)
            likely = others[np.argsort(-estimates, kind="stable")][: int((estimates >= JACCARD - 0.12).sum())]
            for o in likely.tolist():
                pair = (bucket[o], bucket[k])
                if roots[o] == roots[k] or pair in self.rejected:
                    continue
                if _similarity(self.sets[pair[0]], self.sets[pair[1]]) < JACCARD:
                    self.rejected.add(pair)
                    continue
                joined = min(roots[o], roots[k])
                self.parent[max(roots[o], roots[k])] = int(joined)
                roots[(roots == roots[o]) | (roots == roots[k])] = joined


class _ShingleSets:
    """Shingle sets of candidates, computed when asked for; the most recent are kept, as buckets repeat across bands."""

    def __init__(self, texts: Sequence[str], vocabulary: dict[str, int]) -> None:
        self.texts, self.vocabulary = texts, vocabulary
        self.kept: dict[int, UInt64Array] = {}

    def __getitem__(self, i: int) -> UInt64Array:
        found = self.kept.pop(i, None)
        if found is None:
            found = _shingles(self.texts[i], self.vocabulary)
        self.kept[i] = found
        while len(self.kept) > 256:
            del self.kept[next(iter(self.kept))]
        return found


def _similarity(a: UInt64Array, b: UInt64Array) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
