"""What the investigations of a campaign share in one process: the heavy things, and what is computed once for many.

None of it is in the graph's state: a resumed investigation finds the same things here, computed anew to the same
values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from agent import triage
from agent.guise import Part, ShownSubject, ShownView
from agent.ledger import PassCounter
from agent.neighbours import Earlier
from agent.seeds import seed_for
from agent.spec import CampaignSpec
from agent.state import Json
from agent.triage import Tail
from explainers.llm.kit import LlmKit
from explainers.output.claim import NOTABLE
from explainers.types import Evidence, Explainer
from tools.edge_kinds import EdgeKind, EdgeMasses, WrittenEdges, edge_masses, written_edges
from tools.effects import Measured, measure_output
from tools.heads import Edge, EdgeProfile, edge_profiles, top_edges
from tools.index import ActivationIndex, SplitView
from tools.interventions import Beginnings
from tools.lenses import HeadWrite, Promotion, head_writes, write_lens
from tools.subject import Subject
from tools.types import Split, UnitId
from tools.unhooked import unhooked

T = TypeVar("T")

#: Contexts on which the attention of a layer's heads is measured.
EDGE_CONTEXTS = 32
#: Contexts in which a head is looked at where it writes.
BUSY_CONTEXTS = 64
#: Contexts in which a single head's strongest edges are looked for, and how many of them are kept.
TOP_EDGE_CONTEXTS = 12
EDGES_SHOWN = 12


@dataclass(frozen=True)
class HeadWrites:
    """A head's strongest edges, and what it writes for the tokens they come from."""

    edges: tuple[Edge, ...]
    writes: tuple[HeadWrite, ...]
    """One for each distinct source token, in order of its strongest edge."""


def mean_promotion(promotions: Sequence[Promotion], k: int = 10) -> Promotion | None:
    """Mean scores over several writes; a token that is not among a write's strongest counts 0 there."""
    if not promotions:
        return None

    def strongest(lists: Sequence[tuple[tuple[str, float], ...]], sign: float) -> tuple[tuple[str, float], ...]:
        sums: dict[str, float] = {}
        for pairs in lists:
            for piece, score in pairs:
                sums[piece] = sums.get(piece, 0.0) + score / len(lists)
        return tuple(sorted(sums.items(), key=lambda item: (-sign * item[1], item[0]))[:k])

    return Promotion(
        strongest([promotion.promoted for promotion in promotions], 1.0),
        strongest([promotion.suppressed for promotion in promotions], -1.0),
    )


def null_units(spec: CampaignSpec, group: Sequence[UnitId], unit: UnitId) -> list[UnitId]:
    """See `Bench.null_units`; `group` holds the campaign's units of the unit's group, ascending."""
    others = [other for other in group if other != unit]
    wanted = min(spec.null_units, len(others))
    if wanted == len(others):
        return others
    drawn = np.random.default_rng(seed_for(spec.seed, unit, "null units")).choice(len(others), wanted, replace=False)
    return [others[i] for i in sorted(drawn)]


