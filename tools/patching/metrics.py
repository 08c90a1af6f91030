"""What is measured of the next token: one number for each run.

The logit difference is the default (Zhang & Nanda 2024, arXiv 2309.16042): probabilities hide parts that work against
the answer, and divergences do not tell which way a part works.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from tools.estimates import divergence

Metric = Literal["logit_difference", "probability", "kl"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Direction = Literal["denoising", "noising"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def measure(logits: Tensor, answer: Tensor, wrong: Tensor, clean: Tensor) -> Tensor:
    """All metrics of runs, [metric, row], float64.

    Args:
        logits: Of the next token, [row, vocabulary].
        answer: The right token, [row].
        wrong: The token that it is compared with, [row].
        clean: Log-probabilities of the clean run, [row, vocabulary].

    Returns:
        In the order of `METRICS`: logit(answer) - logit(wrong); probability of the answer; KL(clean || run), nats.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logp = logits.log_softmax(-1)
    at = answer[:, None]
    difference = (logits.gather(-1, at) - logits.gather(-1, wrong[:, None]))[:, 0]
    probability = logp.gather(-1, at)[:, 0].exp()
    return torch.stack([difference.double(), probability.double(), divergence(clean, logp).double()])
