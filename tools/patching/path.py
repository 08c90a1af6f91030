"""Path patching: what one part does through the input of another, and not otherwise.

Wang et al. 2023 (arXiv 2211.00593, section 3.1) and Goldowsky-Dill et al. 2023 (arXiv 2304.05969). With a base run and
another one: (1) run the base again with the sender's output from the other run and all other heads held at the base's;
what the receiver makes of its input now has the sender's direct path in it, and no path through another head. MLPs
between them are computed anew, or held as well. (2) Run the base with that put into the receiver, all else free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import InterventionError
from tools.estimates import Array, ratio
from tools.interventions import Edit, Where, replace, run
from tools.patching.metrics import DIRECTIONS, METRICS, Direction, Metric
from tools.patching.nodes import Node, Receiver, place_of
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group, groups
from tools.patching.slots import Slot
from tools.patching.sweep import by_prompt, difference_of
from tools.subject import Subject
from tools.types import Site


@dataclass(frozen=True)
class Paths:
    """Normalised effects along paths, float64 [sender, receiver]; NaN where the receiver is not behind the sender.

    Both are as in `tools.patching.sweep.Effects`: denoising has the sender's output from the clean run.
    """

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    denoising: Mapping[Metric, Array] | None
    noising: Mapping[Metric, Array] | None
    errors: Mapping[Direction, Array]
    """Standard errors of the effects on the logit difference over prompts; NaN for a single one."""
    mlps_held: bool
    """Whether MLPs between sender and receiver were held at the base run, too."""
    clean: float
    """Logit difference of the clean runs, and of the corrupted ones."""
    corrupt: float
    prompts: int

    def direction(self, name: Direction) -> Mapping[Metric, Array]:
        """One of the two directions.

        Raises:
            InterventionError: It was not asked for.
        """
        found = self.denoising if name == "denoising" else self.noising
        if found is None:
            raise InterventionError(f"These paths have no {name} in them.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; arrays as nested lists."""
        out = dict(vars(self))
        for name in ("denoising", "noising", "errors"):
            out[name] = out[name] and {key: values.tolist() for key, values in out[name].items()}
        return out


def path_patch(
    subject: Subject,
    pairs: Sequence[TokenPair],
    senders: Sequence[Node],
    receivers: Sequence[Sequence[Receiver]],
    *,
    hold_mlps: bool = False,
    directions: Sequence[Direction] = DIRECTIONS,
) -> Paths:
    """Measure the path from each sender to each set of receivers.

    Args:
        subject: A model with a head.
        pairs: See `encode_pairs`.
        senders: Heads, MLPs, neurons, or units of the stream, at all positions.
        receivers: Inputs; those of a set receive together.
        hold_mlps: Hold MLPs at the base run as well, so that what remains is the stream alone.
        directions: Which.

    Raises:
        UnitError: The subject has no such part.
        InterventionError: There is no sender or no receiver.
        SubjectError: The subject has no logits.
    """
    plan = _Plan(subject, list(senders), [tuple(one) for one in receivers], hold_mlps)
    shape = (len(METRICS), len(pairs), len(plan.senders), len(plan.receivers))
    sums = {d: np.full(shape, np.nan) for d in directions}
    baselines = np.zeros((2, len(METRICS), len(pairs)))
    with subject.lock, torch.inference_mode():
        for group in groups(subject, pairs, plan.sites):
            for side, name in enumerate(("clean", "corrupt")):
                baselines[side][:, group.numbers] = group.baselines[name].cpu().numpy()
            for direction in directions:
                base = group.baselines[group.sides(direction)[0]]
                for sender, receiver, rows, got in plan.run(group, direction):
                    change = (got - base[:, rows]).cpu().numpy()
                    at = (slice(None), np.array(group.numbers)[rows.cpu().numpy()], sender, receiver)
                    sums[direction][at] = change if direction == "denoising" else -change
    prompts = np.array([pair.prompt for pair in pairs])
    gap = by_prompt(difference_of(baselines), prompts)
    done: dict[Direction, dict[Metric, Array]] = {}
    errors: dict[Direction, Array] = {}
    for d, values in sums.items():
        found = by_prompt(values, prompts)
        done[d] = {metric: ratio(found[i], gap[i])[0] for i, metric in enumerate(METRICS)}
        errors[d] = ratio(found[0], gap[0])[1]
    return Paths(
        tuple(map(str, plan.senders)), tuple("+".join(map(str, one)) for one in plan.receivers), done.get("denoising"),
        done.get("noising"), errors, hold_mlps, float(baselines[0, 0].mean()), float(baselines[1, 0].mean()),
        len(set(prompts.tolist())),
    )  # fmt: skip


