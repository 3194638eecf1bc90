"""A whole past written at once: the tables as the store would have left them, had it been there all the time.

Several processes write the parts (`PastWriter`), each of homes of its own; `commit_past` makes a store of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.domain.completeness import Reason
from app.domain.past import PastBuckets, PastSeconds, PastSpan
from app.domain.reading import Origin, PowerKind
from app.domain.resolution import DEFAULT_ZONE, HOUR_US, SECOND_US, TEN_MIN_US, CivilDays
from app.stores.series.combine import combine
from app.stores.series.delta.files import DataFile
from app.stores.series.delta.output import FileWriter
from app.stores.series.delta.table import TableOptions
from app.stores.series.fleet import LEAD_US
from app.stores.series.fleet_rollup import added, fleet_rows, fleet_source
from app.stores.series.grouping import Anys, Bools, Int64s, concat, in_order, nullable, numbers, table_of
from app.stores.series.overlay import bucket_bounds, source_of
from app.stores.series.register_rollup import register_lists
from app.stores.series.rollup import KeyFacts, expectation, roll_up
from app.stores.series.schema import AUX, RAW, REGISTERS, UTC_MICROSECONDS
from app.stores.series.tables import SPECS, Tables
from app.stores.series.tiering import Level, TierState, day_level
from app.stores.series.tiers import AUX_INJECTED, FLEET, TIER, Retention
from app.stores.series.versions import split_registers
from app.stores.storage import Storage

STATE_FOLDER = "tiers"
Values = Callable[[Anys], Anys]
# Files as merging leaves them; all of one commit. Rows made anew later have the time as their version.
_LEVEL, _ORDER, _VERSION = 2, 1, 1
# Rows of tiers gathered until a file is worth it.
_FILE_ROWS = 150_000


@dataclasses.dataclass(frozen=True, slots=True)
class PastFiles:
    """What a writer has written: files by table, and its part of the fleet's sums."""

    files: dict[str, list[DataFile]]
    fleet: pa.Table


