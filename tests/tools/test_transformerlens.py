"""The same quantities as TransformerLens computes on the same weights: patching grids, attribution, heads' weights.

TransformerLens comes with the extra `ci`; where it is not installed these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tools.architectures import make_case
from tests.tools.hooked import hooked_transformer
from tests.tools.patching.test_sweep import random_pairs
from tools.attribution import direct_attribution
from tools.head_weights import head_weights
from tools.patching import TokenPair, sweep
from tools.subject import Subject

pytest.importorskip("transformer_lens", reason="TransformerLens is not installed (the extra 'ci')")

# Our site, TransformerLens' sweep of it, and whether it is by head.
GRIDS = [
    ("resid_pre", "get_act_patch_resid_pre", False),
    ("resid_mid", "get_act_patch_resid_mid", False),
    ("attn_out", "get_act_patch_attn_out", False),
    ("mlp_out", "get_act_patch_mlp_out", False),
    ("head_z", "get_act_patch_attn_head_out_by_pos", True),
    ("head_q", "get_act_patch_attn_head_q_by_pos", True),
]
# Heads of a Llama share keys and values, which TransformerLens patches once for all of them.
OF_OWN_KEYS = [
    ("head_k", "get_act_patch_attn_head_k_by_pos", True),
    ("head_v", "get_act_patch_attn_head_v_by_pos", True),
]
TOGETHER = [
    ("head_z", "get_act_patch_attn_head_out_all_pos"),
    ("attn_pattern", "get_act_patch_attn_head_pattern_all_pos"),
    ("head_q", "get_act_patch_attn_head_q_all_pos"),
]


@dataclass(frozen=True)
class Both:
    subject: Subject
    model: Any
    pairs: list[TokenPair]

    def logits_metric(self) -> Callable[[Tensor], Tensor]:
        rows = torch.arange(len(self.pairs))
        answer, wrong = (torch.tensor([getattr(p, name) for p in self.pairs]) for name in ("answer", "wrong"))
        return lambda logits: (logits[rows, -1, answer] - logits[rows, -1, wrong]).mean()

    def ids(self, side: str) -> Tensor:
        return torch.tensor([getattr(pair, side) for pair in self.pairs])


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def both(request: pytest.FixtureRequest, tiny_gpt2_folder: Path) -> Both:
    case = make_case(request.param, tiny_gpt2_folder)
    return Both(case.subject, hooked_transformer(case.subject), random_pairs(3))


def test_both_compute_the_same_logits(both: Both) -> None:
    ids = both.ids("clean")
    ours = both.subject.capture(ids, None, [], logits=True).logits
    assert ours is not None
    torch.testing.assert_close(ours, both.model(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(("site", "name", "heads"), GRIDS)
def test_patching_grids_agree(both: Both, site: str, name: str, heads: bool, direction: Any) -> None:
    agree(both, site, name, heads, direction)


@pytest.mark.parametrize("both", ["gpt2"], indirect=True)
@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(("site", "name", "heads"), OF_OWN_KEYS)
def test_patching_grids_of_keys_and_values_agree(both: Both, site: str, name: str, heads: bool, direction: Any) -> None:
    agree(both, site, name, heads, direction)


def agree(both: Both, site: str, name: str, heads: bool, direction: Any) -> None:
    from transformer_lens import patching

    base, source = ("corrupt", "clean") if direction == "denoising" else ("clean", "corrupt")
    metric = both.logits_metric()
    with torch.no_grad():
        _, cache = both.model.run_with_cache(both.ids(source))
        theirs = getattr(patching, name)(both.model, both.ids(base), cache, metric).numpy()
        start = float(metric(both.model(both.ids(base))))
    theirs = (theirs if heads else theirs[..., None])[:, 1:]  # layer, position, head; position 0 is left out of ours
    found = sweep(both.subject, both.pairs, site, channels="each" if heads else None, directions=[direction])
    gap = found.clean["logit_difference"] - found.corrupt["logit_difference"]
    ours = found.direction(direction)["logit_difference"].values * gap
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, (theirs - start) * (1 if direction == "denoising" else -1), atol=2e-4)


@pytest.mark.parametrize(("site", "name"), TOGETHER)
def test_patching_of_all_positions_agrees(both: Both, site: str, name: str) -> None:
    from transformer_lens import patching

    metric = both.logits_metric()
    with torch.no_grad():
        _, cache = both.model.run_with_cache(both.ids("clean"))
        theirs = getattr(patching, name)(both.model, both.ids("corrupt"), cache, metric).numpy()
        start = float(metric(both.model(both.ids("corrupt"))))
    found = sweep(both.subject, both.pairs, site, positions=None, channels="each", directions=["denoising"])
    gap = found.clean["logit_difference"] - found.corrupt["logit_difference"]
    ours = found.direction("denoising")["logit_difference"].values[:, 0] * gap
    np.testing.assert_allclose(ours, theirs - start, atol=2e-4)


def test_direct_attribution_agrees(both: Both) -> None:
    """Of every head and MLP; TransformerLens wants the final norm folded into the unembedding for that."""
    model = hooked_transformer(both.subject, fold=True)
    prompts = [list(pair.clean) for pair in both.pairs]
    answers, wrong = [p.answer for p in both.pairs], [p.wrong for p in both.pairs]
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor(prompts))
        cache.compute_head_results()
        shares = {}
        for layer in range(both.subject.n_layers):
            for head in range(both.subject.n_heads):
                shares[f"head:{layer}:{head}"] = cache["result", layer][:, -1, head]
            shares[f"mlp:{layer}"] = cache["mlp_out", layer][:, -1]
        stack = torch.stack(list(shares.values()))
        theirs = cache.logit_attrs(stack, torch.tensor(answers), torch.tensor(wrong), pos_slice=-1, has_batch_dim=True)
    found = direct_attribution(both.subject, prompts, answers, wrong)
    ours = {part.name: found.values[:, i] for i, part in enumerate(found.parts)}
    for name, values in zip(shares, theirs.numpy(), strict=True):
        np.testing.assert_allclose(ours[name], values, rtol=1e-3, atol=2e-4)


def test_heads_weights_and_circuits_agree(both: Both) -> None:
    model = both.model
    ov, qk = model.OV.AB, model.QK.AB
    for layer in range(both.subject.n_layers):
        ours = head_weights(both.subject, layer)
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V"):
            theirs = getattr(model, name)[layer]
            if theirs.shape[0] < both.subject.n_heads:  # shared by several heads
                theirs = theirs.repeat_interleave(both.subject.n_heads // theirs.shape[0], 0)
            torch.testing.assert_close(getattr(ours, name), theirs, rtol=1e-3, atol=1e-4)
        assert ours.scale == pytest.approx(1 / model.cfg.attn_scale, rel=1e-3)
        torch.testing.assert_close(ours.W_V @ ours.W_O, ov[layer], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(ours.W_Q @ ours.W_K.transpose(1, 2), qk[layer], rtol=1e-3, atol=1e-3)
