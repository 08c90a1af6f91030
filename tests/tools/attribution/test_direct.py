"""Direct logit attribution: the sum of all parts is the logit, and each part is what its writer writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from tests.tools.test_sites_architectures import Case, case
from tools.attribution import direct_attribution
from tools.errors import UnitError
from tools.subject import Subject, load_subject
from tools.types import Site

__all__ = ["case"]
PROMPTS = [[3, 17, 200, 9, 31, 64, 5], [8, 300, 12, 77]]


def test_parts_sum_to_the_logit_on_every_architecture(case: Case) -> None:
    subject = case.subject
    if subject.unembedding is None:
        with pytest.raises(UnitError, match="not linear"):
            direct_attribution(subject, PROMPTS, [10, 20])
        return
    neurons = [f"mlp:{layer}" for layer, plan in enumerate(subject.sites.plans) if "mlp_act" in plan.taps]
    for foils in (None, [44, 45]):
        found = direct_attribution(subject, PROMPTS, [10, 20], foils, groups=neurons, sources=True)
        expected = found.logits
        if cap := getattr(subject.model.config, "final_logit_softcapping", None):
            whole = subject.capture(*subject.pad(PROMPTS), [], logits=True).logits
            assert whole is not None
            raw = torch.atanh(whole[[0, 1], [6, 3]].double() / cap) * cap
            expected = (raw[[0, 1], [10, 20]] - (0 if foils is None else raw[[0, 1], foils])).numpy()
        np.testing.assert_allclose(found.totals, expected, atol=1e-4)
        np.testing.assert_allclose(found.values.sum(-1), found.totals, atol=1e-4)
        assert found.error < 1e-4
        names = [part.name for part in found.parts]
        assert names[0] == "embedding"
        assert names[-1] == "bias"
        assert found.sources is not None
        for layer in range(subject.n_layers):
            for head in range(subject.n_heads):
                by_source = found.sources[:, layer, head].sum(-1)
                np.testing.assert_allclose(found.values[:, names.index(f"head:{layer}:{head}")], by_source, atol=1e-4)
        assert not found.sources[1, :, :, 4:].any()


def test_neurons_and_the_bias_of_their_projection_make_up_the_mlp(case: Case) -> None:
    """Silenced, a neuron of the last layer changes the raw logit by its share, but for the norm's factor."""
    subject = case.subject
    last = subject.n_layers - 1
    if subject.unembedding is None or "mlp_act" not in subject.sites.plans[last].taps:
        return
    found = direct_attribution(subject, PROMPTS, [10, 20], groups=[f"mlp:{last}"])
    assert case.reference.down is not None
    down = case.reference.down(case.blocks[last])
    if getattr(down, "bias", None) is None:
        part = next(i for i, p in enumerate(found.parts) if p.name == f"mlp:{last}")
        np.testing.assert_allclose(found.units[f"mlp:{last}"].sum(-1), found.values[:, part], atol=1e-4)
    act = subject.capture(*subject.pad(PROMPTS), [Site(last, "mlp_act")])[Site(last, "mlp_act")]
    quiet = np.abs(act[[0, 1], [6, 3]].numpy()) < 1e-9
    assert not found.units[f"mlp:{last}"][quiet].any()


def test_hand_computed_shares_of_a_llama(tiny_llama_folder: Path) -> None:
    """Float64, from the model's own weights; the final norm's factor is that of the run."""
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    model = subject.model
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(len(name))
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(noise / 4 if parameter.ndim > 1 else 1 + 0.3 * noise)
    prompt = [5, 9, 33, 120]
    sites = [Site(1, "resid_post"), Site(1, "head_z"), Site(0, "mlp_out"), Site(0, "mlp_act")]
    captured = subject.capture(torch.tensor([prompt]), None, sites)
    stream = captured[Site(1, "resid_post")][0, -1].double()
    factor = (stream.square().mean() + model.config.rms_norm_eps).rsqrt()
    read = factor * model.model.norm.weight.double() * (model.lm_head.weight[7] - model.lm_head.weight[8]).double()
    found = direct_attribution(subject, [prompt], [7], [8], groups=["mlp:0"])
    shares = dict(zip([part.name for part in found.parts], found.values[0].tolist(), strict=True))
    z = captured[Site(1, "head_z")][0, -1, 2].double()
    write = z @ model.model.layers[1].self_attn.o_proj.weight.T.double()[16:24]
    assert shares["head:1:2"] == pytest.approx(float(write @ read), abs=1e-5)
    assert shares["mlp:0"] == pytest.approx(float(captured[Site(0, "mlp_out")][0, -1].double() @ read), abs=1e-5)
    assert shares["embedding"] == pytest.approx(float(model.model.embed_tokens.weight[120].double() @ read), abs=1e-5)
    down = model.model.layers[0].mlp.down_proj.weight.double()
    neuron = captured[Site(0, "mlp_act")][0, -1, 11].double() * down[:, 11] @ read
    assert found.units["mlp:0"][0, 11] == pytest.approx(float(neuron), abs=1e-5)


