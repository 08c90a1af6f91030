"""Units of the stream in circuits: which latents to look at, and what patching one does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tools.attribution.unit_space import UnitSpace
from tools.errors import InterventionError
from tools.estimates import Array
from tools.interventions import run
from tools.patching.attribution import screen
from tools.patching.nodes import Node
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group, groups
from tools.subject import Subject
from tools.types import UnitId


def strongest_neurons(subject: Subject, pairs: Sequence[TokenPair], count: int) -> list[Node]:
    """Neurons whose noising, at all positions, gradients estimate to change the logit difference most."""
    found = screen(subject, pairs, "mlp_act", positions=None, channels="each", direction="noising", confirm=1)
    flat = np.argsort(-np.abs(found.estimates), axis=None, kind="stable")[:count]
    places = (np.unravel_index(i, found.estimates.shape) for i in flat)
    assert found.channels is not None
    return [Node(found.layers[layer], "neuron", found.channels[c]) for layer, _, c in places]


def strongest_latents(subject: Subject, pairs: Sequence[TokenPair], count: int) -> list[Node]:
    """Latents of all attached dictionaries, chosen likewise; what a dictionary does not explain is held.

    Raises:
        InterventionError: The subject has no dictionary.
        SubjectError: It has no logits.
    """
    if not subject.dictionaries:
        raise InterventionError(f"The subject '{subject.name}' has no dictionary attached, and so no latents.")
    estimates: list[tuple[float, UnitId]] = []
    for name in sorted(subject.dictionaries):
        space = UnitSpace.of(subject, f"sae:{name}")
        sums = np.zeros(space.width)
        with subject.lock:
            for group in groups(subject, pairs, [space.reads]):
                sums += _estimates(space, group)
        estimates += [(float(value), UnitId(space.group, i)) for i, value in enumerate(sums)]
    estimates.sort(key=lambda one: -abs(one[0]))
    return [Node.of(subject, str(unit)) for _, unit in estimates[:count]]


def _estimates(space: UnitSpace, group: Group) -> Array:
    """What each unit of a group takes away when it is noised, to first order, summed over pairs and positions."""
    wanted = dict.fromkeys([space.reads, space.site])
    found = run(space.subject, group.ids["clean"], None, read=wanted, last=True, gradients=True)
    assert found.logits is not None
    logits = found.logits[:, -1]
    rows = torch.arange(len(logits), device=logits.device)
    scalar = (logits[rows, group.answer.clone()] - logits[rows, group.wrong.clone()]).float().sum()
    gradient = found.gradients(scalar)[space.site].detach().float()
    pulled = space.pulled(gradient, found[space.reads].detach())
    with torch.inference_mode():
        values = [space.values(group.runs[side][space.reads]).float() for side in ("clean", "corrupt")]
        return (pulled.clone() * (values[0] - values[1])).sum((0, 1)).double().cpu().numpy()


def unit_effects(subject: Subject, pairs: Sequence[TokenPair], node: Node) -> tuple[float, float, int | None]:
    """What patching a unit of the stream does to the logit difference, as a share of clean less corrupted.

    Returns:
        Noised, denoised (both at all positions), and the position at which noising it matters most; None for prompts of
        several lengths, or where it never does.
    """
    slot, width = node.slot, node.slot.width(subject)
    one_length = len({len(pair.clean) for pair in pairs}) == 1
    gap, sums = 0.0, {"noising": 0.0, "denoising": 0.0}
    by_position = np.zeros(len(pairs[0].clean))
    with subject.lock, torch.inference_mode():
        for group in groups(subject, pairs, slot.reads(subject)):
            n = len(group.pairs)
            rows = torch.arange(n, device=subject.device)
            gap += float((group.baselines["clean"][0] - group.baselines["corrupt"][0]).sum())
            contents = {side: slot.contents(subject, group.runs[side]) for side in ("clean", "corrupt")}
            for direction in ("noising", "denoising"):
                base, source = group.sides(direction)
                chosen = torch.zeros(n, width, dtype=torch.bool)
                chosen[:, node.index] = True
                edit = slot.put(subject, chosen, contents[source])
                got = group.patched(direction, rows, slot.lowest(subject), [edit])[0]
                sums[direction] += float((got - group.baselines[base][0]).sum())
            if not one_length:
                continue
            for position in range(group.width):
                if bool(torch.equal(contents["clean"][:, position, node.index],
                                    contents["corrupt"][:, position, node.index])):  # fmt: skip
                    continue
                chosen = torch.zeros(n, group.width, width, dtype=torch.bool)
                chosen[:, position, node.index] = True
                edit = slot.put(subject, chosen, contents["corrupt"])
                got = group.patched("noising", rows, slot.lowest(subject), [edit])[0]
                by_position[position] += float((group.baselines["clean"][0] - got).sum())
    place = int(np.abs(by_position).argmax()) if one_length and by_position.any() else None
    return -sums["noising"] / gap, sums["denoising"] / gap, place
