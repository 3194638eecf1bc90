"""Reading: what is stored, with what is not rolled up yet made on the fly, so that an answer waits for no upkeep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.resolution import DAY_US, HOUR_US, TEN_MIN_US, CivilDays, Resolution, floor_to
from app.stores.series.combine import combine, with_steps
from app.stores.series.grouping import Int64s, boundaries, concat, numbers
from app.stores.series.rollup import KeyFacts, Source, roll_up
from app.stores.series.schema import AUX, INGESTED, RAW, REGISTERS
from app.stores.series.tables import SPECS, Scanner, scan_tier
from app.stores.series.tiering import Level, day_level
from app.stores.series.tiers import FLEET, TIER
from app.stores.series.unique import unique_readings, unique_rows
from app.stores.series.versions import as_part, latest, resolve

# Rows made for one answer are never stored, so their version says nothing.
_UNSTORED = 0
# `latest` looks at the newest readings first: nearly every key has one within this time.
_RECENT_US = 15 * 60 * 1_000_000
# Where to look for readings before a range, finest first: tier, and how far back from where the finer one began
# (to the midnight before, so that tiers adjoin; None: everything).
_BEFORE: tuple[tuple[Level, int | None], ...] = (
    (Level.TEN_MIN, DAY_US),
    (Level.HOUR, 31 * DAY_US),
    (Level.DAY, None),
)

Tail = Callable[[str], list[pa.RecordBatch]]


class Unsettled(Protocol):
    """What the roll-ups have not made: see tiering.TierState."""

    def horizon(self, level: str) -> int: ...

    def marked(self, level: Level, key: int | None = None) -> list[int]: ...

    @property
    def raw_floor(self) -> int: ...

    @property
    def erased(self) -> frozenset[int]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _View:
    """One key's unsettled buckets and rows of the tail, as one answer sees them."""

    key: int
    tail: Mapping[str, pa.Table]
    horizons: Mapping[Level, int]
    dirty: Mapping[Level, Int64s]
    raw_floor: int
    days: CivilDays


def no_tail(_table: str) -> list[pa.RecordBatch]:
    """A tail without rows."""
    return []


