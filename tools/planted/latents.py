"""The dictionary of a planted subject: a sparse autoencoder, in SAELens' format, whose latents were written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tools.planted.garden import Feature, Garden, Group, Reading
from tools.planted.layout import D_MODEL, LARGE, ON
from tools.planted.predicates import All, Not, Predicate, TokenIn, Within
from tools.planted.truth import Case, UnitTruth

#: Its name: its latents are ``sae:planted:0`` and so on.
NAME = "planted"
#: The layer after which it reads the residual stream.
LAYER = 1
WIDTH = (96, 160)
COUNTS: dict[str, tuple[int, int]] = {"latent": (18, 36), "latent of a pair": (8, 16), "latent, inert": (5, 8),
                                      "dead": (4, 6), "noise": (5, 8)}  # fmt: skip
#: Categories of which two latents have a half each, and those of which one latent takes the second word from the other.
SPLIT = ("animal", "colour", "tool", "place")
ABSORBED = ("fruit", "size", "metal", "pronoun")


class Latents:
    """Plants latents: ReLU of a linear form of the stream."""

    def __init__(self, garden: Garden) -> None:
        size = 0 if garden.spec.size == "small" else 1
        self.garden, self.size = garden, size
        self.generator = np.random.default_rng([*b"planted latents 1", garden.spec.seed])
        width = WIDTH[size]
        self.encoder, self.bias = np.zeros((D_MODEL, width)), np.zeros(width)
        self.decoder = np.zeros((width, D_MODEL))
        self.free = garden.rng.sample(range(width), width)
        self.truths: list[UnitTruth] = []
        self.taken: list[Predicate] = []

    def plant(self) -> None:
        """Everything, in a fixed order; the rest of the latents are random."""
        garden, features = self.garden, self.garden.features
        for name in SPLIT:
            for part in (1, 2):
                self.add("split latent", [features[f"{name}, part {part}"]],
                         note=f"Half of the category '{name}'; another latent has the other half.")  # fmt: skip
        for name in ABSORBED:
            child = features[f"{name}, its second"]
            exception = child.predicate
            self.add("absorbed latent", [features[name]], [child], exception=exception,
                     note=f"The category '{name}' without a word that has a latent of its own.")  # fmt: skip
            self.add("absorbing latent", [child], note=f"A single word of the category '{name}'.")
        used = {*SPLIT, *ABSORBED}
        plain = [features[c.name] for c in garden.concepts.values() if c.share < 0.2 and c.name not in used]
        self.choose("latent", [[feature] for feature in plain])
        joint = [f for f in features.values() if isinstance(f.predicate, All)]
        windows = [[f, g] for f in features.values() if isinstance(f.predicate, Within) for g in plain]
        self.choose("latent of a pair", [*([f] for f in joint), *garden.rng.sample(windows, 20)])
        self.choose("latent, inert", [[feature] for feature in plain])
        self.random()

    def choose(self, family: str, candidates: Sequence[Sequence[Feature]]) -> None:
        """Plant the family's number of conjunctions that no latent has yet."""
        garden, left = self.garden, COUNTS[family][self.size]
        for yes in garden.rng.sample(list(candidates), len(candidates)):
            when = All(tuple(f.predicate for f in yes)) if len(yes) > 1 else yes[0].predicate
            if left and when not in self.taken and 0.0009 <= garden.share(when) <= 0.2:
                self.add(family, yes)
                left -= 1
        if left:
            raise ValueError(f"the family '{family}' lacks {left} latents")

    def add(self, family: str, yes: Sequence[Feature], no: Sequence[Feature] = (), *, note: str = "",
            exception: Predicate | None = None) -> None:  # fmt: skip
        """Plant the conjunction of features and of the absence of others."""
        garden, index = self.garden, self.free.pop()
        reading = Reading.all_of(yes, no)
        parts = (*(f.predicate for f in yes), *(Not(f.predicate) for f in no))
        when = parts[0] if len(parts) == 1 else All(parts)
        if no and isinstance(parts[0], TokenIn) and isinstance(no[0].predicate, TokenIn):
            when = TokenIn(tuple(t for t in parts[0].tokens if t not in no[0].predicate.tokens))
        for dim, weight in reading.weights.items():
            self.encoder[dim, index] = weight
        self.encoder[garden.layout.dim("constant"), index] = reading.bias / LARGE
        inert = family == "latent, inert"
        group: Group | None = None if inert else garden.rng.choice(list(garden.groups.values()))
        for dim, weight in garden.writes(group, 1, ON).items():
            self.decoder[index, dim] = weight
        self.taken.append(when)
        self.truths.append(
            UnitTruth(f"sae:{NAME}:{index}", "+", family, (Case(when, ON),), 0.0, 0.05, exception=exception,
                      effect=None if group is None else garden.effect(group, 1), inert=inert,
                      causal_note=note or ("Its decoder writes only where nothing reads." if inert else ""))
        )  # fmt: skip

    def random(self) -> None:
        """Latents that never fire, and latents that read the identities of tokens and random neurons."""
        layout, kinds = (
            self.garden.layout,
            ["dead"] * COUNTS["dead"][self.size] + ["noise"] * COUNTS["noise"][self.size],
        )
        bulk = layout.slice("bulk")
        for place, index in enumerate(list(self.free)):
            kind = kinds[place] if place < len(kinds) else "bulk"
            self.decoder[index, bulk] = self.generator.standard_normal(bulk.stop - bulk.start) * 0.1
            self.encoder[bulk, index] = self.generator.standard_normal(bulk.stop - bulk.start)
            self.encoder[:, index] /= np.linalg.norm(self.encoder[:, index])
            if kind == "dead":
                self.bias[index] = -1000.0
                self.truths.append(UnitTruth(f"sae:{NAME}:{index}", "+", kind, (), 0.0, 1e-9, noise=True, inert=True,
                                             causal_note="Never fires."))  # fmt: skip
                continue
            self.bias[index] = -2.0 if kind == "noise" else -1.0
            if kind == "noise":
                self.truths.append(UnitTruth(f"sae:{NAME}:{index}", "+", kind, (), 0.0, float("inf"), noise=True,
                                             causal_note="A random direction."))  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write ``cfg.json`` and ``sae_weights.safetensors``."""
        folder.mkdir(parents=True)
        weights = {"W_enc": self.encoder, "b_enc": self.bias, "W_dec": self.decoder, "b_dec": np.zeros(D_MODEL)}
        tensors = {k: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for k, v in weights.items()}
        save_file(tensors, folder / "sae_weights.safetensors")
        config = {
            "architecture": "standard", "d_in": D_MODEL, "d_sae": self.encoder.shape[1], "dtype": "float32",
            "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none",
            "metadata": {
                "model_name": self.garden.spec.name, "hook_name": f"blocks.{LAYER}.hook_resid_post",
                "hook_head_index": None, "prepend_bos": True, "sae_lens_version": "6.0.0",
            },
        }  # fmt: skip
        (folder / "cfg.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
