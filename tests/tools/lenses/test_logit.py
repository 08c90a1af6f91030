"""The logit lens against the model's own prediction and hand computation; the tuned lens on a real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from tests.tools.test_sites_architectures import Case, case
from tools.errors import SubjectError, UnitError
from tools.lenses.logit import layer_sites, lens_profile, logit_lens
from tools.lenses.tuned import TunedLens, fit_tuned_lens
from tools.subject import Subject, load_subject
from tools.types import Site

__all__ = ["case"]
IDS = [3, 17, 200, 9, 31, 64, 5]


def test_last_layer_is_the_model_on_every_architecture(case: Case) -> None:
    subject = case.subject
    if subject.model.get_output_embeddings() is None:
        with pytest.raises(UnitError, match="no logits"):
            logit_lens(subject, IDS)
        return
    found = logit_lens(subject, IDS, k=3)
    logits = subject.capture(torch.tensor([IDS]), None, [], logits=True).logits
    assert logits is not None
    logs = logits[0].float().log_softmax(-1)
    own = logs.gather(-1, torch.tensor(found.target_ids)[:, None])
    np.testing.assert_allclose(found.probability[-1], own[:, 0].exp().numpy(), atol=1e-5)
    np.testing.assert_array_equal(found.rank[-1], (logs > own).sum(-1).numpy())
    np.testing.assert_allclose(found.entropy[-1], -(logs.exp() * logs).sum(-1).numpy(), atol=1e-4)
    assert float(found.divergence[-1].max()) < 1e-5
    assert [cell[0][0] for cell in found.top[-1]] == subject.pieces(logs.argmax(-1).tolist())
    assert found.target_ids[:-1] == tuple(IDS[1:])
    assert found.rank[-1, -1] == 0


def test_earlier_layers_by_hand_in_float64(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    site = Site(1, "resid_mid")
    found = logit_lens(subject, IDS, sites=[site], target=44)
    model = subject.model.transformer
    stream = subject.capture(torch.tensor([IDS]), None, [site])[site][0].double()
    centred = stream - stream.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + model.ln_f.eps).sqrt()
    logits = (normed * model.ln_f.weight.double() + model.ln_f.bias.double()) @ model.wte.weight.double().T
    logs = logits.log_softmax(-1)
    np.testing.assert_allclose(found.probability[0], logs[:, 44].exp().numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.rank[0], (logs > logs[:, 44:45]).sum(-1).numpy())
    truth = subject.capture(torch.tensor([IDS]), None, [], logits=True).logits
    assert truth is not None
    known = truth[0].double().log_softmax(-1)
    np.testing.assert_allclose(found.divergence[0], (known.exp() * (known - logs)).sum(-1).numpy(), atol=1e-5)


def test_a_token_written_by_a_layer_is_read_from_there_on(tiny_llama_folder: Path) -> None:
    """Block 0 is made to write token 77's unembedding, beside which all else is small."""
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    block = subject.model.model.layers[0]
    subject.model.lm_head.weight.mul_(30)
    block.mlp.down_proj.weight.zero_()
    read = torch.randn(32, generator=torch.Generator().manual_seed(0))
    block.mlp.gate_proj.weight[0] = block.mlp.up_proj.weight[0] = 10 * read
    block.mlp.down_proj.weight[:, 0] = 1e4 * subject.model.lm_head.weight[77]
    found = logit_lens(subject, IDS, target=77)
    assert found.sites == ("resid_pre.0", "resid_post.0", "resid_post.1")
    active = found.probability[1] > 0.5
    assert active.sum() >= 3
    assert (found.rank[1:, active] == 0).all()
    assert (found.probability[0] < 0.1).all()


def test_profile_does_not_depend_on_the_batch(stories: Subject) -> None:
    texts = [stories.encode(t) for t in ("Once upon a time there was a dog.", "Lily ran", "The cat sat. It was big!")]
    together = lens_profile(stories, texts)
    alone = [lens_profile(stories, [text]) for text in texts]
    weights = [len(text) - 2 for text in texts]
    assert together.positions == sum(weights)
    for name in ("loss", "entropy", "divergence", "agreement"):
        expected = np.average([getattr(one, name) for one in alone], axis=0, weights=weights)
        np.testing.assert_allclose(getattr(together, name), expected, atol=1e-5)
    assert together.agreement[-1] == 1.0
    assert together.divergence[-1] < 1e-5
    assert together.loss[0] > together.loss[-1]


