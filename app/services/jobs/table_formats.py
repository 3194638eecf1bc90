"""Rows of a file that is written in pieces: each piece is whole in itself, so that a file may be cut after any."""

from __future__ import annotations

import gzip
import io
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

# Level 6 takes twice the time of the rest of an export, for a tenth less.
_GZIP_LEVEL = 4
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class TableFormat(Protocol):
    """How rows are written. The same rows in the same pieces make the same bytes."""

    extension: str
    media_type: str

    def begin(self, schema: pa.Schema) -> bytes:
        """What comes before the first row."""
        ...

    def rows(self, table: pa.Table) -> bytes:
        """Some rows."""
        ...

    def end(self) -> bytes:
        """What comes after the last row."""
        ...


class CsvGzip:
    """CSV in UTF-8, unknown empty, times as ISO 8601 in UTC; gzip, a member for each piece, as every reader allows."""

    extension = "csv.gz"
    media_type = "application/gzip"

    def begin(self, schema: pa.Schema) -> bytes:
        """See TableFormat."""
        return _compressed((",".join(schema.names) + "\n").encode())

    def rows(self, table: pa.Table) -> bytes:
        """See TableFormat."""
        text = io.BytesIO()
        plain = pa.table([_time_as_text(column) for column in table.columns], names=table.column_names)
        pacsv.write_csv(plain, text, pacsv.WriteOptions(include_header=False, quoting_style="needed"))
        return _compressed(text.getvalue())

    def end(self) -> bytes:
        """See TableFormat."""
        return b""


class ArrowStream:
    """An Arrow IPC stream, zstd."""

    extension = "arrows"
    media_type = "application/vnd.apache.arrow.stream"

    def begin(self, schema: pa.Schema) -> bytes:
        """See TableFormat."""
        return self._stream(schema.empty_table())

    def rows(self, table: pa.Table) -> bytes:
        """See TableFormat."""
        columns = [_settled(column.combine_chunks()) for column in table.columns]
        return self._stream(pa.Table.from_arrays(columns, schema=table.schema))[len(self.begin(table.schema)) :]

    def end(self) -> bytes:
        """See TableFormat."""
        return _END_OF_STREAM

    def _stream(self, table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            for batch in table.to_batches():
                writer.write_batch(batch)
        data: bytes = sink.getvalue().to_pybytes()
        return data.removesuffix(_END_OF_STREAM)


FORMATS: dict[str, TableFormat] = {"csv": CsvGzip(), "arrow": ArrowStream()}
# Made of a whole Arrow stream: a Parquet file's end says where all of its rows are, so it can not be gone on with.
PARQUET = "parquet"


def _time_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # pyarrow's own has a blank in place of the T.
    return pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ") if pa.types.is_timestamp(column.type) else column


def _settled(column: pa.Array) -> pa.Array:
    """The same values; what lies in memory where there is none is settled too, wherever the rows came from."""
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)):
        return pa.array(column.to_pylist(), kind)
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(kind) else column
    mask = plain.is_null().to_numpy(zero_copy_only=False) if plain.null_count else None
    values = plain.fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(values, plain.type, mask=mask).cast(kind)


def _compressed(data: bytes) -> bytes:
    # A time in the header would make each run's file another one.
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)