def test_batches_do_not_change_shares(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    both = direct_attribution(subject, PROMPTS, [10, 20], sources=True)
    for row, prompt in enumerate(PROMPTS):
        alone = direct_attribution(subject, [prompt], [[10, 20][row]], sources=True)
        np.testing.assert_allclose(both.values[row], alone.values[0], atol=1e-5)
        assert both.sources is not None
        assert alone.sources is not None
        np.testing.assert_allclose(both.sources[row, :, :, : len(prompt)], alone.sources[0], atol=1e-5)


def test_planted_name_mover_carries_the_name() -> None:
    subject = load_subject("planted:seed=1", device="cpu")
    text = "Anna and Ben were in the garden . Anna gave the apple to"
    ids = subject.encode(text)
    name, other = subject.encode(" Ben")[-1], subject.encode(" Anna")[-1]
    found = direct_attribution(subject, [ids], [name], [other], sources=True, groups=["mlp:2"])
    shares = dict(zip([part.name for part in found.parts], found.values[0].tolist(), strict=True))
    heads = {key: value for key, value in shares.items() if key.startswith("head:")}
    assert max(heads, key=lambda key: heads[key]) == "head:2:0"
    assert sorted(map(abs, heads.values()))[-2] < 0.2 * heads["head:2:0"]
    assert found.sources is not None
    assert ids[int(found.sources[0, 2, 0].argmax())] == name


def test_latents_of_a_stream_share_its_part() -> None:
    """The latents, the decoder's bias and the error of a dictionary of the last stream make up the whole logit."""
    subject = load_subject("pycode", device="cpu")
    site = subject.dictionaries["res"].site
    ids = subject.encode("def f(x):\n    return")
    found = direct_attribution(subject, [ids], [subject.encode(" x")[-1]], groups=["sae:res"])
    captured = subject.capture(torch.tensor([ids]), None, [site, Site(3, "resid_post")])
    stream = captured[Site(3, "resid_post")][0, -1]
    norm, head = subject.model.transformer.ln_f, subject.model.lm_head.weight[found.targets[0]].double()
    factor = (stream.double().var(correction=0) + norm.eps).rsqrt()
    latents = subject.dictionaries["res"].encode(captured[site][0, -1])
    best = int(latents.argmax())
    write = latents[best].double() * subject.dictionaries["res"].W_dec[best].double()
    expected = float(factor * (norm.weight.double() * (write - write.mean())) @ head)
    assert found.units["sae:res"][0, best] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_real_model_sums_to_its_logits(stories: Subject) -> None:
    ids = stories.encode("Once upon a time, there was a little girl named Lily. She")
    found = direct_attribution(stories, [ids, ids[:9]], [40, 50], [60, 70], sources=True)
    np.testing.assert_allclose(found.totals, found.logits, atol=1e-4)
    assert found.error < 1e-4


def test_wrong_requests(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    with pytest.raises(UnitError, match="0 to 6"):
        direct_attribution(subject, PROMPTS, [1, 2], positions=[7, 0])
    with pytest.raises(UnitError, match="vocabulary"):
        direct_attribution(subject, PROMPTS, [1, 4000])
    with pytest.raises(UnitError, match="needs its own target"):
        direct_attribution(subject, PROMPTS, [1])
    with pytest.raises(UnitError, match="no dictionary 'x'"):
        direct_attribution(subject, PROMPTS, [1, 2], groups=["sae:x"])
    headless = hf.AutoModel.from_pretrained(tiny_gpt2_folder).eval()
    bare = Subject("bare", headless, subject.tokenizer, "0" * 16)
    with pytest.raises(UnitError, match="not linear"):
        direct_attribution(bare, PROMPTS, [1, 2])
