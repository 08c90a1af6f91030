"""What tools work on: a subject with its counter of forward passes, and where there is one an activation index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.bench import Bench
from agent.ledger import PassCounter
from agent.neighbours import Earlier
from tools.errors import IndexDataError, SealedError
from tools.index import OPEN_SPLITS, ActivationIndex, SplitView
from tools.subject import Subject
from tools.types import Split

_NONE: Mapping[Split, SplitView] = MappingProxyType({})


@dataclass(frozen=True)
class Origin:
    """On what a tool was used, to use it again."""

    subject: str
    fingerprint: str
    dtype: str
    index: str | None = None
    """Key of the activation index, for tools that read one."""
    dictionaries: Mapping[str, str] = field(default_factory=dict)
    """Name -> fingerprint of the sparse dictionaries attached to the subject."""

    def to_json(self) -> dict[str, Any]:
        """What a record of an experiment has beside the arguments; what there is none of is left out."""
        told = {
            "subject": self.fingerprint, "name": self.subject, "dtype": self.dtype, "index": self.index,
            "dictionaries": dict(self.dictionaries),
        }  # fmt: skip
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True)
class Workbench:
    """One subject and what belongs to it. Sealed splits have no view here."""

    subject: Subject
    passes: PassCounter
    home: Path | None = None
    """The data folder, for tools that keep what they compute."""
    views: Mapping[Split, SplitView] = field(default_factory=lambda: _NONE)
    index: str | None = None
    """Key of the activation index that the views are of."""
    bench: Bench | None = None
    """The campaign's, when the tools are used within one."""
    earlier: Earlier | None = None
    """What finished campaigns hold of the subject, where there is a database."""

    @classmethod
    @contextmanager
    def open(
        cls,
        subject: Subject,
        *,
        home: Path | None = None,
        index: ActivationIndex | None = None,
        earlier: Earlier | None = None,
    ) -> Iterator[Workbench]:
        """A workbench of its own, outside of any campaign.

        Args:
            subject: The model.
            home: The data folder.
            index: Activations of a corpus, for tools that show examples; its open splits are used.
            earlier: What finished campaigns hold of the subject, for the tool that looks at neighbours.
        """
        views = {} if index is None else {split: index.view(split) for split in OPEN_SPLITS if index.tokens[split]}
        _ = subject.causal, subject.unembedding  # found out by a pass when first asked for, which is no tool's cost
        passes = PassCounter(subject)
        try:
            yield cls(subject, passes, home, views, None if index is None else index.key, earlier=earlier)
        finally:
            passes.close()

    @classmethod
    def of(cls, bench: Bench, home: Path | None = None) -> Workbench:
        """The workbench of a campaign's bench: its subject, counter and open views, as investigations may see them."""
        views = {Split.EXPLORE: bench.explore, Split.REFINE: bench.refine}
        return cls(bench.subject, bench.passes, home, views, bench.index.key, bench, bench.earlier)

    @property
    def origin(self) -> Origin:
        """What a record of an experiment says of it."""
        return Origin(
            subject=self.subject.name,
            fingerprint=self.subject.fingerprint,
            dtype=str(self.subject.dtype).removeprefix("torch."),
            index=self.index,
            dictionaries={name: one.fingerprint for name, one in sorted(self.subject.dictionaries.items())},
        )

    def view(self, split: Split) -> SplitView:
        """Activations of an open split.

        Raises:
            SealedError: It is the score or the audit split.
            IndexDataError: There is no index here.
        """
        if split not in OPEN_SPLITS:
            raise SealedError(f"The {split} split is sealed: descriptions are tested on it. Use explore or refine.")
        if split not in self.views:
            raise IndexDataError(
                f"There is no activation index with the {split} split here. Build one with 'neurogloss index build', "
                "or give texts of your own to a tool that runs them."
            )
        return self.views[split]
