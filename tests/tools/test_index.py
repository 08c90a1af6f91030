"""The index against activations computed one context at a time, for dense units."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.corpora.corpus import Corpus, Document
from tools.errors import CorpusError, IndexDataError, SealedError, UnitError
from tools.index import (
    OPEN_SPLITS,
    ExampleKind,
    IndexSettings,
    Progress,
    Texts,
    build_index,
    describe,
    list_indexes,
    open_index,
)
from tools.index.reader import ActivationIndex, SplitView
from tools.index.weighting import QUANTILES
from tools.subject import Subject, load_subject
from tools.types import FloatArray, Site, Split, UnitId
from tools.units import expand, unit_activations

WORDS = re.findall(r"\w+", "Ann saw the red ball in the park and Bob ate a green apple at home on Monday after 12 days")
SETTINGS = IndexSettings(
    context=20,
    window=4,
    top_k=5,
    batch_tokens=100,
    panel_tokens={Split.EXPLORE: 200, Split.REFINE: 60, Split.SCORE: 10_000, Split.AUDIT: 0},
)


def make_corpus(n: int = 120) -> Corpus:
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(n))
    return Corpus("made", [Document(f"d{i:03}", text) for i, text in enumerate(texts)])


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    generator = torch.Generator().manual_seed(3)
    subject.add_direction("probe", Site(1, "mlp_act"), torch.randn(64, generator=generator))
    return subject


@pytest.fixture(scope="module")
def units(subject: Subject) -> list[UnitId]:
    return expand(subject, "mlp:1:*;mlp:0:3,5-9;head:*:*;dir:probe")


@pytest.fixture(scope="module")
def index(subject: Subject, units: list[UnitId], tmp_path_factory: pytest.TempPathFactory) -> ActivationIndex:
    return build_index(subject, make_corpus(), units, tmp_path_factory.mktemp("home"), SETTINGS)


@functools.cache
def all_texts(index: ActivationIndex) -> Texts:
    """The token store of all splits, from its files: an index hands out only views."""
    return Texts.open(index.path, index.manifest["settings"]["context"])


@pytest.fixture(scope="module")
def truth(subject: Subject, units: list[UnitId], index: ActivationIndex) -> list[FloatArray]:
    """Activations [unit, pos] of every context."""
    return unit_activations(
        subject, units, [all_texts(index).ids(i).tolist() for i in range(all_texts(index).n_contexts)]
    )


def any_view(index: ActivationIndex, split: Split) -> SplitView:
    if split in OPEN_SPLITS:
        return index.view(split)
    return index.keeper(lambda opening: None).open(split, claim="a claim", polarity="+", by="a test")


def counted(index: ActivationIndex, truth: list[FloatArray], split: Split, row: int) -> FloatArray:
    """A unit's activations at all tokens of a split that count."""
    return np.concatenate([truth[i][row, 1:] for i in all_texts(index).contexts_of(split)])


def test_contexts_hold_the_documents_framed_and_in_order(subject: Subject, index: ActivationIndex) -> None:
    corpus, texts = make_corpus(), all_texts(index)
    bodies: dict[int, list[list[int]]] = {}
    for context in np.argsort(texts.starts):
        ids = texts.ids(int(context)).tolist()
        assert 2 <= len(ids) <= 20
        assert ids[0] == subject.bos_id
        assert texts.split_of(context) == corpus.split_of(texts.document(context))
        bodies.setdefault(texts.document(context), []).append(ids[1:])
    for number, document in enumerate(corpus.documents):
        assert [token for body in bodies[number] for token in body] == subject.encode(document.text)[1:]
        assert texts.document_id(number) == document.id
        assert all(len(body) == 19 for body in bodies[number][:-1])


def test_pieces_spell_the_text(index: ActivationIndex) -> None:
    document = make_corpus().documents[all_texts(index).document(0)]
    assert document.text.startswith("".join(all_texts(index).pieces(0)[1:]))


