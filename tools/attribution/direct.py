"""Direct logit attribution: a logit as the sum of what each part of the model writes into the last residual stream.

The stream before the unembedding is the embedding plus what every head, every MLP and every bias added. The final norm,
and the norms that some models put behind attention and MLP or after each sum, are held as they are on the run (see
`tools.frozen`), and then the logit of a token, or the difference of two logits, is linear in the stream and the sum of
the parts' shares exactly (Elhage et al. 2021; Wang et al. 2023, arXiv 2211.00593). Shares are direct effects: what
later layers make of a write counts as theirs. Shares are computed in float64 from the model's own activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools import units
from tools.capture import Captured
from tools.errors import UnitError
from tools.frozen import FrozenNorm, freeze, norm_making
from tools.head_weights import attention_input, head_weights
from tools.kinds.head import output_weights
from tools.normalisation import Unembedding
from tools.structure import weight_in_out
from tools.subject import Subject
from tools.types import Site

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A part of the sum: ``embedding``, ``head:3:1``, ``mlp:3`` (with its bias), ``attn_bias:3`` (of the attention's
    output projection and the norm behind it), ``norm_bias:3`` (of norms within the stream), ``bias`` (of the final norm
    and the unembedding)."""

    name: str
    kind: str
    layer: int | None = None


@dataclass(frozen=True)
class DirectAttribution:
    """Shares of a logit (difference), a row a prompt."""

    parts: tuple[Part, ...]
    values: Array
    """[prompt, part]; a row sums to `totals`."""
    totals: Array
    """[prompt]: the logit of the target, less that of the foil, before a final function such as Gemma 2's cap."""
    logits: Array
    """[prompt]: the same as the model gives it out."""
    positions: tuple[int, ...]
    """Where in each prompt."""
    targets: tuple[int, ...]
    foils: tuple[int, ...] | None
    units: Mapping[str, Array] = field(default_factory=dict)
    """Group (``mlp:3``, ``sae:NAME``) -> shares of its units, [prompt, unit]; they are within `values`."""
    sources: Array | None = None
    """Shares of heads by the position that they attend to, [prompt, layer, head, key]."""

    @property
    def error(self) -> float:
        """Largest difference of a row's sum from its total."""
        return float(np.abs(self.values.sum(-1) - self.totals).max())

    def to_json(self) -> dict[str, Any]:
        return {
            "parts": [part.name for part in self.parts],
            "values": self.values.tolist(),
            "totals": self.totals.tolist(),
            "logits": self.logits.tolist(),
            "error": self.error,
            "positions": list(self.positions),
            "targets": list(self.targets),
            "foils": None if self.foils is None else list(self.foils),
            "units": {group: values.tolist() for group, values in self.units.items()},
            "sources": None if self.sources is None else self.sources.tolist(),
        }


def direct_attribution(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[int],
    foils: Sequence[int] | None = None,
    *,
    positions: Sequence[int] | None = None,
    groups: Sequence[str] = (),
    sources: bool = False,
) -> DirectAttribution:
    """Attribute each prompt's logit of its target, less that of its foil.

    Args:
        subject: The model.
        prompts: Token ids.
        targets: A token for each prompt.
        foils: Tokens whose logits are taken off; None for the targets' logits alone.
        positions: Where in each prompt to look; None for its last token.
        groups: Groups of neurons, latents or directions whose units' shares are wanted as well.
        sources: Also split heads by source position.

    Raises:
        UnitError: The subject has no linear way to its logits (BERT), lacks a site that the sum needs, a group writes
            nowhere in the stream, or a position or token is beyond what there is.
    """
    way = subject.unembedding
    if way is None:
        raise UnitError(
            f"Logits of '{subject.name}' cannot be attributed directly: its way from the last residual stream to the "
            "logits is not linear up to a norm."
        )
    places = _checked_places(subject, prompts, targets, foils, positions)
    ids, mask = subject.pad(prompts)
    with subject.lock:
        captured = subject.capture(ids, mask, _wanted(subject, groups, sources), logits=True)
        run = _Run(subject, captured, torch.tensor(places, device=subject.device))
        reading = run.final(way, list(targets), None if foils is None else list(foils))
        shares = _Backwards(run, reading, groups, sources).shares()
    assert captured.logits is not None
    rows = torch.arange(len(prompts))
    logits = captured.logits.double().cpu()[rows, places]
    chosen = logits[rows, list(targets)] - (0.0 if foils is None else logits[rows, list(foils)])
    return DirectAttribution(
        parts=tuple(part for part, _ in shares.parts),
        values=torch.stack([value for _, value in shares.parts], 1).cpu().numpy(),
        totals=reading.total.cpu().numpy(),
        logits=chosen.numpy(),
        positions=tuple(places),
        targets=tuple(targets),
        foils=None if foils is None else tuple(foils),
        units={group: value.cpu().numpy() for group, value in shares.units.items()},
        sources=torch.stack(shares.sources, 1).cpu().numpy() if sources else None,
    )


