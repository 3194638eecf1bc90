"""Tier rows made of tier rows: ten minutes to hours, hours to days. Pure; the energy between rows belongs to the later.

A quantile of quantiles is an estimate: the median of a longer bucket is the median of its parts' medians, each weighted
by its readings; p10 likewise the weighted p10 of the parts' p10, which lies at or below the true one if parts differ.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from app.domain.completeness import Reason
from app.stores.series.grouping import Anys, Bools, Groups, Int64s, boundaries, nullable, numbers, table_of
from app.stores.series.register_rollup import combine_registers
from app.stores.series.rollup import MEDIAN, P10, KeyFacts, expectation, sequence_steps
from app.stores.series.schema import UTC_MICROSECONDS
from app.stores.series.tiers import TIER, TIER_READ

_INT32_MAX = np.iinfo(np.int32).max


def combine(
    rows: pa.Table, starts_us: Int64s, ends_us: Int64s, facts: KeyFacts, version: int, until_us: int | None = None
) -> pa.Table:
    """Rows joined into longer buckets: row i goes into [starts_us[i], ends_us[i]).

    `rows` are TIER rows, one per (key, time), sorted by both, whole buckets. Expected counts what is due until
    `until_us` (None: the end of each bucket).
    """
    if not rows.num_rows:
        return TIER.empty_table()
    keys = numbers(rows, "key")[0]
    starts = boundaries(keys, starts_us)
    groups = Groups.from_starts(starts, len(keys))
    columns: dict[str, pa.Array] = {
        "key": pa.array(keys[starts]),
        "time": pa.array(starts_us[starts]).cast(UTC_MICROSECONDS),
        "version": pa.array(np.full(groups.total, version, np.int64)),
        "part": pa.array(np.zeros(groups.total, np.int64)),
        "first_time": pa.array(groups.firsts(numbers(rows, "first_time")[0])).cast(UTC_MICROSECONDS),
        "last_time": pa.array(groups.lasts(numbers(rows, "last_time")[0])).cast(UTC_MICROSECONDS),
        "states": nullable(groups.reduce(np.bitwise_or, numbers(rows, "states")[0]), None, pa.int32()),
    }
    # These are about the part, and are found anew for the whole.
    own = ~np.int64(Reason.PARTLY_PAIRED | Reason.OPEN)
    reasons = groups.reduce(np.bitwise_or, numbers(rows, "reasons")[0] & own)
    _counts(rows, groups, columns, reasons)
    received = numbers(rows, "received")[0]
    period_ms = _weighted(rows, groups, "period_ms", received, [MEDIAN])[0][0]
    expectation(keys[starts], starts_us[starts], ends_us[starts], until_us, period_ms, facts, columns, reasons)
    for prefix, square in (("w", True), ("va", True), ("voltage", False)):
        _moments(prefix, rows, groups, columns, square=square)
    for prefix in ("drawn", "injected"):
        steps, known, fell = index_steps(rows, prefix, groups.ids)
        _index(prefix, rows, groups, steps, known, columns)
        reasons[groups.ids[fell]] |= Reason.INDEX_FELL
    reasons[(columns["w_count"].to_numpy() > 0) & (columns["va_count"].to_numpy() > 0)] |= Reason.MIXED_POWER
    columns["registers"] = combine_registers(rows.column("registers"), groups)
    _signal(rows, groups, columns)
    columns["reasons"] = nullable(reasons, None, pa.int32())
    return table_of(TIER, columns)


def with_steps(rows: pa.Table, start_us: int) -> pa.Table:
    """TIER_READ: the rows from `start_us` on, what lies between each and the one before it added to it.

    `rows` are TIER rows, one per (key, time), sorted by both; those before `start_us` serve as predecessors. Energy is
    null where a row has no index; for the first row ever known of a key it is the growth within.
    """
    count = rows.num_rows
    keys = numbers(rows, "key")[0]
    ids = np.cumsum(np.append(0, keys[1:] != keys[:-1])) if count else keys
    reasons = numbers(rows, "reasons")[0].copy()
    columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
    for prefix in ("drawn", "injected"):
        steps, known, fell = index_steps(rows, prefix, ids)
        grown = numbers(rows, f"{prefix}_grown_wh")[0]
        columns[f"{prefix}_wh"] = nullable(grown + steps, known, pa.int64())
        reasons[fell] |= Reason.INDEX_FELL
    lost_between, found = _sequence_between(rows, ids)
    lost, lost_known = numbers(rows, "lost")
    columns["lost"] = nullable(np.minimum(lost + lost_between, _INT32_MAX), lost_known, pa.int32())
    reasons |= found
    singles = Groups.from_starts(np.arange(count), count)
    columns["registers"] = combine_registers(rows.column("registers"), singles, ids)
    columns["reasons"] = nullable(reasons, None, pa.int32())
    result = table_of(TIER_READ, columns)
    return result.filter(pa.array(numbers(rows, "time")[0] >= start_us))


def index_steps(rows: pa.Table, prefix: str, ids: Int64s) -> tuple[Int64s, Bools, Int64s]:
    """Per row: the energy between the row before it (of the same id, with an index) and it; whether it has an index.

    Third: the rows into which the index fell; such a step counts 0.
    """
    first, known_mask = numbers(rows, f"{prefix}_first_wh")
    last, _ = numbers(rows, f"{prefix}_last_wh")
    known = np.ones(len(first), np.bool_) if known_mask is None else known_mask
    at = np.flatnonzero(known)
    steps = np.zeros(len(first), np.int64)
    if len(at) < 2:
        return steps, known, at[:0]
    found = np.where(ids[at][1:] == ids[at][:-1], first[at][1:] - last[at][:-1], 0)
    steps[at[1:]] = np.maximum(found, 0)
    return steps, known, at[1:][found < 0]


def _sequence_between(rows: pa.Table, ids: Int64s) -> tuple[Int64s, Int64s]:
    """Per row: readings lost between the row before it (of the same id, with a sequence) and it, and reasons found."""
    count = rows.num_rows
    lost, reasons = np.zeros(count, np.int64), np.zeros(count, np.int64)
    first_seq, known = numbers(rows, "first_seq")
    at = np.arange(count) if known is None else np.flatnonzero(known)
    if len(at) < 2:
        return lost, reasons
    (first_boot, first_boot_known), (last_boot, last_boot_known) = (
        numbers(rows, "first_boot_id"),
        numbers(rows, "last_boot_id"),
    )
    last_seq, _ = numbers(rows, "last_seq")
    if first_boot_known is not None:
        first_boot = np.where(first_boot_known, first_boot, -1)
    if last_boot_known is not None:
        last_boot = np.where(last_boot_known, last_boot, -1)
    earlier, later = at[:-1], at[1:]
    # Laid out as pairs (last of the earlier, first of the later), of which every second step counts.
    boots = np.stack([last_boot[earlier], first_boot[later]], 1).ravel()
    seqs = np.stack([last_seq[earlier], first_seq[later]], 1).ravel()
    same = ids[earlier] == ids[later]
    missing, _, reboot, broken = (np.where(same, found[::2], 0) for found in sequence_steps(boots, seqs))
    lost[later] = missing
    reasons[later[missing > 0]] |= Reason.LOST
    reasons[later[reboot > 0]] |= Reason.REBOOTED
    reasons[later[broken > 0]] |= Reason.SEQUENCE_BROKEN
    return lost, reasons


def _counts(rows: pa.Table, groups: Groups, columns: dict[str, pa.Array], reasons: Int64s) -> None:
    for name in ("received", "late", "duplicate"):
        columns[name] = nullable(groups.reduce(np.add, numbers(rows, name)[0]), None, pa.int32())
    lost, lost_known = numbers(rows, "lost")
    between, found = _sequence_between(rows, groups.ids)
    counted = groups.only(lost_known)
    total = groups.reduce(np.add, lost + between)
    columns["lost"] = nullable(np.minimum(total, _INT32_MAX), counted.known(), pa.int32())
    reasons |= groups.reduce(np.bitwise_or, found)
    seq_rows = groups.only(numbers(rows, "first_seq")[1])
    for end, pick in (("first", Groups.firsts), ("last", Groups.lasts)):
        known = numbers(rows, f"{end}_seq")[1]
        for name in (f"{end}_boot_id", f"{end}_seq"):
            values, value_known = numbers(rows, name)
            values = values if value_known is None else np.where(value_known, values, -1)
            value = pick(seq_rows, values if known is None else values[known])
            columns[name] = nullable(value, seq_rows.known() & (value >= 0), pa.int64())


def _weighted(
    rows: pa.Table, groups: Groups, name: str, weights: Int64s, shares: list[tuple[int, int]]
) -> tuple[list[Int64s], Bools]:
    values, known = numbers(rows, name)
    chosen = groups.only(known)
    if known is not None:
        values, weights = values[known], weights[known]
    return chosen.weighted_quantiles(values, weights, shares), chosen.known()


def _moments(prefix: str, rows: pa.Table, groups: Groups, columns: dict[str, pa.Array], *, square: bool) -> None:
    counts = numbers(rows, f"{prefix}_count")[0]
    chosen = counts > 0
    some = groups.only(None if chosen.all() else chosen)
    counts, known = counts[chosen], some.known()

    def values(name: str) -> Anys:
        column: Anys = rows.column(f"{prefix}_{name}").combine_chunks().to_numpy(zero_copy_only=False)[chosen]
        return column

    total = some.reduce(np.add, counts)
    columns[f"{prefix}_count"] = nullable(total, None, pa.int32())
    for name in ("mean", "mean_square") if square else ("mean",):
        weighted = some.reduce(np.add, values(name).astype(np.float64) * counts) / np.maximum(total, 1)
        columns[f"{prefix}_{name}"] = nullable(weighted, known, pa.float32())
    columns[f"{prefix}_min"] = nullable(some.reduce(np.minimum, values("min")), known, pa.float32())
    columns[f"{prefix}_max"] = nullable(some.reduce(np.maximum, values("max")), known, pa.float32())


def _index(
    prefix: str, rows: pa.Table, groups: Groups, steps: Int64s, known: Bools, columns: dict[str, pa.Array]
) -> None:
    some = groups.only(None if known.all() else known)
    first, last, grown = (numbers(rows, f"{prefix}_{name}_wh")[0][known] for name in ("first", "last", "grown"))
    columns[f"{prefix}_first_wh"] = nullable(some.firsts(first), some.known(), pa.int64())
    columns[f"{prefix}_last_wh"] = nullable(some.lasts(last), some.known(), pa.int64())
    columns[f"{prefix}_grown_wh"] = nullable(some.reduce(np.add, grown + steps[known]), some.known(), pa.int64())


def _signal(rows: pa.Table, groups: Groups, columns: dict[str, pa.Array]) -> None:
    for prefix in ("rssi", "gap"):
        counts = numbers(rows, f"{prefix}_count")[0]
        columns[f"{prefix}_count"] = nullable(groups.reduce(np.add, counts), None, pa.int32())
    rssi_count, gap_count = numbers(rows, "rssi_count")[0], numbers(rows, "gap_count")[0]
    (p10,), known = _weighted(rows, groups, "rssi_p10", rssi_count, [P10])
    columns["rssi_p10"] = nullable(p10, known, pa.int16())
    (median,), known = _weighted(rows, groups, "rssi_median", rssi_count, [MEDIAN])
    columns["rssi_median"] = nullable(median, known, pa.int16())
    (gap,), known = _weighted(rows, groups, "gap_median_ms", gap_count, [MEDIAN])
    columns["gap_median_ms"] = nullable(gap, known, pa.int32())
