"""`concepts`: several descriptions of a unit that fires on several things, one for each cluster of its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import ClusterError, kmeans2

from explainers.llm.kit import LlmKit
from explainers.prompted.answers import joined, one_line
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.evidence import WINDOW, Excerpt, plain, scale_of
from explainers.prompted.forms import Described, DescribedConcepts
from explainers.prompted.quantiles import mixed
from explainers.registry import register
from explainers.rules.language import format_rule, parse_rule
from explainers.types import Evidence, Explanation, Recorder

Doubles = npt.NDArray[np.float64]

BACK = 4
"""Tokens before the peak that count for the lexical likeness of texts, the nearer the more."""
SEPARATE = 0.15
"""Mean silhouette from which texts count as more than one cluster."""
_TRIES = 5


@dataclass(frozen=True)
class Clusters:
    """A partition of texts."""

    of: tuple[int, ...]
    """Cluster of each text, numbered from 0, the largest first."""
    silhouette: float
    """How well they are apart, -1 to 1 (Rousseeuw 1987); 0 for a single one."""


@register("concepts")
class Concepts(Prompted):
    """Asks a language model for a description of each cluster of a unit's texts, for units of several concepts.

    After PRISM (Kopf et al. 2025): texts over the unit's tail are clustered by k-means, here over sentence embeddings
    or, without a model for those, over the tokens up to the peak; all clusters are described in one answer. The first
    explanation is their union, those of the clusters are its rivals.

    Args:
        kit: The model and its prompts.
        top: How many of the strongest texts to cluster.
        tail: How many texts at quantiles of the tail.
        shown: How many of them to show, spread over the clusters.
        clusters: How many clusters at most.
        window: Tokens of each text.
        n: Samples of the answer.
    """

    name = "concepts"
    prompt = "explain-concepts"
    form = DescribedConcepts
    max_tokens = 1600

    def __init__(
        self, *, kit: LlmKit, top: int = 16, tail: int = 32, shown: int = 24, clusters: int = 4, window: int = WINDOW,
        n: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(kit=kit, n=n)
        self.top, self.tail, self.shown = (
            at_least(top, 1, "top"),
            at_least(tail, 0, "tail"),
            at_least(shown, 1, "shown"),
        )
        self.clusters, self.window = at_least(clusters, 1, "clusters"), at_least(window, 4, "window")
        if clusters > 8:
            raise ValueError("clusters is at most 8")

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """Texts by cluster."""
        pool = mixed(evidence, self.top, self.tail, self.window)
        if not pool:
            return "no text of the explore split fires it"
        clusters = cluster(self._vectors(pool), self.clusters, evidence.seed)
        shown, groups = _spread(pool, clusters, self.shown)
        variables = evidence_variables(evidence, shown)
        variables["groups"] = groups
        return Gathered(
            variables, scale_of(shown), tuple(shown),
            {
                "clusters": len(groups), "silhouette": round(clusters.silhouette, 4), "clustered": len(pool),
                "likeness": self.kit.likeness.name,
            },
        )  # fmt: skip

    def read(self, answer: DescribedConcepts, evidence: Evidence, gathered: Gathered) -> list[Explanation]:
        """The union of the concepts, then each of them."""
        each = [self.described(concept, evidence, gathered) for concept in answer.concepts]
        return each if len(each) == 1 else [self._union(answer.concepts, each, gathered), *each]

    def _union(self, concepts: Sequence[Described], each: Sequence[Explanation], gathered: Gathered) -> Explanation:
        """One explanation that fires wherever one of several does."""
        first = each[0]
        fires_on = "; ".join(
            f"({number}) {(one_line(concept.fires_on) or '').rstrip('.')}" for number, concept in enumerate(concepts, 1)
        )
        rules = [parse_rule(e.rule) for e in each if e.rule is not None]
        rule = joined(rules) if len(rules) == len(each) else None
        exceptions = [e.exceptions for e in each if e.exceptions]
        details = {
            key: value for key, value in first.details.items() if key not in ("literals", "members", "rule_error")
        }
        if rule is not None:
            details |= {"literals": rule.n_literals, "members": rule.n_members}
        elif rules:
            details["rule_error"] = "not every concept came with a rule"
        details["concepts"] = [
            {"label": e.label, "input_half": e.input_half, "rule": e.rule, "exceptions": e.exceptions} for e in each
        ]
        return Explanation(
            self.name, " / ".join(e.label for e in each)[:200], f"Fires on any of these: {fires_on}.",
            first.output_half, None if rule is None else format_rule(rule), " ".join(exceptions) or None, details,
        )  # fmt: skip

    def _vectors(self, pool: Sequence[Excerpt]) -> Doubles:
        """A vector for each text: its likeness to all of them, or where that is one of words, its last tokens."""
        if self.kit.likeness.lexical:
            return lexical_vectors(pool)
        texts = [plain(excerpt) for excerpt in pool]
        return np.asarray(self.kit.likeness.to(texts, texts), np.float64)


def lexical_vectors(pool: Sequence[Excerpt]) -> Doubles:
    """Tokens at and shortly before each peak, the peak's own with weight 1, others with 1 / (1 + distance).

    [n_texts, n_features] of length 1; a feature is a token, case and outer spaces apart.
    """
    features: dict[str, int] = {}
    rows: list[dict[int, float]] = []
    for excerpt in pool:
        row: dict[int, float] = {}
        for distance in range(min(BACK, excerpt.peak) + 1):
            piece = excerpt.pieces[excerpt.peak - distance].strip().lower()
            at = features.setdefault(piece, len(features))
            row[at] = max(row.get(at, 0.0), 1 / (1 + distance))
        rows.append(row)
    matrix = np.zeros((len(pool), len(features)))
    for number, row in enumerate(rows):
        matrix[number, list(row)] = list(row.values())
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))


def cluster(vectors: Doubles, most: int, seed: int) -> Clusters:
    """k-means for each k up to `most`; the k with the largest mean silhouette, one cluster when none is large."""
    best = Clusters((0,) * len(vectors), 0.0)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    different = len(np.unique(vectors, axis=0))
    for k in range(2, min(most, different, len(vectors) - 1) + 1):
        for attempt in range(_TRIES):
            rng = np.random.default_rng([seed, k, attempt])
            try:
                _, labels = kmeans2(vectors, k, minit="++", seed=rng, missing="raise")
            except ClusterError:  # a cluster ran empty: another start may do better
                continue
            value = silhouette(apart, labels)
            if value > max(best.silhouette, SEPARATE):
                best = Clusters(_by_size(labels), value)
    return best


def silhouette(apart: Doubles, labels: npt.NDArray[Any]) -> float:
    """Mean of (b - a) / max(a, b) over texts: a the mean distance within the cluster, b to the nearest other one."""
    values = []
    for i, own in enumerate(labels):
        inside = (labels == own) & (np.arange(len(labels)) != i)
        if not inside.any():
            values.append(0.0)
            continue
        a = float(apart[i, inside].mean())
        b = min(float(apart[i, labels == other].mean()) for other in np.unique(labels) if other != own)
        values.append((b - a) / max(a, b, 1e-12))
    return float(np.mean(values))


def _by_size(labels: npt.NDArray[Any]) -> tuple[int, ...]:
    order = sorted(np.unique(labels).tolist(), key=lambda label: (-int((labels == label).sum()), label))
    return tuple(order.index(label) for label in labels.tolist())


def _spread(pool: Sequence[Excerpt], clusters: Clusters, n: int) -> tuple[list[Excerpt], list[list[int]]]:
    """Texts to show, cluster by cluster, and the numbers (from 1) under which each cluster's are shown.

    Clusters take turns until n are chosen, each giving its texts strongest first.
    """
    members = [[i for i, of in enumerate(clusters.of) if of == which] for which in range(max(clusters.of) + 1)]
    members = [sorted(rows, key=lambda i: -pool[i].strength) for rows in members]
    turns = [i for rank in range(len(pool)) for rows in members for i in rows[rank : rank + 1]][:n]
    chosen = [[i for i in rows if i in turns] for rows in members]
    numbers = iter(range(1, n + 1))
    groups = [[next(numbers) for _ in rows] for rows in chosen]
    return [pool[i] for rows in chosen for i in rows], [group for group in groups if group]