def test_moments_are_exact(index: ActivationIndex, truth: list[FloatArray], units: list[UnitId]) -> None:
    for split in Split:
        view = any_view(index, split)
        for row in range(0, len(units), 7):
            values = counted(index, truth, split, row).astype(np.float64)
            found = view.statistics(units[row])
            assert found.tokens == view.n_tokens == len(values)
            assert found.mean == pytest.approx(values.mean(), abs=1e-6)
            assert found.variance == pytest.approx(values.var(), rel=1e-4, abs=1e-8)
            assert (found.minimum, found.maximum) == pytest.approx((values.min(), values.max()), abs=1e-5)
            assert found.nonzero == pytest.approx((values != 0).mean())
            assert sum(found.histogram_counts) == len(values)


@pytest.mark.parametrize("kind", ["top", "bottom"])
def test_examples_are_the_strongest_block_of_each_of_the_strongest_documents(
    index: ActivationIndex, truth: list[FloatArray], units: list[UnitId], kind: ExampleKind
) -> None:
    sign = 1.0 if kind == "top" else -1.0
    for split in Split:
        for row in range(len(units)):
            best: dict[int, float] = {}
            for context in all_texts(index).contexts_of(split):
                document = all_texts(index).document(context)
                best[document] = max(best.get(document, 0.0), float((sign * truth[context][row, 1:]).max()))
            expected = sorted((value for value in best.values() if value > 0), reverse=True)[:5]
            examples = any_view(index, split).examples(units[row], kind, 24, window=6)
            found = [sign * example.activations[example.peak] for example in examples]
            assert found == pytest.approx(expected, abs=1e-5)
            assert len({example.document for example in examples}) == len(examples)
            for example in examples:
                known = truth[example.context][row, example.start : example.start + len(example.tokens)]
                np.testing.assert_allclose(example.activations, known, atol=1e-5)


def test_panel_holds_whole_contexts(index: ActivationIndex, truth: list[FloatArray], units: list[UnitId]) -> None:
    for split in Split:
        view = any_view(index, split)
        assert set(view.panel_contexts) <= set(view.texts.contexts)
        matrix = view.panel_matrix(units)
        for row, unit in enumerate(units[::9]):
            panel = view.panel(unit)
            np.testing.assert_array_equal(panel[view.panel_mask], matrix[row * 9])
            for place, context in enumerate(view.panel_contexts):
                length = all_texts(index).length(int(context))
                assert view.panel_mask[place].nonzero()[0].tolist() == list(range(1, length))
                np.testing.assert_allclose(panel[place, 1:length], truth[context][row * 9, 1:], atol=1e-5)
    assert any_view(index, Split.EXPLORE).panel_mask.sum() in range(200, 221)
    assert len(any_view(index, Split.AUDIT).panel_contexts) == 1


def test_sample_has_the_right_activations_once_each(
    index: ActivationIndex, truth: list[FloatArray], units: list[UnitId]
) -> None:
    for split in Split:
        view = any_view(index, split)
        for row in range(0, len(units), 5):
            sample = view.sample(units[row])
            known = [truth[c][row, p] for c, p in zip(sample.contexts, sample.positions, strict=True)]
            np.testing.assert_allclose(sample.values, known, atol=1e-5)
            assert len(set(zip(sample.contexts, sample.positions, strict=True))) == len(sample)
            assert sample.positions.min() >= 1
            assert sample.weights.astype(np.float64).sum() == pytest.approx(view.n_tokens, rel=1e-6)
            assert (sample.documents == all_texts(index).documents[sample.contexts]).all()


def test_sample_equals_the_population_when_the_panel_covers_it(
    index: ActivationIndex, truth: list[FloatArray], units: list[UnitId]
) -> None:
    view = any_view(index, Split.SCORE)
    for row in range(0, len(units), 5):
        sample, values = view.sample(units[row]), counted(index, truth, Split.SCORE, row)
        assert (sample.weights == 1).all()
        np.testing.assert_allclose(np.sort(sample.values), np.sort(values), atol=1e-5)
        found = view.statistics(units[row]).quantiles
        expected = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-5)


