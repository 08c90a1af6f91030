"""Examples that are taken apart: active positions of the explore split with little text before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agent.contest.beliefs import Floats
from agent.contest.policy import Context
from agent.contest.types import Probe
from explainers.rules.ast import Rule
from explainers.rules.evaluate import matches
from explainers.rules.language import parse_rule
from tools.index import SplitView
from tools.types import BoolArray, IntArray

#: Tokens before a position that an example may have.
LONGEST = 48
#: Strong examples of a clause, of which the one with least text before it is taken apart.
POOL = 12
#: Tokens that are tried in a place: the most frequent ones of the explore panel.
CANDIDATES = 400
#: Share of the activity that a clause must catch, or that no clause may catch, to be given an example.
SHARE = 0.02


@dataclass(frozen=True)
class Material:
    """What trials are made of: the unit's sample of explore, and the tokens of the corpus."""

    context: Context

    @property
    def view(self) -> SplitView:
        """The explore split."""
        view = self.context.evidence.explore
        assert isinstance(view, SplitView), "a campaign's evidence is views of its index"
        return view

    @cached_property
    def rows(self) -> tuple[IntArray, IntArray, Floats, Floats, IntArray]:
        """Contexts, positions, magnitudes, weights and documents of the sample, [n] each."""
        sample, evidence = self.view.sample(self.context.desk.unit), self.context.evidence
        magnitude = np.maximum(evidence.sign * sample.values.astype(np.float64), 0)
        return sample.contexts, sample.positions, magnitude, sample.weights.astype(np.float64), sample.documents

    @cached_property
    def active(self) -> BoolArray:
        """Where the unit is active, [n]."""
        return np.asarray(self.rows[2] > self.context.evidence.threshold)

    @cached_property
    def counts(self) -> Counter[int]:
        """How often each token stands in the explore panel."""
        counts: Counter[int] = Counter()
        skip = len(self.context.desk.bench.subject.prefix)
        for number in self.view.panel_contexts.tolist():
            counts.update(self.view.texts.ids(number).tolist()[skip:])
        return counts

    @cached_property
    def candidates(self) -> list[int]:
        """Tokens to try in a place, the most frequent first."""
        return [token for token, _ in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:CANDIDATES]]

    @cached_property
    def vocabulary(self) -> list[int]:
        """All tokens but special ones."""
        tokenizer = self.context.desk.bench.subject.tokenizer
        special = set(tokenizer.all_special_ids)
        return [token for token in range(len(tokenizer)) if token not in special]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Texts of tokens."""
        found: list[str] = self.context.desk.bench.subject.pieces(ids)
        return found

    def written(self, body: Sequence[int]) -> Probe | None:
        """Tokens (without the prefix of every text) as a text that is read at its end.

        None where the tokenizer would read the text as other tokens.
        """
        subject = self.context.desk.bench.subject
        text = "".join(subject.pieces(body))
        ids = subject.encode(text)
        return Probe(text, len(ids) - 1) if ids == [*subject.prefix, *body] else None

    def body(self, row: int) -> list[int]:
        """Tokens of a row's text up to its position, without the prefix."""
        contexts, positions, *_ = self.rows
        ids: list[int] = self.view.texts.ids(int(contexts[row])).tolist()[: int(positions[row]) + 1]
        return ids[len(self.context.desk.bench.subject.prefix) :]

    def held(self, rule: Rule) -> IntArray:
        """The first clause that claims activity and holds at each row; -1 where none does, [n]."""
        contexts, positions, *_ = self.rows
        found = matches(rule, self.view.texts, contexts, positions)
        firing = np.array([clause.strength > self.context.evidence.threshold for clause in rule.clauses] + [False])
        return np.where(firing[found], found, -1)

    def next_bases(self, rule: Rule | None, number: int) -> list[list[int]]:
        """Bodies of examples: one of each clause of a rule, those first that catch most, and one that none catches."""
        weights = self.rows[3]
        held = np.full(len(weights), -1) if rule is None else self.held(rule)
        total = max(float(weights[self.active].sum()), 1e-12)
        shares = {
            clause: float(weights[self.active & (held == clause)].sum()) / total
            for clause in np.unique(held[self.active]).tolist()
        }
        wanted = sorted((c for c in shares if shares[c] >= SHARE), key=lambda c: (-shares[c], c))[:number]
        found = [self._early(self.active & (held == clause)) for clause in wanted]
        return [body for body in found if body is not None]

    def unexplained(self, rule: Rule | None) -> list[list[int]]:
        """The body of an example that no clause explains, where such activity is worth it."""
        weights = self.rows[3]
        held = np.full(len(weights), -1) if rule is None else self.held(rule)
        missed = self.active & (held < 0)
        if float(weights[missed].sum()) < SHARE * float(weights[self.active].sum()):
            return []
        body = self._early(missed)
        return [] if body is None else [body]

    def _early(self, among: BoolArray) -> list[int] | None:
        """Of the strongest positions of distinct documents the one with least text before it."""
        _, positions, magnitude, _, documents = self.rows
        order = np.argsort(-magnitude, kind="stable")
        order = order[among[order] & (positions[order] >= 2)]
        _, first = np.unique(documents[order], return_index=True)
        pool = order[np.sort(first)][:POOL]
        for row in pool[np.argsort(positions[pool], kind="stable")].tolist():
            body = self.body(row)
            if 2 <= len(body) <= LONGEST and self.written(body) is not None:
                return body
        return None

    def filler(self, length: int, seed: int) -> list[int]:
        """So many tokens of ordinary text, from the beginning of a text of the corpus."""
        generator = np.random.default_rng([self.context.seed, seed])
        skip = len(self.context.desk.bench.subject.prefix)
        found: list[int] = []
        panel = self.view.panel_contexts
        while len(found) < length:
            found += self.view.texts.ids(int(panel[generator.integers(len(panel))])).tolist()[skip:]
        return found[:length]


def rule_of(text: str | None) -> Rule | None:
    """The rule of a description; None where it has none, or one without a clause."""
    rule = None if text is None else parse_rule(text)
    return rule if rule is not None and rule.clauses else None
