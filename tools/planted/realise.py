"""Plans turned into the weights of a GPT-2 or a Llama of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tools.planted.layout import (
    CONTEXT,
    D_HEAD,
    D_MODEL,
    LARGE,
    N_HEADS,
    N_LAYERS,
    ON,
    Array,
    Head,
    Layout,
    Neuron,
    dense,
)

#: Rotary base of the Llama: the first frequencies turn fast enough to tell neighbours apart, the last 41 pairs turn by
#: less than 0.09 over a whole context, so that what they compare does not depend on the distance.
ROTARY_BASE = 1e8
#: Pairs of dimensions that measure distance: with the first three frequencies, the mean cosine at any other distance
#: than the wanted one is at most `NEXT`.
TURNING = 3
NEXT = 0.706
_PAIRS = D_HEAD // 2
_SLOW = [*range(D_HEAD - 1, D_HEAD - 42, -1), *range(_PAIRS - 1, _PAIRS - 42, -1)]
#: A guess at the sum of squares of a token's stream without the constants; the build measures it.
_OTHER = 100.0
#: The bottom of gelu_new, and where it lies.
GELU_BOTTOM, GELU_BOTTOM_AT = 0.17004, -0.75179
_GELU_OFF = -8.0


def first_gain() -> float:
    """The norms' gain from which calibration starts: with it a norm gives about what it is given."""
    return float(np.sqrt((2 * LARGE**2 + _OTHER) / D_MODEL))


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


class _Common:
    """What both architectures do alike, over float32 tensors that they name."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.ballast = layout.dim("ballast")

    def balanced(self, columns: Array) -> Array:
        """Reading vectors [D_MODEL, n] that a mean taken off the stream does not change.

        The ballast is always 0 in the stream; its weight makes each vector sum to zero.
        """
        out = columns.copy()
        out[self.ballast] = 0.0
        out[self.ballast] = -out.sum(axis=0)
        return out

    def values(self, head: Head) -> tuple[Array, Array]:
        """V [D_MODEL, D_HEAD] and O [D_HEAD, D_MODEL] of a head."""
        v, o = np.zeros((D_MODEL, D_HEAD)), np.zeros((D_HEAD, D_MODEL))
        for j, (read, write) in enumerate(head.values):
            v[:, j], o[j] = dense(read), dense(write)
        return v, o


class Gpt2(_Common):
    """Learned positions, LayerNorm, gelu_new."""

    def __init__(self, layout: Layout, vocabulary: int, neurons: int, ids: tuple[int, int]) -> None:
        super().__init__(layout)
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=CONTEXT, n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS,
            n_inner=neurons, activation_function="gelu_new", tie_word_embeddings=False, bos_token_id=ids[0],
            eos_token_id=ids[0], pad_token_id=ids[1], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config).eval().requires_grad_(False)
        for name, tensor in self.model.named_parameters():
            tensor.fill_(first_gain() if ".ln_" in name and name.endswith("weight") else 0.0)

    def negative_level(self) -> float:
        return GELU_BOTTOM

    def embed(self, tokens: Array, places: Array) -> None:
        """Tokens [vocabulary, D_MODEL], places [CONTEXT, D_MODEL]."""
        self.model.transformer.wte.weight.copy_(_tensor(tokens))
        self.model.transformer.wpe.weight.copy_(_tensor(places))

    def head(self, head: Head) -> None:
        """The first 32 dimensions of queries and keys compare positions, the others are the head's terms."""
        q, k = np.zeros((D_MODEL, D_HEAD)), np.zeros((D_MODEL, D_HEAD))
        width = CONTEXT // 2
        for j, (query, key) in enumerate(head.terms):
            q[:, width + j], k[:, width + j] = dense(query), dense(key)
        start = self.layout.dim("place")
        turned = place_shift(head.offset)
        for strength, shift in ((head.peak, turned), (-head.not_itself, np.eye(width))):
            if strength:
                # The code of a place has squared length CONTEXT / 4 and is orthogonal to all others but its opposite.
                q[start : start + width, :width] = shift * strength / (CONTEXT / 4)
                k[start : start + width, :width] = np.eye(width)
        if head.peak:  # where no token lies so far back, the first one is a resting place
            q[:, -1] = dense(self.layout.constant(0.5 * head.peak))
            k[self.layout.dim("start"), -1] = 1.0
        v, o = self.values(head)
        self.raw_head(head.layer, head.index, q=q, k=k, v=v, o=o)

    def raw_head(self, layer: int, index: int, *, q: Array, k: Array, v: Array, o: Array) -> None:
        """Queries, keys, values [D_MODEL, D_HEAD], output [D_HEAD, D_MODEL]; scores are q.k without a scale."""
        attention = self.model.transformer.h[layer].attn
        for which, columns in enumerate((q * np.sqrt(D_HEAD), k, v)):
            first = which * D_MODEL + index * D_HEAD
            attention.c_attn.weight[:, first : first + D_HEAD] = _tensor(self.balanced(columns))
        attention.c_proj.weight[index * D_HEAD : (index + 1) * D_HEAD] = _tensor(o)

    def neuron(self, neuron: Neuron) -> None:
        slope, shift = 1.0, 0.0
        if neuron.negative:
            slope = (GELU_BOTTOM_AT - _GELU_OFF) / (2 * ON)
            shift = 0.5 * (GELU_BOTTOM_AT + _GELU_OFF)
        column = slope * dense(neuron.reads) + dense(self.layout.constant(slope * neuron.bias + shift))
        mlp = self.model.transformer.h[neuron.layer].mlp
        mlp.c_fc.weight[:, neuron.index] = _tensor(self.balanced(column[:, None]))[:, 0]
        mlp.c_proj.weight[neuron.index] = _tensor(dense(neuron.writes))

    def unembed(self, directions: Array) -> None:
        """Directions [D_MODEL, vocabulary]."""
        self.model.lm_head.weight.copy_(_tensor(self.balanced(directions).T))

    def norm(self, layer: int, what: str) -> torch.nn.Module:
        """The norm before a layer's 'attention' or 'mlp', or before the 'logits'."""
        names = {"attention": "ln_1", "mlp": "ln_2"}
        module: torch.nn.Module = self.model.transformer.ln_f
        return getattr(self.model.transformer.h[layer], names[what]) if what in names else module

    def spread(self, stream: Tensor) -> Tensor:
        """What the norm divides by, for streams [..., D_MODEL]."""
        return stream.std(-1, unbiased=False)


