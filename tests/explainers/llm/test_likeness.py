"""Likeness by words and by embeddings: what is alike ranks first, and what is missing is said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from explainers.llm.budget import Limits, Meter
from explainers.llm.likeness import Bm25, Embeddings, LikenessError, likeness_for, words
from explainers.llm.types import MemoryAccount, NotRecordedError, SpentError
from tests.serving import ProgrammableServer

TEXTS = ["the cat sat on the mat", "the dog ran in the park", "a cat and a dog", "def read_file(path):", ""]


def test_texts_with_the_rare_words_of_a_query_rank_first_and_name_says_lexical() -> None:
    likeness = likeness_for(None)
    assert likeness.name == "bm25 (lexical)"
    assert likeness.lexical
    scores = likeness.to(["fires on cat", "read a file", "unknown words"], TEXTS)
    assert scores.shape == (3, 5)
    assert scores.dtype == np.float32
    assert set(np.argsort(-scores[0])[:2].tolist()) == {0, 2}
    assert scores[1].argmax() == 3
    assert (scores[2] == 0).all()
    assert (scores[:, 4] == 0).all()


def test_scores_are_okapi_bm25_with_the_idf_of_lucene() -> None:
    texts = ["a b b", "b c", "d"]
    n, average = 3, (3 + 2 + 1) / 3
    idf = {w: np.log(1 + (n - df + 0.5) / (df + 0.5)) for w, df in {"a": 1, "b": 2}.items()}

    def part(w: str, tf: int, length: int) -> float:
        return idf[w] * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * length / average))

    expected = [part("a", 1, 3) + part("b", 2, 3), part("b", 1, 2), 0.0]
    assert np.allclose(Bm25().to(["a b"], texts)[0], expected, atol=1e-6)


@pytest.mark.parametrize(("queries", "texts"), [([], TEXTS), (["cat"], []), (["cat"], ["", " "]), ([""], TEXTS)])
def test_nothing_to_compare_is_no_likeness(queries: list[str], texts: list[str]) -> None:
    for likeness in (Bm25(), Embeddings("made", lambda each: np.ones((len(each), 2), np.float32))):
        scores = likeness.to(queries, texts)
        assert scores.shape == (len(queries), len(texts))
        assert np.isfinite(scores).all()
    assert not Bm25().to(queries, texts).any()


def test_identifiers_fall_into_their_words_and_signs_are_words() -> None:
    assert words("getFile_name(x) != 3") == ["get", "file", "_", "name", "(", "x", ")", "!", "=", "3"]
    assert words("naïve Größe") == ["naïve", "größe"]


class Model:
    """Embeds by the first letter."""

    model = "letters"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        vectors = np.zeros((len(texts), 128), np.float32)
        for row, text in enumerate(texts):
            vectors[row, ord(text[0]) % 128] = 1 + row
        return vectors


def test_embeddings_come_from_the_explainers_endpoint_each_text_once() -> None:
    model: Any = Model()
    likeness = likeness_for("endpoint", model)
    assert likeness.name == "embeddings:letters"
    assert not likeness.lexical
    scores = likeness.to(["cat", "dog"], ["cow", "dog", "cow"])
    assert np.allclose(scores, [[1, 0, 1], [0, 1, 0]])
    assert model.asked == [["cow", "dog"], ["cat", "dog"]]


def test_the_same_texts_are_asked_for_by_the_same_request_whatever_the_queries() -> None:
    model: Any = Model()
    likeness = likeness_for("endpoint", model)
    likeness.to(["cat"], ["cow", "dog"])
    likeness.to(["owl", "bee"], ["cow", "dog"])
    assert model.asked[0] == model.asked[2] == ["cow", "dog"]


@pytest.mark.parametrize("vectors", [np.ones((2, 3)), np.ones(1), np.array([[1.0, np.nan]])])
def test_embeddings_of_another_shape_or_not_finite_are_an_error(vectors: np.ndarray) -> None:
    with pytest.raises(LikenessError, match="gave embeddings of shape"):
        Embeddings("odd", lambda texts: vectors).to(["a"], ["b"])


def test_an_endpoint_for_embeddings_alone_is_charged_to_the_account_and_the_budget(
    llm_server: ProgrammableServer, llm_account: MemoryAccount
) -> None:
    spec, meter = f"openai:{llm_server.model}@{llm_server.url}", Meter(Limits(calls=3))
    with closing(likeness_for(spec, meter=meter)) as likeness:
        assert likeness.name == f"embeddings:{llm_server.model}"
        scores = likeness.to(["the cat sat"], ["the cat sat", "def read(): pass"])
        assert scores[0, 0] == pytest.approx(1, abs=1e-5)
        assert scores[0, 1] < 0.9
        assert meter.spent.calls == len(llm_account.calls) == 2
        again = likeness.to(["the cat sat"], ["the cat sat", "def read(): pass"])
        assert (again == scores).all()
        assert meter.spent.calls == 2
        likeness.to(["a dog"], ["the cat sat", "def read(): pass"])
        with pytest.raises(SpentError):
            likeness.to(["one more"], ["the cat sat", "def read(): pass"])
    with closing(likeness_for(spec, replay=True)) as likeness:
        assert (likeness.to(["the cat sat"], ["the cat sat", "def read(): pass"]) == scores).all()
        with pytest.raises(NotRecordedError):
            likeness.to(["never asked"], ["the cat sat"])
    with pytest.raises(LikenessError, match="limit in USD cannot hold"):
        likeness_for(spec, meter=Meter(Limits(dollars=1.0)))


def test_unknown_kinds_and_missing_parts_are_told() -> None:
    with pytest.raises(LikenessError, match="Known: bm25, endpoint, openai:MODEL@URL, sentence-transformers:NAME"):
        likeness_for("glove")
    with pytest.raises(LikenessError, match="there is none"):
        likeness_for("endpoint")


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(LikenessError, match=r"pip install 'neurogloss\[embeddings\]'"):
        likeness_for("sentence-transformers:all-MiniLM-L6-v2")


def test_sentence_transformers_gets_no_foreign_code_and_only_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class SentenceTransformer:
        def __init__(self, name: str, **options: Any) -> None:
            if name == "no/where":
                raise OSError("no such model\nand much more")
            made.update(name=name, **options)

        def encode(self, texts: list[str], **options: Any) -> np.ndarray:
            return Model().embed(texts)

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=SentenceTransformer))
    likeness = likeness_for("sentence-transformers:some/model")
    assert likeness.name == "sentence-transformers:some/model"
    assert made["trust_remote_code"] is False
    assert made["model_kwargs"] == {"use_safetensors": True}
    assert np.allclose(likeness.to(["ab"], ["ax", "b"]), [[1, 0]])
    with pytest.raises(LikenessError, match=r"has no model 'no/where': no such model$"):
        likeness_for("sentence-transformers:no/where")


def test_a_local_folder_is_read_by_the_real_library(tiny_llama_folder: Path) -> None:
    pytest.importorskip("sentence_transformers")
    likeness = likeness_for(f"sentence-transformers:{tiny_llama_folder}")
    scores = likeness.to(["Ann saw the red ball"], ["Ann saw the red ball", "12 days on Monday"])
    assert scores[0, 0] == pytest.approx(1, abs=1e-4)
    assert scores[0, 1] < 0.999
