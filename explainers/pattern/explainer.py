"""`pattern`: induces a rule without a language model, prunes it, tests it by edits and puts it in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from explainers.output.attach import with_claim
from explainers.pattern.causal import Causal
from explainers.pattern.edit_check import Edits, edit_strongest
from explainers.pattern.grow import Settings
from explainers.pattern.heads import head_label, head_sentence, in_words, role_rivals, roles, with_roles
from explainers.pattern.learn import Learned, learn
from explainers.pattern.plan import Rows
from explainers.pattern.prune import Candidate, precision_recall
from explainers.pattern.words import exceptions
from explainers.registry import register
from explainers.rules.ast import Rule
from explainers.rules.features import FeatureTable
from explainers.rules.language import format_rule
from explainers.types import Evidence, EvidenceView, Explanation, Recorder

SHORT_RIVAL = 8
"""Elementary tests of the shorter rival that is offered beside the chosen rule."""


@register("pattern")
class PatternExplainer:
    """Explains a unit by a rule over the text so far.

    Args:
        max_literals: literals in one clause.
        max_clauses: clauses that claim activity.
        beam: width of the search.
        edits: whether to test the rule by editing inputs, when there is a subject.
    """

    name = "pattern"

    def __init__(self, *, max_literals: int = 3, max_clauses: int = 24, beam: int = 6, edits: bool = True):
        if not 1 <= max_literals <= 4:
            raise ValueError("max_literals is from 1 to 4")
        if max_clauses < 1 or beam < 1:
            raise ValueError("max_clauses and beam are at least 1")
        self.settings = replace(Settings(), max_literals=max_literals, max_clauses=max_clauses, beam=beam)
        self.edits = edits
        self._tables: dict[int, FeatureTable] = {}
        self._lock = threading.Lock()

    def table_of(self, view: EvidenceView) -> FeatureTable:
        """The table of literals of a split, built once for each text source and shared by all units."""
        with self._lock:
            # A table holds its text source, so an id stays that source's as long as the table is here.
            if id(view.texts) not in self._tables:
                self._tables[id(view.texts)] = FeatureTable(view.texts, view.panel_contexts)
            return self._tables[id(view.texts)]

    def rows(self, evidence: Evidence, view: EvidenceView) -> Rows:
        """The unit's sample of one split with its literals."""
        return Rows(self.table_of(view), view.sample(evidence.unit), evidence.sign, evidence.threshold)

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """The chosen rule first, then (when there is one) a shorter rival."""
        started = time.perf_counter()
        explore, refine = self.rows(evidence, evidence.explore), self.rows(evidence, evidence.refine)
        learned = learn(explore, refine, self.settings)
        edits = edit_strongest(evidence, explore) if self.edits and learned is not None else None
        if edits is not None and learned is not None:
            learned = Causal(evidence, edits, (explore, refine), self.settings).improve(learned, recorder)
        recorder.event(
            "induction",
            {
                "seconds": time.perf_counter() - started,
                "active_positions": int(explore.active.sum()),
                "active_documents": len(np.unique(explore.documents[explore.active])),
                "path": [] if learned is None else [_figures(candidate) for candidate in learned.path],
            },
        )
        if learned is None:
            return [self._without_rule(evidence, explore)]
        found = [
            self._explanation(evidence, (explore, refine), candidate, recorder, edits if rank == 0 else None)
            for rank, candidate in enumerate(_rivals(learned))
        ]
        return [*found, *_of_other_roles(evidence, found)]

    def _explanation(
        self,
        evidence: Evidence,
        splits: tuple[Rows, Rows],
        candidate: Candidate,
        recorder: Recorder,
        edits: Edits | None,
    ) -> Explanation:
        rule, explore = candidate.rule, splits[0]
        shares = _shares(explore, candidate)
        details: dict[str, Any] = {
            **_figures(candidate),
            "clauses": [
                {"strength": clause.strength, "share_of_activity": share}
                for clause, share in zip(rule.clauses, shares, strict=True)
            ],
        }
        for name, rows in zip(("explore", "refine"), splits, strict=True):
            precision, recall = precision_recall(rows.predictions(rule, candidate.plan), rows)
            details[name] = {"precision": precision, "recall": recall}
        short, text = in_words(rule, shares, evidence.threshold, evidence.edges)
        if evidence.edges is not None:
            details["roles"] = [role.to_json() for role in roles(evidence.edges)]
        if edits is not None:
            check = edits.check(rule)
            details["edits"] = check.to_json()
            recorder.event("edit_check", {"unit": str(evidence.unit), **details["edits"]})
            text = f"{text} {check.sentence()}"
        excepted = exceptions(rule, evidence.threshold)
        return with_claim(Explanation(self.name, short, text, None, format_rule(rule), excepted, details), evidence)

    def _without_rule(self, evidence: Evidence, explore: Rows) -> Explanation:
        """What is said of a unit whose activity no literal tells apart: its mean, and that it is not understood."""
        mean = explore.mean(np.ones(len(explore), bool)) if len(explore) else 0.0
        short, text = "no pattern found", "No pattern of tokens tells where it fires."
        if evidence.edges is not None:
            short, text = head_label(evidence.edges), f"{head_sentence(evidence.edges)} {text}"
        rule = format_rule(Rule((), float(f"{mean:.4g}")))
        return with_claim(
            Explanation(self.name, short, text, None, rule, None, {"literals": 0, "members": 0}), evidence
        )


def _of_other_roles(evidence: Evidence, found: Sequence[Explanation]) -> list[Explanation]:
    """The descriptions of a head with each of its other roles put first: rivals about what it attends to."""
    if evidence.edges is None:
        return []
    return [
        with_roles(one, evidence.edges, said)
        for said in role_rivals(evidence.edges, evidence.written)[1:]
        for one in found
    ]


def _rivals(learned: Learned) -> list[Candidate]:
    shorter = learned.at_most(min(SHORT_RIVAL, learned.chosen.size - 1))
    return [learned.chosen] + ([shorter] if shorter is not None else [])


def _figures(candidate: Candidate) -> dict[str, Any]:
    return {
        "literals": candidate.rule.n_literals,
        "members": candidate.rule.n_members,
        "f1_explore": candidate.f1_explore,
        "f1_refine": candidate.f1_refine,
    }


def _shares(rows: Rows, candidate: Candidate) -> list[float]:
    """Per clause the share of the activity above threshold (weighted) that it is the first to match."""
    left = rows.active.copy()
    total = max(rows.active_weight, 1e-12)
    shares = []
    for clause in candidate.plan:
        held = left & rows.clause(clause)
        left &= ~held
        shares.append(float(rows.weights[held].sum()) / total)
    return shares
