"""What a unit does to the model's next-token logits when its activation is set: measured, not read off the weights.

Token change (Gur-Arieh et al. 2025, arXiv 2501.08319): on texts of a corpus the unit's activation is set to a value at
every position, and each token's logit is compared with that of the plain run, as a mean over positions. Unlike
`tools.lenses.write_lens` this has in it what later layers make of the write, and it is known for heads, too.

See `tools.interventions.edit_unit` for what setting an activation means for each kind of unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tools.errors import InterventionError, UnitError
from tools.interventions import Where, run, set_unit
from tools.lenses import Promotion
from tools.subject import Subject
from tools.types import UnitId
from tools.units import check_unit, length_batches

BATCH_TOKENS = 512
"""Padded tokens in one batch: each has logits over the whole vocabulary."""


def token_change(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], value: float, k: int = 10
) -> Promotion | None:
    """Tokens whose logits rise and fall most when a unit's activation is `value` at every position but the first.

    Args:
        subject: The model.
        unit: Any unit that writes.
        contexts: Token ids, at least one of two tokens or more.
        value: The activation that is set; of a head, the norm of its write.
        k: How many tokens of each kind.

    Returns:
        The mean change of their logits over the positions, relative to its mean over the vocabulary. None for units
        whose activation cannot be set in this subject (a site that nothing writes alone), and for a subject without
        logits.

    Raises:
        UnitError: The subject has no such unit, or no context is long enough.
    """
    check_unit(subject, unit)
    usable = [list(map(int, context)) for context in contexts if len(context) > 1]
    if not usable:
        raise UnitError("Token changes need a context of at least 2 tokens; none of the given contexts has as many.")
    if subject.model.get_output_embeddings() is None:
        return None
    try:
        # The first position is left as it is: many models rest there, and its activations are not the text's.
        edit = set_unit(subject, unit, value, Where(since=1))
    except InterventionError:
        return None
    total = torch.zeros(subject.vocabulary, dtype=torch.float64)
    positions = 0
    with subject.lock, torch.inference_mode():
        for batch in length_batches([len(c) for c in usable], BATCH_TOKENS):
            ids, mask = subject.pad([usable[i] for i in batch])
            plain, set_to = run(subject, ids, mask).logits, run(subject, ids, mask, [edit]).logits
            assert plain is not None
            assert set_to is not None
            counted = mask.bool().to(plain.device)
            counted[:, 0] = False
            difference = (set_to - plain).float()[counted]
            total += difference.double().sum(0).cpu()[: len(total)]
            positions += len(difference)
    scores = (total / positions)[: len(subject.tokenizer)]
    scores = scores - scores.mean()
    k = min(k, len(scores))
    high, low = scores.topk(k), scores.topk(k, largest=False)

    def rows(values: Tensor, tokens: Tensor) -> tuple[tuple[str, float], ...]:
        return tuple(zip(subject.pieces(tokens.tolist()), values.tolist(), strict=True))

    return Promotion(rows(high.values, high.indices), rows(low.values, low.indices))
