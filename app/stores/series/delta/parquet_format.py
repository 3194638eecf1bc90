"""How our Parquet files are encoded, and what their footers say.

Measured on realistic readings at 1 Hz (docs/decisions/0003-delta-log.md). Encodings are those that every reader of
Delta tables knows: no integer byte-stream split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.stores.series.delta.files import RowGroupIndex
from app.stores.series.delta.rows import KEY, TIME

# Floats of few distinct values (0.1 V, 0.1 A): a dictionary beats byte-stream split by a tenth to a third.
_DICTIONARY_FLOATS = frozenset({"voltage_v", "current_a"})
# Constant for a key's rows for a long time.
_DICTIONARY_INTEGERS = frozenset({KEY, "boot_id"})

# Where zstd halves what lz4 leaves; elsewhere the encoding has done the work and lz4 costs half as much both ways.
_ZSTD_INTEGERS = frozenset({"lag_ms"})
# zstd 3 saves 4 % of zstd 1's bytes for a tenth more CPU; negative levels save nothing that lz4 does not.
_ZSTD_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Encoding:
    """Column names by encoding; what is in none is plain."""

    dictionary: list[str]
    split: list[str]
    delta: dict[str, str]


def encoding_of(schema: pa.Schema) -> Encoding:
    dictionary: list[str] = []
    split: list[str] = []
    delta: dict[str, str] = {}
    for field in schema:
        name, kind = field.name, field.type
        if pa.types.is_floating(kind):
            (dictionary if name in _DICTIONARY_FLOATS else split).append(name)
        elif pa.types.is_timestamp(kind) or (pa.types.is_int64(kind) and name not in _DICTIONARY_INTEGERS):
            delta[name] = "DELTA_BINARY_PACKED"
        elif not pa.types.is_boolean(kind):
            dictionary.append(name)
    return Encoding(dictionary, split, delta)


def open_writer(target: Any, schema: pa.Schema, *, merged: bool) -> pq.ParquetWriter:
    """A writer to a path or buffer: fast for appended files, small for merged ones; statistics of key and time only."""
    encoding = encoding_of(schema)
    hard = {*encoding.split, *_ZSTD_INTEGERS} & set(schema.names) if merged else set()
    return pq.ParquetWriter(
        target,
        schema,
        compression={name: "zstd" if name in hard else "lz4" for name in schema.names},
        compression_level=dict.fromkeys(hard, _ZSTD_LEVEL) or None,
        use_dictionary=encoding.dictionary,
        use_byte_stream_split=encoding.split,
        column_encoding=encoding.delta,
        write_statistics=[KEY, TIME],
        store_schema=False,
        write_page_checksum=True,
    )


def encode(rows: pa.Table, *, group_rows: int, merged: bool) -> pa.Buffer:
    """A whole file in memory."""
    sink = pa.BufferOutputStream()
    with open_writer(sink, rows.schema, merged=merged) as writer:
        writer.write_table(rows, row_group_size=group_rows)
    return sink.getvalue()


def open_reader(path: Path, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    # Not mapped into memory: a disk error there would be a signal that kills the process.
    return pq.ParquetFile(path, metadata=footer, page_checksum_verification=True)


def is_damage(problem: Exception) -> bool:
    """Whether pyarrow means bytes it can not decode: the system's own errors have a number."""
    if isinstance(problem, OSError):
        return problem.errno is None
    return isinstance(problem, pa.ArrowException) and not isinstance(problem, MemoryError)


def read_groups(reader: pq.ParquetFile, groups: Sequence[int], schema: pa.Schema) -> pa.Table:
    """The columns of `schema` of some row groups; a column that the file lacks reads as null."""
    present = set(reader.schema_arrow.names)
    rows = reader.read_row_groups(
        list(groups), columns=[name for name in schema.names if name in present], use_threads=False
    )
    return aligned(rows, schema)


def aligned(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows under a schema: columns ordered, missing ones null; raises ValueError when a required one is missing."""
    if rows.schema.equals(schema):
        return rows
    columns = []
    for field in schema:
        if field.name in rows.column_names:
            column = rows[field.name]
            columns.append(column if column.type == field.type else column.cast(field.type))
        elif field.nullable:
            columns.append(pa.nulls(rows.num_rows, field.type))
        else:
            raise ValueError(f"rows lack the column {field.name!r}")
    return pa.Table.from_arrays(columns, schema=schema)


def row_group_index(footer: pq.FileMetaData) -> RowGroupIndex:
    """Bounds of each row group, from the statistics of key and time."""
    names = footer.schema.names
    key_column, time_column = names.index(KEY), names.index(TIME)
    bounds = np.empty((5, footer.num_row_groups), np.int64)
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        keys = group.column(key_column).statistics
        times = group.column(time_column).statistics
        bounds[:, number] = (group.num_rows, keys.min_raw, keys.max_raw, times.min_raw, times.max_raw)
    return RowGroupIndex(*bounds)
