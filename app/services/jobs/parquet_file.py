"""An Arrow stream on the disk as one Parquet file: zstd, times in UTC microseconds, units in its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

MEDIA_TYPE = "application/vnd.apache.parquet"
# Column -> unit; of others the name says it, or there is none.
UNITS = {
    "time": "UTC, microseconds since 1970",
    "power": "W or VA, as power_kind says",
    "voltage_v": "V",
    "current_a": "A",
    "rssi_dbm": "dBm",
    "lag_ms": "ms",
    "frame_gap_ms": "ms",
    "period_ms": "ms",
    "w_mean": "W",
    "w_mean_square": "W2",
    "w_min": "W",
    "w_max": "W",
    "va_mean": "VA",
    "va_mean_square": "VA2",
    "va_min": "VA",
    "va_max": "VA",
    "voltage_mean": "V",
    "voltage_min": "V",
    "voltage_max": "V",
    "rssi_p10": "dBm",
    "rssi_median": "dBm",
    "gap_median_ms": "ms",
    "first_time": "UTC, microseconds since 1970",
    "last_time": "UTC, microseconds since 1970",
}
_WH = "Wh"
# A row group of so many rows is some 5 MB, and what is in memory at once.
_GROUP_ROWS = 250_000


def unit_of(column: str) -> str:
    """The unit of a column of an export; empty for words and counts."""
    return UNITS.get(column, _WH if column.endswith("_wh") else "")


def parquet_of(stream: Path, target: Path, *, check: Callable[[], None]) -> None:
    """Write the rows of a stream as Parquet; `check` is called between row groups, and may raise."""
    with pa.OSFile(str(stream), "rb") as source, pa.ipc.open_stream(source) as reader:
        schema = _described(reader.schema)
        options = {"compression": "zstd", "coerce_timestamps": "us", "version": "2.6"}
        with pq.ParquetWriter(target, schema, **options) as writer:
            for group in _groups(reader):
                writer.write_table(group.cast(schema), row_group_size=_GROUP_ROWS)
                check()


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _described(schema: pa.Schema) -> pa.Schema:
    """The schema with each column's unit, and all of them in the metadata of the file."""
    units = {field.name: unit for field in schema if (unit := unit_of(field.name))}
    fields = [field.with_metadata({"unit": units[field.name]}) if field.name in units else field for field in schema]
    about = {"wattdeck.export": "1", "wattdeck.units": msgspec.json.encode(units).decode()}
    return pa.schema(fields, metadata=about)
