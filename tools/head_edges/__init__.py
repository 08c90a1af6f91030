"""What becomes of the output when attention edges are scaled: heads knocked out, and mechanisms that compete.

    from tools.head_edges import Contest, competition, knock_out

    knock_out(subject, [UnitId.parse("head:1:0")], texts, edges="induction").loss_change

To knock a head out is to multiply its attention weights by 0; only edges of one kind may be meant, such as those that
induction makes. Where two parts of a model want different tokens, one of them a head that copies what it attends to,
scaling the head's attention to that place shifts the balance (Ortu et al. 2024, arXiv 2402.11655, there by factors of 2
to 100 without renormalising). Position 0 is never a query.
"""

from __future__ import annotations

from tools.head_edges.competition import Competition, Contest, ScalePoint, competition
from tools.head_edges.knockout import KINDS, EdgeKind, KnockOut, PatternChange, knock_out

__all__ = [
    "KINDS",
    "Competition",
    "Contest",
    "EdgeKind",
    "KnockOut",
    "PatternChange",
    "ScalePoint",
    "competition",
    "knock_out",
]
