"""What all dictionaries share: the input's normalisation and bias, the decoder, and the fit to a subject.

With x the tensor at the input site, n(x) its normalisation and f the architecture's activation function,

    z = f((n(x) - b_dec) W_enc + b_enc)          encode     [..., d_in] -> [..., d_sae]
    y = n^-1(z W_dec + b_dec)                    decode     [..., d_sae] -> [..., d_out]

(Bricken et al. 2023, "Towards Monosemanticity"; the conventions are those of SAELens.)
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from tools.dictionaries.config import DictionaryConfig
from tools.dictionaries.hooks import site_of_hook
from tools.errors import DictionaryError
from tools.types import Site

#: Sites whose tensor is as wide as the residual stream, which a model's centred writing weights leave without a mean.
CENTRED_SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


class Dictionary(nn.Module, abc.ABC):
    """A sparse dictionary over one site of a subject. Subclasses say which weights they hold and how they activate.

    Attributes:
        name: How units of it are called: ``sae:NAME:LATENT``.
        site: Where the input is read. site_out: where the output belongs; another site only for a transcoder.
        W_enc: [d_in, d_sae], W_dec: [d_sae, d_out], b_dec: [d_out].
        fingerprint: 16 hex digits over the configuration and the weights.
    """

    W_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    def __init__(self, config: DictionaryConfig, weights: Mapping[str, Tensor], *, name: str, fingerprint: str) -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.fingerprint = fingerprint
        self.d_in, self.d_sae, self.d_out = config.d_in, config.d_sae, config.output_width
        self.site: Site = site_of_hook(config.hook_name)
        self.site_out: Site = self._output_site()
        if config.center_input and self.site.kind not in CENTRED_SITES:
            raise DictionaryError(f"Dictionary '{name}': center_writing_weights has no meaning at {self.site}.")
        self._check_weights(weights)
        for key, tensor in weights.items():
            self.register_buffer(key, tensor)

    #: Every weight of the architecture and its shape in the letters i (d_in), s (d_sae) and o (d_out).
    shapes: ClassVar[dict[str, str]]

    @classmethod
    def adapt(cls, config: DictionaryConfig, weights: dict[str, Tensor]) -> tuple[DictionaryConfig, dict[str, Tensor]]:
        """Turns weights as they are saved into those of `shapes`; architectures saved while training override it."""
        return config, weights

    @abc.abstractmethod
    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        """Latents [..., d_sae] from pre-activations [..., d_sae]; `normalised` is the encoder's input [..., d_in]."""

    def pre_bias(self) -> Tensor:
        """The bias [d_sae] of the pre-activations."""
        return self.get_buffer("b_enc")

    def encode(self, x: Tensor) -> Tensor:
        """Latent activations [..., d_sae], of the dictionary's dtype, from the tensor at `site`.

        x is [..., d_in]; at a ``head_z`` site it is [..., head, d_head], as that site is everywhere.
        """
        normalised = self._normalise(self._flat(x))
        if self.config.apply_b_dec_to_input:
            normalised = normalised - self.b_dec
        return self.activate(normalised @ self.W_enc + self.pre_bias(), normalised)

    def decode(self, z: Tensor, like: Tensor | None = None) -> Tensor:
        """What latents [..., d_sae] stand for at `site_out`, [..., d_out] (heads flattened).

        Where inputs are normalised token by token, their scale is not in `z`: `like`, the input that was encoded, gives
        it back.

        Raises:
            DictionaryError: `like` is missing and the dictionary normalises token by token.
        """
        return self._denormalise(z @ self.W_dec + self.b_dec, like)

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the dictionary makes of an input: ``decode(encode(x))``, plus a transcoder's skip connection."""
        return self.decode(self.encode(x), like=x)

    def check(self, n_layers: int, width_at_site: int, width_at_site_out: int | None = None) -> None:
        """Refuses a subject that the dictionary does not fit.

        Args:
            n_layers: The subject's number of layers.
            width_at_site: Width of the subject's tensor at `site` (at ``head_z``: heads times d_head).
            width_at_site_out: The same at `site_out`; None when it is `site` or not known.

        Raises:
            DictionaryError: The site lies beyond the model, or a width differs; both numbers are stated.
        """
        for site in (self.site, self.site_out):
            if site.layer >= n_layers:
                raise DictionaryError(
                    f"Dictionary '{self.name}' belongs to layer {site.layer} ({site}), but the subject has {n_layers} "
                    f"layers, 0 to {n_layers - 1}. It was made for another model{self._made_for()}."
                )
        widths = [("reads", self.d_in, width_at_site, self.site)]
        if width_at_site_out is not None:
            widths.append(("writes", self.d_out, width_at_site_out, self.site_out))
        for does, ours, theirs, site in widths:
            if ours != theirs:
                raise DictionaryError(
                    f"Dictionary '{self.name}' {does} vectors of width {ours}, but the subject's are {theirs} wide at "
                    f"{site}. It was made for another model{self._made_for()}."
                )

    def _made_for(self) -> str:
        return f" ({self.config.model_name})" if self.config.model_name else ""

    def _output_site(self) -> Site:
        return self.site

    def _check_weights(self, weights: Mapping[str, Tensor]) -> None:
        missing, unknown = sorted(self.shapes.keys() - weights), sorted(weights.keys() - self.shapes)
        if missing or unknown:
            problem = f"lack {', '.join(missing)}" if missing else f"hold {', '.join(unknown)}, which it does not have"
            raise DictionaryError(
                f"Dictionary '{self.name}' is of architecture '{self.config.architecture}', but its weights {problem}."
            )
        sizes = {"i": self.d_in, "s": self.d_sae, "o": self.d_out}
        for key, letters in self.shapes.items():
            expected = [sizes[letter] for letter in letters]
            if list(weights[key].shape) != expected:
                raise DictionaryError(
                    f"Dictionary '{self.name}': {key} has shape {list(weights[key].shape)}, but the configuration "
                    f"(d_in {self.d_in}, d_sae {self.d_sae}, d_out {self.d_out}) needs {expected}."
                )

    def _flat(self, x: Tensor) -> Tensor:
        """[..., d_in] in the dictionary's dtype, heads side by side and, where the model is centred, without mean."""
        x = x.to(self.W_enc.dtype)
        if self.site.kind == "head_z":
            x = x.flatten(-2)
        if x.shape[-1] != self.d_in:
            raise DictionaryError(
                f"Dictionary '{self.name}' reads vectors of width {self.d_in} at {self.site}, not {x.shape[-1]}."
            )
        return x - x.mean(-1, keepdim=True) if self.config.center_input else x

    def _normalise(self, x: Tensor) -> Tensor:
        match self.config.normalize_activations:
            case "constant_norm_rescale":  # every token to norm sqrt(d_in)
                return x * self._norm_coefficient(x)
            case "layer_norm":  # mean 0 and standard deviation 1 over d_in; unbiased, the small number added to it
                return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
            case _:
                return x

    def _denormalise(self, y: Tensor, like: Tensor | None) -> Tensor:
        kind = self.config.normalize_activations
        if kind in ("none", "expected_average_only_in"):
            return y
        if like is None:
            raise DictionaryError(
                f"Dictionary '{self.name}' normalises every token by itself ({kind}): decoding needs the encoded input "
                "as well. Call decode(z, like=x)."
            )
        x = self._flat(like)
        if kind == "constant_norm_rescale":
            return y / self._norm_coefficient(x)
        return y * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)

    def _norm_coefficient(self, x: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return norm.reciprocal() * math.sqrt(self.d_in)
