"""A full sweep over layers, positions and heads in three ways on the same weights: in batches, run by run, and by
TransformerLens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tools.interventions import Where, replace, run
from tools.patching import TokenPair, sweep
from tools.subject import Subject
from tools.types import Site

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """Processor seconds, over all threads, for one sweep of ``head_z`` in one direction (denoising), best of several.

    Unlike those of a clock, they do not depend on what else the machine does.
    """

    subject: str
    tokens: int
    pairs: int
    patches: int
    """Layers x positions x heads x pairs."""
    first: int
    """Position at which prompts begin to differ; patches before it are known to do nothing."""
    batched: float
    looped: float
    transformer_lens: float | None
    error: float
    """Largest difference between ours and the loop's logit differences, and TransformerLens'."""


def pairs_of(subject: Subject, pairs: int, tokens: int, first: int, seed: int = 0) -> list[TokenPair]:
    """Prompts of random tokens whose twins differ at one position."""
    rng = np.random.default_rng(seed)
    special = set(subject.tokenizer.all_special_ids)
    plain = [i for i in range(min(len(subject.tokenizer), subject.vocabulary)) if i not in special]
    out = []
    for number in range(pairs):
        row = [*subject.prefix, *rng.choice(plain, tokens).tolist()][:tokens]
        other = list(row)
        other[first] = next(int(t) for t in rng.permutation(plain) if t != row[first])
        answer, wrong = rng.choice(plain, 2, replace=False).tolist()
        out.append(TokenPair(tuple(row), tuple(other), answer, wrong, None, number))
    return out


def measure(subject: Subject, pairs: Sequence[TokenPair], repeats: int = 3) -> Speed:
    """Time all three, in turns, and compare what they found."""
    ours = [_timed(lambda: _batched(subject, pairs)) for _ in range(repeats)]
    looped = _timed(lambda: _looped(subject, pairs))
    theirs = _transformer_lens(subject, pairs, repeats)
    ours += [_timed(lambda: _batched(subject, pairs))]
    expected = looped[1].mean(0)
    error = float(np.abs(ours[0][1] - expected).max())
    if theirs is not None:
        error = max(error, float(np.abs(theirs[1] - expected).max()))
    width, first = len(pairs[0].clean), min(pair.first for pair in pairs)
    patches = subject.n_layers * (width - 1) * subject.n_heads * len(pairs)
    return Speed(
        subject.name, width, len(pairs), patches, first, min(one[0] for one in ours), looped[0],
        None if theirs is None else theirs[0], error,
    )  # fmt: skip


def _timed(function: Callable[[], Array]) -> tuple[float, Array]:
    began = time.process_time()
    found = function()
    return time.process_time() - began, found


def _batched(subject: Subject, pairs: Sequence[TokenPair]) -> Array:
    """Change of the mean logit difference, [layer, position, head]."""
    every = range(1, len(pairs[0].clean))
    found = sweep(subject, pairs, "head_z", channels="each", directions=["denoising"], positions=every)
    gap = found.clean["logit_difference"] - found.corrupt["logit_difference"]
    return found.direction("denoising")["logit_difference"].values * gap


def _looped(subject: Subject, pairs: Sequence[TokenPair]) -> Array:
    """One run at a time, from beginning to end: [pair, layer, position, head]."""
    width, heads = len(pairs[0].clean), subject.n_heads
    out = np.zeros((len(pairs), subject.n_layers, width - 1, heads))
    for number, pair in enumerate(pairs):
        sites = [Site(layer, "head_z") for layer in range(subject.n_layers)]
        clean = run(subject, torch.tensor([pair.clean]), read=sites, logits=False)
        ids = torch.tensor([pair.corrupt])
        base = _difference(run(subject, ids).logits, pair)
        for layer, site in enumerate(sites):
            for position in range(1, width):
                for head in range(heads):
                    edit = replace(site, clean[site], Where(positions=position, channels=head))
                    logits = run(subject, ids, None, [edit]).logits
                    out[number, layer, position - 1, head] = _difference(logits, pair) - base
    return out


def _difference(logits: Any, pair: TokenPair) -> float:
    return float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])


def _transformer_lens(subject: Subject, pairs: Sequence[TokenPair], repeats: int) -> tuple[float, Array] | None:
    """TransformerLens' own sweep, all pairs in each run; None where it is not installed."""
    try:
        from transformer_lens import patching

        from tests.tools.hooked import hooked_transformer
    except ImportError:
        return None
    vars(patching)["tqdm"] = lambda cells, **_: cells  # its progress bar would be timed as well
    model = hooked_transformer(subject)
    clean, corrupt = (torch.tensor([getattr(p, side) for p in pairs]) for side in ("clean", "corrupt"))
    rows = torch.arange(len(pairs))
    answer, wrong = (torch.tensor([getattr(p, name) for p in pairs]) for name in ("answer", "wrong"))

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return (logits[rows, -1, answer] - logits[rows, -1, wrong]).mean()

    def once() -> Array:
        with torch.inference_mode():
            _, cache = model.run_with_cache(clean)
            base = float(metric(model(corrupt)))
            got = patching.get_act_patch_attn_head_out_by_pos(model, corrupt, cache, metric)
        found: Array = got.double().numpy()[:, 1:] - base
        return found

    runs = [_timed(once) for _ in range(max(1, repeats - 1))]
    return min(seconds for seconds, _ in runs), runs[0][1]
