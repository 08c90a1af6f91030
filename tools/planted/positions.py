"""How a Llama knows positions: it has no position embedding, so a head and some neurons of layer 1 make one.

A head that attends to all tokens alike finds the beginning-of-sequence token with weight 1 / (i + 1) at position i. Two
neurons for each step turn this into a feature that is 1 from a position on and 0 before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tools.planted.layout import ON, STEPS, Head, Layout, Neuron

#: What the head writes at position 0.
_SIZE = 30.0
#: Half the range of drive in which a step rises, and how far beyond it the drive is at either side of the step.
_HALF = 3.0


def decay_head(layout: Layout) -> Head:
    """Writes `_SIZE` / (i + 1) at position i."""
    return Head(1, 3, (), (({layout.dim("start"): 1.0}, {layout.dim("decay"): _SIZE}),))


def step_neurons(layout: Layout, indices: Sequence[int]) -> list[Neuron]:
    """Neurons of layer 1 that write the steps; two for each."""
    found = []
    for number, step in enumerate(STEPS):
        before, after = _SIZE / step, _SIZE / (step + 1)
        slope = 2 * (_HALF + ON) / (before - after)
        middle = 0.5 * (before + after)
        # Falling in the decay, rising in the position: drive is -slope (decay - middle), shifted either way.
        for k, shift in enumerate((_HALF, -_HALF)):
            weight = (1 if k == 0 else -1) / (2 * _HALF)
            found.append(
                Neuron(
                    1, indices[2 * number + k], {layout.dim("decay"): -slope}, slope * middle + shift,
                    {layout.dim("step", number): weight},
                )
            )  # fmt: skip
    return found
