"""What tokens and positions are in the residual stream when nothing else is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tools.loading import quiet
from tools.subject import Subject
from tools.types import Site

#: What stands for a token: its stream alone at the place in question, or its embedding.
Streams = Literal["alone", "embedding"]
#: Tokens that are embedded at once.
_ROWS = 4096


def token_streams(subject: Subject, token_ids: Sequence[int], site: Site) -> Tensor:
    """Each token's residual stream at a site, at position 1 after the text's first token.

    Args:
        subject: The model.
        token_ids: The tokens.
        site: ``resid_pre.0`` gives the embeddings; later ones have in them what is made of the token on its own.

    Returns:
        [token, d_model], in the subject's dtype.
    """
    first = subject.bos_id if subject.bos_id is not None else token_ids[0]
    with quiet():  # transformers warns of padding tokens, which are tokens like any other here
        rows = [
            subject.capture(torch.tensor([[first, token] for token in token_ids[i : i + _ROWS]]), None, [site])[site]
            for i in range(0, len(token_ids), _ROWS)
        ]
    return torch.cat([row[:, 1] for row in rows])


def position_streams(subject: Subject, positions: int) -> Tensor | None:
    """What learned positions add to an embedding, less what position 1 adds: [position, d_model].

    None where embeddings do not depend on the position (rotary embeddings, ALiBi).
    """
    ids = torch.full((1, positions), subject.bos_id or 0)
    site = Site(0, "resid_pre")
    with quiet():
        streams = subject.capture(ids, None, [site])[site][0].float()
    added = streams - streams[1]
    return None if float(added.abs().max()) <= 1e-6 * float(streams.abs().max()) else added
