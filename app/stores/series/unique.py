"""One reading per (key, time): measured before re-sent before imported, then the latest commit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from app.stores.series.grouping import Int64s, boundaries, in_order, numbers


def unique_readings(raw: pa.Table) -> tuple[pa.Table, Int64s]:
    """Raw rows, oldest commit first, sorted by (key, time) with one row each; and how many more each had."""
    raw = raw.combine_chunks()
    keys, times = numbers(raw, "key")[0], numbers(raw, "time")[0]
    if in_order(keys, times):
        return raw, np.zeros(len(keys), np.int64)
    chosen, copies = _winners(keys, times, numbers(raw, "origin")[0])
    return raw.take(pa.array(chosen)).combine_chunks(), copies


def unique_rows(rows: pa.Table, distinct: tuple[str, ...]) -> pa.Table:
    """Rows of `registers` or `aux`, oldest commit first: one per (key, time) and the columns of `distinct`, sorted."""
    if not rows.num_rows:
        return rows
    rows = rows.combine_chunks()
    codes = []
    for name in distinct:
        column = rows.column(name).combine_chunks()
        if pa.types.is_string(column.type):
            column = column.dictionary_encode().indices
        codes.append(column.to_numpy(zero_copy_only=False))
    keys, times, origin = (numbers(rows, name)[0] for name in ("key", "time", "origin"))
    # Last of equals wins: the lowest origin, then the last given.
    order = np.lexsort((np.arange(len(keys)), -origin, *codes[::-1], times, keys))
    last = boundaries(keys[order], times[order], *(code[order] for code in codes))
    last = np.append(last[1:], len(order)) - 1
    return rows.take(pa.array(order[last])).combine_chunks()


def _winners(keys: Int64s, times: Int64s, origin: Int64s) -> tuple[Int64s, Int64s]:
    # Sorting one packed number is several times as fast as sorting by two columns; files come sorted by key, so keys
    # are numbered run by run.
    runs = boundaries(keys)
    distinct = np.unique(keys[runs])
    lengths = np.diff(np.append(runs, len(keys)))
    position = np.repeat(np.searchsorted(distinct, keys[runs]), lengths)
    low = times.min()
    span = int(times.max() - low) + 1
    if len(distinct) * span < 1 << 62:
        order = np.argsort(position * span + (times - low), kind="stable")
    else:
        order = np.lexsort((times, keys))
    starts = boundaries(keys[order], times[order])
    lengths = np.diff(np.append(starts, len(order)))
    if (lengths == 1).all():
        return order, np.zeros(len(order), np.int64)
    # Among equals: the lowest origin, of these the one given last.
    count = len(order)
    rank = origin[order] * count + (count - 1 - order)
    best = np.minimum.reduceat(rank, starts)
    return count - 1 - best % count, lengths - 1
