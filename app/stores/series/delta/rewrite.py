"""A file again without some of its rows, row group by row group: unwanted ones, unreadable ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from app.stores.series.delta import parquet_format
from app.stores.series.delta.files import DataFile
from app.stores.series.delta.output import FileWriter
from app.stores.series.delta.rows import KEY, TIME, int64_values
from app.stores.series.delta.scan import Wanted
from app.stores.storage import Storage


def without(
    directory: Path, file: DataFile, schema: pa.Schema, unwanted: Wanted, group_rows: int, storage: Storage
) -> list[DataFile]:
    """Writes the rows that are not `unwanted`, synced, as files of the same order and level (none when all are)."""
    writer = FileWriter(directory, schema, order=file.order, level=file.level, group_rows=group_rows, storage=storage)
    with writer, parquet_format.open_reader(directory / file.name) as reader:
        for group in range(reader.num_row_groups):
            rows = parquet_format.read_groups(reader, [group], schema)
            mask = unwanted.mask(int64_values(rows[KEY]), int64_values(rows[TIME]))
            writer.write(rows.filter(pa.array(~mask)) if mask.any() else rows)
        return writer.finish()


def what_is_readable(
    directory: Path, file: DataFile, schema: pa.Schema, group_rows: int, storage: Storage
) -> list[DataFile] | None:
    """Writes the row groups that can be decoded, synced, as files of the same order and level; None when all can."""
    writer = FileWriter(directory, schema, order=file.order, level=file.level, group_rows=group_rows, storage=storage)
    damaged = 0
    with writer:
        try:
            reader = parquet_format.open_reader(directory / file.name)
        except (OSError, pa.ArrowException) as problem:
            if not parquet_format.is_damage(problem):
                raise
            return []
        with reader:
            for group in range(reader.num_row_groups):
                try:
                    rows = parquet_format.read_groups(reader, [group], schema)
                except (OSError, pa.ArrowException) as problem:
                    if not parquet_format.is_damage(problem):
                        raise
                    damaged += 1
                else:
                    writer.write(rows)
        return writer.finish() if damaged else None
