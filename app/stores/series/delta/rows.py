"""Order and uniqueness of rows: sorting by (key, time), one reading per (key, time).

Some tables hold several rows for one (key, time), told apart by further columns (`extra`, such as the register); those
take part in order and uniqueness alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.stores.series.delta.files import Int64Array

KEY = "key"
TIME = "time"
ORIGIN = "origin"

Positions = npt.NDArray[np.int64]


def int64_values(column: pa.ChunkedArray | pa.Array) -> Int64Array:
    """The values of an integer or timestamp column without nulls; not copied when it has one chunk of int64."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    values: Int64Array = column.to_numpy(zero_copy_only=False)
    return values.astype(np.int64, copy=False)


def sorted_by_key_and_time(rows: pa.Table, extra: Sequence[str] = ()) -> pa.Table:
    """Sorted by (key, time, extra), stable, in one chunk."""
    rows = rows.combine_chunks()
    order = _order(rows, extra)
    return rows if order is None else rows.take(order)


def one_per_key_and_time(rows: pa.Table, extra: Sequence[str] = ()) -> pa.Table:
    """Of rows with equal (key, time, extra) keeps the lowest `origin`, of those the last given; sorted.

    Without a column `origin` the last given wins. Give older rows first, as `SeriesTable.scan` does.
    """
    rows = sorted_by_key_and_time(rows, extra)
    same = _same_as_next(rows, extra)
    if not same.any():
        return rows
    return rows.take(pa.array(_winners(rows, same)))


def _order(rows: pa.Table, extra: Sequence[str]) -> pa.Array | None:
    """Positions in sorted order; None when it is already sorted."""
    if rows.num_rows < 2:
        return None
    keys, times = int64_values(rows[KEY]), int64_values(rows[TIME])
    if extra:
        columns = [_codes(rows[name]) for name in reversed(extra)]
        return pa.array(np.lexsort((*columns, times, keys)))
    if _is_sorted(keys, times):
        return None
    order = _stable_order_of(keys)
    # Arrival order is time order within a key, save for late readings.
    if not _is_sorted(keys[order], times[order]):
        order = np.lexsort((times, keys))
    return pa.array(order)


def _is_sorted(keys: Int64Array, times: Int64Array) -> bool:
    rising = keys[1:] > keys[:-1]
    return bool(np.all(rising | ((keys[1:] == keys[:-1]) & (times[1:] >= times[:-1]))))


def _stable_order_of(keys: Int64Array) -> Positions:
    """A third of the time of numpy's stable argsort: ranks and positions packed into one int64, then a plain sort."""
    encoded = pa.array(keys).dictionary_encode()
    distinct: Int64Array = encoded.dictionary.to_numpy()
    ranks = _ranks(np.argsort(distinct))
    position_bits = max(1, int(len(keys) - 1).bit_length())
    packed: Positions = ranks[encoded.indices.to_numpy()] << position_bits
    packed |= np.arange(len(keys))
    packed.sort()
    packed &= (1 << position_bits) - 1
    return packed


def _codes(column: pa.ChunkedArray) -> Int64Array:
    """Numbers that order as the column's values do."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # no rows
        return np.zeros(0, np.int64)
    if pa.types.is_integer(values.type):
        return int64_values(values)
    encoded = values.dictionary_encode()
    ranks = _ranks(np.argsort(np.array(encoded.dictionary.to_pylist()), kind="stable"))
    codes: Int64Array = ranks[encoded.indices.to_numpy(zero_copy_only=False)]
    return codes


def _ranks(order: npt.NDArray[np.intp]) -> Int64Array:
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _same_as_next(rows: pa.Table, extra: Sequence[str]) -> npt.NDArray[np.bool_]:
    keys, times = int64_values(rows[KEY]), int64_values(rows[TIME])
    same: npt.NDArray[np.bool_] = (keys[1:] == keys[:-1]) & (times[1:] == times[:-1])
    if same.any():
        for name in extra:
            codes = _codes(rows[name])
            same &= codes[1:] == codes[:-1]
    return same


def _winners(rows: pa.Table, same: npt.NDArray[np.bool_]) -> Positions:
    count = rows.num_rows
    group = np.zeros(count, np.int64)
    np.cumsum(~same, out=group[1:])
    if ORIGIN not in rows.column_names:
        return np.append(np.flatnonzero(~same), count - 1)
    in_group = np.zeros(count, np.bool_)
    in_group[:-1] |= same
    in_group[1:] |= same
    disputed = np.flatnonzero(in_group)
    origins = int64_values(rows[ORIGIN])[disputed]
    order = disputed[np.lexsort((-disputed, origins, group[disputed]))]
    first = np.append(True, group[order][1:] != group[order][:-1])
    return np.sort(np.concatenate([np.flatnonzero(~in_group), order[first]]))