class Overlay:
    """Answers reads from tables, the state of the roll-ups, and the journal's tail. Any thread may call.

    `tail(table)` gives what is durable in the journal and perhaps not yet in the tables, in order of commit. `facts()`
    and `now_us()` are asked anew for each answer.
    """

    def __init__(
        self,
        scanner: Scanner,
        state: Unsettled,
        facts: Callable[[], KeyFacts],
        now_us: Callable[[], int],
        tail: Tail = no_tail,
    ) -> None:
        self._scanner = scanner
        self._state = state
        self._facts = facts
        self._now_us = now_us
        self._tail = tail

    def read(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> pa.Table:
        """See SeriesReader."""
        if resolution is Resolution.RAW:
            return self.raw(key, start_us, end_us)
        view = self._view(key)
        level = {
            Resolution.TEN_MIN: Level.TEN_MIN,
            Resolution.HOUR: Level.HOUR,
            Resolution.DAY: Level.DAY,
        }[resolution]
        rows = self._tier(view, level, start_us, end_us)
        if not rows.num_rows:
            return with_steps(rows, start_us)
        # From the first bucket on: between a range's start and it, rows of a finer tier tell the step into it.
        return with_steps(concat(TIER, [self._before(view, rows), rows]), int(numbers(rows, "time")[0][0]))

    def raw(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """RAW rows of one key."""
        return self.ingested("raw", [key], start_us, end_us)

    def registers(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """REGISTERS rows of one key."""
        return self.ingested("registers", [key], start_us, end_us)

    def aux(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """AUX rows of one key."""
        return self.ingested("aux", [key], start_us, end_us)

    def ingested(self, table: str, keys: Collection[int] | None, start_us: int, end_us: int) -> pa.Table:
        """Rows of an ingested table with its tail, of some keys or all, one for each identity."""
        if table == "raw":
            return self._readings(keys, start_us, end_us)
        return unique_rows(self._rows(table, keys, start_us, end_us), SPECS[table].extra_key)

    def tail_times(self, table: str) -> list[Int64s]:
        """The times of the tail's batches, none of them empty."""
        return [numbers(pa.table(batch), "time")[0] for batch in self._tail(table) if batch.num_rows]

    def group(self, group: int, start_us: int, end_us: int) -> pa.Table:
        """FLEET rows as stored, one per bucket."""
        rows = self._scanner.scan("fleet", keys=[group], start_us=start_us, end_us=end_us)
        return latest(rows) if rows.num_rows else FLEET.empty_table()

    def newest(self, keys: Collection[int]) -> pa.Table:
        """The newest RAW row of each key."""
        now = self._now_us()
        found: list[pa.Table] = []
        wanted = set(keys) - self._state.erased
        # Clocks of modules run up to minutes ahead.
        for start, end in ((now - _RECENT_US, None), (None, now - _RECENT_US)):
            if not wanted:
                break
            rows = self._readings(sorted(wanted), start, end)
            row_keys = numbers(rows, "key")[0]
            last = np.append(boundaries(row_keys)[1:], len(row_keys)) - 1
            if len(row_keys):
                found.append(rows.take(pa.array(last)))
                wanted -= set(row_keys[last].tolist())
        whole = concat(RAW, found)
        return whole.sort_by("key").combine_chunks() if whole.num_rows else whole

    def _readings(self, keys: Collection[int] | None, start_us: int | None, end_us: int | None) -> pa.Table:
        rows = self._rows("raw", keys, start_us, end_us)
        return unique_readings(rows)[0] if rows.num_rows else RAW.empty_table()

    def _rows(self, table: str, keys: Collection[int] | None, start_us: int | None, end_us: int | None) -> pa.Table:
        """Of an ingested table and its tail, oldest first. The tail is asked first: its rows may be on their way."""
        schema = INGESTED[table]
        wanted = None if keys is None else sorted(set(keys) - self._state.erased)
        if wanted == [] or (start_us is not None and end_us is not None and start_us >= end_us):
            return schema.empty_table()
        newest = chosen(self._tail(table), schema, wanted, start_us, end_us)
        stored = self._scanner.scan(table, keys=wanted, start_us=start_us, end_us=end_us)
        return concat(schema, [stored, newest])

    # Roll-ups.

    def _view(self, key: int) -> _View:
        # The tail first, then the state, then (later) the tables: what leaves the one has entered the next.
        tail = {
            name: chosen(self._tail(name), schema, [key], None, None)
            if key not in self._state.erased
            else schema.empty_table()
            for name, schema in INGESTED.items()
        }
        days = CivilDays(self._facts().zone(key))
        tail_times = numbers(tail["raw"], "time")[0]
        dirty = {
            Level.TEN_MIN: _joined(self._state.marked(Level.TEN_MIN, key), floor_to(tail_times, TEN_MIN_US)),
            Level.HOUR: _joined(self._state.marked(Level.HOUR, key), floor_to(tail_times, HOUR_US)),
            Level.DAY: _joined(self._state.marked(Level.DAY, key), days.floor(tail_times)),
        }
        horizons = {
            Level.TEN_MIN: self._state.horizon(Level.TEN_MIN),
            Level.HOUR: self._state.horizon(Level.HOUR),
            Level.DAY: self._state.horizon(day_level(days.zone)),
        }
        # A shorter bucket that is not settled unsettles the longer ones it lies in.
        dirty[Level.HOUR] = np.union1d(dirty[Level.HOUR], floor_to(dirty[Level.TEN_MIN], HOUR_US))
        dirty[Level.DAY] = np.union1d(dirty[Level.DAY], days.floor(dirty[Level.HOUR]))
        return _View(key, tail, horizons, dirty, self._state.raw_floor, days)

    def _tier(self, view: _View, level: Level, start_us: int, end_us: int) -> pa.Table:
        """TIER rows of the buckets that begin in the range, one each, rising."""
        if start_us >= end_us:
            return TIER.empty_table()
        stored = scan_tier(self._scanner, level, [view.key], start_us, end_us)
        horizon, dirty = view.horizons[level], view.dirty[level]
        dirty = dirty[(dirty >= start_us) & (dirty < min(end_us, horizon))]
        if level is Level.TEN_MIN:
            stored = concat(TIER, [stored, self._tail_parts(view, start_us, end_us)])
            # Their raw readings are gone: what is stored, with the parts added, is all there is.
            dirty = dirty[dirty >= view.raw_floor]
        stored = resolve(stored)
        times = numbers(stored, "time")[0]
        settled = (times < horizon) & ~np.isin(times, dirty)
        ranges = self._ranges(view, level, dirty)
        if end_us > horizon:
            ranges.append((max(start_us, horizon), end_us))
        made = concat(TIER, [self._made(view, level, *piece) for piece in ranges])
        # A row that nothing finer speaks of came ready made (a copy taken in): better than none.
        settled |= ~np.isin(times, numbers(made, "time")[0])
        whole = concat(TIER, [stored.filter(pa.array(settled)), made])
        order = np.argsort(numbers(whole, "time")[0], kind="stable")
        return whole.take(pa.array(order)).combine_chunks() if len(order) else whole

    def _made(self, view: _View, level: Level, start_us: int, end_us: int) -> pa.Table:
        """The buckets that begin in the range, from what is one tier finer."""
        now = self._now_us()
        facts = self._facts()
        if level is Level.TEN_MIN:
            # Whole buckets: the first begins at or after the range's start, the last may end after the range's end.
            start, end = -(-start_us // TEN_MIN_US) * TEN_MIN_US, -(-end_us // TEN_MIN_US) * TEN_MIN_US
            start = max(start, view.raw_floor)
            if start >= end:
                return TIER.empty_table()
            rows = {
                name: concat(
                    schema,
                    [
                        self._scanner.scan(name, keys=[view.key], start_us=start, end_us=end),
                        _between(view.tail[name], start, end),
                    ],
                )
                for name, schema in INGESTED.items()
            }
            return roll_up(source_of(rows), facts, _UNSTORED, until_us=now)
        finer, begins = self._finer(view, level, start_us, end_us)
        if not finer.num_rows:
            return TIER.empty_table()
        starts, ends = bucket_bounds(level, numbers(finer, "time")[0], view.days)
        made = combine(finer, starts, ends, facts, _UNSTORED, until_us=now)
        at = numbers(made, "time")[0]
        return made.filter(pa.array((at >= begins) & (at < end_us)))

    def _finer(self, view: _View, level: Level, start_us: int, end_us: int) -> tuple[pa.Table, int]:
        """The finer tier's rows of every bucket of `level` that begins in the range, and where the first begins."""
        if level is Level.HOUR:
            start, end = -(-start_us // HOUR_US) * HOUR_US, -(-end_us // HOUR_US) * HOUR_US
            return self._tier(view, Level.TEN_MIN, start, end), start
        # Far-away ends would be endless lists of midnights: hours are there only where there are readings.
        hours = self._tier(view, Level.HOUR, start_us - DAY_US, end_us + DAY_US + HOUR_US)
        return hours, start_us

    def _ranges(self, view: _View, level: Level, dirty: Int64s) -> list[tuple[int, int]]:
        """Ranges that begin the dirty buckets; neighbours in one."""
        ranges: list[tuple[int, int]] = []
        for bucket in dirty.tolist():
            end = int(bucket_bounds(level, np.array([bucket]), view.days)[1][0])
            if ranges and ranges[-1][1] == bucket:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((bucket, end))
        return ranges

    def _tail_parts(self, view: _View, start_us: int, end_us: int) -> pa.Table:
        """What the tail holds from before the raw table begins, as the parts it will become."""
        old = {
            name: _between(rows, start_us, min(end_us + TEN_MIN_US, view.raw_floor)) for name, rows in view.tail.items()
        }
        if not old["raw"].num_rows:
            return TIER.empty_table()
        made = as_part(roll_up(source_of(old), self._facts(), _UNSTORED), 0)
        at = numbers(made, "time")[0]
        return made.filter(pa.array((at >= start_us) & (at < end_us)))

    def _before(self, view: _View, rows: pa.Table) -> pa.Table:
        """Rows before the given ones, as many as it takes to know the last reading of whatever these hold."""
        end = int(numbers(rows, "time")[0][0])
        found = TIER.empty_table()
        wanted = _known(rows, "first")
        for level, back_us in _BEFORE:
            begin = 0 if back_us is None else view.days.start_of(max(end - back_us, 0))
            found = concat(TIER, [self._tier(view, level, begin, end), found])
            wanted -= _known(found, "last")
            if not wanted:
                break
            end = begin
        return found


def _known(rows: pa.Table, edge: str) -> set[str]:
    """What of a key is known at the first or last reading of some row: indices, sequence, registers."""
    columns = (f"drawn_{edge}_wh", f"injected_{edge}_wh", f"{edge}_seq")
    known = {name.replace(edge, "") for name in columns if rows.column(name).null_count < rows.num_rows}
    items = rows.column("registers").combine_chunks().flatten()
    if len(items):
        anchored = items.field("first_wh").is_valid()
        known |= {f"register {number}" for number in items.field("register").filter(anchored).unique().to_pylist()}
    return known


def source_of(rows: Mapping[str, pa.Table]) -> Source:
    """Ingested tables, oldest commit first, as a roll-up's source."""
    raw, copies = unique_readings(rows["raw"]) if rows["raw"].num_rows else (RAW.empty_table(), None)
    registers = unique_rows(rows.get("registers", REGISTERS.empty_table()), SPECS["registers"].extra_key)
    aux = unique_rows(rows.get("aux", AUX.empty_table()), SPECS["aux"].extra_key)
    return Source(raw, registers, aux, copies)


def bucket_bounds(level: Level, times_us: Int64s, days: CivilDays) -> tuple[Int64s, Int64s]:
    """Start and end of the bucket that each time lies in."""
    if level is not Level.DAY:
        width = TEN_MIN_US if level is Level.TEN_MIN else HOUR_US
        starts = floor_to(times_us, width)
        return starts, starts + width
    if not len(times_us):
        return times_us, times_us
    edges = days.edges(int(times_us.min()), int(times_us.max()) + 1)
    at = np.searchsorted(edges, times_us, side="right") - 1
    return edges[at], edges[at + 1]


def chosen(
    batches: list[pa.RecordBatch], schema: pa.Schema, keys: list[int] | None, start_us: int | None, end_us: int | None
) -> pa.Table:
    """The rows of some keys (None: all) and a range, in the order given."""
    if not batches:
        return schema.empty_table()
    if keys is None:
        return _between(pa.Table.from_batches(batches, schema), start_us, end_us).combine_chunks()
    found = []
    wanted = pa.array(keys, pa.int64())
    for batch in batches:
        column = batch.column("key")
        mask = pc.equal(column, wanted[0]) if len(keys) == 1 else pc.is_in(column, value_set=wanted)
        rows = batch.filter(mask)
        if rows.num_rows:
            found.append(rows)
    return _between(pa.Table.from_batches(found, schema), start_us, end_us).combine_chunks()


def _between(rows: pa.Table, start_us: int | None, end_us: int | None) -> pa.Table:
    if not rows.num_rows:
        return rows
    times = numbers(rows, "time")[0]
    inside = np.ones(len(times), np.bool_)
    if start_us is not None:
        inside &= times >= start_us
    if end_us is not None:
        inside &= times < end_us
    return rows.filter(pa.array(inside))


def _joined(marked: list[int], more: Int64s) -> Int64s:
    return np.union1d(np.array(marked, np.int64), more)
