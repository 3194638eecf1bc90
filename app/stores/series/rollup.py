"""Raw readings to 10-minute rows: pure, vectorised, whole keys at a time."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import pyarrow as pa

from app.domain.completeness import LARGEST_LOSS, LATE_LAG_MS, SEQUENCE_MODULUS, Reason
from app.domain.reading import Origin, PowerKind, StateBit
from app.domain.resolution import DEFAULT_ZONE, TEN_MIN_US
from app.stores.series.grouping import (
    Anys,
    Bools,
    Groups,
    Int64s,
    boundaries,
    floats,
    nullable,
    numbers,
    place,
    table_of,
)
from app.stores.series.register_rollup import roll_up_registers
from app.stores.series.schema import UTC_MICROSECONDS
from app.stores.series.tiers import AUX_APPARENT, AUX_INJECTED, TIER

MEDIAN = (1, 2)
P10 = (1, 10)

_INT64 = np.iinfo(np.int64)
_INT32_MAX = np.iinfo(np.int32).max


class KeyFacts(Protocol):
    """What roll-ups must know of keys; the registry answers. Each answer is parallel to `keys`."""

    def periods_ms(self, keys: Int64s) -> Int64s:
        """The declared period in milliseconds, 0 where none was declared."""
        ...

    def paired_us(self, keys: Int64s) -> tuple[Int64s, Int64s]:
        """From when to when (half-open, UTC microseconds) each key is paired."""
        ...

    def groups(self, keys: Int64s) -> Int64s:
        """The number of each key's city, 0 = none."""
        ...

    def zone(self, key: int) -> str:
        """The time zone whose days the key is counted in."""
        ...


