"""What a campaign will cost, before any of it is spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import store
from agent.spec import CampaignSpec
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
#: Tokens of a language model that a unit takes where nothing is known, and those of each further test.
USUAL_LLM_TOKENS, USUAL_TEST_TOKENS = 14_000, 6_000
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


def tokens_to_index(
    home: Path,
    subject: Subject,
    corpus: Corpus,
    units: Sequence[UnitId],
    settings: IndexSettings,
    *,
    fingerprint: str | None = None,
) -> int:
    """About how many tokens have to go through the subject for an index; none when it is complete in the data folder.

    `fingerprint` is that of the subject's twin, when it is the twin's index.
    """
    wanted = (
        fingerprint or subject.fingerprint,
        corpus.id,
        _ranges(units),
        settings.resolved(subject.context).address(),
    )
    if any(_address(path.parent) == wanted for path in (home / "indexes").glob(f"*/{NAME}")):
        return 0
    return corpus_tokens(subject, corpus, settings.max_tokens)


def investigation_seconds(db: store.Database, campaign: str | None = None, controls: float = 0.0) -> float:
    """Seconds that a unit takes, with the controls that come with it.

    As in this campaign so far, else as in the newest one that has ended any; else `USUAL_SECONDS` and the same for its
    share of the controls.
    """
    rows = [row for row in list_campaigns(db) if row.done + row.failed and row.seconds > 0]
    own = [row for row in rows if row.campaign == campaign]
    for row in own or rows:
        return row.seconds / (row.done + row.failed)
    return USUAL_SECONDS * (1 + controls)


def llm_tokens(db: store.Database, spec: CampaignSpec) -> float:
    """Tokens of language models that a unit takes: as in this campaign so far, else what is usual. 0 without a model.

    Args:
        db: The database.
        spec: The campaign.
    """
    if spec.llm is None:
        return 0.0
    rows = [row for row in list_campaigns(db) if row.campaign == spec.title and row.done + row.failed and row.tokens]
    usual = USUAL_LLM_TOKENS + USUAL_TEST_TOKENS * len(spec.diagnostics)
    return rows[0].tokens / (rows[0].done + rows[0].failed) if rows else usual * (1 + spec.controls)


def _ranges(units: Sequence[UnitId]) -> dict[str, str]:
    groups: dict[str, list[int]] = {}
    for unit in units:
        groups.setdefault(unit.group, []).append(unit.index)
    return {group: compress(sorted(set(indices))) for group, indices in groups.items()}


def _address(folder: Path) -> tuple[str, str, dict[str, str], dict[str, Any]] | None:
    """What a complete index is of. Dictionaries are told by their names; the index itself looks at their weights."""
    if folder.name.endswith(".building"):
        return None
    try:
        manifest = read_manifest(folder)
    except IndexDataError:
        return None  # of another version or damaged: if it is ours, building it says so
    return manifest["subject"]["fingerprint"], manifest["corpus"]["id"], manifest["groups"], manifest["settings"]
