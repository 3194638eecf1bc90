"""What each supplier register did in a bucket: its anchors, and the index's growth while it ran."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from app.domain.resolution import TEN_MIN_US
from app.stores.series.grouping import Bools, Groups, Int64s, boundaries, nullable, numbers
from app.stores.series.tiers import REGISTER

# Room for the register's number beside the group's (the column is int8).
_REGISTERS = 256
_NUMBER_OFFSET = 128
_NONE = np.zeros(0, np.int64)


def roll_up_registers(
    raw: pa.Table, anchors: pa.Table | None, groups: Groups, group_keys: Int64s, group_times: Int64s, grown: Int64s
) -> pa.Array:
    """The `registers` column of TIER, null where nothing is known. `grown[i]`: the index's step into raw row i.

    Anchors (rows of the registers table) come on every change of the running register, so after the last one of a bucket
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
    from app.stores.series.rollup import group_of  # noqa: PLC0415 - a cycle otherwise

    keys, times = numbers(anchors, "key")[0], numbers(anchors, "time")[0]
    ids, found = group_of(keys, times - times % TEN_MIN_US, group_keys, group_times)
    register, index = numbers(anchors, "register")[0], numbers(anchors, "drawn_wh")[0]
    order = np.lexsort((times, register, ids))
    order = order[found[order]]
    if not len(order):
        return _NONE, _NONE, _NONE
    ids, times, register, index = ids[order], times[order], register[order], index[order]
    codes = ids * _REGISTERS + register + _NUMBER_OFFSET
    starts = boundaries(codes)
    ends = np.append(starts[1:], len(codes)) - 1
    group = ids[starts]
    # The register that runs at the end of the bucket went on after its last anchor.
    runs_last, known_last = _running_at_end(groups, running, running_known)
    still = known_last[group] & (runs_last[group] == register[starts])
    raw_times = numbers(raw, "time")[0]
    total_grown = np.append(0, np.cumsum(grown))
    bucket_ends = np.append(groups.starts[1:], len(groups.ids))[group]
    anchor_row = _rows_up_to(raw_times, groups, group, times[ends])
    since = total_grown[bucket_ends] - total_grown[anchor_row]
    return codes[starts], index[starts], index[ends] + np.where(still, since, 0)


def _running_at_end(groups: Groups, running: Int64s, known: Bools | None) -> tuple[Int64s, Bools]:
    rows = groups.only(known)
    return rows.lasts(running if known is None else running[known]), rows.known()


def _rows_up_to(times: Int64s, groups: Groups, group: Int64s, until: Int64s) -> Int64s:
    """How many raw rows (of all) come up to a time within a group, the row at that time included."""
    low = times.min()
    span = int(times.max() - low) + 2
    codes = groups.ids * span + (times - low)
    return np.searchsorted(codes, group * span + np.clip(until - low, 0, span - 1), side="right")


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
