"""What rivals about a head expect of its attention: each has a role, and a role says which edges a text has.

A probe of an edge is a place from which a head attends and the places to which it may; its value is the attention to
these together. It counts as an edge from `explainers.pattern.heads.MASS` on, the mass that a role claims at least.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.contest.beliefs import Floats
from agent.contest.types import Probe, Rival
from explainers.pattern.heads import Role, asserted_role
from tools.edge_kinds import EdgeKind, edge_mask
from tools.subject import Subject
from tools.types import BoolArray


def role_of(rival: Rival) -> Role | None:
    """What a rival says first of a head's attention; None where it says nothing."""
    return asserted_role(rival.explanation.details)


class EdgeTexts:
    """Texts, and the edges that roles see in them.

    Args:
        subject: The model.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._ids: dict[str, list[int]] = {}
        self._masks: dict[tuple[EdgeKind, str], BoolArray] = {}

    def sources(self, kind: EdgeKind, text: str, query: int) -> tuple[int, ...]:
        """Positions to which a head attends from a place of a text if it has this role; none where it says nothing."""
        if text not in self._ids:
            self._ids[text] = self._subject.encode(text)
        if (kind, text) not in self._masks:
            self._masks[kind, text] = edge_mask(self._subject, kind, self._ids[text])
        return tuple(np.flatnonzero(self._masks[kind, text][query]).tolist())


def edge_predictions(subject: Subject, rivals: Sequence[Rival], probes: Sequence[Probe], lapse: float) -> Floats:
    """Probability that a head attends to each probe's sources if each rival's role is right.

    A role expects attention where its own edges are among the sources, and none elsewhere. It is undecided where it
    expects some of them beside others, and about the first position, on which heads rest.

    Args:
        subject: The model.
        rivals: Descriptions of a head.
        probes: Of its attention.
        lapse: The least probability that is given; the greatest is 1 less it.

    Returns:
        [n_rivals, n_probes]; one half throughout for a rival without a role.
    """
    found = np.full((len(rivals), len(probes)), 0.5)
    texts = EdgeTexts(subject)
    for row, rival in enumerate(rivals):
        role = role_of(rival)
        if role is None:
            continue
        for column, probe in enumerate(probes):
            own, asked = set(texts.sources(role.kind, probe.text, probe.position)), set(probe.sources)
            if own and own <= asked:
                found[row, column] = 1 - lapse
            elif not own & asked and asked != {0}:
                found[row, column] = lapse
    return found
