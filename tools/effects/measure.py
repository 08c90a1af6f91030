"""What a unit does to the output where it is on: measured by turning it off, by degrees, and by random writes.

At each place three things can be done to the last token of a text, on a beginning that is computed once: the unit is
left as it is or set to what it has where it is not on (`measure_effects`), it is set to several strengths
(`dose_curve`), or, with the unit off, a random vector as long as what it wrote is written where it writes
(`random_effects`). Changes of logits are relative to their mean over the vocabulary, for a constant added to all logits
changes no prediction.

A unit can matter without moving the next token's logits: it may leave a mark that later layers read at later positions
only. So the tokens that follow are run too, and how far their predictions move is part of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.capture import Captured
from tools.effects.places import Places
from tools.errors import NeuroglossError
from tools.hooking.edits import Edit
from tools.hooking.where import Where
from tools.interventions import Beginnings, Prefix, add, edit_unit, prefill, run
from tools.steering.controls import matched_controls, push_site
from tools.steering.effects import effects_at, logit_change
from tools.subject import Subject
from tools.types import FloatArray, IntArray, Site, UnitId
from tools.units import check_unit
from tools.write_site import write_site

#: Tokens after a place whose predictions are compared too.
FOLLOWING = 4
#: Places at which doses and random writes are tried, those with the shortest beginnings.
FEW_PLACES = 8
#: Random writes.
CONTROLS = 99
#: Numbers in the logits of one run, and rows of one.
_LOGITS, _ROWS = 1 << 25, 96
#: Places that are turned off in one run, those with beginnings of like length together.
_TOGETHER = 8


@dataclass(frozen=True)
class Tokens:
    """Tokens that a unit is said to raise or lower."""

    ids: IntArray
    """[k]"""
    signs: FloatArray
    """1 raised, -1 lowered, [k]."""

    def shift(self, change: FloatArray) -> FloatArray:
        """Mean change of the tokens, those to be lowered with their sign turned, [...] from [..., vocabulary]."""
        found: FloatArray = (change[..., self.ids] * self.signs).mean(-1)
        return found


@dataclass(frozen=True)
class Effects:
    """A unit as it is against the same unit off, at n places."""

    change: FloatArray
    """Of the next token's logits, on minus off, relative to the mean over the vocabulary, [n, vocabulary]."""
    kl: FloatArray
    """Kullback-Leibler divergence of the next token's distribution, on from off, in nats, [n]."""
    later: FloatArray
    """The same at the tokens that follow, [n, following]; NaN where the text has ended."""
    loss: FloatArray
    """Loss of the token that follows in the text, off minus on: above 0 where the unit helps; NaN at the end, [n]."""
    moved: FloatArray
    """Length of the change of what is written, [n]."""
    site: Site
    """Where it writes."""

    def __len__(self) -> int:
        return len(self.kl)


@dataclass(frozen=True)
class RandomEffects:
    """Random writes of the same length in place of a unit's, at m places; arrays are [control, m]."""

    shift: FloatArray
    """Of the tokens that the unit is said to change."""
    rank: FloatArray
    """See `rank_auc`."""
    kl: FloatArray


def not_measurable(subject: Subject, unit: UnitId) -> str | None:
    """Why a unit's effect on the output cannot be measured in this subject; None where it can."""
    check_unit(subject, unit)
    if not subject.causal:
        return f"'{subject.name}' is an encoder and predicts no next token"
    if subject.model.get_output_embeddings() is None:
        return f"'{subject.name}' has no language model head and so no logits"
    try:
        edit_unit(subject, unit, lambda now: now)
        push_site(subject, unit)
        prefill(subject, [[0]])
    except NeuroglossError as error:
        return str(error).rstrip(".")
    return None


