"""What an index is made with, what it is called, and how its building reports progress."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.errors import IndexDataError
from tools.types import Split

#: Version of the files; an index of another version is built anew under another key.
FORMAT = 2

#: The order in which splits are stored and processed.
SPLITS = (Split.EXPLORE, Split.REFINE, Split.SCORE, Split.AUDIT)

DEFAULT_PANEL = {Split.EXPLORE: 24_000, Split.REFINE: 8_000, Split.SCORE: 24_000, Split.AUDIT: 8_000}

#: With dtype 'auto', the panels are kept in float32 up to this many bytes in all, in float16 beyond.
FLOAT32_PANEL_BYTES = 1 << 30


@dataclass(frozen=True)
class IndexSettings:
    """Settings of an index. All but `batch_tokens` and `checkpoint_seconds` are part of its content address."""

    context: int | None = None
    """Tokens in a context; None means min(256, what the subject can take)."""
    window: int = 32
    """Tokens in a block, the sampling unit."""
    panel_tokens: Mapping[Split, int] = field(default_factory=lambda: dict(DEFAULT_PANEL))
    """About how many tokens of each split are kept, for every unit, in whole contexts chosen by a seeded hash."""
    top_k: int = 24
    """Strongest blocks kept for each unit, split and tail, from as many documents."""
    batch_tokens: int = 4096
    """Tokens in a forward pass, padding included. Changes results only by rounding."""
    max_tokens: int | None = None
    """Index about this many tokens: contexts drawn from all over the corpus by a seeded hash. None: all of them."""
    seed: int = 0
    """Seed of the hashes that choose the panel and, under `max_tokens`, the contexts."""
    dtype: Literal["auto", "float16", "float32"] = "auto"
    """How panel activations are stored; 'auto' is float32 up to 1 GiB in all, float16 beyond."""
    checkpoint_seconds: float = 20.0
    """At most about this much work is lost in a kill; more where checkpoints would take over 2 % of the time. With 0,
    there is one after every batch."""

    def resolved(self, subject_context: int) -> IndexSettings:
        """These settings with the context length filled in and everything checked."""
        context = min(256, subject_context) if self.context is None else self.context
        if not 2 <= context <= subject_context:
            raise IndexDataError(f"An index context of {context} tokens does not fit a subject that takes 2 to "
                                 f"{subject_context}. Choose a context within that.")  # fmt: skip
        for name, value in (("window", self.window), ("top_k", self.top_k), ("batch_tokens", self.batch_tokens)):
            if value < 1:
                raise IndexDataError(f"The index setting {name} is {value}; it must be at least 1.")
        panel = {split: int(self.panel_tokens.get(split, 0)) for split in SPLITS}
        return IndexSettings(context, self.window, panel, self.top_k, self.batch_tokens, self.max_tokens, self.seed,
                             self.dtype, self.checkpoint_seconds)  # fmt: skip

    @property
    def length(self) -> int:
        """The context length of resolved settings."""
        if self.context is None:
            raise ValueError("settings are not resolved")
        return self.context

    def address(self) -> dict[str, Any]:
        """What of the settings decides the content of the index, as plain values."""
        return {
            "context": self.context,
            "window": self.window,
            "panel_tokens": {str(split): self.panel_tokens[split] for split in SPLITS},
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "dtype": self.dtype,
        }


def content_key(subject: str, fingerprints: Mapping[str, str], corpus: str, groups: Mapping[str, str],
                settings: IndexSettings) -> str:  # fmt: skip
    """Address of an index: 16 hex digits of a hash over everything that decides its content.

    Args:
        subject: The subject's fingerprint.
        fingerprints: Fingerprint of each dictionary and direction used, by group.
        corpus: The corpus id.
        groups: Ranges of unit indices by group, e.g. ``{"mlp:3": "0-171"}``.
        settings: Resolved settings.
    """
    parts = [FORMAT, subject, dict(fingerprints), corpus, dict(groups), settings.address()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Progress:
    """How far the building is."""

    stage: Literal["waiting", "tokens", "activations", "postings"]
    """Waiting for another process that builds the same index, tokenising, running the subject, merging postings."""
    tokens_done: int
    tokens_total: int | None
    """None while the corpus is still being tokenised."""
    seconds: float
    """Spent on this index in all, over every run that worked on it."""
    rate: float
    """Tokens a second of this stage in this run."""


ProgressCallback = Callable[[Progress], None]