class Once:
    """Computes each value once, however many threads ask for it; others wait for the one that computes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of `key`, from `compute` the first time. An exception is not kept."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._values:
                self._values[key] = compute()
            value: T = self._values[key]
            return value


@dataclass
class Bench:
    """The shared tools of a campaign's investigations."""

    spec: CampaignSpec
    subject: Subject
    index: ActivationIndex
    units: Sequence[UnitId]
    """All units of the campaign, in order."""
    explainer: Explainer
    passes: PassCounter
    explore: SplitView
    refine: SplitView
    fingerprint: str
    """Of the model that is run."""
    index_key: str | None
    """Of the index, where the database has it."""
    cast: Mapping[UnitId, Part] = field(default_factory=dict)
    """What stands in for some of the units."""
    provenance: Json | None = None
    """What a control is made of, to make it again; None for the units themselves."""
    kit: LlmKit | None = None
    """The campaign's language model."""
    earlier: Earlier | None = None
    """What earlier campaigns hold of the subject, as it stood when this one began; None where it is not asked for."""
    no_output_test: str | None = None
    """Why what is investigated here has no output that could be tested; None where it has."""
    _once: Once = field(default_factory=Once)

    @classmethod
    def open(
        cls,
        spec: CampaignSpec,
        subject: Subject,
        index: ActivationIndex,
        units: Sequence[UnitId],
        explainer: Explainer,
        *,
        kit: LlmKit | None = None,
        earlier: Earlier | None = None,
    ) -> Bench:
        """A bench over an index; `close` it afterwards."""
        # What is run, when the subject is first asked for it, is no unit's cost: it is asked for in here.
        shown = ShownSubject(subject)
        explore, refine = (ShownView(index.view(split), {}) for split in (Split.EXPLORE, Split.REFINE))
        return cls(
            spec, shown, index, tuple(units), explainer, PassCounter(subject), explore, refine,
            fingerprint=subject.fingerprint, index_key=index.key, kit=kit, earlier=earlier,
        )  # fmt: skip

    def close(self) -> None:
        """Take the subject's hook away."""
        self.passes.close()

    def shown(self, view: SplitView) -> SplitView:
        """A view of the index as steps, explainers and scorers may see it."""
        return ShownView(view, self.cast)

    def scored(self, unit: UnitId, tail: Tail) -> tuple[UnitId, Tail] | None:
        """On which unit, and which tail of it, the description of a unit's tail is tested; None: there is none."""
        return unit, tail

    def shared(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What is computed once for all units, and counted for none of them."""

        def counted_for_nobody() -> T:
            with self.passes.paused():
                return compute()

        return self._once.get(key, counted_for_nobody)

    def seed(self, unit: UnitId, step: str) -> int:
        """The seed of one step of a unit's investigation."""
        return seed_for(self.spec.seed, unit, step)

    def group(self, unit: UnitId) -> list[UnitId]:
        """The campaign's units of the same group, ascending."""
        groups = self.shared("groups", self._groups)
        return groups[unit.group]

    def _groups(self) -> dict[str, list[UnitId]]:
        groups: dict[str, list[UnitId]] = {}
        for unit in sorted(self.units, key=lambda unit: (unit.group, unit.index)):
            groups.setdefault(unit.group, []).append(unit)
        return groups

    def duplicate_of(self, unit: UnitId) -> UnitId | None:
        """The lower-numbered unit of its group that this one copies, if any."""
        found = self.shared(
            ("duplicates", unit.group),
            lambda: triage.duplicates(
                self.group(unit), self.explore.panel_matrix, seed_for(self.spec.seed, unit.group, "duplicates")
            ),
        )
        return found.get(unit)

    def over_score(self, *splits: Split) -> float:
        """Tokens of some splits' panels for each of the score panel's that is looked at; that may be few if it can end
        early: then no more than one each is counted on."""
        sizes = {split: min(getattr(self.spec.panel, f"{split}_tokens"), self.index.tokens[split]) for split in Split}
        ratio: float = sum(sizes[split] for split in splits) / max(1, sizes[Split.SCORE])
        return max(1.0, ratio) if self.spec.scoring == "sequential" else ratio

    def null_units(self, unit: UnitId) -> list[UnitId]:
        """Other units of the group, drawn by the unit's seed, that its description is also scored against."""
        return null_units(self.spec, self.group(unit), unit)

    def edges(self, unit: UnitId) -> EdgeProfile | None:
        """What a head attends to, measured on the explore panel for all heads of its layer at once; else None."""
        if unit.kind != "head":
            return None
        layer = int(unit.where)
        profiles = self.shared(
            ("edges", layer), lambda: edge_profiles(self.subject, layer, self._texts(self.spread(self.explore)))
        )
        return profiles[unit.index]

    def writes(self, unit: UnitId) -> HeadWrites | None:
        """What a head does with the tokens that it attends to most; None for other units."""
        if unit.kind != "head":
            return None
        return self.shared(("writes", unit), lambda: self._head_writes(unit))

    def _head_writes(self, unit: UnitId) -> HeadWrites:
        contexts = self._texts(self.spread(self.explore, TOP_EDGE_CONTEXTS))
        edges = top_edges(self.subject, unit, contexts, EDGES_SHOWN)
        sources = list(dict.fromkeys(contexts[edge.context][edge.key] for edge in edges))
        return HeadWrites(tuple(edges), tuple(head_writes(self.subject, unit, sources) or ()))

    def written(self, unit: UnitId, threshold: float) -> WrittenEdges | None:
        """What a head attends to where it writes more than `threshold`, on the explore panel; None for other units."""
        if unit.kind != "head":
            return None

        def measured() -> WrittenEdges:
            texts = self._texts(self.busy(unit, self.explore, threshold))
            return written_edges(self.subject, unit, texts, threshold)

        return self.shared(("written", unit, threshold), measured)

    def busy(self, unit: UnitId, view: SplitView, threshold: float) -> list[int]:
        """Contexts of a view's panel in which a head writes more than `threshold`, evenly spread over their order."""
        found = view.panel_contexts[(view.panel(unit) > threshold).any(axis=1)]
        chosen = np.unique(np.linspace(0, len(found) - 1, min(BUSY_CONTEXTS, len(found))).round().astype(int))
        return [int(found[i]) for i in chosen]

    def edge_masses(self, unit: UnitId, kind: EdgeKind, view: SplitView, threshold: float) -> EdgeMasses:
        """Attention to one kind of edges where a head writes more than `threshold`, on a view's panel."""
        texts = [view.texts.ids(context).tolist() for context in self.busy(unit, view, threshold)]
        with unhooked(self.subject):  # the text may be sealed
            return edge_masses(self.subject, unit, texts, kind, threshold)

    @property
    def beginnings(self) -> Beginnings:
        """Keys and values of open texts, for all units."""
        return self.shared(("beginnings", "open"), lambda: Beginnings(self.subject, around=self.passes.paused))

    @property
    def sealed_beginnings(self) -> Beginnings:
        """Those of sealed texts. They are nobody's but the tests'."""
        return self.shared(("beginnings", "sealed"), lambda: Beginnings(self.subject))

    def output(self, unit: UnitId, polarity: str, threshold: float) -> Measured | str:
        """What turning a unit off does to the output, on the explore split; in words why it was not measured."""
        if self.spec.output == "off":
            return "this campaign tests no output halves (output: off)"
        statistics = self.explore.statistics(unit)
        return measure_output(
            self.explore, self.subject, unit,
            sign=1.0 if polarity == "+" else -1.0,
            threshold=threshold,
            strongest=statistics.maximum if polarity == "+" else -statistics.minimum,
            least=NOTABLE,
            seed=self.seed(unit, f"output {polarity}"),
            common_seed=self.spec.seed,
            beginnings=self.beginnings,
        )  # fmt: skip

    def promotion(self, unit: UnitId) -> Promotion | None:
        """Tokens that the unit's write promotes and suppresses when its activation is positive.

        For a head: those that it promotes on average over the tokens to which its strongest edges go.
        """
        writes = self.writes(unit)
        if writes is None:
            return write_lens(self.subject, unit)
        return mean_promotion([write.promotion for write in writes.writes])

    def spread(self, view: SplitView, most: int = EDGE_CONTEXTS) -> list[int]:
        """Contexts of a view's panel on which attention is measured, evenly spread over their lengths."""
        panel = view.panel_contexts
        chosen = np.unique(np.linspace(0, len(panel) - 1, min(most, len(panel))).round().astype(int))
        return [context for context in (int(panel[i]) for i in chosen) if view.texts.length(context) > 2]

    def edges_by_context(self, layer: int, view: SplitView) -> list[list[EdgeProfile]]:
        """Edge profiles of a layer's heads on each context of `spread`, [context][head]."""

        def measured() -> list[list[EdgeProfile]]:
            texts = [view.texts.ids(context).tolist() for context in self.spread(view)]
            with unhooked(self.subject):  # the text may be sealed
                return [edge_profiles(self.subject, layer, [text]) for text in texts]

        return self.shared(("edges by context", layer, view.split), measured)

    def _texts(self, contexts: Sequence[int]) -> list[list[int]]:
        return [self.explore.texts.ids(context).tolist() for context in contexts]

    def evidence(self, unit: UnitId, polarity: str, threshold: float, *, measured: bool = True) -> Evidence:
        """All that an explainer may see of one tail of a unit.

        Args:
            unit: The unit.
            polarity: Its tail, '+' or '-'.
            threshold: Of the tail.
            measured: Measure what turning the unit off does to the output; else what is known of it is in the rivals.
        """
        return Evidence(
            unit=unit,
            polarity=polarity,
            subject=self.subject,
            explore=self.explore,
            refine=self.refine,
            threshold=threshold,
            seed=self.seed(unit, f"explain {polarity}"),
            edges=self.edges(unit),
            written=self.written(unit, threshold),
            promotion=self.promotion(unit),
            output=self.output(unit, polarity, threshold) if measured else "it is measured once, for the explainer",
            others=tuple(self.null_units(unit)),
        )
