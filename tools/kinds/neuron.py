"""MLP neurons, ``mlp:LAYER:NEURON``: the inputs of the MLP's output projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.hooking.edits import Edit
from tools.hooking.where import Where
from tools.kinds.registry import register
from tools.normalisation import Norm, read_norm
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site


def layer_number(subject: Subject, kind: str, where: str) -> int:
    """The layer in a group such as ``mlp:3``; UnitError when it is not one of the subject's."""
    if not where.isdigit():
        raise UnitError(f"'{kind}:{where}' names no layer. Write {kind}:LAYER:NUMBER.")
    subject.sites.check_layer(int(where), f"{kind}:{where}")
    return int(where)


def behind_norm(subject: Subject, layer: int, path: str | None, direction: Tensor) -> Tensor:
    """A direction as it is after the norm (if any) between a projection and the residual stream, up to its scale."""
    if path is None:
        return direction
    norm = read_norm(subject.sites.module(layer, path), subject.d_model, subject.device)
    return norm.fold(direction) if isinstance(norm, Norm) else direction


def output_directions(subject: Subject, layer: int) -> Tensor:
    """Write directions of all neurons of a layer, float32 [neuron, d_model]; see `Neuron.write_direction`.

    Raises:
        UnitError: The layer has no neurons.
    """
    subject.n_neurons(layer)
    plan = subject.sites.plans[layer]
    assert plan.mlp_out is not None, "a layer with neurons has an output projection"
    weight = weight_in_out(subject.sites.module(layer, plan.mlp_out)).detach().float()
    return behind_norm(subject, layer, plan.mlp_norm, weight * plan.taps["mlp_out"].scale)


@register("mlp")
class Neuron:
    """One entry of the MLP's hidden layer, after the activation function (and the gate's product)."""

    def groups(self, subject: Subject) -> Sequence[str]:
        return [str(layer) for layer, plan in enumerate(subject.sites.plans) if "mlp_act" in plan.taps]

    def check(self, subject: Subject, where: str) -> None:
        self.width(subject, where)

    def site(self, subject: Subject, where: str) -> Site:
        return Site(layer_number(subject, "mlp", where), "mlp_act")

    def width(self, subject: Subject, where: str) -> int:
        return subject.n_neurons(layer_number(subject, "mlp", where))

    def activations(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        return captured[self.site(subject, where)].float()

    def read_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """Input weights of the neuron; of a gated one, those of its gate. None where they cannot be told apart."""
        layer = layer_number(subject, "mlp", where)
        plan = subject.sites.plans[layer]
        if plan.mlp_in is None:
            return None
        weight = weight_in_out(subject.sites.module(layer, plan.mlp_in))
        return weight[:, plan.mlp_in_start + index].float()

    def write_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """Output weights, with the gain of a norm behind them (Gemma 2) folded in."""
        layer = layer_number(subject, "mlp", where)
        plan = subject.sites.plans[layer]
        assert plan.mlp_out is not None, "a layer with neurons has an output projection"
        direction = weight_in_out(subject.sites.module(layer, plan.mlp_out))[index].float()
        direction = direction * plan.taps["mlp_out"].scale
        return behind_norm(subject, layer, plan.mlp_norm, direction)

    def edit(
        self, subject: Subject, where: str, index: int, new: Callable[[Tensor], Tensor], places: Where
    ) -> Edit | None:
        return Edit(self.site(subject, where), places.channel(index), lambda old, _: new(old))

    def contents(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        return self.activations(subject, where, captured)

    def edit_group(self, subject: Subject, where: str, new: Callable[[Tensor], Tensor], places: Where) -> Edit | None:
        return Edit(self.site(subject, where), places, lambda old, _: new(old))
