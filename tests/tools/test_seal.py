"""The seal on a real index: what opens it, what its views hand out, and what they depend on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from tests.hostile import Judge, attack, leads, reachable, refused
from tools.corpora import Corpus, Document, split_of_key
from tools.dictionaries import Dictionary, DictionaryConfig
from tools.errors import SealedError
from tools.index import OPEN_SPLITS, ActivationIndex, IndexSettings, Opening, SplitView, Texts, build_index
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId
from tools.units import expand, unit_activations

WORDS = re.findall(r"\w+", "Ann saw the red ball in the park and Bob ate a green apple at home on Monday after 12 days")
SETTINGS = IndexSettings(
    context=20, window=4, top_k=5, batch_tokens=100,
    panel_tokens={Split.EXPLORE: 200, Split.REFINE: 60, Split.SCORE: 300, Split.AUDIT: 100},
)  # fmt: skip
SEALED = sorted(set(Split) - OPEN_SPLITS)


class AbsDictionary(Dictionary):
    """Keeps what is far from zero on either side."""

    shapes: ClassVar[dict[str, str]] = {"W_enc": "is", "W_dec": "so", "b_dec": "o"}

    def pre_bias(self) -> Tensor:
        return torch.zeros(self.d_sae)

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        return torch.where(pre.abs() > 0.5, pre, 0.0)


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    config = DictionaryConfig(architecture="abs", d_in=32, d_sae=12, hook_name="blocks.1.hook_resid_post")
    weights = torch.randn(32, 12, generator=torch.Generator().manual_seed(1))
    made = {"W_enc": weights, "W_dec": weights.T.contiguous(), "b_dec": torch.zeros(32)}
    subject.attach("abs", AbsDictionary(config, made, name="abs", fingerprint="abs"))
    return subject


UNITS = "mlp:1:0-3;head:1:0;sae:abs:0"


def make_corpus(draw: random.Random, n: int) -> Corpus:
    """Documents of 1 to 40 words; some copy others, whole or with a word changed."""
    texts: list[str] = []
    for _ in range(n):
        words = draw.choices(WORDS, k=draw.randint(1, 40))
        if texts and draw.random() < 0.2:
            words = draw.choice(texts).split()
            words[-1] = draw.choice(WORDS)
        texts.append(" ".join(words))
    return Corpus("made", tuple(Document(f"d{i:03}", text) for i, text in enumerate(texts)))


@pytest.fixture(scope="module")
def index(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> ActivationIndex:
    corpus = make_corpus(random.Random(0), 120)
    return build_index(subject, corpus, expand(subject, UNITS), tmp_path_factory.mktemp("home"), SETTINGS)


@pytest.fixture(scope="module")
def judge(index: ActivationIndex) -> Judge:
    return Judge.of(index)


# --- the keeper


def test_index_shows_open_splits_alone(index: ActivationIndex) -> None:
    for split in Split:
        assert refused(lambda split=split: index.view(split)) == (split not in OPEN_SPLITS)  # type: ignore[misc]
    # An opening is a record and no key.
    with pytest.raises(TypeError):
        index.view(Split.SCORE, opening=Opening("a claim", "+", Split.SCORE, "me"))  # type: ignore[call-arg]


def test_keeper_records_before_it_opens(index: ActivationIndex) -> None:
    recorded: list[Opening] = []
    keeper = index.keeper(recorded.append)
    for split in SEALED:
        view = keeper.open(split, claim="c1", polarity="-", by="simulation")
        assert view.split == split
        assert recorded[-1] == Opening("c1", "-", split, "simulation")
        assert refused(lambda split=split: index.view(split))  # type: ignore[misc]
    assert len(recorded) == 2


def test_opening_that_is_not_recorded_does_not_open(index: ActivationIndex) -> None:
    def refuse(opening: Opening) -> None:
        raise OSError("no space left on the device")

    with pytest.raises(OSError, match="no space"):
        index.keeper(refuse).open(Split.SCORE, claim="c1", polarity="+", by="simulation")


def test_keeper_opens_nothing_for_no_claim_and_records_nothing_for_an_open_split(index: ActivationIndex) -> None:
    recorded: list[Opening] = []
    keeper = index.keeper(recorded.append)
    with pytest.raises(SealedError, match="none is named"):
        keeper.open(Split.SCORE, claim="", polarity="+", by="simulation")
    for split in OPEN_SPLITS:
        with pytest.raises(SealedError, match="not sealed"):
            keeper.open(split, claim="c1", polarity="+", by="simulation")
    assert not recorded


# --- what views hand out


@pytest.mark.parametrize("split", sorted(OPEN_SPLITS))
def test_no_argument_makes_an_open_view_hand_out_sealed_data(
    index: ActivationIndex, judge: Judge, split: Split
) -> None:
    draw = random.Random(1)
    for unit in index.units:
        assert list(attack(index.view(split), str(split), judge, unit, draw, tries=150)) == []


def test_attack_finds_what_a_sealed_view_hands_out(index: ActivationIndex, judge: Judge) -> None:
    """Turned on a view that is open to a scorer, the attack above reports every way in which it speaks."""
    view = index.keeper(lambda opening: None).open(Split.SCORE, claim="c", polarity="+", by="a test")
    found = " ".join(attack(view, "score", judge, UnitId("mlp:1", 0), random.Random(1)))
    methods = ["ids", "pieces", "padded", "document_id"]
    for method in ["sample", "examples", "statistics", "panel", "panel_matrix", *(f"texts.{m}" for m in methods)]:
        assert f"score.{method}(" in found, method


def test_some_sealed_activations_among_many_other_numbers_are_found(judge: Judge) -> None:
    """What may coincide by chance in a large array is far less than what a leak would put there."""
    generator = np.random.default_rng(0)
    scale = float(np.std(list(judge.values)))
    noise = generator.normal(0, scale, 10_000).astype(np.float32)
    assert list(judge.finds(noise)) == []
    leaked = noise.copy()
    leaked[generator.choice(10_000, 5, replace=False)] = generator.choice(sorted(judge.values), 5, replace=False)
    assert "sealed activations" in " ".join(judge.finds(leaked))
    small = noise[:100].copy()
    small[7] = sorted(judge.values)[3]
    assert "sealed activations" in " ".join(judge.finds(small))


def test_contexts_and_documents_beyond_the_split_are_refused(index: ActivationIndex, judge: Judge) -> None:
    texts = index.view(Split.EXPLORE).texts
    calls = (texts.ids, texts.pieces, texts.length, texts.document, texts.split_of, lambda c: texts.padded([0, c]))
    for context in [*judge.sealed, -1, -judge.texts.n_contexts, judge.texts.n_contexts, 10**9]:
        assert all(refused(lambda call=call: call(context)) for call in calls)  # type: ignore[misc] # noqa: B023
    for number in [*judge.numbers, -1, len(judge.texts.document_ids)]:
        assert refused(lambda number=number: texts.document_id(number))  # type: ignore[misc]


def test_views_lead_to_no_index_and_no_keeper(index: ActivationIndex, judge: Judge) -> None:
    for split in OPEN_SPLITS:
        view = index.view(split)
        found = reachable(view)
        assert leads(found) == []
        assert {path: what for path, value in found.items() if (what := list(judge.finds(value)))} == {}
        # Not even by way of private names is there anything that opens a seal.
        private = reachable(view, private=True)
        assert len(private) > len(found)
        assert not [p for p, value in private.items() if type(value).__name__ in ("ActivationIndex", "SealKeeper")]


def test_views_cannot_be_changed(index: ActivationIndex) -> None:
    view = index.view(Split.EXPLORE)
    for thing, names in (
        (view, ("split", "texts", "n_tokens", "panel_contexts")),
        (view.texts, ("split", "vocabulary")),
    ):
        for name in names:
            with pytest.raises(AttributeError):
                setattr(thing, name, None)
    for array in (view.panel_contexts, *view.panel_index, view.panel_mask, view.texts.contexts):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)
    with pytest.raises(TypeError):
        index.tokens[Split.SCORE] = 0  # type: ignore[index]


# --- what views depend on


def everything(view: SplitView, units: list[UnitId]) -> Iterator[Any]:
    """All that an open view can be asked for, as values that compare."""
    texts = view.texts
    yield view.n_tokens, view.panel_contexts.tolist(), [part.tolist() for part in view.panel_index]
    yield texts.contexts.tolist(), [(texts.pieces(c), texts.document_id(texts.document(c))) for c in texts.contexts]
    yield view.panel_matrix(units).tolist()
    for unit in units:
        yield view.statistics(unit).to_json()
        yield {name: array.tolist() for name, array in vars(view.sample(unit)).items()}
        for kind in ("top", "bottom", "quantile", "random"):
            yield view.examples(unit, kind, 8, window=9)


@pytest.mark.parametrize("max_tokens", [None, 900])
def test_other_sealed_text_changes_nothing_in_open_views(
    subject: Subject, tmp_path: Path, max_tokens: int | None
) -> None:
    """Two corpora that differ in every sealed document, and in no open one, look the same to an explainer."""
    chosen = IndexSettings(**{**vars(SETTINGS), "max_tokens": max_tokens})
    draw, documents, others = random.Random(5), [], []
    for i in range(80):
        words = draw.choices(WORDS, k=draw.randint(2, 40))
        documents.append(Document(f"d{i:03}", " ".join(words)))
        if split_of_key(f"d{i:03}") not in OPEN_SPLITS:
            # As many tokens: under `max_tokens` all splits share one allowance, which lengths alone decide.
            words[1:] = draw.sample(words[1:], len(words) - 1)
        others.append(Document(f"d{i:03}", " ".join(words)))
    units = expand(subject, UNITS)
    first, second = (Corpus("c", tuple(some)) for some in (documents, others))
    assert first.splits == second.splits == tuple(split_of_key(document.id) for document in documents)
    one, two = (build_index(subject, corpus, units, tmp_path, chosen) for corpus in (first, second))
    assert one.key != two.key
    for split in Split:
        views = [
            index.view(split)
            if split in OPEN_SPLITS
            else index.keeper(lambda opening: None).open(split, claim="c", polarity="+", by="a test")
            for index in (one, two)
        ]
        same = list(everything(views[0], units)) == list(everything(views[1], units))
        assert same == (split in OPEN_SPLITS), split


def check_index(subject: Subject, seed: int, home: Path) -> None:
    """One random corpus under random settings, indexed by the model: every number of a view is its split's own."""
    draw = random.Random(seed)
    corpus = make_corpus(draw, draw.randint(8, 30))
    chosen = IndexSettings(
        context=draw.randint(4, 24), window=draw.randint(1, 6), top_k=draw.randint(1, 6),
        batch_tokens=draw.choice([20, 120]), max_tokens=draw.choice([None, None, 150]), seed=draw.randrange(9),
        panel_tokens={split: draw.choice([0, 10, 60, 10_000]) for split in Split}, dtype="float32",
    )  # fmt: skip
    units = expand(subject, draw.choice([UNITS, "mlp:1:0-3", "sae:abs:0", "head:*:*"]))
    index = build_index(subject, corpus, units, home, chosen)
    texts = Texts.open(index.path, chosen.length)
    for split in OPEN_SPLITS:
        if not index.tokens[split]:
            continue
        view = index.view(split)
        own = [c for c in range(texts.n_contexts) if corpus.split_of(texts.document(c)) == split]
        assert view.texts.contexts.tolist() == own
        truth = dict(zip(own, unit_activations(subject, units, [texts.ids(c).tolist() for c in own]), strict=True))
        assert set(view.panel_contexts.tolist()) <= set(own)
        for row in draw.sample(range(len(units)), min(3, len(units))):
            unit, all_values = units[row], np.concatenate([truth[c][row, 1:] for c in own])
            found = view.statistics(unit)
            assert found.tokens == len(all_values)
            expected = (all_values.mean(), all_values.min(), all_values.max())
            assert (found.mean, found.minimum, found.maximum) == pytest.approx(expected, abs=1e-5)
            sample = view.sample(unit)
            assert {corpus.split_of(number) for number in sample.documents.tolist()} <= {split}
            known = [truth[c][row, p] for c, p in zip(sample.contexts, sample.positions, strict=True)]
            np.testing.assert_allclose(sample.values, known, atol=1e-5)
            kinds = ("top", "bottom", "quantile", "random")
            examples = [example for kind in kinds for example in view.examples(unit, kind, 20, window=7)]  # type: ignore[arg-type]
            assert {example.split for example in examples} == {split}
            assert {split_in(corpus, example.document) for example in examples} == {split}
            shown = [value for example in examples for value in example.activations]
            known = [
                value
                for example in examples
                for value in truth[example.context][row, example.start : example.start + len(example.tokens)]
            ]
            np.testing.assert_allclose(shown, known, atol=1e-5)
            panel = view.panel(unit)[view.panel_mask]
            np.testing.assert_allclose(
                panel, [truth[c][row, p] for c, p in zip(*view.panel_index, strict=True)], atol=1e-5
            )


def split_in(corpus: Corpus, document_id: str) -> Split:
    """The split of a document by its id."""
    return corpus.split_of([document.id for document in corpus.documents].index(document_id))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about a power cut, so files need not reach the disk."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


RUNS = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(RUNS, max_examples=20)
@given(seed=st.integers(0, 10**9))
def test_every_number_of_an_open_view_is_its_splits_own(
    subject: Subject, tmp_path: Path, quick: None, seed: int
) -> None:
    check_index(subject, seed, tmp_path)


@pytest.mark.slow
@settings(RUNS, max_examples=300)
@given(seed=st.integers(0, 10**9))
def test_every_number_of_an_open_view_is_its_splits_own_in_hundreds_of_indexes(
    subject: Subject, tmp_path: Path, quick: None, seed: int
) -> None:
    check_index(subject, seed, tmp_path)