def _checked_places(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[int],
    foils: Sequence[int] | None,
    positions: Sequence[int] | None,
) -> list[int]:
    if not prompts or any(len(given) != len(prompts) for given in (targets, foils, positions) if given is not None):
        raise UnitError(f"Each of the {len(prompts)} prompts needs its own target, and foil and position where given.")
    for token in (*targets, *(foils or ())):
        if not 0 <= token < subject.vocabulary:
            raise UnitError(f"Token {token} is beyond the vocabulary of '{subject.name}' ({subject.vocabulary}).")
    places = [len(prompt) - 1 for prompt in prompts] if positions is None else list(positions)
    for row, (place, prompt) in enumerate(zip(places, prompts, strict=True)):
        if not 0 <= place < len(prompt):
            raise UnitError(
                f"Position {place} is beyond prompt {row}, which has {len(prompt)} tokens, 0 to {len(prompt) - 1}."
            )
    return places


def _wanted(subject: Subject, groups: Sequence[str], sources: bool) -> set[Site]:
    wanted = {Site(0, "resid_pre"), Site(subject.n_layers - 1, "resid_post")}
    for layer, plan in enumerate(subject.sites.plans):
        wanted |= {Site(layer, kind) for kind in ("head_z", "attn_out", "mlp_out")}
        if plan.attention_norm is not None or plan.normalised_stream:
            wanted |= {Site(layer, kind) for kind in ("resid_pre", "resid_mid", "resid_post")}
        if sources:
            wanted |= {Site(layer, "attn_pattern"), Site(layer, "resid_pre")}
    for group in groups:
        site = units.group_site(subject, group)
        wanted.add(site)
        if group.startswith("mlp:"):
            wanted.add(Site(site.layer, "mlp_out"))
    for site in wanted:
        subject.sites.tap(site)
    return wanted


@dataclass(frozen=True)
class _Reading:
    """What reads the logit from the last stream [prompt, d_model], its constant, and the logit [prompt]; float64."""

    vector: Tensor
    constant: Tensor
    total: Tensor


class _Run:
    """The activations of a run at one position of each prompt."""

    def __init__(self, subject: Subject, captured: Captured, places: Tensor) -> None:
        self.subject, self.captured, self.places = subject, captured, places
        self.rows = torch.arange(len(places), device=places.device)

    def at(self, layer: int, kind: str) -> Tensor:
        """A site's tensor at the positions, [prompt, ...], in the subject's dtype."""
        return self.captured[Site(layer, kind)][self.rows, self.places]

    def final(self, way: Unembedding, targets: list[int], foils: list[int] | None) -> _Reading:
        """Follow the way to the logits, norms held; back along it goes the difference of two unit vectors."""
        stream = self.at(self.subject.n_layers - 1, "resid_post")
        states: list[FrozenNorm | None] = []
        with torch.inference_mode():
            for step, module in zip(way.steps, way.modules, strict=True):
                states.append(None if isinstance(step, Tensor) else freeze(module, stream))
                stream = module(stream)
        total = stream[self.rows, targets].double()
        total = total - (0.0 if foils is None else stream[self.rows, foils].double())
        last = way.steps[-1]
        assert isinstance(last, Tensor), "the last step is the unembedding"
        vector = last[:, targets].T.double()
        vector = vector if foils is None else vector - last[:, foils].T.double()
        bias = _bias(way.modules[-1], last)
        constant = bias[targets] - (0.0 if foils is None else bias[foils])
        for step, module, state in list(zip(way.steps, way.modules, states, strict=True))[-2::-1]:
            if isinstance(step, Tensor):
                constant = constant + vector @ _bias(module, step)
                vector = vector @ step.double().T
            else:
                assert state is not None
                constant = constant + vector @ state.bias
                vector = state.pull(vector)
        return _Reading(vector, constant, total)


@dataclass
class _Shares:
    parts: list[tuple[Part, Tensor]]
    units: dict[str, Tensor]
    sources: list[Tensor]


