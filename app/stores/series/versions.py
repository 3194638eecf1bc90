"""Stored tier rows to one row per bucket: the latest version counts, late parts are added to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from app.domain.completeness import Reason
from app.stores.series.grouping import boundaries, concat, numbers
from app.stores.series.register_rollup import register_lists
from app.stores.series.tiers import REGISTER, TIER, TIER_REGISTERS, TIER_STORED


def latest(rows: pa.Table) -> pa.Table:
    """The row of the highest version for each (key, time, part), sorted by these; of equal versions the last given."""
    if not rows.num_rows:
        return rows
    distinct = ("key", "time", "part") if "part" in rows.column_names else ("key", "time")
    columns = [numbers(rows, name)[0] for name in distinct]
    order = np.lexsort((numbers(rows, "version")[0], *columns[::-1]))
    last = np.append(boundaries(*(column[order] for column in columns))[1:], len(order)) - 1
    return rows.take(pa.array(order[last])).combine_chunks()


def as_part(rows: pa.Table, segment: int) -> pa.Table:
    """Ten-minute rows as the late part that one segment brought (see tiers.TIER)."""
    parts = pa.array(np.full(rows.num_rows, 1 + segment, np.int64))
    return rows.set_column(rows.schema.get_field_index("part"), rows.schema.field("part"), parts)


def resolve(rows: pa.Table) -> pa.Table:
    """Tier rows as stored to one row per (key, time), sorted by both; buckets that were withdrawn have none."""
    rows = latest(rows)
    if rows.num_rows:
        standing = numbers(rows, "received")[0] > 0
        rows = rows if standing.all() else rows.filter(pa.array(standing)).combine_chunks()
    if not rows.num_rows or not numbers(rows, "part")[0].any():
        return rows
    starts = boundaries(numbers(rows, "key")[0], numbers(rows, "time")[0])
    lengths = np.diff(np.append(starts, rows.num_rows))
    single = np.repeat(lengths == 1, lengths)
    merged = [
        _merged(rows.slice(int(start), int(length)).to_pylist())
        for start, length in zip(starts, lengths, strict=True)
        if length > 1
    ]
    result = concat(TIER, [rows.filter(pa.array(single)), pa.Table.from_pylist(merged, TIER)])
    order = np.lexsort((numbers(result, "time")[0], numbers(result, "key")[0]))
    return result.take(pa.array(order)).combine_chunks()


def withdrawn(rows: pa.Table, version: int) -> pa.Table:
    """Rows that take these out of every answer: a bucket of no reading, which no roll-up makes."""
    count = rows.num_rows
    values = {
        "version": pa.array(np.full(count, version, np.int64)),
        "received": pa.array(np.zeros(count, np.int32)),
        "registers": pa.nulls(count, TIER.field("registers").type),
    }
    for name, column in values.items():
        rows = rows.set_column(TIER.get_field_index(name), TIER.field(name), column)
    return rows


def split_registers(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """TIER rows as they lie on disk: TIER_STORED and TIER_REGISTERS."""
    lists = rows.column("registers").combine_chunks()
    items, parents = lists.flatten(), lists.value_parent_indices()
    columns = {name: rows.column(name).take(parents) for name in ("key", "time", "version", "part")}
    columns |= dict(zip(REGISTER.names, items.flatten(), strict=True))
    register_rows = pa.Table.from_arrays([columns[name] for name in TIER_REGISTERS.names], schema=TIER_REGISTERS)
    return rows.select(TIER_STORED.names), register_rows


def join_registers(stored: pa.Table, register_rows: pa.Table) -> pa.Table:
    """TIER rows of those two; a register row counts for the row of its (key, time, part) and version."""
    if not register_rows.num_rows:
        registers = pa.nulls(stored.num_rows, pa.list_(REGISTER))
    else:
        registers = _lists(stored, register_rows)
    at = TIER.get_field_index("registers")
    return stored.add_column(at, TIER.field(at), registers)


def _lists(stored: pa.Table, register_rows: pa.Table) -> pa.Array:
    names = ("key", "time", "part", "version")
    ours, theirs = ([numbers(rows, name)[0] for name in names] for rows in (stored, register_rows))
    both = [np.concatenate(pair) for pair in zip(ours, theirs, strict=True)]
    # Stored rows sort before the register rows of the same identity, of which one row may have been written twice.
    register = np.append(np.full(stored.num_rows, -(1 << 9)), numbers(register_rows, "register")[0])
    order = np.lexsort((register, *both[::-1]))
    starts = boundaries(*(column[order] for column in both))
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    owner = np.where(order[starts] < stored.num_rows, order[starts], -1)
    keep = boundaries(group, register[order])
    keep = keep[(order[keep] >= stored.num_rows) & (owner[group[keep]] >= 0)]
    row, item = owner[group[keep]], order[keep] - stored.num_rows
    by_row = np.argsort(row, kind="stable")
    items = register_rows.take(pa.array(item[by_row])).combine_chunks()
    first, anchored = numbers(items, "first_wh")
    return register_lists(
        row[by_row],
        numbers(items, "register")[0],
        first,
        numbers(items, "last_wh")[0],
        numbers(items, "grown_wh")[0],
        np.ones(len(row), np.bool_) if anchored is None else anchored,
        stored.num_rows,
    )


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of one bucket added up. Their readings may interleave, so energy and losses are what is sure of them.

    Plain Python: it happens only for readings that came after their raw neighbours were gone.
    """
    parts = sorted(parts, key=lambda part: (part["first_time"], part["last_time"]))
    total = dict(parts[0])
    for part in parts[1:]:
        total = _added(total, part)
    total["reasons"] |= Reason.MERGED
    return total


