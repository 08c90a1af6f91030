"""Heads knocked out: the loss, the next token, and what heads behind them then attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import divergence
from tools.head_edges.sets import edits_of, layers_of, name_of, other_sets
from tools.heads import edge_masks
from tools.interventions import Edit, run
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import length_batches

EdgeKind = Literal["all", "previous", "same", "first", "duplicate", "induction", "delimiter"]
KINDS: tuple[EdgeKind, ...] = get_args(EdgeKind)
#: Kinds of edges by which later heads are looked at.
_FOLLOWED = ("previous", "duplicate", "induction")
#: Numbers in the logits of a batch.
_LOGITS = 2**25


@dataclass(frozen=True)
class PatternChange:
    """A later head whose attention changes."""

    unit: str
    edges: str
    """The kind of edges that changes most: previous, duplicate or induction."""
    before: float
    """Mean attention to edges of that kind, where there are any."""
    after: float


@dataclass(frozen=True)
class KnockOut:
    """What scaling heads' edges does to the predictions on some texts."""

    heads: tuple[str, ...]
    edges: EdgeKind
    factor: float
    renormalise: bool
    texts: int
    tokens: int
    """Predictions that were counted: those of the third token of each text and later."""
    loss: float
    """Nats a token, as the model is."""
    loss_change: float
    repeated: int
    """Predictions of a token that followed the current one before."""
    repeated_loss: float | None
    """Loss of these: what induction makes small. None where there are none."""
    repeated_change: float | None
    kl: float
    """KL(as it is || scaled), nats, mean over predictions."""
    raised: tuple[tuple[str, float], ...]
    """Tokens whose logits rise most, relative to the mean token's, mean over predictions."""
    lowered: tuple[tuple[str, float], ...]
    patterns: tuple[PatternChange, ...]
    """Heads of later layers by how much their attention changes."""
    others: tuple[tuple[str, float], ...]
    """The change of the loss with each of some sets of other heads of the same layers in place of these."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def knock_out(
    subject: Subject,
    heads: Sequence[UnitId],
    texts: Sequence[Sequence[int]],
    *,
    edges: EdgeKind = "all",
    factor: float = 0.0,
    renormalise: bool = False,
    others: int = 16,
    k: int = 10,
    seed: int = 0,
) -> KnockOut:
    """Scale some heads' attention edges everywhere in some texts.

    Args:
        subject: A decoder with a head.
        heads: Which; they go together.
        texts: Token ids, at least one of three tokens or more.
        edges: Which edges; see `tools.heads.EdgeProfile`.
        factor: 0 knocks them out.
        renormalise: Give what is taken away to the other edges of the same query.
        others: As many sets of other heads of the same layers, if there are so many, to compare with.
        k: Tokens and later heads to list.
        seed: Of these sets.

    Raises:
        UnitError: One is no head of this subject.
        InterventionError: No text is long enough, or the logits are no longer finite.
    """
    chosen = layers_of(subject, heads)
    if edges not in KINDS:
        raise InterventionError(f"'{edges}' is no kind of edges. There are {', '.join(KINDS)}.")
    usable = [list(map(int, text)) for text in texts if len(text) > 2]
    if not usable:
        raise InterventionError("To see what heads do to predictions a text needs 3 tokens or more.")
    own = _Tally(subject, min(chosen) + 1)
    sets = other_sets(subject, chosen, others, seed)
    tallies = [_Tally(subject, subject.n_layers) for _ in sets]
    longest = max(map(len, usable))
    most = max(longest, _LOGITS // subject.vocabulary)
    for batch in length_batches([len(text) for text in usable], most):
        part = _Batch(subject, [usable[i] for i in batch])
        factors = part.factors(edges, factor)
        for tally, layers in zip([own, *tallies], [chosen, *sets], strict=True):
            tally.add(part, edits_of(layers, factors, renormalise=renormalise))
    count, repeated = own.sums["count"], own.sums["repeated"]
    change = own.change / count
    scores = (change - change.mean())[: len(subject.tokenizer)]
    high, low = scores.topk(min(k, len(scores))), scores.topk(min(k, len(scores)), largest=False)
    return KnockOut(
        heads=tuple(map(str, heads)), edges=edges, factor=float(factor), renormalise=renormalise, texts=len(usable),
        tokens=int(count), loss=own.sums["loss"] / count, loss_change=own.loss_change,
        repeated=int(repeated), repeated_loss=own.sums["repeated loss"] / repeated if repeated else None,
        repeated_change=own.sums["repeated change"] / repeated if repeated else None,
        kl=own.sums["kl"] / count, raised=_told(subject, high), lowered=_told(subject, low),
        patterns=own.patterns(k),
        others=tuple((name_of(one), tally.loss_change) for one, tally in zip(sets, tallies, strict=True)),
    )  # fmt: skip


def _told(subject: Subject, found: Any) -> tuple[tuple[str, float], ...]:
    return tuple(zip(subject.pieces(found.indices.tolist()), found.values.tolist(), strict=True))


class _Batch:
    """Some texts as the model runs them, and their edges."""

    def __init__(self, subject: Subject, texts: list[list[int]]) -> None:
        self.subject, self.texts = subject, texts
        self.ids, self.mask = subject.pad(texts)
        width = self.ids.shape[1]
        self.sites = [
            Site(layer, "attn_pattern") for layer, plan in enumerate(subject.sites.plans) if "attn_pattern" in plan.taps
        ]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        self.edges: dict[str, Tensor] = {}
        for row, text in enumerate(texts):
            n = len(text)
            for kind, found in edge_masks(subject, text, causal[:n, :n]).items():
                whole = self.edges.setdefault(kind, torch.zeros(len(texts), width, width, dtype=torch.bool))
                whole[row, :n, :n] = found.cpu() & causal[:n, :n]
        self.edges["all"] = causal.expand(len(texts), -1, -1).clone()
        clean = run(subject, self.ids, self.mask, read=self.sites)
        assert clean.logits is not None
        self.logits = clean.logits.float()
        self.logp = self.logits.log_softmax(-1)
        self.patterns = {site: clean[site] for site in self.sites}
        # Predictions at position 1 and later, of the token that follows.
        counted = self.mask.bool().clone()
        counted[:, 0] = False
        counted[:, :-1] &= self.mask[:, 1:].bool()
        counted[:, -1] = False
        self.counted = counted
        self.next = torch.roll(self.ids, -1, 1)
        followed = self.ids[:, None, :] == self.next[:, :, None]  # the key's token is the next one
        self.repeated = counted & (self.edges["induction"] & followed).any(-1)

    def factors(self, edges: EdgeKind, factor: float) -> Tensor:
        """[text, query, key]; position 0 keeps its edge to itself."""
        chosen = self.edges[edges].clone()
        chosen[:, 0] = False
        return torch.where(chosen, float(factor), 1.0)


class _Tally:
    """Sums over texts."""

    def __init__(self, subject: Subject, since: int) -> None:
        self.subject, self.since = subject, since
        self.sums = dict.fromkeys(
            ("count", "loss", "change", "kl", "repeated", "repeated loss", "repeated change"), 0.0
        )
        self.change = torch.zeros(subject.vocabulary, dtype=torch.float64)
        self.mass: dict[tuple[Site, str], Tensor] = {}
        self.places = dict.fromkeys(_FOLLOWED, 0)

    @property
    def loss_change(self) -> float:
        """Nats a token."""
        return self.sums["change"] / self.sums["count"]

    def add(self, batch: _Batch, edits: Sequence[Edit]) -> None:
        """One batch with the edits."""
        later = [site for site in batch.sites if site.layer >= self.since]
        found = run(self.subject, batch.ids, batch.mask, edits, read=later)
        assert found.logits is not None
        logp = found.logits.float().log_softmax(-1)
        device = logp.device
        counted, repeated = batch.counted.to(device), batch.repeated.to(device)
        following = batch.next[..., None].to(device)
        before, after = (-one.gather(-1, following)[..., 0] for one in (batch.logp, logp))
        kl = divergence(batch.logp, logp)
        for name, values, where in (
            ("count", torch.ones_like(before), counted), ("loss", before, counted), ("change", after - before, counted),
            ("kl", kl, counted), ("repeated", torch.ones_like(before), repeated), ("repeated loss", before, repeated),
            ("repeated change", after - before, repeated),
        ):  # fmt: skip
            self.sums[name] += float(values[where].double().sum())
        self.change += (found.logits.float() - batch.logits)[counted].double().sum(0).cpu()
        for kind in _FOLLOWED:
            mask = batch.edges[kind].to(device)
            at = mask.any(-1)
            at[:, :2] = False
            self.places[kind] += int(at.sum())
            for site in later:
                both = torch.stack([batch.patterns[site].float(), found[site].float()])
                mass = torch.where(mask[None, :, None], both, 0.0).sum(-1)  # [2, text, head, query]
                total = torch.where(at[None, :, None], mass, 0.0).double().sum((1, 3)).cpu()
                self.mass[site, kind] = self.mass.get((site, kind), 0.0) + total

    def patterns(self, k: int) -> tuple[PatternChange, ...]:
        """Later heads by how much their attention to one kind of edges changes."""
        best: dict[str, PatternChange] = {}
        for (site, kind), (before, after) in self.mass.items():
            if not self.places[kind]:
                continue
            for head in range(len(before)):
                name = f"head:{site.layer}:{head}"
                one = PatternChange(name, kind, *(float(m[head]) / self.places[kind] for m in (before, after)))
                known = best.get(name)
                if known is None or abs(one.after - one.before) > abs(known.after - known.before):
                    best[name] = one
        return tuple(sorted(best.values(), key=lambda one: -abs(one.after - one.before))[:k])
