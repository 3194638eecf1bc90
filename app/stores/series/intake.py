"""Taking segments in: exactly once into the tables, and what follows for the roll-ups noted durably."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from app.domain.resolution import HOUR_US, TEN_MIN_US, CivilDays, floor_to
from app.stores.series.delta.files import CommitLabel
from app.stores.series.grouping import Bools, Int64s, numbers
from app.stores.series.overlay import source_of
from app.stores.series.rollup import KeyFacts, roll_up
from app.stores.series.schema import INGESTED
from app.stores.series.tables import Tables
from app.stores.series.tiering import EMPTY, Level, TierState, day_level, marks_of
from app.stores.series.versions import as_part

_FLEET_MARK = np.zeros(1, np.int64)


class Intake:
    """Appends segments, and knows which keys have readings in which 10-minute window that is not rolled up yet.

    A window is closed by `close_window`: what is appended for it later is marked to be made anew. The window's rows
    are to be read after that call, so that every row is in what is read, or marked, or both.
    """

    def __init__(self, tables: Tables, state: TierState, facts: Callable[[], KeyFacts]) -> None:
        self._tables = tables
        self._state = state
        self._facts = facts
        self._lock = threading.Lock()
        self._appending = threading.Lock()
        # Window -> its keys; None: from before a restart, nobody looked yet.
        self._open: dict[int, Int64s | None] = {}
        self._closed_until = state.horizon(Level.TEN_MIN)
        self._rebuild()

    def append(self, label: CommitLabel, tables: Mapping[str, pa.Table]) -> bool:
        """See SeriesStore.append."""
        with self._appending:
            kept = {name: self._without_erased(tables[name]) for name in INGESTED if name in tables}
            floor = self._state.raw_floor
            old = {name: rows.filter(_before(rows, floor)) for name, rows in kept.items()} if floor else {}
            fresh = False
            for name, rows in kept.items():
                present = rows.filter(pa.array(~_before(rows, floor).to_numpy(zero_copy_only=False))) if floor else rows
                # Also without rows: the label says that the segment is done with.
                fresh |= self._tables[name].append(present, label=label) is not None
            if "raw" in old and old["raw"].num_rows:
                fresh |= self._append_parts(old, label)
            if "raw" in kept:
                self._note(kept["raw"], floor)
            return fresh

    def open_windows(self) -> list[int]:
        """Starts of the windows not closed that have readings, oldest first."""
        with self._lock:
            return sorted(self._open)

    def close_window(self, start_us: int) -> Int64s | None:
        """From now on what comes for this window (and those before) is marked.

        Returns the keys that have readings; None when only the raw table knows them. Until `done_with` the window
        counts as waiting.
        """
        with self._lock:
            self._closed_until = max(self._closed_until, start_us + TEN_MIN_US)
            return self._open.get(start_us, EMPTY)

    def done_with(self, start_us: int) -> None:
        """What was said of a closed window is noted elsewhere, or there is nothing to note."""
        with self._lock:
            self._open.pop(start_us, None)

    def pass_over(self, until_us: int) -> bool:
        """Closes the windows up to a time if none of them has readings; whether they are closed."""
        with self._lock:
            if not any(start < until_us for start in self._open):
                self._closed_until = max(self._closed_until, until_us)
            return self._closed_until >= until_us

    def reopen(self, from_us: int) -> None:
        """Windows from a time on are open again: the clock that closed them was wrong."""
        with self._lock:
            self._closed_until = min(self._closed_until, from_us)
        self._rebuild()

    @property
    def closed_until(self) -> int:
        with self._lock:
            return self._closed_until

    def holding(self) -> threading.Lock:
        """While held, nothing is appended: for a change of where the raw table begins."""
        return self._appending

    def forget(self, keys: Int64s) -> None:
        """Drops deleted keys from what is to be rolled up."""
        with self._lock:
            for start, window in self._open.items():
                self._open[start] = None if window is None else np.setdiff1d(window, keys)

    def _append_parts(self, old: Mapping[str, pa.Table], label: CommitLabel) -> bool:
        """Readings from before the raw table begins can only be added to their buckets."""
        version = self._state.next_version(0)
        parts = as_part(roll_up(source_of(old), self._facts(), version), label.version)
        fresh = self._tables.append_tier("ten_min", parts, label) is not None
        self._state.mark(longer_marks(self._state, parts))
        return fresh

    def _note(self, raw: pa.Table, floor: int) -> None:
        keys, times = numbers(raw, "key")[0], numbers(raw, "time")[0]
        if floor and len(times) and times.min() < floor:
            keys, times = keys[times >= floor], times[times >= floor]
        windows = marks_of(keys, floor_to(times, TEN_MIN_US)) if len(keys) else {}
        late: dict[int, Int64s] = {}
        with self._lock:
            for start, window_keys in windows.items():
                if start < self._closed_until:
                    late[start] = window_keys
                elif start not in self._open:
                    self._open[start] = window_keys
                elif (known := self._open[start]) is not None and not np.array_equal(known, window_keys):
                    self._open[start] = np.union1d(known, window_keys)
        if late:
            self._state.mark({Level.TEN_MIN: late, Level.FLEET: dict.fromkeys(late, _FLEET_MARK)})

    def _rebuild(self) -> None:
        """The open windows from the raw table's files: a restart knows their times; keys are looked for when due."""
        with self._lock:
            for file in self._tables["raw"].files():
                begin = max(file.min_us, self._closed_until)
                for start in range(begin - begin % TEN_MIN_US, file.max_us + 1, TEN_MIN_US):
                    self._open[start] = None

    def _without_erased(self, rows: pa.Table) -> pa.Table:
        erased = self._state.erased
        if not erased or not rows.num_rows:
            return rows
        gone = np.isin(numbers(rows, "key")[0], np.array(sorted(erased), np.int64))
        return rows.filter(pa.array(~gone)) if gone.any() else rows


def longer_marks(state: TierState, made: pa.Table) -> dict[Level, dict[int, Int64s]]:
    """The hours and days, already made, that ten-minute rows just made belong to."""
    keys, hours = numbers(made, "key")[0], floor_to(numbers(made, "time")[0], HOUR_US)
    inside = hours + HOUR_US <= state.horizon(Level.HOUR)
    marks: dict[Level, dict[int, Int64s]] = {}
    if inside.any():
        marks[Level.HOUR] = marks_of(keys[inside], hours[inside])
    return marks


def day_marks(state: TierState, facts: KeyFacts, made: pa.Table) -> dict[Level, dict[int, Int64s]]:
    """The days, already made, that hour rows just made belong to."""
    keys, hours = numbers(made, "key")[0], numbers(made, "time")[0]
    marks: dict[int, Int64s] = {}
    for zone, chosen in by_zone(facts, keys).items():
        days = CivilDays(zone)
        inside = chosen & (hours < state.horizon(day_level(zone)))
        if inside.any():
            for start, day_keys in marks_of(keys[inside], days.floor(hours[inside])).items():
                marks[start] = np.union1d(marks[start], day_keys) if start in marks else day_keys
    return {Level.DAY: marks} if marks else {}


def by_zone(facts: KeyFacts, keys: Int64s) -> dict[str, Bools]:
    """Zone -> which of the rows are of its keys."""
    distinct, inverse = np.unique(keys, return_inverse=True)
    zones = np.array([facts.zone(int(key)) for key in distinct], object)
    return {zone: (zones == zone)[inverse] for zone in sorted(set(zones.tolist()))}


def _before(rows: pa.Table, floor_us: int) -> pa.Array:
    return pa.array(numbers(rows, "time")[0] < floor_us)
