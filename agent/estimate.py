"""What a campaign will cost, before any of it is spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import store
from store.queries import list_campaigns
from tools.corpora import Corpus
from tools.errors import IndexDataError
from tools.index import IndexSettings
from tools.index.manifest import NAME, compress, read_manifest
from tools.subject import Subject
from tools.types import UnitId
from tools.units import group_site

#: Seconds of one investigation where nothing is known: the pattern explainer on two cores of a server.
USUAL_SECONDS = 2.5
#: Documents that are tokenised to guess how many tokens the corpus has.
_SAMPLED = 64


def corpus_tokens(subject: Subject, corpus: Corpus, max_tokens: int | None) -> int:
    """About how many tokens the corpus has, from a sample of its documents and its length in characters."""
    documents = corpus.documents
    chosen = np.unique(np.linspace(0, len(documents) - 1, min(_SAMPLED, len(documents))).astype(int))
    # A few thousand characters of a document tell as much as all of it.
    texts = [documents[i].text[:8_000] for i in chosen]
    characters = sum(map(len, texts))
    tokens = sum(len(subject.encode(text)) for text in texts)
    total = sum(len(document.text) for document in documents) * tokens / max(characters, 1)
    return int(total if max_tokens is None else min(total, max_tokens))


def forward_rate(subject: Subject, corpus: Corpus, units: Sequence[UnitId], settings: IndexSettings) -> float:
    """Tokens a second through the subject as far as the deepest unit needs it, from one timed batch."""
    resolved = settings.resolved(subject.context)
    length = resolved.length
    rows = max(1, resolved.batch_tokens // length)
    stream: list[int] = []
    for document in corpus.documents:
        stream += subject.encode(document.text, max_tokens=length * rows)
        if len(stream) >= length * rows:
            break
    length = min(length, len(stream))
    sequences = [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)][:rows]
    ids, mask = subject.pad(sequences)
    sites = {group_site(subject, group) for group in {unit.group for unit in units}}
    subject.capture(ids[:1], mask[:1], sites)  # the first pass sets things up
    began = time.perf_counter()
    subject.capture(ids, mask, sites)
    return ids.numel() / max(time.perf_counter() - began, 1e-6)


def investigation_seconds(db: store.Database, campaign: str | None = None) -> float:
    """Seconds that an investigation takes: as in this campaign so far, else as in the newest one that has ended any."""
    rows = [row for row in list_campaigns(db) if row.done + row.failed and row.seconds > 0]
    own = [row for row in rows if row.campaign == campaign]
    for row in own or rows:
        return row.seconds / (row.done + row.failed)
    return USUAL_SECONDS


def index_is_there(
    home: Path, subject: Subject, corpus: Corpus, units: Sequence[UnitId], settings: IndexSettings
) -> bool:
    """Whether an index of just these things is complete in the data folder.

    Dictionaries are compared by their names alone; the index itself looks at their weights.
    """
    address = settings.resolved(subject.context).address()
    groups: dict[str, list[int]] = {}
    for unit in units:
        groups.setdefault(unit.group, []).append(unit.index)
    ranges = {group: compress(sorted(set(indices))) for group, indices in groups.items()}
    for path in (home / "indexes").glob(f"*/{NAME}"):
        if path.parent.name.endswith(".building"):
            continue
        try:
            manifest = read_manifest(path.parent)
        except IndexDataError:
            continue  # of another version or damaged: if it is ours, building it says so
        if (
            manifest["subject"]["fingerprint"] == subject.fingerprint
            and manifest["corpus"]["id"] == corpus.id
            and manifest["groups"] == ranges
            and manifest["settings"] == address
        ):
            return True
    return False