class NoFacts:
    """Facts of keys nobody described: period learned, paired for ever, no city."""

    def __init__(self, zone: str = DEFAULT_ZONE) -> None:
        self._zone = zone

    def periods_ms(self, keys: Int64s) -> Int64s:
        return np.zeros(len(keys), np.int64)

    def paired_us(self, keys: Int64s) -> tuple[Int64s, Int64s]:
        return np.full(len(keys), _INT64.min), np.full(len(keys), _INT64.max)

    def groups(self, keys: Int64s) -> Int64s:
        return np.zeros(len(keys), np.int64)

    def zone(self, key: int) -> str:  # noqa: ARG002 - every key lies in the same one
        return self._zone


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Rows to roll up. `raw`: sorted by (key, time), one row each; `copies[i]`: how often row i came beyond the first.

    `registers` and `aux` in any order, one row per (key, time, register | channel, kind); only what lies in a bucket
    with raw rows counts.
    """

    raw: pa.Table
    registers: pa.Table | None = None
    aux: pa.Table | None = None
    copies: Int64s | None = None


def roll_up(source: Source, facts: KeyFacts, version: int, until_us: int | None = None) -> pa.Table:
    """The TIER rows of each 10-minute bucket that holds a raw row, by the bucket's own rows alone.

    Expected counts what is due until `until_us` (None: the end of each bucket).
    """
    raw = source.raw
    if not raw.num_rows:
        return TIER.empty_table()
    keys, times = numbers(raw, "key")[0], numbers(raw, "time")[0]
    buckets = times - times % TEN_MIN_US
    starts = boundaries(keys, buckets)
    groups = Groups.from_starts(starts, len(keys))
    group_keys, group_times = keys[starts], buckets[starts]
    reasons = np.zeros(groups.total, np.int64)
    columns: dict[str, pa.Array] = {
        "key": pa.array(group_keys),
        "time": pa.array(group_times).cast(UTC_MICROSECONDS),
        "version": pa.array(np.full(groups.total, version, np.int64)),
        "part": pa.array(np.zeros(groups.total, np.int64)),
        "first_time": pa.array(groups.firsts(times)).cast(UTC_MICROSECONDS),
        "last_time": pa.array(groups.lasts(times)).cast(UTC_MICROSECONDS),
    }
    _count(source, groups, columns, reasons)
    _sequence(raw, groups, columns, reasons)
    period_ms = _period(group_keys, times, groups, facts, reasons)
    ends = group_times + TEN_MIN_US
    expectation(group_keys, group_times, ends, until_us, period_ms, facts, columns, reasons)
    aux = _AuxRows(source.aux, group_keys, group_times)
    _powers(raw, groups, aux, columns, reasons)
    drawn, drawn_known = numbers(raw, "drawn_wh")
    steps = _index("drawn", drawn, groups.only(drawn_known), drawn_known, columns, reasons)
    _injected(aux, columns, reasons)
    columns["registers"] = roll_up_registers(raw, source.registers, groups, group_keys, group_times, steps)
    _signal(raw, groups, columns)
    columns["reasons"] = nullable(reasons, None, pa.int32())
    return table_of(TIER, columns)


def expectation(
    keys: Int64s,
    starts_us: Int64s,
    ends_us: Int64s,
    until_us: int | None,
    period_ms: Int64s,
    facts: KeyFacts,
    columns: dict[str, pa.Array],
    reasons: Int64s,
) -> None:
    """Sets `period_ms` and `expected` of buckets (null where the period is 0), and marks the partly paired."""
    if until_us is not None:
        reasons[ends_us > until_us] |= Reason.OPEN
        ends_us = np.maximum(np.minimum(ends_us, until_us), starts_us)
    paired_from, paired_to = facts.paired_us(keys)
    paired = np.maximum(np.minimum(ends_us, paired_to) - np.maximum(starts_us, paired_from), 0)
    reasons[paired < ends_us - starts_us] |= Reason.PARTLY_PAIRED
    known = period_ms > 0
    period_us = np.where(known, period_ms, 1) * 1000
    columns["period_ms"] = nullable(period_ms, known, pa.int32())
    columns["expected"] = nullable(
        np.minimum((2 * paired + period_us) // (2 * period_us), _INT32_MAX), known, pa.int32()
    )


def sequence_steps(boots: Int64s, seqs: Int64s) -> tuple[Int64s, Bools, Bools, Bools]:
    """Between neighbouring rows: readings lost, and whether it is a duplicate, a reboot, a broken sequence.

    The same rules as `completeness.sequence_step`, over columns.
    """
    same_boot = boots[1:] == boots[:-1]
    # The modulus is a power of two: a mask is several times as fast.
    step = (seqs[1:] - seqs[:-1]) & (SEQUENCE_MODULUS - 1)
    lost = np.where(same_boot & (step > 1) & (step <= LARGEST_LOSS), step - 1, 0)
    return lost, same_boot & (step == 0), ~same_boot, same_boot & (step > LARGEST_LOSS)


def _count(source: Source, groups: Groups, columns: dict[str, pa.Array], reasons: Int64s) -> None:
    raw = source.raw
    lag, _ = numbers(raw, "lag_ms")
    origin, _ = numbers(raw, "origin")
    late_rows = np.flatnonzero((lag > LATE_LAG_MS) | (origin == Origin.RESENT))
    late = np.bincount(groups.ids[late_rows], minlength=groups.total)
    reasons[late > 0] |= Reason.LATE
    state, _ = numbers(raw, "state")
    states = groups.reduce(np.bitwise_or, state) if state.any() else np.zeros(groups.total, np.int64)
    reasons[(states & (StateBit.METER_LINK_BAD | StateBit.METER_LINK_OFF)) != 0] |= Reason.METER_LINK
    reasons[(states & (StateBit.CLOCK_NEVER_SET | StateBit.STAMPED_ON_ARRIVAL)) != 0] |= Reason.NO_CLOCK
    columns["received"] = nullable(groups.counts, None, pa.int32())
    columns["late"] = nullable(late, None, pa.int32())
    columns["states"] = nullable(states, None, pa.int32())
    copies = source.copies
    twice = np.zeros(groups.total, np.int64) if copies is None or not copies.any() else groups.reduce(np.add, copies)
    columns["duplicate"] = nullable(twice, None, pa.int32())


def _sequence(raw: pa.Table, groups: Groups, columns: dict[str, pa.Array], reasons: Int64s) -> None:
    boots, boot_known = numbers(raw, "boot_id")
    seqs, seq_known = numbers(raw, "seq")
    if boot_known is not None:
        boots = np.where(boot_known, boots, -1)
    counted = groups.only(seq_known)
    if seq_known is not None:
        boots, seqs = boots[seq_known], seqs[seq_known]
    # Nearly every step is 1: only the others are looked at.
    odd = 1 + np.flatnonzero(
        counted.within() & ((np.diff(seqs) & (SEQUENCE_MODULUS - 1) != 1) | (boots[1:] != boots[:-1]))
    )
    at = counted.ids[odd]
    pairs = np.stack([odd - 1, odd], 1).ravel()
    lost, twice, reboot, broken = (found[::2] for found in sequence_steps(boots[pairs], seqs[pairs]))
    lost_count = np.zeros(groups.total, np.int64)
    np.add.at(lost_count, at, lost)
    duplicate = columns["duplicate"].to_numpy() + np.bincount(at[twice], minlength=groups.total)
    with_sequence = counted.known()
    reasons[~with_sequence] |= Reason.NO_SEQUENCE
    reasons[lost_count > 0] |= Reason.LOST
    reasons[duplicate > 0] |= Reason.DUPLICATED
    reasons[at[reboot]] |= Reason.REBOOTED
    reasons[at[broken]] |= Reason.SEQUENCE_BROKEN
    columns["duplicate"] = nullable(duplicate, None, pa.int32())
    columns["lost"] = nullable(np.minimum(lost_count, _INT32_MAX), with_sequence, pa.int32())
    for name, values in (("first", counted.firsts), ("last", counted.lasts)):
        boot = values(boots)
        columns[f"{name}_boot_id"] = nullable(boot, with_sequence & (boot >= 0), pa.int64())
        columns[f"{name}_seq"] = nullable(values(seqs), with_sequence, pa.int64())


def _period(keys: Int64s, times: Int64s, groups: Groups, facts: KeyFacts, reasons: Int64s) -> Int64s:
    """The declared period; where there is none, the median gap of the bucket's readings (0 below two readings)."""
    period_ms = facts.periods_ms(keys).astype(np.int64)
    undeclared = period_ms <= 0
    if not undeclared.any() or len(times) < 2:
        return period_ms
    gap_rows = np.append(False, groups.within() & undeclared[groups.ids[1:]])
    gaps_us = np.append(0, np.diff(times))
    learned = groups.only(gap_rows)
    if not len(learned.ids):
        return period_ms
    (median_us,) = learned.quantiles(gaps_us[gap_rows], [MEDIAN])
    found = learned.known()
    reasons[found] |= Reason.PERIOD_LEARNED
    # A foreign source may send twice within a millisecond; a period is at least one.
    return np.where(found, np.maximum((median_us + 500) // 1000, 1), period_ms)


def _powers(raw: pa.Table, groups: Groups, aux: _AuxRows, columns: dict[str, pa.Array], reasons: Int64s) -> None:
    power, power_known = floats(raw, "power")
    kind, _ = numbers(raw, "power_kind")
    if power_known is not None:
        kind = np.where(power_known, kind, 0)
    active = kind == PowerKind.ACTIVE_W
    apparent = kind == PowerKind.APPARENT_VA
    active_count = (
        moments("w", power[active], groups.only(active), columns)
        if active.any()
        else moments("w", power[:0], groups.only(active), columns)
    )
    va_groups, va_power = (groups, power) if apparent.all() else (groups.only(apparent), power[apparent])
    extra_ids, extra = aux.values(AUX_APPARENT)
    if len(extra):
        ids = np.concatenate([va_groups.ids, extra_ids])
        order = np.argsort(ids, kind="stable")
        va_groups, va_power = Groups.of(ids[order], groups.total), np.concatenate([va_power, extra])[order]
    apparent_count = moments("va", va_power, va_groups, columns)
    reasons[(active_count > 0) & (apparent_count > 0)] |= Reason.MIXED_POWER


def moments(prefix: str, values: Anys, groups: Groups, columns: dict[str, pa.Array], *, square: bool = True) -> Int64s:
    """Sets count, mean, mean square, min and max of the groups' values; returns the counts."""
    counts, known = groups.counts, groups.known()
    divisor = np.maximum(counts, 1)
    wide = values.astype(np.float64, copy=False)
    columns[f"{prefix}_count"] = nullable(counts, None, pa.int32())
    columns[f"{prefix}_mean"] = nullable(groups.reduce(np.add, wide) / divisor, known, pa.float32())
    if square:
        columns[f"{prefix}_mean_square"] = nullable(groups.reduce(np.add, wide * wide) / divisor, known, pa.float32())
    columns[f"{prefix}_min"] = nullable(groups.reduce(np.minimum, values), known, pa.float32())
    columns[f"{prefix}_max"] = nullable(groups.reduce(np.maximum, values), known, pa.float32())
    return counts


def _index(
    prefix: str, index: Int64s, groups: Groups, rows: Bools | None, columns: dict[str, pa.Array], reasons: Int64s
) -> Int64s:
    """Sets first, last and growth of an energy index; returns each row's growth since the known row before it.

    `groups` holds the rows where the index is known, `rows` says which of `index` these are. The growth is 0 at a
    group's first row and where the index fell (which is marked).
    """
    known_index = index if rows is None else index[rows]
    steps = np.zeros(len(known_index), np.int64)
    if len(steps):
        np.subtract(known_index[1:], known_index[:-1], out=steps[1:])
        steps[groups.starts] = 0
    fell = np.flatnonzero(steps < 0)
    if len(fell):
        reasons[groups.ids[fell]] |= Reason.INDEX_FELL
        steps[fell] = 0
    grown = steps
    if rows is not None:
        grown = np.zeros(len(index), np.int64)
        grown[rows] = steps
    known = groups.known()
    columns[f"{prefix}_first_wh"] = nullable(groups.firsts(known_index), known, pa.int64())
    columns[f"{prefix}_last_wh"] = nullable(groups.lasts(known_index), known, pa.int64())
    columns[f"{prefix}_grown_wh"] = nullable(groups.reduce(np.add, steps), known, pa.int64())
    return grown


def _injected(aux: _AuxRows, columns: dict[str, pa.Array], reasons: Int64s) -> None:
    ids, values = aux.values(AUX_INJECTED)
    _index("injected", np.rint(values).astype(np.int64), Groups.of(ids, aux.total), None, columns, reasons)


def _signal(raw: pa.Table, groups: Groups, columns: dict[str, pa.Array]) -> None:
    rssi, rssi_known = numbers(raw, "rssi_dbm")
    heard = groups.only(rssi_known)
    p10, median = heard.quantiles(rssi if rssi_known is None else rssi[rssi_known], [P10, MEDIAN])
    columns["rssi_count"] = nullable(heard.counts, None, pa.int32())
    columns["rssi_p10"] = nullable(p10, heard.known(), pa.int16())
    columns["rssi_median"] = nullable(median, heard.known(), pa.int16())
    gap, gap_known = numbers(raw, "frame_gap_ms")
    timed = groups.only(gap_known)
    (gap_median,) = timed.quantiles(gap if gap_known is None else gap[gap_known], [MEDIAN])
    columns["gap_count"] = nullable(timed.counts, None, pa.int32())
    columns["gap_median_ms"] = nullable(gap_median, timed.known(), pa.int32())
    voltage, voltage_known = floats(raw, "voltage_v")
    measured = groups.only(voltage_known)
    values = voltage if voltage_known is None else voltage[voltage_known]
    moments("voltage", values, measured, columns, square=False)


class _AuxRows:
    """The aux rows of phase 1 by group, sorted by time; rows outside every group are left out."""

    def __init__(self, aux: pa.Table | None, group_keys: Int64s, group_times: Int64s) -> None:
        self.total = len(group_keys)
        self._kinds: Anys | None = None
        if aux is None or not aux.num_rows:
            return
        keys, times = numbers(aux, "key")[0], numbers(aux, "time")[0]
        ids, found = place(keys, times // TEN_MIN_US, group_keys, group_times // TEN_MIN_US)
        found &= numbers(aux, "channel")[0] == 1
        order = np.lexsort((times, ids))
        self._rows = order[found[order]]
        self._ids = ids[self._rows]
        self._kinds = aux.column("kind").combine_chunks().to_numpy(zero_copy_only=False)[self._rows]
        self._values = floats(aux, "value")[0][self._rows]

    def values(self, kind: str) -> tuple[Int64s, Anys]:
        """Group number and value of each row of a kind."""
        if self._kinds is None:
            return np.zeros(0, np.int64), np.zeros(0, np.float64)
        chosen = (self._kinds == kind) & ~np.isnan(self._values)
        return self._ids[chosen], self._values[chosen]
