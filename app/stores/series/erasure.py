"""Deleting keys for ever, and proving it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.stores.errors import StoreDamaged
from app.stores.series.grouping import Int64s, numbers
from app.stores.series.tables import Tables


def delete_rows(tables: Tables, keys: Collection[int]) -> int:
    """Deletes the keys' rows from every table that has series keys; returns how many. Their bytes are still there."""
    return sum(table.delete_rows(keys) for spec, table in tables if spec.of_key)


def wipe(tables: Tables) -> None:
    """Unlinks every removed file now, whoever may still want to read it."""
    for spec, table in tables:
        if spec.of_key:
            table.vacuum(0)


def files_with(tables: Tables, keys: Collection[int]) -> list[str]:
    """The Parquet files on disk, live or not, that hold a row of these keys."""
    wanted = np.array(sorted(keys), np.int64)
    return [
        f"{spec.name}/{path.name}"
        for spec, table in tables
        if spec.of_key
        for path in sorted(table.directory.glob("**/*.parquet"))
        if "_delta_log" not in path.parts and _holds(path.as_posix(), wanted)
    ]


def prove_gone(tables: Tables, keys: Collection[int]) -> None:
    """Raises StoreDamaged when a file still holds a row of these keys."""
    left = files_with(tables, keys)
    if left:
        raise StoreDamaged(tables.folder, f"{len(left)} files still hold rows of a deleted key: {', '.join(left[:3])}")


def _holds(path: str, wanted: Int64s) -> bool:
    with pq.ParquetFile(path) as file:
        at = file.schema_arrow.get_field_index("key")
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(at).statistics
            if statistics is not None and statistics.has_min_max:
                inside = wanted[(wanted >= statistics.min) & (wanted <= statistics.max)]
                if not len(inside):
                    continue
            keys = numbers(pa.table(file.read_row_group(group, columns=["key"])), "key")[0]
            if np.isin(wanted, keys).any():
                return True
    return False
