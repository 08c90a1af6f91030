"""How far two versions of a model are apart as a whole, by what they make of prompts that ask for nothing.

Delta Activations (arXiv 2509.04442): the mean, over fixed generic prompts, of the difference of the
last block's output at the last token. The vectors of several versions compare by cosine; what is printed beside a
recheck is its length, relative to what the old model has there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tools.subject import Subject
from tools.types import FloatArray, Site

_FRAME = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n{task} Input:{given}\n\n### Response:"
)
_TASK = "Please provide a response."
_INPUTS = ("", " The first part.", " One two three.", " A question and an answer.", " There is nothing more to say.")


@dataclass(frozen=True)
class DeltaActivations:
    """The embedding of a version of a model."""

    vector: FloatArray
    """Mean difference of the last block's output at the last token, float32 [d_model]."""
    relative: float
    """Its length over the mean length of what the old model has there."""
    prompts: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"relative": self.relative, "prompts": self.prompts, "vector": [float(v) for v in self.vector]}


def delta_activations(old: Subject, new: Subject) -> DeltaActivations:
    """The difference that a version makes; prompts that are too long for the model lose their beginning."""
    site = Site(old.n_layers - 1, "resid_post")
    last = Site(new.n_layers - 1, "resid_post")
    differences, lengths = [], []
    for given in _INPUTS:
        ids = old.encode(_FRAME.format(task=_TASK, given=given))
        longest = min(old.context, new.context)
        if len(ids) > longest:
            ids = [*old.prefix, *ids[len(ids) - longest + len(old.prefix) :]]
        text = torch.tensor([ids])
        before = old.capture(text, None, [site])[site][0, -1].float().cpu()
        after = new.capture(text, None, [last])[last][0, -1].float().cpu()
        differences.append(after - before)
        lengths.append(float(before.norm()))
    vector = torch.stack(differences).mean(0)
    return DeltaActivations(vector.numpy(), float(vector.norm()) / max(float(np.mean(lengths)), 1e-30), len(_INPUTS))
