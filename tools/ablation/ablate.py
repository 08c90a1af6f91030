"""What the subject's predictions lose when units are taken away."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tools.ablation.reference import Reference, contents, position_means
from tools.errors import InterventionError, SubjectError
from tools.estimates import divergence, ratio
from tools.interventions import EVERYWHERE, Edit, Resume, run
from tools.kinds import kind_of
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import check_unit, group_width, length_batches

Kind = Literal["resample", "mean", "zero"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Entries of logits that exist at once (256 MB in float32); they set how many rows share a batch.
_LOGITS = 2**26
_MOST_TOKENS = 16_384


@dataclass(frozen=True)
class Peak:
    """Where a set matters most."""

    text: int
    position: int
    token: str
    kl: float


@dataclass(frozen=True)
class AblationEffect:
    """What changes when a set of units is ablated together, at every position of the texts from `since` on."""

    units: tuple[UnitId, ...]
    kl: float
    """KL(as it is || ablated) of the next-token distribution, nats, mean over positions."""
    kl_error: float
    """Standard error, texts being the clusters; NaN for one text."""
    loss_change: float | None
    """Change of the next-token loss, nats a token: above 0 where the units help. None for encoders."""
    loss_error: float | None
    raised: tuple[tuple[str, float], ...]
    """Tokens whose logits rise most without the units: change relative to the mean token's, mean over positions."""
    lowered: tuple[tuple[str, float], ...]
    peak: Peak


@dataclass(frozen=True)
class Ablation:
    """The effects of some sets, and all that they depend on."""

    kind: Kind
    reference: Mapping[str, Any] | None
    """Digest, number of contexts and source of the reference set; None where zeros were put in."""
    effects: tuple[AblationEffect, ...]
    since: int
    """First position that was ablated and counted; 1 leaves out the first, where many models rest."""
    texts: int
    tokens: int
    """Positions counted."""
    loss: float | None
    """Next-token loss as the model is, nats a token."""
    draws: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        effects = [{**asdict(one), "units": [str(unit) for unit in one.units]} for one in self.effects]
        return {**asdict(self), "reference": self.reference, "effects": effects}


def ablate(
    subject: Subject,
    sets: Sequence[Sequence[UnitId]],
    texts: Sequence[Sequence[int]],
    kind: Kind = "resample",
    reference: Reference | None = None,
    *,
    since: int = 1,
    draws: int = 1,
    seed: int = 0,
    k: int = 10,
) -> Ablation:
    """Ablate sets of units, each set by itself, on texts.

    Many sets share a batch: each row is a text with one set ablated. Blocks below a set's units are not computed again.

    Args:
        subject: A model with a head.
        sets: Units of any kind that can be edited; those of a set go together.
        texts: Token ids.
        kind: What is put in place of a unit's activation (of a head: of the vector that it writes from): at each
            position that of another text, drawn from the reference; the mean of the reference at that position; zero.
        reference: Contexts; needed unless `kind` is ``zero``. To resample, some must be at least as long as each text.
        since: First position that is ablated and counted.
        draws: How often a text is run with another draw; only for ``resample``.
        seed: Of the draws. A text's draws depend on it and on the text's place in the list alone.
        k: Tokens to list.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: A unit cannot be edited, the reference is missing or too short, or no text is long enough.
        SubjectError: The subject has no logits.
    """
    plan = _Plan(subject, [tuple(dict.fromkeys(units)) for units in sets], texts, since)
    if kind not in KINDS:
        raise InterventionError(f"'{kind}' is no kind of ablation. There are {', '.join(KINDS)}.")
    if kind == "zero":
        reference = None
    elif reference is None:
        raise InterventionError(f"A {kind} ablation needs reference texts, whose values take the units' place.")
    draws = draws if kind == "resample" else 1
    if draws < 1:
        raise InterventionError(f"A resample ablation needs at least 1 draw, not {draws}.")
    tally = _Tally(plan, len(texts))
    fills = _Fills(plan, kind, reference, seed)
    with subject.lock, torch.inference_mode():
        for batch in length_batches([len(t) for t in texts], plan.batch_tokens):
            clean = _Clean(plan, batch)
            tally.note_clean(clean)
            for draw in range(draws):
                fill = fills.of(batch, clean.ids.shape[1], draw)
                for chunk, logits in _ablated(plan, clean, fill):
                    tally.note(clean, chunk, logits)
    return tally.result(kind, reference, draws, seed, k)


