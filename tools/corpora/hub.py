"""Data sets of the Hugging Face hub, streamed: ``hf:NAME[:SPLIT[:FIELD]]``. Needs the extra ``neurogloss[hub]``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_scheme
from tools.corpora.rows import record
from tools.errors import CorpusError

#: With a limit, so many times as many records are read to choose from, since a hub set may have billions.
POOL = 10


@register_scheme("hf")
def read_hub(source: Source) -> Iterator[Document]:
    """Streams a data set's records: split ``train`` unless named; ``?config=`` chooses a configuration."""
    name, split, field, *rest = [*source.address.split(":"), "", ""]
    if not name or any(rest):
        raise CorpusError(
            f"'{source.spec}' is not a hub data set. Write hf:NAME, hf:NAME:SPLIT or hf:NAME:SPLIT:FIELD."
        )
    try:
        import datasets
    except ImportError as error:
        raise CorpusError(
            f"The corpus '{source.spec}' is on the Hugging Face hub, which needs the package 'datasets'. "
            "Install it: pip install 'neurogloss[hub]'."
        ) from error
    wanted = Source(source.spec, name, field or source.field, source.id, source.config, source.limit)
    try:
        stream = datasets.load_dataset(name, source.config, split=split or "train", streaming=True)
    except Exception as error:  # whatever the hub, the network or the data set's own files have to say
        raise CorpusError(f"{source.spec} cannot be opened: {_first_line(error)}") from error
    rows = iter(stream if source.limit is None else itertools.islice(stream, POOL * source.limit))
    for number in itertools.count(1):
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:
            raise CorpusError(f"{source.spec} broke off at record {number}: {_first_line(error)}") from error
        document = record(wanted, row, f"record {number}")
        if document is not None:
            yield document


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