def test_weighted_means_have_no_bias(
    subject: Subject, index: ActivationIndex, truth: list[FloatArray], units: list[UnitId], tmp_path: Path
) -> None:
    """Over panels drawn with other seeds, a strongly skewed mean comes out right within sampling error."""
    rows = range(0, 64, 4)
    errors = []
    for seed in range(1, 9):
        settings = IndexSettings(context=20, window=4, top_k=5, panel_tokens={Split.EXPLORE: 150}, seed=seed)
        view = build_index(subject, make_corpus(), units, tmp_path, settings).view(Split.EXPLORE)
        for row in rows:
            sample, values = view.sample(units[row]), counted(index, truth, Split.EXPLORE, row)
            weights = sample.weights.astype(np.float64)
            found = (weights * sample.values**2).sum() / weights.sum()
            errors.append((found - (values**2).mean()) / (values**2).std() * np.sqrt(150))
    assert abs(np.mean(errors)) < 0.35
    assert np.std(errors) < 1.6


def test_quantile_and_random_examples(index: ActivationIndex, truth: list[FloatArray], units: list[UnitId]) -> None:
    view = index.view(Split.EXPLORE)
    spread = view.examples(units[0], "quantile", 9)
    levels = [example.activations[example.peak] for example in spread]
    assert levels == sorted(levels)
    panel = view.panel_matrix(units[:1])[0]
    assert np.searchsorted(np.sort(panel), levels[4]) == pytest.approx(len(panel) / 2, abs=1)
    drawn = view.examples(units[0], "random", 30)
    assert drawn == view.examples(units[0], "random", 30)
    assert drawn != view.examples(units[1], "random", 30)
    for example in spread + drawn:
        assert example.start >= 1
        assert len(example.tokens) == len(example.activations)
        assert list(example.tokens) == all_texts(index).pieces(example.context)[example.start :][: len(example.tokens)]
        known = truth[example.context][0, example.start : example.start + len(example.tokens)]
        np.testing.assert_allclose(example.activations, known, atol=1e-5)
        assert 1.0 <= example.weight < view.n_tokens


def test_held_out_splits_are_sealed(index: ActivationIndex) -> None:
    for split in (Split.SCORE, Split.AUDIT):
        with pytest.raises(SealedError, match="sealed"):
            index.view(split)
        any_view(index, split)
        with pytest.raises(SealedError, match="sealed"):
            index.view(split)
    texts = index.view(Split.EXPLORE).texts
    foreign = all_texts(index).contexts_of(Split.SCORE)[0]
    for ask in (texts.ids, texts.pieces, texts.document, texts.length, lambda c: texts.padded([c])):
        with pytest.raises(SealedError, match="does not belong"):
            ask(foreign)
    assert texts.ids(int(texts.contexts[0])).tolist() == all_texts(index).ids(0).tolist()


def test_padded_contexts(index: ActivationIndex) -> None:
    ids, mask = index.view(Split.EXPLORE).texts.padded([0, 30, 7])
    for row, context in enumerate((0, 30, 7)):
        assert ids[row][mask[row]].tolist() == all_texts(index).ids(context).tolist()
        assert not ids[row][~mask[row]].any()