def _added(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """`b` begins no earlier than `a`."""
    total = dict(a)
    total["version"] = max(a["version"], b["version"])
    for name in ("received", "late", "duplicate"):
        total[name] = a[name] + b[name]
    for name in ("reasons", "states"):
        total[name] = a[name] | b[name]
    total["period_ms"] = a["period_ms"] or b["period_ms"]
    total["expected"] = a["expected"] if a["expected"] is not None else b["expected"]
    follows = b["first_time"] > a["last_time"]
    ends_later = b["last_time"] > a["last_time"]
    if a["lost"] is None or b["lost"] is None:
        total["lost"] = a["lost"] if b["lost"] is None else b["lost"]
    else:
        # What fills a hole of the other was counted as lost there.
        total["lost"] = a["lost"] + b["lost"] if follows else max(a["lost"] + b["lost"] - b["received"], 0)
    if ends_later:
        total["last_time"] = b["last_time"]
        if b["last_seq"] is not None:
            total["last_boot_id"], total["last_seq"] = b["last_boot_id"], b["last_seq"]
    if a["first_seq"] is None:
        total["first_boot_id"], total["first_seq"] = b["first_boot_id"], b["first_seq"]
    for prefix in ("drawn", "injected"):
        _add_index(total, b, prefix, follows=follows, ends_later=ends_later)
    for prefix in ("w", "va", "voltage"):
        _add_moments(total, b, prefix)
    for count, names in (("rssi_count", ("rssi_p10", "rssi_median")), ("gap_count", ("gap_median_ms",))):
        for name in names:
            total[name] = a[name] if a[count] >= b[count] else b[name]
        total[count] = a[count] + b[count]
    total["registers"] = _added_registers(a["registers"], b["registers"], follows=follows, ends_later=ends_later)
    return total


def _add_index(total: dict[str, Any], b: dict[str, Any], prefix: str, *, follows: bool, ends_later: bool) -> None:
    first, last, grown = (f"{prefix}_{name}_wh" for name in ("first", "last", "grown"))
    if b[first] is None:
        return
    if total[first] is None:
        total[first], total[last], total[grown] = b[first], b[last], b[grown]
    elif follows:
        total[grown] += max(b[first] - total[last], 0) + b[grown]
        total[last] = b[last]
    elif ends_later:
        total[grown] += max(b[last] - total[last], 0)
        total[last] = b[last]


def _add_moments(total: dict[str, Any], b: dict[str, Any], prefix: str) -> None:
    here, there = total[f"{prefix}_count"], b[f"{prefix}_count"]
    if not there:
        return
    if not here:
        for name in ("count", "mean", "mean_square", "min", "max"):
            if f"{prefix}_{name}" in total:
                total[f"{prefix}_{name}"] = b[f"{prefix}_{name}"]
        return
    total[f"{prefix}_count"] = here + there
    for name in ("mean", "mean_square"):
        if f"{prefix}_{name}" in total:
            sum_ = total[f"{prefix}_{name}"] * here + b[f"{prefix}_{name}"] * there
            total[f"{prefix}_{name}"] = sum_ / (here + there)
    total[f"{prefix}_min"] = min(total[f"{prefix}_min"], b[f"{prefix}_min"])
    total[f"{prefix}_max"] = max(total[f"{prefix}_max"], b[f"{prefix}_max"])


def _added_registers(
    a: list[dict[str, Any]] | None, b: list[dict[str, Any]] | None, *, follows: bool, ends_later: bool
) -> list[dict[str, Any]] | None:
    if a is None or b is None:
        return b if a is None else a
    total = {item["register"]: dict(item) for item in a}
    for item in b:
        mine = total.setdefault(item["register"], dict(item, grown_wh=0, first_wh=None, last_wh=None))
        if mine["last_wh"] is None or item["first_wh"] is None:
            mine["grown_wh"] += item["grown_wh"] if follows or mine["last_wh"] is None else 0
            if item["first_wh"] is not None:
                mine["first_wh"], mine["last_wh"] = item["first_wh"], item["last_wh"]
        elif follows:
            mine["grown_wh"] += max(item["first_wh"] - mine["last_wh"], 0) + item["grown_wh"]
            mine["last_wh"] = item["last_wh"]
        elif ends_later:
            mine["grown_wh"] += max(item["last_wh"] - mine["last_wh"], 0)
            mine["last_wh"] = item["last_wh"]
    return [total[register] for register in sorted(total)]
