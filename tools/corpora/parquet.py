"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_suffix
from tools.corpora.rows import names, record
from tools.errors import CorpusError


@register_suffix(".parquet")
def read_parquet(source: Source) -> Iterator[Document]:
    """Reads the columns of text and id alone, a thousand rows at a time."""
    field, key = source.field or "text", source.id or "id"
    try:
        with pq.ParquetFile(source.path) as file:
            present = file.schema_arrow.names
            if field not in present:
                raise CorpusError(
                    f"{source.spec}: there is no column '{field}', only {names(present)}. "
                    "Say which column holds the text: ?field=NAME after the corpus."
                )
            columns = [column for column in dict.fromkeys((field, key)) if column in present]
            number = 0
            for batch in file.iter_batches(batch_size=1000, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    document = record(source, row, f"row {number}")
                    if document is not None:
                        yield document
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{source.spec} cannot be read as Parquet: {error}") from error
