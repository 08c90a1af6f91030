"""Postings of sparse dictionaries against the dense activations of the same latents."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tools.capture import Captured
from tools.corpora.corpus import Corpus, Document
from tools.dictionaries import Dictionary, DictionaryConfig
from tools.errors import UnitError
from tools.index import OPEN_SPLITS, ExampleKind, IndexSettings, SplitView, Texts, build_index
from tools.index import build as build_module
from tools.index import sparse as sparse_module
from tools.index.plan import batches
from tools.index.reader import ActivationIndex
from tools.index.sparse import Postings, group_folder
from tools.index.weighting import QUANTILES
from tools.subject import Subject, load_subject
from tools.types import FloatArray, Site, Split, UnitId
from tools.units import activations

WORDS = re.findall(r"\w+", "Ann saw the red ball in the park and Bob ate a green apple at home on Monday after 12 days")
SETTINGS = IndexSettings(
    context=20, window=4, top_k=5, batch_tokens=100, panel_tokens={Split.EXPLORE: 200, Split.SCORE: 10_000}
)
UNIT = "sae:a/b"


class SignedDictionary(Dictionary):
    """Keeps what is far from zero on either side, so that both tails are sparse; the last latent is never active."""

    shapes: ClassVar[dict[str, str]] = {"W_enc": "is", "W_dec": "so", "b_dec": "o"}

    def pre_bias(self) -> Tensor:
        return torch.zeros(self.d_sae)

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        return torch.where((pre > 0.3) | (pre < -0.4), pre, 0.0)


def make_dictionary() -> SignedDictionary:
    config = DictionaryConfig(architecture="signed", d_in=32, d_sae=50, hook_name="blocks.1.hook_resid_post")
    weights = torch.randn(32, 50, generator=torch.Generator().manual_seed(1))
    weights[:, -1] = 0
    made = {"W_enc": weights, "W_dec": weights.T.contiguous(), "b_dec": torch.zeros(32)}
    return SignedDictionary(config, made, name="a/b", fingerprint="signed")


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    subject.attach("a/b", make_dictionary())
    return subject


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(120))
    return Corpus("made", [Document(f"d{i:03}", text) for i, text in enumerate(texts)])


@pytest.fixture(scope="module")
def index(subject: Subject, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ActivationIndex:
    with pytest.MonkeyPatch.context() as patch:
        # Several runs to merge, several pieces of a batch, as with a large corpus and a wide dictionary.
        patch.setattr(sparse_module, "RUN_POSTINGS", 300)
        patch.setattr(build_module, "_LATENT_ELEMENTS", 3000)
        return build_index(subject, corpus, [UnitId(UNIT, 3)], tmp_path_factory.mktemp("home"), SETTINGS)


@functools.cache
def all_texts(index: ActivationIndex) -> Texts:
    """The token store of all splits, from its files: an index hands out only views."""
    return Texts.open(index.path, index.manifest["settings"]["context"])


@pytest.fixture(scope="module")
def truth(subject: Subject, index: ActivationIndex) -> list[FloatArray]:
    """Latents [pos, latent] of every context, computed in the same batches, so equal to the last bit."""
    found = []
    for batch in batches(all_texts(index), SETTINGS.batch_tokens):
        ids, mask = all_texts(index).padded(range(batch.first, batch.last))
        site = Site(1, "resid_post")
        captured = subject.capture(torch.from_numpy(ids), torch.from_numpy(mask).long(), [site])
        for row in range(len(ids)):
            part = Captured({site: captured[site][row : row + 1]}, None)
            found.append(activations(subject, UNIT, part)[0, : mask[row].sum()].numpy())
    return found


def view_of(index: ActivationIndex, split: Split) -> SplitView:
    if split in OPEN_SPLITS:
        return index.view(split)
    return index.keeper(lambda opening: None).open(split, claim="a claim", polarity="+", by="a test")


def test_postings_are_all_nonzero_activations_in_order(index: ActivationIndex, truth: list[FloatArray]) -> None:
    postings = Postings(group_folder(index.path, UNIT))
    for which, split in enumerate(Split):
        for latent in range(50):
            positions, values = postings.read(latent, which)
            expected = {
                context * 20 + position: truth[context][position, latent]
                for context in all_texts(index).contexts_of(split)
                for position in range(1, len(truth[context]))
                if truth[context][position, latent] != 0
            }
            assert positions.tolist() == list(expected)
            np.testing.assert_allclose(values, list(expected.values()), atol=1e-5)
            assert postings.counts[which, latent] == len(expected)
    assert not Postings(group_folder(index.path, UNIT)).counts[:, -1].any()
    assert Postings(group_folder(index.path, UNIT)).counts.sum() > 1000


def test_spilled_runs_are_gone(index: ActivationIndex) -> None:
    assert not list(index.path.rglob("spill.bin"))
    assert not list(index.path.rglob("state.npz"))


def test_statistics_are_exact(index: ActivationIndex, truth: list[FloatArray]) -> None:
    for split in Split:
        view = view_of(index, split)
        for latent in (0, 3, 17, 49):
            values = np.concatenate([truth[c][1:, latent] for c in all_texts(index).contexts_of(split)]).astype(
                np.float64
            )
            found = view.statistics(UnitId(UNIT, latent))
            assert found.tokens == len(values) == view.n_tokens
            assert (found.mean, found.variance) == pytest.approx((values.mean(), values.var()), abs=1e-5)
            assert (found.minimum, found.maximum) == pytest.approx((values.min(), values.max()), abs=1e-5)
            assert found.nonzero == (values != 0).mean()
            expected = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
            np.testing.assert_allclose(list(found.quantiles.values()), expected, atol=1e-5)
            edges = np.array(found.histogram_edges)
            inside = np.clip(values, edges[0], edges[-1])
            assert found.histogram_counts == tuple(np.histogram(inside, edges)[0])


@pytest.mark.parametrize(("kind", "sign"), [("top", 1.0), ("bottom", -1.0)])
def test_strongest_blocks_match_dense_ones(
    index: ActivationIndex, truth: list[FloatArray], kind: ExampleKind, sign: float
) -> None:
    for split in Split:
        for latent in range(50):
            best: dict[int, float] = {}
            for context in all_texts(index).contexts_of(split):
                document = all_texts(index).document(context)
                best[document] = max(best.get(document, 0.0), float((sign * truth[context][1:, latent]).max()))
            expected = sorted((value for value in best.values() if value > 0), reverse=True)[:5]
            examples = view_of(index, split).examples(UnitId(UNIT, latent), kind, 24)
            assert [sign * e.activations[e.peak] for e in examples] == pytest.approx(expected, abs=1e-5)
            for e in examples:
                known = truth[e.context][e.start : e.start + len(e.tokens), latent]
                np.testing.assert_allclose(e.activations, known, atol=1e-5)


def test_samples_and_panels_match_dense_ones(index: ActivationIndex, truth: list[FloatArray]) -> None:
    for split in Split:
        view = view_of(index, split)
        for latent in (0, 3, 17, 49):
            unit = UnitId(UNIT, latent)
            sample = view.sample(unit)
            known = [truth[c][p, latent] for c, p in zip(sample.contexts, sample.positions, strict=True)]
            np.testing.assert_allclose(sample.values, known, atol=1e-5)
            assert sample.weights.astype(np.float64).sum() == pytest.approx(view.n_tokens, rel=1e-6)
            known = [truth[c][p, latent] for c, p in zip(*view.panel_index, strict=True)]
            np.testing.assert_allclose(view.panel_matrix([unit])[0], known, atol=1e-5)
    with pytest.raises(UnitError, match="sae:a/b:50"):
        view.sample(UnitId(UNIT, 50))


def test_dense_and_sparse_units_share_one_pass(
    subject: Subject, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: ActivationIndex
) -> None:
    calls: list[int] = []
    capture = subject.capture

    def counting(ids: Tensor, mask: Tensor | None, sites: set[Site]) -> Captured:
        calls.append(len(ids))
        return capture(ids, mask, sites)

    monkeypatch.setattr(subject, "capture", counting)
    units = [UnitId("mlp:0", 1), UnitId("head:2", 0), UnitId(UNIT, 0)]
    both = build_index(subject, corpus, units, tmp_path, SETTINGS)
    assert sum(calls) == all_texts(both).n_contexts
    for name in ("positions.npy", "values.npy", "counts.npy"):
        (one,), (other,) = (list(i.path.rglob(f"postings-*/{name}")) for i in (index, both))
        np.testing.assert_allclose(np.load(one), np.load(other), atol=1e-5)
    assert both.view(Split.EXPLORE).statistics(UnitId("mlp:0", 1)).variance > 0
    assert both.view(Split.EXPLORE).statistics(UnitId(UNIT, 3)).nonzero > 0
