"""Texts for planted subjects, ``planted:`` or ``planted:seed=7,docs=2000,fresh=1``; see `tools.planted.corpus`."""

from __future__ import annotations

from collections.abc import Iterator

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_scheme
from tools.errors import CorpusError

_MOST = 1_000_000


@register_scheme("planted")
def read_planted(source: Source) -> Iterator[Document]:
    """The documents of one seed. The subject's other options may stand there too; the texts do not depend on them.

    Raises:
        CorpusError: An option is not known, or its value makes no sense.
    """
    from tools.planted.corpus import DEFAULT_DOCUMENTS, documents
    from tools.planted.spec import KEYS, read_options, spec_of, whole

    options = read_options(source.address, (*KEYS, "docs", "fresh"), CorpusError)
    n = whole("docs", options.get("docs", str(DEFAULT_DOCUMENTS)), CorpusError, low=1, high=_MOST)
    fresh = whole("fresh", options.get("fresh", "0"), CorpusError)
    yield from documents(spec_of(options, CorpusError), fresh, n)
