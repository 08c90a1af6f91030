"""A corpus in memory, its identity and its division into splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tools.corpora.near_duplicates import near_duplicate_clusters
from tools.errors import CorpusError
from tools.types import IntArray, Split

#: Upper ends of the splits on the unit interval: explore 50 %, refine 15 %, score 25 %, audit 10 %.
SPLIT_ENDS = ((Split.EXPLORE, 0.50), (Split.REFINE, 0.65), (Split.SCORE, 0.90), (Split.AUDIT, 1.0))
#: Part of every split's hash; a new version of the rule would be a new key.
SPLIT_KEY = "neurogloss splits 1"


@dataclass(frozen=True)
class Document:
    """One text, with an id that is the same whenever its corpus is read."""

    id: str
    text: str


def split_of_key(document_id: str) -> Split:
    """The split of a document by the SHA-256 of its id alone.

    Neither the corpus's name nor its other documents take part, so that the same document stays in the same split when
    the corpus is moved, limited or extended, and a pilot study cannot leak into the study that follows.
    """
    digest = hashlib.sha256(f"{SPLIT_KEY}\0{document_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return next((split for split, end in SPLIT_ENDS if place < end), Split.AUDIT)


@dataclass(frozen=True)
class Corpus:
    """Documents in the order of their source.

    Near-duplicates (word 5-gram Jaccard similarity of 0.7 or more, and whatever such pairs link together) share a
    split: that of the cluster's smallest document id.
    """

    spec: str
    """As the user gave it."""
    documents: Sequence[Document]

    def __len__(self) -> int:
        return len(self.documents)

    @cached_property
    def id(self) -> str:
        """16 hex digits over all ids and texts, in order. Two corpora with the same id hold the same documents."""
        digest = hashlib.sha256()
        for document in self.documents:
            for part in (document.id.encode(), document.text.encode()):
                digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:16]

    @cached_property
    def clusters(self) -> IntArray:
        """[document] for each document the index of the smallest-id member of its near-duplicate cluster."""
        return near_duplicate_clusters([d.id for d in self.documents], [d.text for d in self.documents])

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """The split of each document."""
        return tuple(split_of_key(self.documents[i].id) for i in self.clusters)

    def split_of(self, i: int) -> Split:
        """The split of document number `i`."""
        return self.splits[i]

    def counts(self) -> dict[Split, int]:
        """How many documents each split has."""
        return {split: self.splits.count(split) for split in Split}


def require_enough(corpus: Corpus, minimum: int = 5) -> None:
    """Refuses a corpus that cannot be split: every split needs documents of its own.

    Args:
        corpus: The corpus.
        minimum: Documents that each split must have at least.

    Raises:
        CorpusError: A split has fewer; the message says how many documents there are and about how many are needed.
    """
    counts = corpus.counts()
    if min(counts.values()) >= minimum:
        return
    have = ", ".join(f"{split} {count}" for split, count in counts.items())
    near = len(corpus) - len(set(corpus.clusters.tolist()))
    repeats = f" ({near} of them near-duplicates of others, which share a split)" if near else ""
    wanted = max(20 * minimum, 2 * len(corpus))  # the smallest split gets one document in ten, give or take
    raise CorpusError(
        f"The corpus '{corpus.spec}' is too small: it has {len(corpus)} documents{repeats}, split by hash into {have}; "
        f"each split needs at least {minimum}.\nGive a corpus of about {wanted} documents or more."
    )
