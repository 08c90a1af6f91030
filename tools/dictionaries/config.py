"""What a SAELens ``cfg.json`` says, in today's form (with ``metadata``) and in the flat form before version 6."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tools.errors import DictionaryError

NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")

#: Keys of the oldest flat configurations and what they are called since.
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}


@dataclass(frozen=True, kw_only=True)
class DictionaryConfig:
    """The part of a configuration that changes what a dictionary computes, or says where it belongs."""

    architecture: str
    d_in: int
    d_sae: int
    hook_name: str
    d_out: int | None = None
    """Width of a transcoder's output; None for an autoencoder, whose output is as wide as its input."""
    k: float | None = None
    """Latents kept per token by the top-k architectures."""
    rescale_acts_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    normalize_activations: str = "none"
    """How inputs are normalised, one of `NORMALISATIONS`. ``expected_average_only_in`` is a constant that SAELens folds
    into the weights when it saves them, so that nothing remains to be done on reading."""
    model_name: str | None = None
    hook_name_out: str | None = None
    prepend_bos: bool = True
    """Whether the texts that the dictionary was trained on began with the beginning-of-sequence token."""
    context_size: int | None = None
    center_input: bool = False
    """Whether the dictionary expects the residual stream with its mean over d_model removed, as it is in a model that
    TransformerLens loaded with ``center_writing_weights``."""

    def __post_init__(self) -> None:
        """Refuses what no dictionary can be: the message begins with the setting's name."""
        for name in ("d_in", "d_sae", *(("d_out",) if self.d_out is not None else ())):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise DictionaryError(f"'{name}' must be a positive whole number, not {value!r}.")
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int | float) or self.k <= 0):
            raise DictionaryError(f"'k' must be a positive number, not {self.k!r}.")
        for name in ("rescale_acts_by_decoder_norm", "apply_b_dec_to_input", "prepend_bos", "center_input"):
            if not isinstance(getattr(self, name), bool):
                raise DictionaryError(f"'{name}' must be true or false, not {getattr(self, name)!r}.")
        if self.normalize_activations not in NORMALISATIONS:
            raise DictionaryError(
                f"'normalize_activations' is {self.normalize_activations!r}; known: {', '.join(NORMALISATIONS)}."
            )

    def to_json(self) -> str:
        """All settings, in a fixed order."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def output_width(self) -> int:
        return self.d_out or self.d_in


def read_config(path: Path) -> DictionaryConfig:
    """Reads ``cfg.json``, flat or with metadata, defaulting as SAELens itself does.

    Raises:
        DictionaryError: The file is no JSON object, lacks a field, or asks for something that is not supported.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DictionaryError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DictionaryError(f"{path} holds a {type(raw).__name__}, not a JSON object with a dictionary's settings.")
    flat = _flatten(raw)
    if flat.get("hook_name") is None:
        raise DictionaryError(
            f'{path} does not say where the dictionary belongs. Add "hook_name", for example '
            '"blocks.2.hook_resid_post", to it (or to its "metadata").'
        )
    if flat.get("hook_head_index") is not None:
        raise DictionaryError(
            f"{path}: the dictionary reads the single head {flat['hook_head_index']} of '{flat['hook_name']}'; "
            "only dictionaries over a whole site are supported."
        )
    normalisation = flat.get("normalize_activations")
    if isinstance(normalisation, bool) or normalisation is None:  # before version 3: on or off
        flat["normalize_activations"] = "expected_average_only_in" if normalisation else "none"
    elif normalisation == "covariance_whitening":  # folded into the weights on saving, like the average norm
        flat["normalize_activations"] = "none"
    known = {field.name for field in fields(DictionaryConfig)}
    missing = [name for name in ("d_in", "d_sae") if name not in flat]
    if missing:
        raise DictionaryError(f"{path}: the setting '{missing[0]}' is missing.")
    try:
        return DictionaryConfig(**{key: value for key, value in flat.items() if key in known})
    except DictionaryError as error:
        raise DictionaryError(f"{path}: the setting {error}") from error


def _flatten(raw: dict[str, Any]) -> dict[str, Any]:
    """One level of keys under today's names; what a flat configuration leaves out is set as SAELens sets it."""
    metadata = raw.get("metadata")
    flat = {RENAMED.get(key, key): value for key, value in raw.items() if key != "metadata"}
    if isinstance(metadata, dict):
        flat.update({key: value for key, value in metadata.items() if key not in flat})
    flat = {key: value for key, value in flat.items() if value is not None}
    flat.setdefault("architecture", "standard")
    activation = flat.get("activation_fn", "relu")
    if activation == "topk":
        flat["architecture"] = "topk"
        flat.setdefault("k", (flat.get("activation_fn_kwargs") or {}).get("k"))
    elif activation != "relu":
        raise DictionaryError(f"The dictionary's activation function '{activation}' is not supported (relu, topk).")
    if "transcoder" in str(flat["architecture"]):
        flat.setdefault("apply_b_dec_to_input", False)
    elif flat.get("d_out") == flat.get("d_in"):
        flat.pop("d_out", None)
    model_options = flat.get("model_from_pretrained_kwargs") or {}
    flat["center_input"] = bool(model_options.get("center_writing_weights", False))
    return flat