class _Plan:
    def __init__(
        self, subject: Subject, senders: list[Node], receivers: list[tuple[Receiver, ...]], hold_mlps: bool
    ) -> None:
        if not senders or not receivers or any(not one for one in receivers):
            raise InterventionError("A path needs a sender and a receiver.")
        for sender in senders:
            sender.check(subject)
        for one in (receiver for some in receivers for receiver in some):
            one.check(subject)
        self.subject, self.senders, self.receivers, self.hold_mlps = subject, senders, receivers, hold_mlps
        taps = [plan.taps for plan in subject.sites.plans]
        self.heads = [Site(layer, "head_z") for layer, tap in enumerate(taps) if "head_z" in tap]
        self.mlps = [Site(layer, "mlp_out") for layer, tap in enumerate(taps) if "mlp_out" in tap]
        self.parallel = ["resid_mid" not in tap for tap in taps]
        sent = [site for sender in senders for site in sender.slot.reads(subject)]
        self.sites = list(dict.fromkeys([*self.heads, *(self.mlps if hold_mlps else ()), *sent]))

    def _held(self, site: Site) -> list[Site]:
        """What is kept as it is when something is sent from a site."""
        every = [*self.heads, *(self.mlps if self.hold_mlps else ())]
        # What a neuron's MLP writes is what it does.
        own = Site(site.layer, "mlp_out") if site.kind == "mlp_act" else None
        return [held for held in every if place_of(held) > place_of(site) and held != own]

    def run(self, group: Group, direction: Direction) -> Iterator[tuple[Any, int, Tensor, Tensor]]:
        """Of each row the number of its sender, the number of a receiver, pairs and metrics [metric, row]."""
        places: dict[Slot, list[int]] = {}
        for number, sender in enumerate(self.senders):
            places.setdefault(sender.slot, []).append(number)
        for slot, numbers in places.items():
            cells = [(number, row) for number in numbers for row in range(len(group.pairs))]
            for start in range(0, len(cells), group.rows):
                yield from self._sent(group, direction, slot, cells[start : start + group.rows])

    def _sent(
        self, group: Group, direction: Direction, slot: Slot, cells: list[tuple[int, int]]
    ) -> Iterator[tuple[Any, int, Tensor, Tensor]]:
        base, source = group.sides(direction)
        rows = torch.tensor([row for _, row in cells], device=self.subject.device)
        senders = np.array([number for number, _ in cells])
        behind = [
            n for n, some in enumerate(self.receivers)
            if all(r.behind(self.senders[senders[0]], self.parallel[slot.site.layer], self._reads(r)) for r in some)
        ]  # fmt: skip
        if not behind:
            return
        wanted = {r for n in behind for r in self.receivers[n]}
        to_logits = any(r.kind == "logits" for r in wanted)
        chosen = torch.zeros(len(cells), slot.width(self.subject), dtype=torch.bool)
        chosen[range(len(cells)), [self.senders[n].index for n in senders]] = True
        ids, edits, resume = group.start(base, rows, slot.lowest(self.subject))
        edits.append(slot.put(self.subject, chosen, slot.contents(self.subject, group.runs[source])[rows]))
        edits += [replace(held, group.runs[base][held][rows]) for held in self._held(slot.site)]
        inner = [r for r in wanted if r.kind != "logits"]
        read = [site for r in inner if r.kind != "mlp" for site in ([r.site] if r.slot is None else [self._reads(r)])]
        sent = run(
            self.subject, ids, None, edits, read=[site for site in read if site is not None],
            read_before=[r.site for r in inner if r.kind == "mlp"], logits=to_logits, last=True, resume=resume,
        )  # fmt: skip
        for n in behind:
            some = self.receivers[n]
            if any(r.kind == "logits" for r in some):
                if len(some) > 1:
                    raise InterventionError("The logits receive alone, not together with parts that lead to them.")
                assert sent.logits is not None
                yield senders, n, rows, group.measured(sent.logits[:, -1], rows)
                continue
            edits = []
            for r in some:
                if r.slot is not None:
                    edits.append(_received(self.subject, r.slot, r.head, sent, len(rows)))
                    continue
                made = sent.before(r.site) if r.kind == "mlp" else sent[r.site]
                edits.append(replace(r.site, made, Where(channels=None if r.kind == "mlp" else r.head)))
            lowest = min(r.layer if r.slot is None else r.slot.lowest(self.subject) for r in some)
            yield senders, n, rows, group.patched(direction, rows, lowest, edits)

    def _reads(self, receiver: Receiver) -> Site | None:
        """Where a unit of the stream reads."""
        return None if receiver.slot is None else receiver.slot.reads(self.subject)[0]


def _received(subject: Subject, slot: Slot, index: int, sent: Captured, rows: int) -> Edit:
    """A unit of the stream with the activation that it has in what was sent."""
    chosen = torch.zeros(rows, slot.width(subject), dtype=torch.bool)
    chosen[:, index] = True
    return slot.put(subject, chosen, slot.contents(subject, sent))
