"""How alike texts are: by embeddings where a model for them is at hand, by their words alone where none is.

Likeness ranks: hard negatives are the silent texts most like the active ones, and the embedding score asks whether a
description is more like active texts than like silent ones. Numbers of different kinds of likeness are not comparable.

An endpoint is asked for the embedding of a text anew each time: what a request holds then depends on its investigation
alone, so that a replay meets the very requests that were recorded. What its account knows already costs nothing.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import bm25s
import numpy as np
import numpy.typing as npt

from explainers.llm.budget import Meter
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.types import Llm, LlmError
from tools.types import FloatArray

DoubleArray: TypeAlias = npt.NDArray[np.float64]

# It tells of every index that it builds, and one is built for every unit.
logging.getLogger("bm25s").setLevel(logging.WARNING)

LEXICAL: Final = "bm25"
ENDPOINT: Final = "endpoint"
_SENTENCES: Final = "sentence-transformers:"
_OPENAI: Final = "openai:"

#: Indexes of words that are kept: those of the panels of a few splits.
_INDEXES: Final = 8
#: Embeddings computed here that are kept for the next unit, which is held against the same texts: some 60 MB.
_KEPT: Final = 20_000
#: A word, or a sign by itself. Parts of an identifier are words of their own: units fire on them.
_WORD: Final = re.compile(r"[^\W_]+|[^\w\s]|_")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class LikenessError(LlmError):
    """No such kind of likeness, or what it needs is not there."""


class Bm25:
    """Likeness in words: Okapi BM25 (Robertson et al. 1994, with the idf of Lucene), by the library bm25s.

    Each query is held against the texts given with it, whose words are weighed by how rare they are among these. It
    knows no synonyms: a description that says 'animal' is not like a text about a cat. Common words are kept, since
    units fire on them as on any other; that all texts have them makes them count for little.
    """

    name = "bm25 (lexical)"
    lexical = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, ...], bm25s.BM25 | None] = {}

    def close(self) -> None:
        """Nothing is open."""

    def to(self, queries: Sequence[str], texts: Sequence[str]) -> FloatArray:
        """BM25 of each text for each query, 0 or more, [n_queries, n_texts]."""
        scores = np.zeros((len(queries), len(texts)), dtype=np.float32)
        index = self._index(tuple(texts))
        if index is None:
            return scores
        for row, query in enumerate(queries):
            # A word counts once: in a query of some hundred words, those that come often are the common ones.
            known = sorted(set(words(query)))
            if known:
                scores[row] = index.get_scores(known)
        return scores

    def _index(self, texts: tuple[str, ...]) -> bm25s.BM25 | None:
        """The index of these texts, kept for the next units, which are held against the same ones; None: no words."""
        with self._lock:
            if texts not in self._indexes:
                corpus = [words(text) for text in texts]
                index = None
                if any(corpus):
                    index = bm25s.BM25(method="lucene", backend="numpy")
                    index.index(corpus, show_progress=False)
                while len(self._indexes) >= _INDEXES:
                    del self._indexes[next(iter(self._indexes))]
                self._indexes[texts] = index
            return self._indexes[texts]


class Embeddings:
    """Likeness in meaning: the cosine between embeddings.

    Args:
        name: as it is stored with scores.
        embed: texts → embeddings [n_texts, width].
        close: ends what was opened for it alone.
    """

    lexical = False

    def __init__(
        self, name: str, embed: Callable[[Sequence[str]], FloatArray], close: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self._embed = embed
        self.close = close

    def to(self, queries: Sequence[str], texts: Sequence[str]) -> FloatArray:
        """Cosine of each query and each text, -1 to 1, [n_queries, n_texts].

        Raises:
            LikenessError: The model gave something other than one finite embedding a text.
        """
        if not queries or not texts:
            return np.zeros((len(queries), len(texts)), dtype=np.float32)
        # Apart, the texts first: where many units are held against the same texts, the requests for these are the same.
        there, wanted = self._directions(texts), self._directions(queries)
        cosines: FloatArray = (wanted @ there.T).astype(np.float32)
        return cosines

    def _directions(self, texts: Sequence[str]) -> DoubleArray:
        """Embeddings of length 1 (or 0), [n_texts, width]; each distinct text is asked for once."""
        # Endpoints refuse an empty text; a single space is as near to nothing as they take.
        asked = [text or " " for text in texts]
        each = {text: row for row, text in enumerate(dict.fromkeys(asked))}
        vectors = np.asarray(self._embed(list(each)), dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != len(each) or not np.isfinite(vectors).all():
            raise LikenessError(f"'{self.name}' gave embeddings of shape {vectors.shape} for {len(each)} texts.")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        directions: DoubleArray = (vectors / np.where(lengths > 0, lengths, 1.0))[[each[text] for text in asked]]
        return directions


def likeness_for(
    spec: str | None,
    llm: Llm | None = None,
    *,
    meter: Meter | None = None,
    replay: bool = False,
) -> Bm25 | Embeddings:
    """The likeness that a campaign asks for; whoever asks closes it.

    Args:
        spec: None or 'bm25' (words alone), 'endpoint' (the explainer's own endpoint), 'openai:MODEL@URL' (an endpoint
            for embeddings), or 'sentence-transformers:NAME' (a local folder, or a name on the hub).
        llm: the explainer's model, for 'endpoint'.
        meter: the campaign's, for calls of an endpoint for embeddings.
        replay: that endpoint is not asked; its answers come from the account.

    Raises:
        LikenessError: Unknown kind, no model for 'endpoint', or sentence-transformers or its model is not there.
        LlmError: 'openai:…' that cannot be read.
    """
    if spec in (None, LEXICAL):
        return Bm25()
    if spec == ENDPOINT:
        if llm is None:
            raise LikenessError("'endpoint' takes embeddings from the explainer's endpoint, and there is none.")
        return Embeddings(f"embeddings:{llm.model}", llm.embed)
    if spec is not None and spec.startswith(_OPENAI):
        own = _own_client(spec, meter, replay)
        return Embeddings(f"embeddings:{own.model}", own.embed, own.close)
    if spec is not None and spec.startswith(_SENTENCES):
        return _sentence_transformer(spec.removeprefix(_SENTENCES))
    raise LikenessError(
        f"'{spec}' is no kind of likeness. Known: {LEXICAL}, {ENDPOINT}, openai:MODEL@URL, {_SENTENCES}NAME."
    )


def _own_client(spec: str, meter: Meter | None, replay: bool) -> LlmClient:
    """A client of an endpoint for embeddings alone, whose calls count towards the same limits."""
    if meter is not None and meter.limits.dollars is not None:
        raise LikenessError(
            f"The price of '{spec}' is not known, so a limit in USD cannot hold: limit calls or tokens instead, or "
            f"take '{ENDPOINT}' or '{LEXICAL}'."
        )
    return LlmClient([parse_endpoint(spec)], meter=meter, replay=replay)


def words(text: str) -> list[str]:
    """Its words and signs in lower case; 'getFile_name' has four."""
    return _WORD.findall(_CAMEL.sub(" ", text).lower())


def _sentence_transformer(model: str) -> Embeddings:
    """A model of the library sentence-transformers, on this machine; weights from safetensors only."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise LikenessError(
            "Embeddings by sentence-transformers need that library: pip install 'neurogloss[embeddings]'. "
            f"'{LEXICAL}' compares words and needs nothing."
        ) from error
    if not model:
        raise LikenessError(f"'{_SENTENCES}' needs the name of a model or a folder after the colon.")
    try:
        encoder: Any = SentenceTransformer(model, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise LikenessError(f"sentence-transformers has no model '{model}': {first}") from error

    # Investigations run in threads, and the library does not say that it allows that.
    one_at_a_time = threading.Lock()
    known: dict[str, FloatArray] = {}

    def embed(texts: Sequence[str]) -> FloatArray:
        with one_at_a_time:
            if len(known) > _KEPT:
                known.clear()
            new = [text for text in texts if text not in known]
            if new:
                vectors = encoder.encode(new, batch_size=64, show_progress_bar=False, convert_to_numpy=True)
                known.update(zip(new, np.asarray(vectors, dtype=np.float32), strict=True))
            return np.stack([known[text] for text in texts])

    return Embeddings(f"{_SENTENCES}{model}", embed)
