"""Logit lens: what the model would predict from the residual stream of an earlier layer (nostalgebraist 2020).

A layer's stream h is put where the last one belongs, p_l = softmax(LN_f(h) W_U), through everything that the model does
behind its last block; so the last layer's reading is the model's own prediction. With a tuned lens (Belrose et al.
2023, arXiv 2303.08112) each stream first passes its layer's affine map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.errors import UnitError
from tools.lenses.readout import check_head, read_out
from tools.lenses.tuned import TunedLens
from tools.sites import STREAMS
from tools.subject import Subject
from tools.types import FloatArray, IntArray, Site
from tools.units import length_batches

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class LensReading:
    """A text seen through the lens: a row a site, a column a position."""

    sites: tuple[str, ...]
    tokens: tuple[str, ...]
    target_ids: tuple[int, ...]
    """The token that is looked up at each position."""
    targets: tuple[str, ...]
    top: tuple[tuple[tuple[tuple[str, float], ...], ...], ...]
    """[site][position]: likeliest tokens with their probabilities, likeliest first."""
    probability: FloatArray
    """Of the target, [site, position]."""
    rank: IntArray
    """Number of tokens likelier than the target."""
    entropy: FloatArray
    """Of the prediction, in nats."""
    divergence: FloatArray
    """KL(model's prediction || the site's), in nats."""
    tuned: bool

    def to_json(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in ("probability", "rank", "entropy", "divergence")}
        return {
            "sites": list(self.sites),
            "tokens": list(self.tokens),
            "targets": list(self.targets),
            "target_ids": list(self.target_ids),
            "top": [[[list(entry) for entry in cell] for cell in row] for row in self.top],
            **arrays,
            "tuned": self.tuned,
        }


@dataclass(frozen=True)
class LensProfile:
    """Means over the positions of several texts, position 0 left out; an entry a site."""

    sites: tuple[str, ...]
    positions: int
    loss: FloatArray
    """-log probability of the next token, in nats."""
    median_rank: FloatArray
    """Of the next token."""
    entropy: FloatArray
    divergence: FloatArray
    """KL(model's prediction || the site's), in nats."""
    agreement: FloatArray
    """Share of positions at which the likeliest token is the model's."""
    tuned: bool

    def to_json(self) -> dict[str, Any]:
        arrays = ("loss", "median_rank", "entropy", "divergence", "agreement")
        return {
            "sites": list(self.sites),
            "positions": self.positions,
            **{name: getattr(self, name).tolist() for name in arrays},
            "tuned": self.tuned,
        }


def layer_sites(subject: Subject) -> list[Site]:
    """The embedding and every block's output."""
    return [Site(0, "resid_pre"), *(Site(layer, "resid_post") for layer in range(subject.n_layers))]


def logit_lens(
    subject: Subject,
    ids: Sequence[int],
    *,
    sites: Sequence[Site] | None = None,
    target: int | None = None,
    k: int = 5,
    tuned: TunedLens | None = None,
) -> LensReading:
    """Read a text's residual streams.

    Args:
        subject: The model.
        ids: Token ids of the text.
        sites: Streams to read; None for the embedding and each block's output.
        target: The token to look up everywhere; None for the text's next token, and at its end the model's likeliest.
        k: Likeliest tokens a cell.
        tuned: A tuned lens of this subject.

    Raises:
        UnitError: A site is no residual stream, a tuned lens is for other sites, the target is beyond the vocabulary,
            or the subject has no logits.
    """
    chosen = _checked(subject, sites, tuned)
    if target is not None and not 0 <= target < subject.vocabulary:
        raise UnitError(f"Token {target} is beyond the vocabulary of '{subject.name}' ({subject.vocabulary}).")
    streams, model = _streams(subject, [ids], chosen)
    follow = [*ids[1:], int(model[-1].argmax())] if target is None else [target] * len(ids)
    cells = [_Cells(subject, _mapped(streams, site, tuned), model, follow, k) for site in chosen]
    return LensReading(
        sites=tuple(map(str, chosen)),
        tokens=tuple(subject.pieces(ids)),
        target_ids=tuple(follow),
        targets=tuple(subject.pieces(follow)),
        top=tuple(cell.top for cell in cells),
        probability=np.stack([cell.logs.exp().numpy() for cell in cells]),
        rank=np.stack([cell.rank.numpy() for cell in cells]),
        entropy=np.stack([cell.entropy.numpy() for cell in cells]),
        divergence=np.stack([cell.divergence.numpy() for cell in cells]),
        tuned=tuned is not None,
    )