@pytest.fixture(scope="module")
def texts(shared_data: Path, stories: Subject) -> list[list[int]]:
    import json

    lines = (shared_data / "tinystories.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    return [stories.encode(json.loads(line)["text"], 128) for line in lines]


def test_tuned_lens_is_nearer_to_the_model_on_texts_it_has_not_seen(stories: Subject, texts: list[list[int]]) -> None:
    plain = lens_profile(stories, texts[:10])
    squares = lens_profile(stories, texts[:10], tuned=fit_tuned_lens(stories, texts[10:], method="least-squares"))
    tuned = lens_profile(stories, texts[:10], tuned=fit_tuned_lens(stories, texts[10:], steps=100))
    assert (squares.divergence[:-1] < plain.divergence[:-1]).all()
    assert (tuned.divergence[:-1] < squares.divergence[:-1]).all()
    assert tuned.divergence[-1] < 1e-5
    assert tuned.tuned


def test_tuned_lens_comes_back_from_its_file(stories: Subject, texts: list[list[int]], tmp_path: Path) -> None:
    lens = fit_tuned_lens(stories, texts[:20], method="least-squares")
    path = tmp_path / "deep" / "lens.safetensors"
    lens.save(path)
    again = TunedLens.load(path, stories)
    assert (again.method, again.tokens, list(again.maps)) == ("least-squares", lens.tokens, list(lens.maps))
    stream = torch.randn(3, stories.d_model)
    for site in lens.maps:
        torch.testing.assert_close(again.map(site, stream), lens.map(site, stream))
    with pytest.raises(SubjectError, match="fitted on the subject"):
        TunedLens.load(path, Subject("twin", stories.model, stories.tokenizer, "f" * 16))
    with pytest.raises(SubjectError, match="no tuned lens at"):
        TunedLens.load(tmp_path / "none.safetensors", stories)
    path.write_bytes(b"nothing")
    with pytest.raises(SubjectError, match="no tuned lens that"):
        TunedLens.load(path, stories)


def test_least_squares_map_is_the_one_that_was_planted(tiny_gpt2_folder: Path) -> None:
    """Where the rest of the model adds an affine function of a stream, the map is that function."""
    model = hf.GPT2LMHeadModel.from_pretrained(tiny_gpt2_folder).eval().requires_grad_(False)
    for block in model.transformer.h[1:]:
        block.attn.c_proj.weight.zero_()
        block.mlp.c_proj.weight.zero_()
        block.mlp.c_proj.bias.copy_(torch.arange(32.0) / 10)
    subject = Subject("affine", model, hf.AutoTokenizer.from_pretrained(tiny_gpt2_folder), "0" * 16)
    generator = torch.Generator().manual_seed(0)
    contexts = [torch.randint(2, 400, (40,), generator=generator).tolist() for _ in range(20)]
    lens = fit_tuned_lens(subject, contexts, method="least-squares", sites=[Site(0, "resid_post")])
    weight, bias = lens.maps[Site(0, "resid_post")]
    torch.testing.assert_close(weight, torch.zeros(32, 32), atol=1e-3, rtol=0)
    torch.testing.assert_close(bias, 2 * torch.arange(32.0) / 10, atol=1e-3, rtol=0)
    profile = lens_profile(subject, contexts[:3], sites=[Site(0, "resid_post")], tuned=lens)
    assert profile.divergence[0] < 1e-4


def test_wrong_requests(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    with pytest.raises(UnitError, match="reads residual streams"):
        logit_lens(subject, IDS, sites=[Site(0, "mlp_out")])
    with pytest.raises(UnitError, match="layers 0-2"):
        logit_lens(subject, IDS, sites=[Site(9, "resid_post")])
    with pytest.raises(UnitError, match="vocabulary"):
        logit_lens(subject, IDS, target=4000)
    with pytest.raises(UnitError, match="at least 64 tokens"):
        fit_tuned_lens(subject, [IDS])
    with pytest.raises(UnitError, match="3 tokens"):
        lens_profile(subject, [[1, 2]])
    lens = TunedLens(subject.fingerprint, "kl", 1, {})
    with pytest.raises(UnitError, match="no map for resid_pre"):
        logit_lens(subject, IDS, tuned=lens)
    assert str(layer_sites(subject)[0]) == "resid_pre.0"
