"""The model under study: weights, tokenizer, attached dictionaries and directions, and one way to read activations."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tools.capture import Captured, run
from tools.dictionaries import Dictionary, load_dictionary
from tools.errors import DictionaryError, SubjectError, UnitError
from tools.fingerprint import fingerprint, shuffle_weights, shuffled_fingerprint
from tools.hooking.where import Moment
from tools.loading import choose_device, find_folder, load_checkpoint, quiet, weight_files
from tools.normalisation import Unembedding, find_unembedding
from tools.sites import SiteMap, map_sites
from tools.structure import BlockPlan, plain_inputs
from tools.tokens import Pieces
from tools.types import Site

#: Context length assumed of models without a limit of their own (ALiBi and the like).
_DEFAULT_CONTEXT = 2048


@dataclass(frozen=True)
class Direction:
    """A unit vector [d_model] at a site; its activation is the projection on it."""

    site: Site
    vector: Tensor


class Subject:
    """A model with its tokenizer; made by `load_subject`.

    Forward passes are serialised by a lock, so that threads may share a subject.
    """

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fingerprint: str) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.lock = threading.RLock()
        self.sites: SiteMap = map_sites(model, name)
        self.n_layers = len(self.sites.blocks)
        self.d_model = self.sites.d_model
        self.n_heads = self.sites.plans[0].n_heads
        self.d_head = self.sites.plans[0].d_head
        self.dictionaries: dict[str, Dictionary] = {}
        self.directions: dict[str, Direction] = {}
        self._pieces = Pieces(tokenizer)
        bare = self._encode("", special=False)
        whole = self._encode("", special=True)
        suffix = 1 if whole and getattr(tokenizer, "sep_token_id", None) == whole[-1] and len(whole) > 1 else 0
        self.prefix: list[int] = whole[: len(whole) - len(bare) - suffix]
        """Tokens that encoding puts before every text (beginning-of-sequence), often one or none."""
        self._position_offset = self._find_position_offset()
        self.context = self._context()

    def __repr__(self) -> str:
        return f"Subject({self.name!r}, {self.fingerprint}, {self.n_layers} layers, d_model {self.d_model})"

    @property
    def bos_id(self) -> int | None:
        """The token that encoding puts first, if it does."""
        return self.prefix[0] if self.prefix else None

    @property
    def vocabulary(self) -> int:
        """Number of token embeddings."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def causal(self) -> bool:
        """Whether tokens see only what came before (decoders) or all of the text (encoders)."""
        return self._causal

    @functools.cached_property
    def _causal(self) -> bool:
        ids = torch.arange(6, device=self.device)[None] % self.vocabulary
        other = ids.clone()
        other[0, -1] = (other[0, -1] + 1) % self.vocabulary
        site = Site(0, "resid_post")
        first, second = (self.capture(i, None, [site])[site][0, 0] for i in (ids, other))
        return bool(torch.allclose(first.float(), second.float(), atol=1e-6))

    def plan(self, layer: int, what: str | None = None) -> BlockPlan:
        """Structure of one layer; `what` names the thing asked for in the error."""
        self.sites.check_layer(layer, what or f"layer {layer}")
        return self.sites.plans[layer]

    def n_neurons(self, layer: int) -> int:
        """Number of MLP neurons of a layer.

        Raises:
            UnitError: The layer is beyond the model, or has no neurons (mixture of experts).
        """
        return self.sites.width(Site(layer, "mlp_act"))

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Token ids as the model's own tokenizer makes them, special tokens included, cut off at `max_tokens`."""
        ids = self._encode(text, special=True)
        return ids if max_tokens is None else ids[:max_tokens]

    def _encode(self, text: str, *, special: bool) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return [int(i) for i in ids]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token; see `tools.tokens.Pieces`."""
        return self._pieces(ids)

    def pad(self, sequences: Sequence[Sequence[int]], side: str = "right") -> tuple[Tensor, Tensor]:
        """Pad sequences to one length.

        Returns:
            Ids and mask, both int64 [batch, pos], on the CPU; the mask is 1 at real tokens.
        """
        if side not in ("left", "right"):
            raise ValueError(f"side must be 'left' or 'right', not {side!r}")
        longest = max((len(s) for s in sequences), default=0)
        filler = self.tokenizer.pad_token_id
        ids = torch.full((len(sequences), longest), 0 if filler is None else int(filler), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            where = slice(longest - len(sequence), longest) if side == "left" else slice(0, len(sequence))
            ids[row, where] = torch.as_tensor(list(sequence), dtype=torch.int64)
            mask[row, where] = 1
        return ids, mask

    def capture(self, ids: Tensor, mask: Tensor | None, sites: Iterable[Site], *, logits: bool = False) -> Captured:
        """Read sites in one forward pass, which stops right after the deepest of them unless logits are asked for.

        Args:
            ids: Token ids [batch, pos].
            mask: [batch, pos], 1 at real tokens; None if there is no padding. Padding may be on either side.
            sites: What to read.
            logits: Also return the logits.

        Returns:
            Tensors by site on the subject's device, in its dtype.

        Raises:
            UnitError: A site does not exist in this model.
            SubjectError: The context is longer than the model's, or ids are beyond its vocabulary.
        """
        self.check_ids(ids)
        with self.lock:
            return run(self.model, self.sites, self.inputs(ids, mask), sites, logits=logits)

    def check_ids(self, ids: Tensor, earlier: int = 0) -> None:
        """Raise SubjectError when the model cannot take these ids after so many earlier ones."""
        if ids.ndim != 2 or ids.shape[1] == 0 or ids.shape[0] == 0:
            raise ValueError(f"ids must be [batch, pos] and not empty; they are {list(ids.shape)}")
        if ids.shape[1] + earlier > self.context:
            raise SubjectError(
                f"The context of {ids.shape[1] + earlier} tokens is too long for the subject '{self.name}', which "
                f"takes {self.context}. Choose a smaller context."
            )
        if int(ids.max()) >= self.vocabulary or int(ids.min()) < 0:
            raise SubjectError(
                f"Token {int(ids.max())} is beyond the vocabulary of '{self.name}' ({self.vocabulary} tokens): "
                "were these ids made by another tokenizer?"
            )

    @staticmethod
    def moment(ids: Tensor, mask: Tensor | None) -> Moment:
        """A pass over whole texts; padding on the left is what stands before a row's first token."""
        starts = None if mask is None or bool((mask[:, 0] == 1).all()) else mask.long().argmax(1).cpu()
        return Moment(ids.shape[0], ids.shape[1], starts=starts)

    def inputs(self, ids: Tensor, mask: Tensor | None, earlier: int = 0) -> dict[str, Any]:
        """Arguments of the model's forward pass over ids [batch, pos].

        Args:
            ids: Token ids.
            mask: [batch, earlier + pos], 1 at real tokens; None if there is no padding.
            earlier: Columns before `ids` that are in a cache.
        """
        inputs = plain_inputs(self.model, ids.to(self.device))
        if mask is not None and bool((mask == 0).any()):
            mask = mask.to(self.device).long()
            inputs["attention_mask"] = mask
            if self._position_offset is not None:
                # Real tokens count from zero wherever the padding is; padded positions just need a valid number.
                inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, earlier:] + self._position_offset
        return inputs

    def _find_position_offset(self) -> int | None:
        """What the model adds to positions, or None if it takes no position ids (ALiBi).

        RoBERTa numbers positions from one after the padding token's id, by itself when it is given none.
        """
        if "position_ids" not in inspect.signature(self.model.forward).parameters:
            return None
        ids = torch.arange(3, 8, device=self.device)[None] % self.vocabulary
        site = Site(0, "resid_post")
        plain = run(self.model, self.sites, plain_inputs(self.model, ids), [site], logits=False)[site]
        padding = getattr(self.model.config, "pad_token_id", None)
        for offset in {0, (padding or 0) + 1}:
            inputs = plain_inputs(self.model, ids)
            inputs["position_ids"] = torch.arange(5, device=self.device)[None] + offset
            placed = run(self.model, self.sites, inputs, [site], logits=False)[site]
            if torch.allclose(placed.float(), plain.float(), atol=1e-5):
                return offset
        raise SubjectError(
            f"Cannot map '{self.name}' ({type(self.model).__name__}): its positions count neither from 0 nor from the "
            "padding token's id."
        )

    def _context(self) -> int:
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        if isinstance(limit, int) and limit > 0:
            return limit - (self._position_offset or 0)
        limit = self.tokenizer.model_max_length
        return int(limit) if limit < 1_000_000 else _DEFAULT_CONTEXT

    @functools.cached_property
    def unembedding(self) -> Unembedding | None:
        """The way from the last residual stream to the logits, or None where it is not linear up to a norm."""
        with self.lock:
            return find_unembedding(self.model, self.sites)

    def attach(self, name: str, dictionary: Dictionary) -> None:
        """Make a dictionary's latents units ``sae:NAME:LATENT``.

        Raises:
            DictionaryError: Its site does not exist in this subject, or has another width.
        """
        widths = []
        for site in (dictionary.site, dictionary.site_out):
            try:
                widths.append(self.sites.width(site))
            except UnitError as error:
                raise DictionaryError(f"The dictionary '{name}' does not fit '{self.name}'. {error}") from error
        dictionary.check(self.n_layers, *widths)
        self.dictionaries[name] = dictionary.to(self.device)

    def add_direction(self, name: str, site: Site, vector: Tensor | Sequence[float]) -> None:
        """Make a direction at a site a unit ``dir:NAME``. The vector is scaled to length 1.

        Raises:
            UnitError: The name has a colon, or the vector does not fit the site, or is zero or not finite.
        """
        if ":" in name or not name:
            raise UnitError(f"'{name}' cannot name a direction: a name has at least one character and no colon.")
        values = torch.as_tensor(vector, dtype=torch.float32).detach().to(self.device).flatten()
        if values.numel() != self.sites.width(site):
            raise UnitError(
                f"The direction '{name}' has {values.numel()} components, but {site} of '{self.name}' has "
                f"{self.sites.width(site)}."
            )
        length = float(values.norm())
        if not 0.0 < length < float("inf"):
            raise UnitError(f"The direction '{name}' has length {length}; it must be finite and not zero.")
        self.directions[name] = Direction(site, values / length)