def test_same_inputs_reuse_the_index(
    subject: Subject, index: ActivationIndex, units: list[UnitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "capture", None)
    again = build_index(subject, make_corpus(), units[::-1], index.path.parent.parent, SETTINGS)
    assert again.path == index.path
    assert again.units == index.units
    assert set(again.units) == set(units)


def test_other_inputs_get_another_key(subject: Subject, index: ActivationIndex, tmp_path: Path) -> None:
    head = expand(subject, "head:0:0")
    keys = {
        build_index(subject, corpus, chosen, tmp_path, settings).key
        for corpus, chosen, settings in (
            (make_corpus(), head, SETTINGS),
            (make_corpus(110), head, SETTINGS),
            (make_corpus(), expand(subject, "head:0:1"), SETTINGS),
            (make_corpus(), head, IndexSettings(context=20, seed=1)),
        )
    }
    assert len(keys | {index.key}) == 5
    assert {info.key for info in list_indexes(tmp_path)} == keys


def test_progress_and_description(subject: Subject, units: list[UnitId], tmp_path: Path) -> None:
    seen: list[Progress] = []
    index = build_index(subject, make_corpus(), units, tmp_path, SETTINGS, progress=seen.append)
    passes = [p for p in seen if p.stage == "activations"]
    assert passes[-1].tokens_done == passes[-1].tokens_total == all_texts(index).lengths.sum()
    assert [p.tokens_done for p in passes] == sorted(p.tokens_done for p in passes)
    info = describe(index.path)
    assert info.units == {"dir:probe": 1, "head:0": 4, "head:1": 4, "head:2": 4, "mlp:0": 6, "mlp:1": 64}
    assert sum(info.tokens.values()) + info.n_contexts == all_texts(index).lengths.sum()
    assert info.bytes > 10_000
    assert info.seconds > 0
    assert info.to_json()["settings"]["context"] == 20


def test_max_tokens_draws_contexts_from_the_whole_corpus(subject: Subject, tmp_path: Path) -> None:
    units = expand(subject, "head:0:0")
    whole = all_texts(build_index(subject, make_corpus(), units, tmp_path, IndexSettings(context=20)))
    texts = all_texts(build_index(subject, make_corpus(), units, tmp_path, IndexSettings(context=20, max_tokens=500)))
    assert 500 <= texts.lengths.sum() < 520
    documents = {texts.document(context) for context in range(texts.n_contexts)}
    assert min(documents) < 30
    assert max(documents) >= 90
    rows = {tuple(whole.ids(context).tolist()) for context in range(whole.n_contexts)}
    assert all(tuple(texts.ids(context).tolist()) in rows for context in range(texts.n_contexts))


def test_unknown_units_and_bad_settings_are_refused(
    subject: Subject, index: ActivationIndex, tmp_path: Path, units: list[UnitId]
) -> None:
    with pytest.raises(UnitError, match="mlp:0:4 is not in the index"):
        index.view(Split.EXPLORE).sample(UnitId("mlp:0", 4))
    with pytest.raises(UnitError, match="mlp:9"):
        build_index(subject, make_corpus(), [UnitId("mlp:9", 0)], tmp_path, SETTINGS)
    with pytest.raises(IndexDataError, match="context of 500 tokens"):
        build_index(subject, make_corpus(), units, tmp_path, IndexSettings(context=500))
    with pytest.raises(IndexDataError, match="window is 0"):
        build_index(subject, make_corpus(), units, tmp_path, IndexSettings(window=0))
    with pytest.raises(IndexDataError, match="No units"):
        build_index(subject, make_corpus(), [], tmp_path, SETTINGS)
    with pytest.raises(CorpusError, match="no tokens"):
        build_index(subject, Corpus("empty", []), units, tmp_path, SETTINGS)
    with pytest.raises(IndexDataError, match="no activation index"):
        open_index(tmp_path / "nowhere")


def test_a_split_without_tokens_says_so(subject: Subject, tmp_path: Path) -> None:
    corpus = Corpus("one", [Document("only", "Ann saw the red ball.")])
    index = build_index(subject, corpus, expand(subject, "head:0:0"), tmp_path, IndexSettings(context=8))
    empty = next(split for split in Split if split != corpus.split_of(0))
    with pytest.raises(IndexDataError, match=f"no tokens in the {empty} split"):
        any_view(index, empty)
    view = any_view(index, corpus.split_of(0))
    assert view.sample(UnitId("head:0", 0)).weights.sum() == view.n_tokens