class Llama(_Common):
    """Rotary positions, RMSNorm, SwiGLU."""

    def __init__(self, layout: Layout, vocabulary: int, neurons: int, ids: tuple[int, int]) -> None:
        super().__init__(layout)
        config = LlamaConfig(
            vocab_size=vocabulary, max_position_embeddings=CONTEXT, hidden_size=D_MODEL, num_hidden_layers=N_LAYERS,
            num_attention_heads=N_HEADS, num_key_value_heads=N_HEADS, intermediate_size=neurons, hidden_act="silu",
            tie_word_embeddings=False, bos_token_id=ids[0], eos_token_id=ids[0], pad_token_id=ids[1],
            rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).eval().requires_grad_(False)
        for name, tensor in self.model.named_parameters():
            tensor.fill_(first_gain() if "norm" in name else 0.0)

    def negative_level(self) -> float:
        return ON

    def embed(self, tokens: Array, places: Array) -> None:
        """Tokens [vocabulary, D_MODEL]; places are not used, as positions are rotations."""
        self.model.model.embed_tokens.weight.copy_(_tensor(tokens))

    def head(self, head: Head) -> None:
        """Terms go into the dimensions that hardly turn; a distance is measured in those that turn fast.

        Where no token lies so far back, the first one is the closest to it.
        """
        q, k = np.zeros((D_MODEL, D_HEAD)), np.zeros((D_MODEL, D_HEAD))
        if len(head.terms) > len(_SLOW):
            raise ValueError(f"a head has room for {len(_SLOW)} terms, not {len(head.terms)}")
        for j, (query, key) in zip(_SLOW, head.terms, strict=False):
            q[:, j], k[:, j] = dense(query), dense(key)
        one = dense(self.layout.constant(1.0))
        for pair in range(TURNING):
            turn = ROTARY_BASE ** (-pair / _PAIRS) * head.offset
            if head.peak:
                # (1, 0) turned by i times the frequency against (cos, sin)(turn) turned by j times it.
                q[:, pair] = one * head.peak / TURNING
                k[:, pair], k[:, pair + _PAIRS] = one * np.cos(turn), one * np.sin(turn)
            elif head.not_itself:
                q[:, pair] = one * -head.not_itself / TURNING
                k[:, pair] = one
                k[self.layout.dim("start"), pair] = -1.0
        v, o = self.values(head)
        self.raw_head(head.layer, head.index, q=q, k=k, v=v, o=o)

    def raw_head(self, layer: int, index: int, *, q: Array, k: Array, v: Array, o: Array) -> None:
        """Queries, keys, values [D_MODEL, D_HEAD], output [D_HEAD, D_MODEL]; scores are q.k without a scale."""
        attention = self.model.model.layers[layer].self_attn
        rows = slice(index * D_HEAD, (index + 1) * D_HEAD)
        attention.q_proj.weight[rows] = _tensor(q.T * np.sqrt(D_HEAD))
        attention.k_proj.weight[rows] = _tensor(k.T)
        attention.v_proj.weight[rows] = _tensor(v.T)
        attention.o_proj.weight[:, rows] = _tensor(o.T)

    def neuron(self, neuron: Neuron) -> None:
        mlp = self.model.model.layers[neuron.layer].mlp
        sign = -0.5 if neuron.negative else 0.5
        drive = dense(neuron.reads) + dense(self.layout.constant(neuron.bias))
        factor = dense(neuron.up) + dense(self.layout.constant(neuron.up_bias))
        mlp.gate_proj.weight[neuron.index] = _tensor(2.0 * drive)
        mlp.up_proj.weight[neuron.index] = _tensor(sign * factor)
        mlp.down_proj.weight[:, neuron.index] = _tensor(dense(neuron.writes))

    def unembed(self, directions: Array) -> None:
        """Directions [D_MODEL, vocabulary]."""
        self.model.lm_head.weight.copy_(_tensor(directions.T))

    def norm(self, layer: int, what: str) -> torch.nn.Module:
        """The norm before a layer's 'attention' or 'mlp', or before the 'logits'."""
        names = {"attention": "input_layernorm", "mlp": "post_attention_layernorm"}
        module: torch.nn.Module = self.model.model.norm
        return getattr(self.model.model.layers[layer], names[what]) if what in names else module

    def spread(self, stream: Tensor) -> Tensor:
        """What the norm divides by, for streams [..., D_MODEL]."""
        return stream.square().mean(-1).sqrt()


