"""A chunk: readings as the batches the journal takes, ready to be committed or shed as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from app.stores.series.schema import INGESTED


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Rows by table; `readings` counts rows of the raw table."""

    tables: Mapping[str, pa.RecordBatch]
    readings: int
    guaranteed: bool


def joined(chunks: Sequence[Chunk]) -> dict[str, pa.RecordBatch]:
    """One batch per table of all chunks, in order; tables without a row are left out."""
    out = {}
    for table, schema in INGESTED.items():
        batches = [chunk.tables[table] for chunk in chunks if table in chunk.tables]
        if batches:
            whole = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
            out[table] = whole[0] if whole else pa.RecordBatch.from_pylist([], schema)
    return out