def load_subject(
    name_or_path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    dictionaries: Mapping[str, str] = {},
    shuffle_seed: int | None = None,
) -> Subject:
    """Load a subject.

    Args:
        name_or_path: ``pycode`` (the built-in model), ``planted`` or ``planted:seed=7,size=large,arch=llama`` (a model
            whose parts were written by hand, built when first asked for), a Hugging Face model folder, or a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        dictionaries: Name -> folder of each dictionary to attach. Those that come with a model folder (in its
            ``dictionaries`` subfolder) are attached under their folders' names.
        shuffle_seed: If given, permute the entries of every weight tensor: the randomised twin for controls.

    Raises:
        SubjectError: The model cannot be found, loaded or mapped.
        DictionaryError: A dictionary cannot be read or does not fit.
    """
    name, folder = find_folder(name_or_path)
    files = weight_files(folder, name)
    model, tokenizer = load_checkpoint(folder, name, choose_device(device), dtype)
    identity = fingerprint(folder / "config.json", files)
    if shuffle_seed is not None:
        shuffle_weights(model, shuffle_seed)
        identity = shuffled_fingerprint(identity, shuffle_seed)
        name = f"{name} (shuffled {shuffle_seed})"
    with quiet():
        subject = Subject(name, model, tokenizer, identity)
    own = {path.name: str(path) for path in sorted(folder.glob("dictionaries/*")) if path.is_dir()}
    attached = {**own, **dictionaries}
    for key, place in attached.items():
        subject.attach(key, load_dictionary(place, key))
    return subject
