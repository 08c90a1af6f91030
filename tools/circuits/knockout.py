"""The task with parts of the model ablated: what a set of parts does on its own, and what the rest does without it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import Array
from tools.patching.nodes import Node
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group, groups
from tools.patching.slots import Slot
from tools.subject import Subject

Kind = Literal["resample", "mean", "zero"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Knockout:
    """Logit differences of clean prompts with some of the candidate parts ablated at every position.

    What is not a candidate stays as it is. An ablated part has, at each position, the output that it has in the pair's
    corrupted run (`resample`), the mean of these over pairs of that length (`mean`, as Wang et al. 2023 do), or zero.
    Of latents that is their activation, and what their dictionary does not explain stays.
    """

    def __init__(
        self, subject: Subject, pairs: Sequence[TokenPair], candidates: Iterable[Node], kind: Kind = "resample"
    ) -> None:
        """Runs both prompts of every pair once.

        Raises:
            UnitError: The subject has no such part.
            InterventionError: There is no candidate, or no such kind of ablation.
            SubjectError: The subject has no logits.
        """
        self.candidates = tuple(sorted(set(candidates)))
        if not self.candidates:
            raise InterventionError("There is no part of the model to look at.")
        if kind not in KINDS:
            raise InterventionError(f"'{kind}' is no kind of ablation. There are {', '.join(KINDS)}.")
        for node in self.candidates:
            node.check(subject)
        self.subject, self.kind, self.pairs = subject, kind, len(pairs)
        self.slots = list(dict.fromkeys(node.slot for node in self.candidates))
        self._lowest = {slot: slot.lowest(subject) for slot in self.slots}
        with subject.lock, torch.inference_mode():
            reads = [site for slot in self.slots for site in slot.reads(subject)]
            self._groups = list(groups(subject, pairs, reads))
            self._fills = [self._fill(group) for group in self._groups]
        self._known: dict[frozenset[Node], Array] = {}
        self.runs = 0
        self.clean, self.corrupt = self._baseline("clean"), self._baseline("corrupt")
        prompts = json.dumps([pair.corrupt for pair in pairs]).encode()
        self.reference = None if kind == "zero" else hashlib.sha256(prompts).hexdigest()[:16]
        """16 hex digits over the corrupted prompts' ids, from which the ablated parts' outputs are."""

    def _baseline(self, side: str) -> Array:
        out = np.zeros(self.pairs)
        for group in self._groups:
            out[list(group.numbers)] = group.baselines[side][0].cpu().numpy()
        return out

    def _fill(self, group: Group) -> Mapping[Slot, Tensor | None]:
        if self.kind == "zero":
            return dict.fromkeys(self.slots)
        found = {slot: slot.contents(self.subject, group.runs["corrupt"]) for slot in self.slots}
        if self.kind == "resample":
            return found
        return {slot: value.float().mean(0, keepdim=True).to(value) for slot, value in found.items()}

    def kept(self, sets: Sequence[Iterable[Node]]) -> Array:
        """Logit differences with all candidates ablated but those of a set: float64 [set, pair]."""
        every = frozenset(self.candidates)
        return self.ablated([every - frozenset(one) for one in sets])

    def ablated(self, sets: Sequence[Iterable[Node]]) -> Array:
        """Logit differences with the parts of a set ablated: float64 [set, pair]."""
        wanted = [frozenset(one) for one in sets]
        if strange := {node for one in wanted for node in one} - set(self.candidates):
            raise InterventionError(f"{min(strange)} is not one of the parts that are looked at.")
        new = [one for one in dict.fromkeys(wanted) if one not in self._known]
        self._known.update(dict.fromkeys((one for one in new if not one), self.clean))
        new = sorted((one for one in new if one), key=lambda one: (min(node.layer for node in one), sorted(one)))
        results = {one: np.zeros(self.pairs) for one in new}
        with self.subject.lock, torch.inference_mode():
            for group, fill in zip(self._groups, self._fills, strict=True):
                cells = [(one, row) for one in new for row in range(len(group.pairs))]
                for start in range(0, len(cells), group.rows):
                    chunk = cells[start : start + group.rows]
                    got = self._run(group, fill, chunk).cpu().numpy()
                    for (one, row), value in zip(chunk, got, strict=True):
                        results[one][group.numbers[row]] = value
                    self.runs += len(chunk)
        self._known.update(results)
        return np.stack([self._known[one] for one in wanted]) if wanted else np.zeros((0, self.pairs))

    def _run(
        self, group: Group, fill: Mapping[Slot, Tensor | None], chunk: list[tuple[frozenset[Node], int]]
    ) -> Tensor:
        rows = torch.tensor([row for _, row in chunk], device=self.subject.device)
        layer = min(self._lowest[node.slot] for one, _ in chunk for node in one)
        edits = []
        for slot in self.slots:
            chosen = torch.zeros(len(chunk), slot.width(self.subject), dtype=torch.bool)
            for row, (one, _) in enumerate(chunk):
                chosen[row, [node.index for node in one if node.slot == slot]] = True
            if chosen.any():
                other = fill[slot]
                edits.append(slot.put(self.subject, chosen, other if other is None or len(other) == 1 else other[rows]))
        return group.patched("noising", rows, layer, edits)[0]
