"""What each supplier register did in a bucket: its anchors, and the index's growth while it ran."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from app.domain.resolution import TEN_MIN_US
from app.stores.series.grouping import Bools, Groups, Int64s, boundaries, nullable, numbers, place
from app.stores.series.tiers import REGISTER

# Room for the register's number beside the group's (the column is int8).
_REGISTERS = 256
_NUMBER_OFFSET = 128
_NONE = np.zeros(0, np.int64)


def roll_up_registers(
    raw: pa.Table, anchors: pa.Table | None, groups: Groups, group_keys: Int64s, group_times: Int64s, grown: Int64s
) -> pa.Array:
    """The `registers` column of TIER, null where nothing is known. `grown[i]`: the index's step into raw row i.

    Anchors (rows of the registers table) come on every change of the running register, so after the last of a bucket
    one register runs: its last index is the anchor plus what the index grew since.
    """
    running, running_known = numbers(raw, "register")
    rows = np.arange(len(running)) if running_known is None else np.flatnonzero(running_known)
    codes = groups.ids[rows] * _REGISTERS + running[rows] + _NUMBER_OFFSET
    runs = boundaries(codes)
    grown_codes, grown_sums = _sum_by_code(codes[runs], np.add.reduceat(grown[rows], runs) if len(runs) else _NONE)
    anchor_codes, first, last = _anchors(raw, anchors, groups, group_keys, group_times, grown, running, running_known)
    all_codes = np.union1d(grown_codes, anchor_codes)
    if not len(all_codes):
        return pa.nulls(groups.total, pa.list_(REGISTER))
    sums, _ = _spread(all_codes, grown_codes, grown_sums)
    firsts, anchored = _spread(all_codes, anchor_codes, first)
    lasts, _ = _spread(all_codes, anchor_codes, last)
    # Where anchors tell, they are the truth; an index that fell is not.
    sums = np.where(anchored & (lasts >= firsts), lasts - firsts, sums)
    return register_lists(
        all_codes // _REGISTERS, all_codes % _REGISTERS - _NUMBER_OFFSET, firsts, lasts, sums, anchored, groups.total
    )


def register_lists(
    ids: Int64s, numbers_: Int64s, first: Int64s, last: Int64s, grown: Int64s, anchored: Bools, total: int
) -> pa.Array:
    """The list column of `total` rows from items sorted by row (`ids`); a row without items is null."""
    items = pa.StructArray.from_arrays(
        [
            nullable(numbers_, None, pa.int8()),
            nullable(first, anchored, pa.int64()),
            nullable(last, anchored, pa.int64()),
            nullable(grown, None, pa.int64()),
        ],
        fields=list(REGISTER),
    )
    offsets = np.searchsorted(ids, np.arange(total + 1)).astype(np.int32)
    empty = np.append(np.diff(offsets) == 0, False)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=empty if empty.any() else None), items, pa.list_(REGISTER))


def _anchors(
    raw: pa.Table,
    anchors: pa.Table | None,
    groups: Groups,
    group_keys: Int64s,
    group_times: Int64s,
    grown: Int64s,
    running: Int64s,
    running_known: Bools | None,
) -> tuple[Int64s, Int64s, Int64s]:
    """(group, register) as one number, and the register's first and last index in the bucket."""
    if anchors is None or not anchors.num_rows:
        return _NONE, _NONE, _NONE
    keys, times = numbers(anchors, "key")[0], numbers(anchors, "time")[0]
    ids, found = place(keys, times // TEN_MIN_US, group_keys, group_times // TEN_MIN_US)
    register, index = numbers(anchors, "register")[0], numbers(anchors, "drawn_wh")[0]
    order = np.lexsort((times, register, ids))
    order = order[found[order]]
    if not len(order):
        return _NONE, _NONE, _NONE
    ids, times, register, index = ids[order], times[order], register[order], index[order]
    codes = ids * _REGISTERS + register + _NUMBER_OFFSET
    starts = boundaries(codes)
    ends = np.append(starts[1:], len(codes)) - 1
    group, number = ids[starts], register[starts]
    # What ran before the first anchor of a bucket, and after its last, is one register each.
    ran = groups.only(running_known)
    known_running = running if running_known is None else running[running_known]
    ran_before = ran.known()[group] & (ran.firsts(known_running)[group] == number)
    ran_after = ran.known()[group] & (ran.lasts(known_running)[group] == number)
    row_codes = groups.ids * TEN_MIN_US + numbers(raw, "time")[0] % TEN_MIN_US
    total_grown = np.append(0, np.cumsum(grown))

    def grown_until(moments_us: Int64s) -> Int64s:
        rows = np.searchsorted(row_codes, group * TEN_MIN_US + moments_us % TEN_MIN_US, side="right")
        return total_grown[rows]

    bucket_ends = np.append(groups.starts[1:], len(groups.ids))[group]
    before = grown_until(times[starts]) - total_grown[groups.starts[group]]
    after = total_grown[bucket_ends] - grown_until(times[ends])
    return codes[starts], index[starts] - np.where(ran_before, before, 0), index[ends] + np.where(ran_after, after, 0)


def _sum_by_code(codes: Int64s, sums: Int64s) -> tuple[Int64s, Int64s]:
    if not len(codes):
        return _NONE, _NONE
    order = np.argsort(codes, kind="stable")
    codes, sums = codes[order], sums[order]
    starts = boundaries(codes)
    return codes[starts], np.add.reduceat(sums, starts)


def _spread(all_codes: Int64s, codes: Int64s, values: Int64s) -> tuple[Int64s, Bools]:
    """Values by code at the places of `all_codes`, and which places have one."""
    result = np.zeros(len(all_codes), np.int64)
    found = np.zeros(len(all_codes), np.bool_)
    places = np.searchsorted(all_codes, codes)
    result[places] = values
    found[places] = True
    return result, found


def combine_registers(column: pa.ChunkedArray, groups: Groups, keys: Int64s | None = None) -> pa.Array:
    """`registers` of longer buckets, from those of their parts (one list per row, rows in groups).

    Each register's growth gains what lies between two anchored parts of one group; with `keys` (rising numbers, equal
    where rows belong to one key) what lies between any two of one key, for the later.
    """
    lists = column.combine_chunks()
    items = lists.flatten()
    if not len(items):
        return pa.nulls(groups.total, pa.list_(REGISTER))
    row = lists.value_parent_indices().to_numpy().astype(np.int64)
    items_table = pa.Table.from_arrays(items.flatten(), names=[field.name for field in REGISTER])
    register, (grown, _) = numbers(items_table, "register")[0], numbers(items_table, "grown_wh")
    first, known_mask = numbers(items_table, "first_wh")
    last, _ = numbers(items_table, "last_wh")
    anchored = np.ones(len(row), np.bool_) if known_mask is None else known_mask
    scope = groups.ids[row] if keys is None else keys[row]
    order = np.lexsort((row, register, scope))
    row, register, first, last = row[order], register[order], first[order], last[order]
    grown, anchored, scope = grown[order], anchored[order], scope[order]
    at = np.flatnonzero(anchored)
    linked = (scope[at][1:] == scope[at][:-1]) & (register[at][1:] == register[at][:-1])
    between = np.zeros(len(row), np.int64)
    between[at[1:]] = np.where(linked, np.maximum(first[at][1:] - last[at][:-1], 0), 0)
    group = groups.ids[row]
    order = np.lexsort((row, register, group))
    group, register, first, last = group[order], register[order], first[order], last[order]
    grown, anchored = (grown + between)[order], anchored[order]
    starts = boundaries(group, register)
    joined = Groups.from_starts(starts, len(group))
    some = joined.only(None if anchored.all() else anchored)
    return register_lists(
        group[starts],
        register[starts],
        some.firsts(first[anchored]),
        some.lasts(last[anchored]),
        joined.reduce(np.add, grown),
        some.known(),
        groups.total,
    )
