"""The corpus of generated functions, ``find:seed=3``: made, not read."""

from __future__ import annotations

from collections.abc import Iterator

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_scheme
from tools.errors import CorpusError, SubjectError


@register_scheme("find")
def read_find(source: Source) -> Iterator[Document]:
    """Documents for the subject of the same options; ``docs=N`` says how many."""
    from tools.functions import documents, find_spec

    try:
        spec = find_spec(source.address)
    except SubjectError as error:
        raise CorpusError(str(error)) from error
    yield from documents(spec)
