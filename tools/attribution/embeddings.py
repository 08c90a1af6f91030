"""Gradients by the tokens' embeddings, and what needs no gradient: the norm of an embedding times a logit.

The embeddings are the stream that enters the first layer, positions included. Tokens that encoding puts before every
text are held as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tools.ablation.reference import Reference
from tools.attribution.path import Path, Steps
from tools.attribution.targets import Array, Reader, TokenTarget
from tools.errors import UnitError
from tools.interventions import run
from tools.types import Site

STREAM = Site(0, "resid_pre")
#: Sequences of random tokens over which a mean baseline is taken.
_DRAWS = 128


def held(reader: Reader) -> int:
    """How many tokens at the beginning are no text's own; they are not attributed to."""
    prefix = reader.subject.prefix
    n = len(prefix)
    return n if n < len(reader.ids) and list(reader.ids[:n]) == prefix else 0


def gradient_times_input(reader: Reader) -> Array:
    """x dF/dx summed over components (Simonyan et al. 2013; Shrikumar et al. 2016, arXiv 1605.01713), [pos]."""
    read = dict.fromkeys([STREAM, *reader.sites])
    captured = run(reader.subject, reader.row(), read=read, logits=reader.logits, gradients=True)
    with torch.enable_grad():
        gradient = captured.gradients(reader.values(captured).sum())[STREAM]
    found: Array = (captured[STREAM].detach().double() * gradient.double()).sum(-1)[0].cpu().numpy()
    found[: held(reader)] = 0.0
    return found


def embedding_path(reader: Reader, reference: Reference | None = None) -> Path:
    """The path from the mean of other tokens' embeddings, at the same positions, to the text's own.

    There is no baseline of zeros: a norm makes every multiple of an embedding the same, so that most of the difference
    to it would lie in a jump at its end, where no gradient sees it.

    Args:
        reader: The target.
        reference: Texts whose tokens the mean is over, as often as they are there; None: the whole vocabulary.

    Raises:
        UnitError: The reference texts have no tokens.
    """
    stream = _stream(reader, reader.row())[0]
    offset = _mean(reader, reference) - stream
    offset[: held(reader)] = 0.0
    return Path(reader, STREAM, offset)


def embedding_gradients(reader: Reader, path: Path, steps: Steps = Steps()) -> tuple[Array, float, float, float]:
    """Integrated gradients by token: parts [pos], F of the text, F at the baseline, and the completeness error."""
    gradient = path.mean_gradient(steps)
    parts: Array = (-path.offset.double() * gradient).sum(-1).cpu().numpy()
    start, end = path.values(np.array([0.0, 1.0]))
    return parts, float(end), float(start), float(abs(parts.sum() - (end - start)))


def normxlogit(reader: Reader) -> Array:
    """The norm of each token's embedding times the target's logit at that token (arXiv 2411.16252).

    Raises:
        UnitError: The target is no token.
    """
    target = reader.target
    if not isinstance(target, TokenTarget):
        raise UnitError("NormXLogit explains a token's logit, as it needs the head; explain a unit by another method.")
    captured = run(reader.subject, reader.row(), read=[STREAM])
    assert captured.logits is not None
    logits = captured.logits[0].double()
    at = logits[:, target.token] - (0.0 if target.foil is None else logits[:, target.foil])
    found: Array = (torch.linalg.vector_norm(captured[STREAM][0].double(), dim=-1) * at).cpu().numpy()
    found[: held(reader)] = 0.0
    return found


def _stream(reader: Reader, ids: Tensor) -> Tensor:
    return run(reader.subject, ids, read=[STREAM], logits=False)[STREAM].clone()


def _mean(reader: Reader, reference: Reference | None) -> Tensor:
    subject = reader.subject
    special = set(subject.tokenizer.all_special_ids)
    if reference is not None:
        pool = [t for text in reference.contexts for t in text if t not in special]
        if not pool:
            raise UnitError("A mean baseline needs reference texts with tokens in them; there are none.")
    else:
        pool = [t for t in range(min(len(subject.tokenizer), subject.vocabulary)) if t not in special]
    drawn = np.random.default_rng(0).choice(np.array(pool, dtype=np.int64), (_DRAWS, len(reader.ids)))
    total = torch.zeros(len(reader.ids), subject.d_model, dtype=torch.float64, device=subject.device)
    for first in range(0, _DRAWS, reader.rows):
        total += _stream(reader, torch.from_numpy(drawn[first : first + reader.rows])).double().sum(0)
    return (total / _DRAWS).to(subject.dtype)