class PastWriter:
    """Writes the past of some homes, in order of time. `keys[i]` is the series key of row i; any order."""

    def __init__(self, staging: Path, keys: Int64s, counts: Int64s, span: PastSpan, facts: KeyFacts) -> None:
        """`counts[i]`: how many registers row i has. `staging`: a folder outside the store, of several writers."""
        self._folder = staging
        self._rows = np.argsort(keys, kind="stable")
        self._keys = keys[self._rows]
        self._counts = counts[self._rows]
        self._span = span
        self._facts = facts
        self._storage = Storage()
        self._options = {name: TableOptions(extra_key=spec.extra_key) for name, spec in SPECS.items()}
        self._files: dict[str, list[DataFile]] = {}
        self._waiting: dict[str, list[pa.Table]] = {"ten_min": [], "hour": [], "day": []}
        # Readings shortly before the next ones, for the fleet's sums; ten minutes and hours of what is not whole yet.
        self._lead = RAW.empty_table()
        self._fleet: list[pa.Table] = []
        self._loose_ten_min = TIER.empty_table()
        self._loose_hours = TIER.empty_table()
        self._hour_floor = span.end_us - Retention().hour_days * 24 * HOUR_US

    def write_buckets(self, buckets: PastBuckets) -> None:
        """Ten minutes that nobody keeps the readings of."""
        self._take_ten_min(_ten_min(buckets, self._rows, self._keys, self._counts, self._facts))

    def write_seconds(self, seconds: PastSeconds) -> None:
        """Readings, to be kept, and all that is made of them."""
        raw = _raw(seconds, self._rows, self._keys)
        registers = _anchors(seconds, self._rows, self._keys, self._counts)
        aux = _aux(seconds, self._rows, self._keys)
        for name, rows in (("raw", raw), ("registers", registers), ("aux", aux)):
            self._write(name, rows)
        end_us = seconds.start_us + seconds.arrived.shape[1] * SECOND_US
        if raw.num_rows:
            source = source_of({"raw": raw, "registers": registers, "aux": aux})
            self._take_ten_min(roll_up(source, self._facts, _VERSION))
            rows = fleet_source(self._lead, raw)
            cities = self._facts.groups(numbers(rows, "key")[0])
            self._fleet.append(fleet_rows(rows, cities, seconds.start_us, end_us, _VERSION))
        times = numbers(raw, "time")[0]
        lead = raw.select(["key", "time", "drawn_wh"])
        self._lead = lead.filter(pa.array(times >= end_us - LEAD_US)).combine_chunks()

    def finish(self) -> PastFiles:
        """What there is now, on disk."""
        self._make_days()
        for tier in self._waiting:
            self._flush(tier)
        return PastFiles(self._files, added(self._fleet) if self._fleet else FLEET.empty_table())

    def _take_ten_min(self, rows: pa.Table) -> None:
        kept = rows.filter(pa.array(numbers(rows, "time")[0] >= self._span.ten_min_us))
        self._keep("ten_min", kept)
        loose = concat(TIER, [self._loose_ten_min, rows])
        loose = _sorted(loose)
        starts, ends = bucket_bounds(Level.HOUR, numbers(loose, "time")[0], CivilDays("UTC"))
        # An hour is made when its last ten minutes were written.
        until = _end_of(rows, self._span.end_us)
        whole = ends <= until
        self._loose_ten_min = loose.filter(pa.array(~whole)).combine_chunks()
        part = loose.filter(pa.array(whole)).combine_chunks()
        if part.num_rows:
            hours = combine(part, starts[whole], ends[whole], self._facts, _VERSION)
            self._keep("hour", hours.filter(pa.array(numbers(hours, "time")[0] >= self._hour_floor)))
            self._loose_hours = concat(TIER, [self._loose_hours, hours])
            if self._loose_hours.num_rows > _FILE_ROWS // 4:
                self._make_days()

    def _make_days(self) -> None:
        days = CivilDays(DEFAULT_ZONE)
        hours = _sorted(self._loose_hours)
        if not hours.num_rows:
            return
        times = numbers(hours, "time")[0]
        starts, ends = bucket_bounds(Level.DAY, times, days)
        whole = ends <= int(times.max()) + HOUR_US
        self._loose_hours = hours.filter(pa.array(~whole)).combine_chunks()
        part = hours.filter(pa.array(whole)).combine_chunks()
        if part.num_rows:
            self._keep("day", combine(part, starts[whole], ends[whole], self._facts, _VERSION))

    def _keep(self, tier: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting[tier].append(rows)
            if sum(part.num_rows for part in self._waiting[tier]) > _FILE_ROWS:
                self._flush(tier)

    def _flush(self, tier: str) -> None:
        rows = _sorted(concat(TIER, self._waiting[tier]))
        self._waiting[tier].clear()
        if rows.num_rows:
            stored, registers = split_registers(rows)
            self._write(tier, stored)
            self._write(f"{tier}_registers", registers)

    def _write(self, name: str, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        with FileWriter(
            self._folder / name,
            SPECS[name].schema,
            order=_ORDER,
            level=_LEVEL,
            group_rows=self._options[name].group_rows(_LEVEL),
            storage=self._storage,
        ) as writer:
            writer.write(rows)
            self._files.setdefault(name, []).extend(writer.finish())


def commit_past(folder: Path, staging: Path, parts: Sequence[PastFiles], span: PastSpan) -> int:
    """A new store in `folder` of what writers wrote below `staging`; how many rows it holds."""
    tables = Tables(folder)
    rows = 0
    try:
        for spec, table in tables:
            files = [file for part in parts for file in part.files.get(spec.name, [])]
            # Once the table is open: when it is opened it unlinks what its log does not name.
            for file in files:
                (staging / spec.name / file.name).rename(folder / spec.name / file.name)
            if files:
                table.replace([], files, data_change=True, operation="WRITE")
                rows += sum(file.rows for file in files)
        fleet = added([part.fleet for part in parts if part.fleet.num_rows])
        if fleet.num_rows:
            tables["fleet"].append(fleet)
    finally:
        tables.close()
    state = TierState(folder / STATE_FOLDER)
    try:
        state.advance(
            {
                Level.TEN_MIN: span.end_us,
                Level.HOUR: span.end_us - span.end_us % HOUR_US,
                day_level(DEFAULT_ZONE): CivilDays(DEFAULT_ZONE).start_of(span.end_us - span.end_us % HOUR_US),
            }
        )
        state.raise_raw_floor(span.raw_us)
    finally:
        state.close()
    return rows + int(fleet.num_rows)


def _sorted(rows: pa.Table) -> pa.Table:
    keys, times = numbers(rows, "key")[0], numbers(rows, "time")[0]
    if in_order(keys, times):
        return rows
    return rows.take(pa.array(np.lexsort((times, keys)))).combine_chunks()


def _end_of(rows: pa.Table, end_us: int) -> int:
    if not rows.num_rows:
        return 0
    last = int(numbers(rows, "time")[0].max()) + TEN_MIN_US
    return min(end_us, last)


def _raw(seconds: PastSeconds, rows: Int64s, keys: Int64s) -> pa.Table:
    count = seconds.arrived.shape[1]
    arrived = seconds.arrived[rows]
    flat = np.flatnonzero(arrived.ravel())
    every = len(flat) == arrived.size

    def column(values: Anys, kind: pa.DataType) -> pa.Array:
        chosen = values[rows].ravel()
        return nullable(chosen if every else chosen[flat], None, kind)

    times = seconds.start_us + SECOND_US * np.arange(count)[None, :] + seconds.phase_us[:, None]
    size = len(flat)
    return table_of(
        RAW,
        {
            "key": nullable(np.repeat(keys, count) if every else np.repeat(keys, count)[flat], None, pa.int64()),
            "time": column(times, pa.int64()).cast(UTC_MICROSECONDS),
            "lag_ms": column(seconds.lag_ms, pa.int32()),
            "boot_id": column(seconds.boot_id, pa.int64()),
            "seq": column(seconds.seq, pa.int64()),
            "power": column(seconds.power_va, pa.float32()),
            "power_kind": pa.array(np.full(size, PowerKind.APPARENT_VA, np.int8)),
            "drawn_wh": column(seconds.drawn_wh, pa.int64()),
            "register": column(seconds.register, pa.int8()),
            "voltage_v": column(seconds.voltage_v, pa.float32()),
            "current_a": column(seconds.current_a, pa.float32()),
            "rssi_dbm": column(seconds.rssi_dbm, pa.int16()),
            "frame_gap_ms": column(seconds.frame_gap_ms, pa.int32()),
            "state": pa.array(np.zeros(size, np.int32)),
            "origin": pa.array(np.full(size, Origin.MEASURED, np.int8)),
        },
    )


def _anchors(seconds: PastSeconds, rows: Int64s, keys: Int64s, counts: Int64s) -> pa.Table:
    """At the first reading of each ten minutes, every register of the home, as ingest writes them."""
    home, first = _first_readings(seconds.arrived)
    shown = _register_growth(seconds, home, first)
    place = np.empty(len(rows), np.int64)
    place[rows] = np.arange(len(rows))
    at = place[home]
    order = np.lexsort((first, at))
    at, home, first, shown = at[order], home[order], first[order], shown[order]
    each = counts[at]
    item = np.repeat(np.arange(len(at)), each)
    register = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
    times = seconds.start_us + SECOND_US * first + seconds.phase_us[home]
    return table_of(
        REGISTERS,
        {
            "key": pa.array(keys[at][item]),
            "time": pa.array(times[item]).cast(UTC_MICROSECONDS),
            "register": nullable(register + 1, None, pa.int8()),
            "drawn_wh": pa.array(shown[item, register]),
            "origin": pa.array(np.full(len(item), Origin.MEASURED, np.int8)),
        },
    )


def _first_readings(arrived: Bools) -> tuple[Int64s, Int64s]:
    """(home, second) of the first reading of each ten minutes; the last ten may be cut short."""
    found: list[tuple[Int64s, Int64s]] = []
    for begin in range(0, arrived.shape[1], TEN_MIN_US // SECOND_US):
        part = arrived[:, begin : begin + TEN_MIN_US // SECOND_US]
        some = np.flatnonzero(part.any(axis=1))
        found.append((some, begin + part[some].argmax(axis=1)))
    homes, seconds = zip(*found, strict=True)
    return np.concatenate(homes), np.concatenate(seconds)


def _register_growth(seconds: PastSeconds, home: Int64s, second: Int64s) -> Int64s:
    """(moments, registers): what every register shows at some seconds."""
    register = seconds.register.astype(np.int64)
    total = seconds.registers_wh.sum(axis=1)
    steps = np.diff(seconds.drawn_wh, axis=1, prepend=total[:, None])
    shown = seconds.registers_wh[home].copy()
    for number in range(shown.shape[1]):
        if (register == number + 1).any():
            grown = np.cumsum(np.where(register == number + 1, steps, 0), axis=1)
            shown[:, number] += grown[home, second]
    return shown


def _aux(seconds: PastSeconds, rows: Int64s, keys: Int64s) -> pa.Table:
    injecting = np.flatnonzero(seconds.injects[rows])
    if not len(injecting):
        return AUX.empty_table()
    homes = rows[injecting]
    arrived = seconds.arrived[homes].ravel()
    count = seconds.arrived.shape[1]
    times = seconds.start_us + SECOND_US * np.arange(count)[None, :] + seconds.phase_us[homes, None]
    size = int(arrived.sum())
    return table_of(
        AUX,
        {
            "key": pa.array(np.repeat(keys[injecting], count)[arrived]),
            "time": pa.array(times.ravel()[arrived]).cast(UTC_MICROSECONDS),
            "channel": pa.array(np.ones(size, np.int8)),
            "kind": pa.repeat(AUX_INJECTED, size),
            "value": pa.array(seconds.injected_wh[homes].ravel()[arrived].astype(np.float64)),
            "unit": pa.repeat("Wh", size),
            "origin": pa.array(np.full(size, Origin.MEASURED, np.int8)),
        },
    )


def _ten_min(buckets: PastBuckets, rows: Int64s, keys: Int64s, counts: Int64s, facts: KeyFacts) -> pa.Table:
    """As `rollup.roll_up` makes them of the readings: a test holds the two against each other."""
    count = buckets.received.shape[1]
    flat = np.flatnonzero(buckets.received[rows].ravel() > 0)

    def values(column: Anys) -> Anys:
        found: Anys = column[rows].reshape(len(rows) * count, *column.shape[2:])[flat]
        return found

    group_keys = np.repeat(keys, count)[flat]
    times = np.tile(buckets.start_us + TEN_MIN_US * np.arange(count), len(keys))[flat]
    size = len(flat)
    received, lost = values(buckets.received), values(buckets.lost)
    reasons = np.zeros(size, np.int64)
    reasons[lost > 0] |= Reason.LOST
    reasons[values(buckets.first_boot_id) != values(buckets.last_boot_id)] |= Reason.REBOOTED
    injects = np.repeat(buckets.injects[rows], count)[flat]
    none = np.zeros(size, np.int64)
    columns: dict[str, pa.Array] = {
        "key": pa.array(group_keys),
        "time": pa.array(times).cast(UTC_MICROSECONDS),
        "version": pa.array(np.full(size, _VERSION, np.int64)),
        "part": pa.array(none),
        "first_time": pa.array(values(buckets.first_us)).cast(UTC_MICROSECONDS),
        "last_time": pa.array(values(buckets.last_us)).cast(UTC_MICROSECONDS),
        "registers": _registers(buckets, values, np.repeat(counts, count)[flat]),
    }
    for name in ("received", "va_count", "rssi_count", "gap_count", "voltage_count"):
        columns[name] = nullable(received, None, pa.int32())
    for name in ("late", "duplicate", "states", "w_count"):
        columns[name] = nullable(none, None, pa.int32())
    columns["lost"] = nullable(lost, None, pa.int32())
    expectation(group_keys, times, times + TEN_MIN_US, None, facts.periods_ms(group_keys), facts, columns, reasons)
    for name in ("first_boot_id", "first_seq", "last_boot_id", "last_seq"):
        columns[name] = nullable(values(getattr(buckets, name)), None, pa.int64())
    for name in ("va_mean", "va_mean_square", "va_min", "va_max", "voltage_mean", "voltage_min", "voltage_max"):
        columns[name] = nullable(values(getattr(buckets, name)), None, pa.float32())
    for name in ("w_mean", "w_mean_square", "w_min", "w_max"):
        columns[name] = pa.nulls(size, pa.float32())
    for prefix, known in (("drawn", None), ("injected", injects)):
        first, last = (values(getattr(buckets, f"{prefix}_{end}_wh")) for end in ("first", "last"))
        for name, index in (("first", first), ("last", last), ("grown", last - first)):
            columns[f"{prefix}_{name}_wh"] = nullable(index, known, pa.int64())
    columns["rssi_p10"] = nullable(values(buckets.rssi_p10), None, pa.int16())
    columns["rssi_median"] = nullable(values(buckets.rssi_median), None, pa.int16())
    columns["gap_median_ms"] = nullable(values(buckets.gap_median_ms), None, pa.int32())
    columns["reasons"] = nullable(reasons, None, pa.int32())
    return table_of(TIER, columns)


def _registers(buckets: PastBuckets, values: Values, counts: Int64s) -> pa.Array:
    ids = np.repeat(np.arange(len(counts)), counts)
    register = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    first = values(buckets.registers_first_wh)[ids, register]
    last = values(buckets.registers_last_wh)[ids, register]
    return register_lists(ids, register + 1, first, last, last - first, np.ones(len(ids), np.bool_), len(counts))
