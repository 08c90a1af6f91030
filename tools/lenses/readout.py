"""What the model would predict if a given vector were its last residual stream."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tools.errors import UnitError
from tools.interventions import Resume, replace, run
from tools.subject import Subject
from tools.types import Site

#: Logits that exist at once (64 MB in float32).
_LOGITS = 2**24


def check_head(subject: Subject) -> None:
    """Raise UnitError when the subject has no logits."""
    if subject.model.get_output_embeddings() is None:
        raise UnitError(f"'{subject.name}' has no logits to read a stream through: it lacks a head.")


def read_out(subject: Subject, streams: Tensor) -> Iterator[Tensor]:
    """Logits of each stream put in the place of the last block's output, through all that the model does behind it.

    Final norm, projections, unembedding and caps are the model's own, so the last stream of a run gives its logits.

    Args:
        subject: The model.
        streams: [n, d_model].

    Yields:
        float32 [some, vocabulary], on the subject's device, in order.

    Raises:
        UnitError: The subject has no logits.
    """
    check_head(subject)
    last = Site(subject.n_layers - 1, "resid_post")
    for part in torch.split(streams, max(1, _LOGITS // subject.vocabulary)):
        stream = part[:, None].to(subject.device, subject.dtype)
        # One token a row: nothing behind the last block mixes positions.
        ids = torch.zeros(len(part), 1, dtype=torch.int64)
        found = run(subject, ids, edits=[replace(last, stream)], resume=Resume(last.layer, stream))
        assert found.logits is not None
        yield found.logits[:, 0].float()