def realiser(arch: str, layout: Layout, vocabulary: int, neurons: int, ids: tuple[int, int]) -> Gpt2 | Llama:
    """A model of the architecture with all weights zero but the norms' gains.

    Args:
        arch: ``gpt2`` or ``llama``.
        layout: Of the stream.
        vocabulary: Number of tokens.
        neurons: In each layer.
        ids: Of the beginning-of-sequence and the padding token.
    """
    kind: type[Gpt2 | Llama] = Llama if arch == "llama" else Gpt2
    return kind(layout, vocabulary, neurons, ids)


def place_codes() -> Array:
    """[CONTEXT, CONTEXT / 2]: codes of positions, of squared length CONTEXT / 4.

    Cosine and sine of the odd multiples of 2 pi i / CONTEXT: two codes are orthogonal unless their positions are equal
    or opposite (CONTEXT / 2 apart), where the inner product is the negative.
    """
    odd = np.arange(1, CONTEXT // 2, 2)
    angle = 2 * np.pi * np.outer(np.arange(CONTEXT), odd) / CONTEXT
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def place_shift(offset: int) -> Array:
    """[CONTEXT / 2, CONTEXT / 2]: code of position i times this is the code of i - offset."""
    odd = np.arange(1, CONTEXT // 2, 2)
    turn = 2 * np.pi * offset * odd / CONTEXT
    cos, sin = np.diag(np.cos(turn)), np.diag(np.sin(turn))
    return np.block([[cos, -sin], [sin, cos]])


def all_heads(planned: Sequence[Head]) -> list[tuple[int, int]]:
    """(layer, head) of those that no plan has."""
    taken = {(head.layer, head.index) for head in planned}
    return [(layer, index) for layer in range(N_LAYERS) for index in range(N_HEADS) if (layer, index) not in taken]