def measure_effects(
    subject: Subject,
    unit: UnitId,
    places: Places,
    off: FloatArray,
    *,
    following: int = FOLLOWING,
    beginnings: Beginnings | None = None,
) -> Effects:
    """Turn a unit off at each of several places, one at a time, and compare what the model predicts.

    Args:
        subject: A decoder with a head.
        unit: Any unit that can be edited.
        places: Where; at least one.
        off: The activation that stands for off at each place, [n]; see `tools.effects.Off`.
        following: Tokens after each place that are run too.
        beginnings: Where the texts' keys and values are kept for other units.

    Raises:
        InterventionError: The unit cannot be edited, or the subject keeps no keys and values.
    """
    site = write_site(subject, unit)
    beginnings = beginnings or Beginnings(subject)
    found: list[Effects] = []
    size = max(1, min(_TOGETHER, _LOGITS // (2 * (1 + following) * subject.vocabulary)))
    order = np.argsort(places.positions, kind="stable")
    for start in range(0, len(places), size):
        rows = order[start : start + size]
        part = places.take(rows)
        ids, real = _last(part, following)
        where = _each(2 * np.arange(len(part)) + 1, part.positions)
        edit = edit_unit(subject, unit, _set(off[rows]), where, name="turn off")
        past = beginnings.of(part.texts, part.positions.tolist()).repeat(2)
        ran = run(subject, ids.repeat_interleave(2, 0), edits=[edit], read=[site], past=past)
        found.append(_compared(subject, ran, ids, real, site))
    back = np.argsort(order, kind="stable")
    names = ("change", "kl", "later", "loss", "moved")
    return Effects(**{name: np.concatenate([getattr(one, name) for one in found])[back] for name in names}, site=site)


def dose_curve(
    subject: Subject,
    unit: UnitId,
    places: Places,
    doses: Sequence[float],
    tokens: Tokens,
    *,
    beginnings: Beginnings | None = None,
) -> FloatArray:
    """How far a unit shifts some tokens when it is set to several activations where it is on.

    `tools.steering.dose_response`, by contrast, adds to the activation wherever it is, and judges the curve.

    Args:
        subject: A decoder with a head.
        unit: Any unit that can be edited.
        places: Where; at least one.
        doses: Activations; the first is what the others are compared with.
        tokens: Whose logits.
        beginnings: As in `measure_effects`.

    Returns:
        Mean shift of the tokens against the first dose, in logits, float32 [n, dose].
    """
    n = len(subject.tokenizer)  # logits beyond it are padding of the embedding matrix

    def shift(clean: Tensor, changed: Tensor) -> Tensor:
        change = logit_change(clean[..., :n], changed[..., :n])
        return (change[..., tokens.ids] * torch.from_numpy(tokens.signs).to(change)).mean(-1)

    texts = [text[: position + 1] for text, position in zip(places.texts, places.positions.tolist(), strict=True)]
    found = effects_at(
        subject, unit, texts, doses, how="set", measure=shift, beginnings=beginnings or Beginnings(subject)
    )
    curve: FloatArray = (found.unit - found.unit[:1]).T.cpu().numpy()
    return curve


def random_effects(
    subject: Subject,
    unit: UnitId,
    places: Places,
    tokens: Tokens | None,
    *,
    off: FloatArray,
    moved: FloatArray,
    controls: int = CONTROLS,
    seed: int = 0,
    beginnings: Beginnings | None = None,
) -> RandomEffects:
    """Random directions written in a unit's place: as often as the unit, as strongly, at the same site.

    Each control is one direction, drawn evenly over the sphere and the same at all places, as a unit's is. The unit is
    off, and at place i the control writes its direction at the length `moved[i]`.

    Args:
        subject: A decoder with a head.
        unit: In whose place.
        places: Where; at least one.
        tokens: Whose shifts; None: those are NaN.
        off: As in `measure_effects`, [m].
        moved: Length of what the unit writes, as `measure_effects` found it, [m].
        controls: How many.
        seed: Of the directions.
        beginnings: As in `measure_effects`.
    """
    site, m = write_site(subject, unit), len(places)
    prefix = (beginnings or Beginnings(subject)).of(places.texts, places.positions.tolist())
    ids, _ = _last(places, 0)
    # The first 'direction' is none: the unit is off, and nothing stands in its place.
    drawn = [control.vector.cpu().numpy() for control in matched_controls(subject, unit, controls, seed)]
    vectors = np.stack([np.zeros(len(drawn[0]), dtype=np.float32), *drawn])
    size = max(1, min(_ROWS, _LOGITS // subject.vocabulary) // m)
    baseline: Tensor | None = None
    found: dict[str, list[FloatArray]] = {"shift": [], "rank": [], "kl": []}
    repeated: dict[int, Prefix] = {}
    for start in range(0, len(vectors), size):
        some = vectors[start : start + size]
        k = len(some)
        where = _each(np.arange(m * k), places.positions.repeat(k))
        written = torch.from_numpy((moved[:, None, None] * some).reshape(m * k, -1))
        edits: list[Edit] = [
            edit_unit(subject, unit, _set(off.repeat(k)), where, name="turn off"),
            add(site, written, where, per_row=True),
        ]
        past = repeated.setdefault(k, prefix.repeat(k))
        ran = run(subject, ids.repeat_interleave(k, 0), edits=edits, past=past)
        with torch.inference_mode():
            logits = _logits(subject, ran)[:, 0].reshape(m, k, -1)
            baseline = logits[:, :1].clone() if baseline is None else baseline
            found["kl"].append(_kl(logits, baseline).T.cpu().numpy())
            if tokens is not None:
                change = _relative(logits - baseline)
                found["shift"].append(tokens.shift(change.cpu().numpy()).T)
                found["rank"].append(_rank(change, tokens).T.cpu().numpy())
    unknown = np.full((1 + controls, m), np.nan, dtype=np.float32)
    whole = {name: np.concatenate(parts) if parts else unknown for name, parts in found.items()}
    return RandomEffects(whole["shift"][1:], whole["rank"][1:], whole["kl"][1:])


def rank_auc(change: FloatArray, tokens: Tokens) -> FloatArray:
    """How high tokens stand among all others in a change of logits: area under the ROC curve, [...].

    1 when all tokens to be raised are above, and all to be lowered below, every token that nothing is said of; one half
    by chance. Ties count one half.
    """
    found: FloatArray = _rank(torch.from_numpy(change), tokens).numpy()
    return found


def _rank(change: Tensor, tokens: Tokens) -> Tensor:
    others = torch.ones(change.shape[-1], dtype=torch.bool, device=change.device)
    ids = torch.from_numpy(tokens.ids).to(change.device)
    others[ids] = False
    rest, own = _ascending(change[..., others]), change[..., ids].contiguous()
    below = torch.searchsorted(rest, own)
    ties = torch.searchsorted(rest, own, right=True) - below
    raised = torch.from_numpy(tokens.signs > 0).to(change.device)
    wins = torch.where(raised, below, rest.shape[-1] - below - ties) + ties / 2
    return (wins / rest.shape[-1]).mean(-1)


def _ascending(values: Tensor) -> Tensor:
    """Sorted along the last axis; on a processor NumPy's sort is ten times as fast as PyTorch's."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(-1).values


def _set(values: FloatArray) -> Callable[[Tensor], Tensor]:
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return lambda now: tensor.to(now).reshape(now.shape)


def _each(rows: IntArray, positions: IntArray) -> Where:
    """One position of each of some rows."""
    return Where(rows=rows.tolist(), positions=positions.tolist(), paired=True)


def _last(places: Places, following: int) -> tuple[Tensor, Tensor]:
    """The token at each place and those after it, int64 [n, 1 + following], and which of them the text has."""
    ids = torch.zeros(len(places), 1 + following, dtype=torch.int64)
    real = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (text, position) in enumerate(zip(places.texts, places.positions.tolist(), strict=True)):
        tokens = torch.tensor(text[position : position + 1 + following])
        ids[row, : len(tokens)] = tokens
        real[row, : len(tokens)] = True
    return ids, real


def _logits(subject: Subject, ran: Captured) -> Tensor:
    """Without those beyond the tokenizer, which are padding of the embedding matrix."""
    assert ran.logits is not None, "they were asked for"
    return ran.logits[..., : len(subject.tokenizer)].float()


def _relative(change: Tensor) -> Tensor:
    return change - change.mean(-1, keepdim=True)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """Divergence of the distribution of the first logits from that of the second; rounding below 0 is cut off."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).clamp(min=0)


def _compared(subject: Subject, ran: Captured, ids: Tensor, real: Tensor, site: Site) -> Effects:
    """Even rows as they are, odd ones with the unit off."""
    with torch.inference_mode():
        logits = _logits(subject, ran)
        on, off = logits[0::2], logits[1::2]
        divergence = _kl(on, off).cpu().numpy()
        change = _relative(on[:, 0] - off[:, 0]).cpu().numpy()
        write = ran[site].float()
        moved = (write[0::2, 0] - write[1::2, 0]).norm(dim=-1).cpu().numpy()
        loss = np.full(len(ids), np.nan, dtype=np.float32)
        if ids.shape[1] > 1:
            token = ids[:, 1].to(on.device)[:, None]
            gained = [x[:, 0].log_softmax(-1).gather(-1, token)[:, 0] for x in (on, off)]
            loss = np.where(real[:, 1].numpy(), (gained[0] - gained[1]).cpu().numpy(), np.float32(np.nan))
    later = np.where(real[:, 1:].numpy(), divergence[:, 1:], np.float32(np.nan))
    return Effects(change, divergence[:, 0], later, loss, moved, site)