class _Backwards:
    """Goes back through the blocks with the vector that reads the logit from the stream, and notes every share."""

    def __init__(self, run: _Run, reading: _Reading, groups: Sequence[str], sources: bool) -> None:
        self.run, self.reading, self.sources = run, reading, sources
        self.groups = {group: units.group_site(run.subject, group) for group in groups}
        self.found = _Shares([], {}, [])

    def shares(self) -> _Shares:
        """Shares in the order of the forward pass."""
        vector = self.reading.vector
        for layer in reversed(range(self.run.subject.n_layers)):
            vector = self._layer(layer, vector)
        embedding = (self.run.at(0, "resid_pre").double() * vector).sum(-1)
        self.found.parts.append((Part("embedding", "embedding"), embedding))
        self.found.parts.reverse()
        self.found.sources.reverse()
        self.found.parts.append((Part("bias", "bias"), self.reading.constant))
        return self.found

    def _layer(self, layer: int, vector: Tensor) -> Tensor:
        run, plan = self.run, self.run.subject.sites.plans[layer]
        norm_bias = torch.zeros_like(vector[:, 0])
        self._units_at(Site(layer, "resid_post"), vector)
        if plan.normalised_stream:
            before = run.at(layer, "resid_mid") + run.at(layer, "mlp_out")
            norm = self._norm(layer, before, run.at(layer, "resid_post"))
            norm_bias, vector = norm_bias + vector @ norm.bias, norm.pull(vector)
        self._note(f"mlp:{layer}", "mlp", layer, (run.at(layer, "mlp_out").double() * vector).sum(-1))
        self._units_at(Site(layer, "mlp_out"), vector)
        self._neurons(layer, vector)
        self._units_at(Site(layer, "resid_mid"), vector)
        if plan.normalised_stream:
            before = run.at(layer, "resid_pre") + run.at(layer, "attn_out")
            norm = self._norm(layer, before, run.at(layer, "resid_mid"))
            norm_bias, vector = norm_bias + vector @ norm.bias, norm.pull(vector)
            self._note(f"norm_bias:{layer}", "norm_bias", layer, norm_bias)
        self._units_at(Site(layer, "attn_out"), vector)
        self._heads(layer, vector)
        self._units_at(Site(layer, "resid_pre"), vector)
        return vector

    def _norm(self, layer: int, total: Tensor, output: Tensor) -> FrozenNorm:
        return freeze(norm_making(self.run.subject, layer, total, output), total)

    def _heads(self, layer: int, vector: Tensor) -> None:
        subject, plan = self.run.subject, self.run.subject.sites.plans[layer]
        assert plan.attention_out is not None, "a layer with heads has an output projection"
        weights, z = output_weights(subject, layer).double(), self.run.at(layer, "head_z").double()
        projection = subject.sites.module(layer, plan.attention_out)
        bias = _bias(projection, weight_in_out(projection))
        scale = plan.taps["attn_out"].scale
        if plan.attention_norm is None:
            constant = vector @ (scale * bias)
        else:
            total = (torch.einsum("bhe,hed->bd", z, weights) + bias).to(subject.dtype)
            norm = freeze(subject.sites.module(layer, plan.attention_norm), total)
            constant = scale * (vector @ norm.bias)
            vector = scale * norm.pull(vector)
            constant = constant + vector @ bias
        self._note(f"attn_bias:{layer}", "attn_bias", layer, constant)
        read = torch.einsum("hed,bd->bhe", weights, vector)
        shares = (z * read).sum(-1)
        for head in reversed(range(plan.n_heads)):
            self._note(f"head:{layer}:{head}", "head", layer, shares[:, head])
        if self.sources:
            pattern = self.run.captured[Site(layer, "attn_pattern")]
            pattern = pattern[self.run.rows, :, self.run.places].double()
            x = attention_input(subject, layer, self.run.captured[Site(layer, "resid_pre")])
            own = head_weights(subject, layer)
            values = torch.einsum("bkd,hde->bkhe", x, own.W_V) + own.b_V
            self.found.sources.append(pattern * torch.einsum("bkhe,bhe->bhk", values.double(), read))

    def _neurons(self, layer: int, vector: Tensor) -> None:
        group = f"mlp:{layer}"
        if group not in self.groups:
            return
        subject, plan = self.run.subject, self.run.subject.sites.plans[layer]
        assert plan.mlp_out is not None, "a layer with neurons has an output projection"
        projection = subject.sites.module(layer, plan.mlp_out)
        weight, act = weight_in_out(projection), self.run.at(layer, "mlp_act")
        vector = plan.taps["mlp_out"].scale * vector
        if plan.mlp_norm is not None:
            with torch.inference_mode():
                total = projection(act)
            vector = freeze(subject.sites.module(layer, plan.mlp_norm), total).pull(vector)
        self.found.units[group] = act.double() * (vector @ weight.double().T)

    def _units_at(self, site: Site, vector: Tensor) -> None:
        """Latents and directions that write into this site."""
        subject, rows, places = self.run.subject, self.run.rows, self.run.places
        for group, read in self.groups.items():
            kind, _, name = group.partition(":")
            if kind == "dir" and read == site:
                active = units.activations(subject, group, self.run.captured)[rows, places].double()
                self.found.units[group] = active * (vector @ subject.directions[name].vector.double())[:, None]
            if kind == "sae" and subject.dictionaries[name].site_out == site:
                dictionary = subject.dictionaries[name]
                given = self.run.captured[read][rows, places]
                latents = dictionary.encode(given)
                plain = (latents @ dictionary.W_dec).double()
                # A dictionary that normalises its input token by token scales what it decodes back.
                decoded = dictionary.decode(latents, given) - dictionary.decode(torch.zeros_like(latents), given)
                size = (decoded.double() * plain).sum(-1) / plain.square().sum(-1).clamp(min=1e-30)
                self.found.units[group] = size[:, None] * latents.double() * (vector @ dictionary.W_dec.double().T)

    def _note(self, name: str, kind: str, layer: int, value: Tensor) -> None:
        self.found.parts.append((Part(name, kind, layer), value))


def _bias(module: torch.nn.Module, weight: Tensor) -> Tensor:
    """A linear layer's bias, float64 [out]; zeros where it has none."""
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        return bias.detach().double()
    return torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