def lens_profile(
    subject: Subject,
    contexts: Sequence[Sequence[int]],
    *,
    sites: Sequence[Site] | None = None,
    tuned: TunedLens | None = None,
) -> LensProfile:
    """How near each layer's reading is to the model's, over some texts.

    Raises:
        UnitError: As `logit_lens`; or no text has three tokens.
    """
    chosen = _checked(subject, sites, tuned)
    usable = [context for context in contexts if len(context) > 2]
    if not usable:
        raise UnitError("A lens profile needs texts of at least 3 tokens; none of the given ones has as many.")
    columns: dict[Site, list[_Cells]] = {site: [] for site in chosen}
    for batch in length_batches([len(c) for c in usable], _BATCH_TOKENS):
        texts = [usable[i] for i in batch]
        streams, model = _streams(subject, texts, chosen)
        follow = [token for text in texts for token in (*text[1:], -1)]
        # The first position is a resting place in many models, and the last has no next token.
        counted = torch.tensor([0 < p < len(text) - 1 for text in texts for p in range(len(text))])
        kept = [token for token, keep in zip(follow, counted.tolist(), strict=True) if keep]
        for site in chosen:
            stream = _mapped(streams, site, tuned)[counted]
            columns[site].append(_Cells(subject, stream, model[counted], kept, 0))
    whole = {
        name: np.stack([torch.cat([getattr(c, name) for c in columns[site]]).numpy() for site in chosen])
        for name in ("logs", "rank", "entropy", "divergence", "agrees")
    }
    return LensProfile(
        sites=tuple(map(str, chosen)),
        positions=int(whole["logs"].shape[1]),
        loss=-whole["logs"].mean(-1),
        median_rank=np.median(whole["rank"], axis=-1).astype(np.float32),
        entropy=whole["entropy"].mean(-1),
        divergence=whole["divergence"].mean(-1),
        agreement=whole["agrees"].astype(np.float32).mean(-1),
        tuned=tuned is not None,
    )


def _checked(subject: Subject, sites: Sequence[Site] | None, tuned: TunedLens | None) -> list[Site]:
    check_head(subject)
    chosen = layer_sites(subject) if sites is None else list(sites)
    for site in chosen:
        if site.kind not in STREAMS:
            raise UnitError(f"A lens reads residual streams ({', '.join(STREAMS)}), which {site} is not.")
        if tuned is not None:
            tuned.check(site)
    return chosen


def _streams(
    subject: Subject, texts: Sequence[Sequence[int]], sites: Sequence[Site]
) -> tuple[dict[Site, Tensor], Tensor]:
    """Each site's streams [token, d_model] at the texts' tokens in a row, and the model's log probabilities there."""
    ids, mask = subject.pad(texts)
    captured = subject.capture(ids, mask, {*sites, Site(subject.n_layers - 1, "resid_post")}, logits=True)
    assert captured.logits is not None
    real = mask.bool().to(subject.device)
    return {site: captured[site][real] for site in sites}, captured.logits[real].float().log_softmax(-1).cpu()


def _mapped(streams: dict[Site, Tensor], site: Site, tuned: TunedLens | None) -> Tensor:
    return streams[site] if tuned is None else tuned.map(site, streams[site])


class _Cells:
    """One site's predictions at some positions, as CPU tensors [position]."""

    def __init__(self, subject: Subject, streams: Tensor, model: Tensor, targets: Sequence[int], k: int) -> None:
        wanted = torch.tensor(list(targets))
        rows: list[tuple[Tensor, ...]] = []
        tops: list[tuple[tuple[str, float], ...]] = []
        start = 0
        for logits in read_out(subject, streams):
            place = slice(start, start + len(logits))
            start += len(logits)
            logs, truth, aim = logits.log_softmax(-1).cpu(), model[place], wanted[place]
            own = logs.gather(-1, aim[:, None])
            rows.append((
                own[:, 0], (logs > own).sum(-1), -(logs.exp() * logs).sum(-1),
                (truth.exp() * (truth - logs)).sum(-1).clamp(min=0.0), logs.argmax(-1) == truth.argmax(-1),
            ))  # fmt: skip
            if k:
                best = logs.exp().topk(min(k, logs.shape[-1]))
                for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                    tops.append(tuple(zip(subject.pieces(ids), values, strict=True)))
        self.logs, self.rank, self.entropy, self.divergence, self.agrees = (
            torch.cat(column) for column in zip(*rows, strict=True)
        )
        self.top = tuple(tops)