class _Plan:
    """What is asked, checked."""

    def __init__(
        self, subject: Subject, sets: list[tuple[UnitId, ...]], texts: Sequence[Sequence[int]], since: int
    ) -> None:
        self.subject, self.sets, self.texts, self.since = subject, sets, texts, since
        if not sets or any(not units for units in sets):
            raise InterventionError("There is nothing to ablate: name at least one unit in each set.")
        for units in sets:
            for unit in units:
                check_unit(subject, unit)
                if kind_of(unit.group).edit_group(subject, unit.where, lambda now: now, EVERYWHERE) is None:
                    raise InterventionError(
                        f"{unit} cannot be ablated: nothing of its own is added to what '{subject.name}' computes."
                    )
        if subject.model.get_output_embeddings() is None:
            raise SubjectError(f"The subject '{subject.name}' has no logits for an ablation to change.")
        if since < 0 or not any(len(text) > since + 1 for text in texts):
            raise InterventionError(f"No text has a next token after position {since}; give longer ones.")
        self.groups = sorted({unit.group for units in sets for unit in units})
        self.widths = {group: group_width(subject, group) for group in self.groups}
        self.layers = {group: self._layer(group) for group in self.groups}
        self.batch_tokens = max(1, min(_MOST_TOKENS, _LOGITS // subject.vocabulary))

    def _layer(self, group: str) -> int:
        edit = kind_of(group).edit_group(self.subject, group.partition(":")[2], lambda now: now, EVERYWHERE)
        assert edit is not None
        return min(site.layer for site in (edit.site, *edit.needs))

    def lowest(self, number: int) -> int:
        """The first layer that a set changes."""
        return min(self.layers[unit.group] for unit in self.sets[number])


class _Clean:
    """A batch of texts as the model runs them."""

    def __init__(self, plan: _Plan, batch: list[int]) -> None:
        self.texts = batch
        self.ids, self.mask = plan.subject.pad([plan.texts[i] for i in batch])
        layers = sorted({plan.lowest(n) for n in range(len(plan.sets))})
        found = run(plan.subject, self.ids, self.mask, read=[Site(layer, "resid_pre") for layer in layers])
        assert found.logits is not None
        self.streams = {layer: found[Site(layer, "resid_pre")] for layer in layers}
        self.logp = found.logits.float().log_softmax(-1)
        self.logits = found.logits.float()
        counted = self.mask.bool()
        counted[:, : plan.since] = False
        self.counted = counted.to(self.logp.device)
        self.followed = self.counted.clone()
        self.followed[:, :-1] &= self.mask[:, 1:].bool().to(self.logp.device)
        self.followed[:, -1] = False
        self.next = torch.roll(self.ids, -1, 1).to(self.logp.device)

    def loss(self, logp: Tensor) -> Tensor:
        """Summed next-token loss, [row], of rows that are these texts, set after set."""
        times = logp.shape[0] // len(self.texts)
        taken = -logp.gather(-1, self.next.repeat(times, 1)[..., None])[..., 0]
        return torch.where(self.followed.repeat(times, 1), taken, 0.0).double().sum(1)


class _Fills:
    """What takes the units' place in a batch of texts: group -> [text or 1, pos, unit, ...]."""

    def __init__(self, plan: _Plan, kind: Kind, reference: Reference | None, seed: int) -> None:
        self._plan, self._kind, self._reference, self._seed = plan, kind, reference, seed
        self._means: Mapping[str, Tensor] = {}
        if kind == "mean":
            assert reference is not None
            width = max(len(text) for text in plan.texts)
            self._means = position_means(plan.subject, plan.groups, reference, width)

    def of(self, batch: list[int], width: int, draw: int) -> dict[str, Tensor | None]:
        if self._kind == "zero":
            return dict.fromkeys(self._plan.groups)
        if self._kind == "mean":
            return {group: mean[None, :width] for group, mean in self._means.items()}
        drawn = [self._draw(i, draw)[:width] for i in batch]
        padded = [context + context[-1:] * (width - len(context)) for context in drawn]
        return dict(contents(self._plan.subject, self._plan.groups, padded))

    def _draw(self, text: int, draw: int) -> tuple[int, ...]:
        assert self._reference is not None
        own = tuple(self._plan.texts[text])
        able = [c for c in self._reference.contexts if len(c) >= len(own) and c[: len(own)] != own]
        if not able:
            longest = max(len(context) for context in self._reference.contexts)
            raise InterventionError(
                f"Text {text} has {len(own)} tokens, and no other reference context has as many (the longest has "
                f"{longest}). Give longer reference texts, shorter texts, or ablate with 'mean'."
            )
        return random.Random(f"ablation {self._seed} text {text} draw {draw}").choice(able)


def _ablated(plan: _Plan, clean: _Clean, fill: Mapping[str, Tensor | None]) -> Iterator[tuple[list[int], Tensor]]:
    """Logits [set x text, pos, vocabulary] of chunks of sets that begin at one layer."""
    n, width = len(clean.texts), clean.ids.shape[1]
    together = max(1, plan.batch_tokens // (n * width))
    order = sorted(range(len(plan.sets)), key=lambda number: (plan.lowest(number), number))
    while order:
        layer = plan.lowest(order[0])
        chunk = [number for number in order[:together] if plan.lowest(number) == layer]
        order = order[len(chunk) :]
        times = len(chunk)
        edits = [_edit(plan, group, chunk, n, fill[group]) for group in plan.groups
                 if any(unit.group == group for number in chunk for unit in plan.sets[number])]  # fmt: skip
        found = run(
            plan.subject, clean.ids.repeat(times, 1), clean.mask.repeat(times, 1), edits,
            resume=Resume(layer, clean.streams[layer].repeat(times, 1, 1)),
        )  # fmt: skip
        assert found.logits is not None
        yield chunk, found.logits.float()


def _edit(plan: _Plan, group: str, chunk: list[int], n: int, fill: Tensor | None) -> Edit:
    chosen = torch.zeros(len(chunk), plan.widths[group], dtype=torch.bool)
    for row, number in enumerate(chunk):
        chosen[row, [unit.index for unit in plan.sets[number] if unit.group == group]] = True
    rows = chosen.repeat_interleave(n, 0).to(plan.subject.device)

    def new(old: Tensor) -> Tensor:  # [row, pos, unit, ...]
        place = rows[:, None].expand(old.shape[:3]).clone()
        place[:, : plan.since] = False
        other = torch.zeros_like(old) if fill is None else _for_rows(fill, old.shape[0]).to(old)
        return torch.where(place.reshape(*place.shape, *[1] * (old.ndim - 3)), other, old)

    edit = kind_of(group).edit_group(plan.subject, group.partition(":")[2], new, EVERYWHERE)
    assert edit is not None
    return Edit(edit.site, edit.where, edit.new, {"op": "ablate", "group": group}, edit.needs)


def _for_rows(fill: Tensor, rows: int) -> Tensor:
    return fill if len(fill) == 1 else fill.repeat(rows // len(fill), *[1] * (fill.ndim - 1))


class _Tally:
    """Sums over texts, set by set."""

    def __init__(self, plan: _Plan, texts: int) -> None:
        shape = (texts, len(plan.sets))
        self._plan = plan
        self._kl, self._loss = np.zeros(shape), np.zeros(shape)
        self._plain = np.zeros(texts)
        self._counted, self._followed = np.zeros(texts), np.zeros(texts)
        self._change = torch.zeros(len(plan.sets), plan.subject.vocabulary, dtype=torch.float64)
        self._peaks: dict[int, Peak] = {}

    def note_clean(self, clean: _Clean) -> None:
        self._plain[clean.texts] = clean.loss(clean.logp).cpu().numpy()
        self._counted[clean.texts] = clean.counted.sum(1).cpu().numpy()
        self._followed[clean.texts] = clean.followed.sum(1).cpu().numpy()

    def note(self, clean: _Clean, chunk: list[int], logits: Tensor) -> None:
        n = len(clean.texts)
        logp = logits.log_softmax(-1)
        loss = clean.loss(logp).reshape(len(chunk), n).cpu().numpy()
        for row, number in enumerate(chunk):
            rows = slice(row * n, (row + 1) * n)
            kl = torch.where(clean.counted, divergence(clean.logp, logp[rows]), 0.0)
            self._kl[clean.texts, number] += kl.double().sum(1).cpu().numpy()
            self._loss[clean.texts, number] += loss[row]
            change = (logits[rows] - clean.logits)[clean.counted]
            self._change[number, : change.shape[-1]] += change.double().sum(0).cpu()
            top = int(kl.argmax())
            text, position = divmod(top, kl.shape[1])
            value = float(kl[text, position])
            if number not in self._peaks or value > self._peaks[number].kl:
                piece = self._plan.subject.pieces([int(clean.ids[text, position])])[0]
                self._peaks[number] = Peak(clean.texts[text], position, piece, value)

    def result(self, kind: Kind, reference: Reference | None, draws: int, seed: int, k: int) -> Ablation:
        plan = self._plan
        kl, kl_error = ratio(self._kl / draws, self._counted)
        loss, loss_error = ratio(self._loss / draws - self._plain[:, None], self._followed)
        tokens = self._counted.sum()
        causal = plan.subject.causal
        effects = []
        for number, units in enumerate(plan.sets):
            scores = (self._change[number] / (draws * tokens))[: len(plan.subject.tokenizer)]
            scores = scores - scores.mean()
            high, low = (scores.topk(min(k, len(scores)), largest=way) for way in (True, False))
            effects.append(
                AblationEffect(
                    units, float(kl[number]), float(kl_error[number]), float(loss[number]) if causal else None,
                    float(loss_error[number]) if causal else None, self._tokens(high),
                    self._tokens(low), self._peaks[number],
                )
            )  # fmt: skip
        return Ablation(
            kind, None if reference is None else reference.to_json(), tuple(effects), plan.since, len(plan.texts),
            int(tokens), float(self._plain.sum() / self._followed.sum()) if causal else None, draws, seed,
        )  # fmt: skip

    def _tokens(self, top: Any) -> tuple[tuple[str, float], ...]:
        return tuple(zip(self._plan.subject.pieces(top.indices.tolist()), top.values.tolist(), strict=True))
