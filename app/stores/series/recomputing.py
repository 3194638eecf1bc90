"""Roll-ups made anew because somebody asks for it, not because something came late: see SeriesStore.recompute."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa

from app.domain.resolution import HOUR_US, LONGEST_DAY_US, TEN_MIN_US, CivilDays, Resolution, floor_to
from app.stores.failpoints import FailPoint, FailPoints
from app.stores.series.combine import combine
from app.stores.series.due_work import Piece
from app.stores.series.grouping import Bools, Int64s, concat, numbers
from app.stores.series.intake import by_zone, day_marks
from app.stores.series.interface import Recomputed
from app.stores.series.overlay import bucket_bounds
from app.stores.series.rolling import Rolling
from app.stores.series.rollup import KeyFacts
from app.stores.series.tables import Tables, scan_tier
from app.stores.series.tiering import EMPTY, Level, TierState, day_level, marks_of
from app.stores.series.tiers import TIER
from app.stores.series.versions import resolve, withdrawn

_NOTHING = Recomputed(0, 0)


class Recomputing:
    """For one thread at a time, the one that may also do upkeep."""

    def __init__(
        self,
        tables: Tables,
        state: TierState,
        rolling: Rolling,
        facts: Callable[[], KeyFacts],
        now_us: Callable[[], int],
        failpoints: FailPoints | None = None,
    ) -> None:
        self._tables = tables
        self._state = state
        self._rolling = rolling
        self._facts = facts
        self._now_us = now_us
        self._failpoints = failpoints or FailPoints()

    def recompute(self, resolution: Resolution, keys: Collection[int], start_us: int, end_us: int) -> Recomputed:
        """See SeriesStore."""
        wanted = np.array(sorted(set(keys) - self._state.erased), np.int64)
        if not len(wanted):
            return _NOTHING
        match resolution:
            case Resolution.RAW:
                raise ValueError("readings are made of nothing")
            case Resolution.TEN_MIN:
                return self._ten_min(wanted, start_us, end_us)
            case Resolution.HOUR:
                return self._hours(wanted, start_us, end_us)
            case Resolution.DAY:
                zones = by_zone(self._facts(), wanted)
                done = [self._days(CivilDays(zone), wanted[of], start_us, end_us) for zone, of in zones.items()]
                return Recomputed(sum(one.made for one in done), sum(one.kept for one in done))

    def _ten_min(self, keys: Int64s, start_us: int, end_us: int) -> Recomputed:
        """From raw, where retention has left all of it."""
        low, high = self._span("raw")
        begin = max(start_us, self._state.raw_floor, low - low % TEN_MIN_US)
        end = min(end_us, self._state.horizon(Level.TEN_MIN) - TEN_MIN_US + 1, high)
        buckets = np.arange(-(-begin // TEN_MIN_US) * TEN_MIN_US, end, TEN_MIN_US, dtype=np.int64)
        if not len(buckets):
            return _NOTHING
        piece = Piece(
            Level.TEN_MIN,
            np.repeat(keys, len(buckets)),
            np.tile(buckets, len(keys)),
            int(buckets[0]),
            int(buckets[-1]) + TEN_MIN_US,
            rows=600 * len(buckets) * len(keys),
        )
        return Recomputed(self._rolling.remake(piece, self._now_us()), 0)

    def _hours(self, keys: Int64s, start_us: int, end_us: int) -> Recomputed:
        low, high = self._span("ten_min")
        begin = max(start_us, low - low % HOUR_US)
        end = min(end_us, self._state.horizon(Level.HOUR) - HOUR_US + 1, high)
        buckets = np.arange(-(-begin // HOUR_US) * HOUR_US, end, HOUR_US, dtype=np.int64)
        if not len(buckets):
            return _NOTHING
        self._state.begin(Level.HOUR, buckets.tolist())
        first, last = int(buckets[0]), int(buckets[-1]) + HOUR_US
        rows = resolve(scan_tier(self._tables, Level.TEN_MIN, keys.tolist(), first, last))
        stored = resolve(scan_tier(self._tables, Level.HOUR, keys.tolist(), first, last))
        made = self._combined(Level.HOUR, rows, CivilDays("UTC"))
        whole = self._not_less(Level.HOUR, made, stored)
        return self._put(Level.HOUR, buckets, made, whole, TIER.empty_table())

    def _days(self, days: CivilDays, keys: Int64s, start_us: int, end_us: int) -> Recomputed:
        low, high = self._span("hour")
        start_us, end_us = max(start_us, low - LONGEST_DAY_US), min(end_us, high)
        if start_us >= end_us:
            return _NOTHING
        around = (start_us - 2 * LONGEST_DAY_US, end_us + 2 * LONGEST_DAY_US)
        # A zone nobody has counted in yet has no horizon: then every day whose hours are made is over.
        until = min(self._state.horizon(Level.HOUR), self._state.horizon(day_level(days.zone)) or high)
        edges = days.edges(*around)
        over = edges[:-1][edges[1:] <= until]
        self._state.begin(Level.DAY, over.tolist())
        hours = resolve(scan_tier(self._tables, Level.HOUR, keys.tolist(), *around))
        stored = resolve(scan_tier(self._tables, Level.DAY, keys.tolist(), *around))
        times = numbers(stored, "time")[0]
        strange = stored.filter(pa.array(~np.isin(times, edges)))
        at = numbers(strange, "time")[0]
        replaced = (at >= start_us) & (at < end_us) & _covered(strange, hours)
        going, staying = strange.filter(pa.array(replaced)), strange.filter(pa.array(~replaced))
        # What a day of the old zone goes on to stand for must not be counted twice.
        made = self._combined(Level.DAY, hours.filter(pa.array(~_within(hours, staying))), days)
        times = numbers(made, "time")[0]
        asked = ((times >= start_us) & (times < end_us)) | _touches(made, going, days)
        made = made.filter(pa.array(asked & np.isin(times, over)))
        whole = self._not_less(Level.DAY, made, stored)
        kept = int(((at >= start_us) & (at < end_us) & ~replaced).sum())
        done = self._put(Level.DAY, over, made, whole, going)
        return Recomputed(done.made, done.kept + kept)

    def _combined(self, level: Level, rows: pa.Table, days: CivilDays) -> pa.Table:
        version = self._state.next_version(self._now_us())
        if not rows.num_rows:
            return TIER.empty_table()
        starts, ends = bucket_bounds(level, numbers(rows, "time")[0], days)
        return combine(rows, starts, ends, self._facts(), version)

    def _not_less(self, level: Level, made: pa.Table, stored: pa.Table) -> Bools:
        """Which rows hold all that the row in their place counts, or replace one that is to be made anew anyway."""
        keys, times = numbers(made, "key")[0], numbers(made, "time")[0]
        received = numbers(made, "received")[0]
        before = dict(
            zip(
                zip(numbers(stored, "key")[0].tolist(), numbers(stored, "time")[0].tolist(), strict=True),
                numbers(stored, "received")[0].tolist(),
                strict=True,
            )
        )
        whole: Bools = np.array(
            [
                count >= before.get(place, 0)
                for place, count in zip(zip(keys.tolist(), times.tolist(), strict=True), received.tolist(), strict=True)
            ],
            np.bool_,
        )
        for bucket in np.unique(times[~whole]).tolist():
            whole |= (times == bucket) & np.isin(keys, self._state.marked_keys(level, bucket))
        return whole

    def _put(self, level: Level, buckets: Int64s, made: pa.Table, whole: Bools, going: pa.Table) -> Recomputed:
        """Appends what is whole, and withdraws rows, in one commit; then what follows is noted."""
        kept = int((~whole).sum())
        made = made.filter(pa.array(whole)).combine_chunks()
        version = self._state.next_version(self._now_us())
        rows = concat(TIER, [made, withdrawn(going, version)])
        self._failpoints.passing(FailPoint.ROLLUP)
        if rows.num_rows:
            self._tables.append_tier("hour" if level is Level.HOUR else "day", rows)
        done = dict.fromkeys(buckets.tolist(), EMPTY)
        if made.num_rows:
            done |= marks_of(numbers(made, "key")[0], numbers(made, "time")[0])
        follows = day_marks(self._state, self._facts(), made) if level is Level.HOUR and made.num_rows else None
        self._state.finish(level, done, mark=follows)
        return Recomputed(int(made.num_rows), kept)

    def _span(self, table: str) -> tuple[int, int]:
        """From when to when a table has rows; (0, 0) when it has none."""
        files = self._tables[table].files()
        return (min(file.min_us for file in files), max(file.max_us for file in files) + 1) if files else (0, 0)


def _covered(days: pa.Table, hours: pa.Table) -> Bools:
    """Which of the days count no more readings than the hours that they span."""
    covered = np.zeros(days.num_rows, np.bool_)
    received = numbers(days, "received")[0]
    of_hours = numbers(hours, "received")[0]
    for rows, begins, ends, inside in _spans(days, hours):
        sums = np.append(0, np.cumsum(of_hours[inside]))
        covered[rows] = sums[ends] - sums[begins] >= received[rows]
    return covered


def _within(hours: pa.Table, days: pa.Table) -> Bools:
    """Which of the hours lie in the span of one of the days of their key."""
    within = np.zeros(hours.num_rows, np.bool_)
    for _rows, begins, ends, inside in _spans(days, hours):
        edges = np.zeros(len(inside) + 1, np.int64)
        np.add.at(edges, begins, 1)
        np.add.at(edges, ends, -1)
        within[inside] = np.cumsum(edges)[:-1] > 0
    return within


def _spans(days: pa.Table, hours: pa.Table) -> list[tuple[Int64s, Int64s, Int64s, Int64s]]:
    """By key: rows of days, from which and before which of its hours each spans, and where these stand in `hours`."""
    found = []
    day_keys, hour_keys, hour_times = numbers(days, "key")[0], numbers(hours, "key")[0], numbers(hours, "time")[0]
    firsts, lasts = floor_to(numbers(days, "first_time")[0], HOUR_US), numbers(days, "last_time")[0]
    for key in np.unique(day_keys):
        rows, inside = np.flatnonzero(day_keys == key), np.flatnonzero(hour_keys == key)
        times = hour_times[inside]
        begins, ends = np.searchsorted(times, firsts[rows]), np.searchsorted(times, lasts[rows], side="right")
        found.append((rows, begins, ends, inside))
    return found


def _touches(made: pa.Table, going: pa.Table, days: CivilDays) -> Bools:
    """Which of the new days hold readings of a day that goes."""
    touched = np.zeros(made.num_rows, np.bool_)
    if not going.num_rows or not made.num_rows:
        return touched
    keys, times = numbers(made, "key")[0], numbers(made, "time")[0]
    going_keys = numbers(going, "key")[0]
    firsts, lasts = numbers(going, "first_time")[0], numbers(going, "last_time")[0]
    # A day of 25 hours may hold one of 23 and parts of its neighbours.
    midnights = [days.floor(moments) for moments in (firsts, (firsts + lasts) // 2, lasts)]
    for key in np.unique(going_keys):
        of_key = going_keys == key
        touched |= (keys == key) & np.isin(times, np.concatenate([floors[of_key] for floors in midnights]))
    return touched
