"""Which roll-ups are due, in what order, and in what bounded pieces."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from app.domain.resolution import DAY_US, HOUR_US, SECOND_US, TEN_MIN_US, CivilDays
from app.stores.series.fleet import LEAD_US
from app.stores.series.grouping import Int64s, numbers
from app.stores.series.intake import Intake, by_zone
from app.stores.series.rollup import KeyFacts
from app.stores.series.tables import Tables
from app.stores.series.tiering import EMPTY, Level, TierState, day_level

# A bucket is made this long after its end by the hub's clock: nearly everything has arrived by then.
CLOSE_AFTER_US = 60 * SECOND_US
# What comes later is gathered this long, so that a trickle of late readings does not rewrite a bucket each second.
SETTLE_US = 60 * SECOND_US
# The fleet's sums of a past window need every module's readings again: seldom.
FLEET_SETTLE_US = 900 * SECOND_US
# A piece of work decodes about this many rows, some 0.3 s, and ends with a commit.
_RAW_ROWS = 1_000_000
_TIER_ROWS = 200_000
# To find the keys of a range, two columns of so many rows at once.
_KEY_ROWS = 5_000_000
# What the horizons of civil days begin with.
_DAYS = day_level("")
# Late data of an outage lie in neighbouring buckets of the same keys: these many are read at once.
_LATE_BUCKETS = 36


@dataclasses.dataclass(slots=True)
class Piece:
    """Some keys' buckets of one level, to be made in one go: parallel columns, and the time they span."""

    level: Level
    keys: Int64s
    buckets: Int64s
    start_us: int
    end_us: int
    zone: str = ""
    # About how many rows are to be read.
    rows: int = 1
    # A whole window being closed: its fleet sums are made as well.
    closes: bool = False


class DueWork:
    """Finds work; for one thread at a time. A window is closed here: what comes for it later is late."""

    def __init__(self, tables: Tables, state: TierState, intake: Intake, facts: Callable[[], KeyFacts]) -> None:
        self._tables = tables
        self._state = state
        self._intake = intake
        self._facts = facts
        self._late_at = self._fleet_at = 0

    def window_waits(self, now_us: int) -> bool:
        """Whether a window is waiting to be closed."""
        closable = now_us - CLOSE_AFTER_US
        return any(start + TEN_MIN_US <= closable for start in self._intake.open_windows())

    def next(self, now_us: int) -> list[Piece]:
        """The next work, in pieces to be done in order; none when nothing is due."""
        self._take_back(now_us)
        for find in (
            self._window,
            self._late,
            self._hour,
            self._late_hours,
            self._days,
            self._late_days,
            self._late_fleet,
        ):
            pieces = find(now_us)
            if pieces:
                return pieces
        return []

    def _take_back(self, now_us: int) -> None:
        """After a clock that ran far ahead was set back: what it closed before its time is open again."""
        now_us -= now_us % TEN_MIN_US
        if self._state.horizon(Level.TEN_MIN) <= now_us + HOUR_US:
            return
        back = {}
        for name, until in self._state.horizons().items():
            to = now_us - now_us % HOUR_US if name == Level.HOUR else now_us
            if name.startswith(_DAYS):
                to = CivilDays(name.removeprefix(_DAYS)).start_of(now_us)
            back[name] = min(until, to)
        self._state.advance(back)
        self._intake.reopen(now_us)

    def _window(self, now_us: int) -> list[Piece]:
        """The oldest window that is over and has readings, all its keys."""
        closable = now_us - CLOSE_AFTER_US
        closable -= closable % TEN_MIN_US
        for start in self._intake.open_windows():
            if start + TEN_MIN_US > closable:
                break
            keys = self._intake.close_window(start)
            if keys is None:
                keys = self._keys_of("raw", start, start + TEN_MIN_US)
            keys = np.union1d(keys, self._state.marked_keys(Level.TEN_MIN, start))
            if len(keys):
                return self._closing(start, keys)
            self._intake.done_with(start)
            self._state.advance({Level.TEN_MIN: max(start + TEN_MIN_US, self._state.horizon(Level.TEN_MIN))})
        if self._intake.pass_over(closable):
            self._state.advance({Level.TEN_MIN: max(closable, self._state.horizon(Level.TEN_MIN))})
        return []

    def _closing(self, start: int, keys: Int64s) -> list[Piece]:
        per_key = max(self._rows_in(start, start + TEN_MIN_US) // len(keys), 1)
        # Marked, so that a failure midway forgets none: the horizon moves only behind the last piece.
        self._state.mark({Level.TEN_MIN: {start: keys}, Level.FLEET: {start: np.zeros(1, np.int64)}})
        self._intake.done_with(start)
        # Sums are made of all pieces, so what comes after the first is late for them.
        self._state.begin(Level.FLEET, [start])
        return [
            Piece(
                Level.TEN_MIN,
                part,
                np.full(len(part), start, np.int64),
                start,
                start + TEN_MIN_US,
                rows=per_key * len(part),
                closes=True,
            )
            for part in _slices(keys, max(_RAW_ROWS // per_key, 1))
        ]

    def _rows_in(self, start_us: int, end_us: int) -> int:
        """About how many raw rows lie in a range."""
        rows = 0.0
        for file in self._tables["raw"].files():
            overlap = min(file.max_us + 1, end_us) - max(file.min_us, start_us)
            if overlap > 0:
                rows += file.rows * overlap / (file.max_us + 1 - file.min_us)
        return int(rows)

    def _late(self, now_us: int) -> list[Piece]:
        """Marked buckets of closed windows: neighbouring buckets of the same keys together."""
        if now_us - self._late_at < SETTLE_US and now_us >= self._late_at:
            return []
        self._late_at = now_us
        closed = self._intake.closed_until
        floor = self._state.raw_floor
        marked = [bucket for bucket in self._state.marked(Level.TEN_MIN) if bucket < closed]
        gone = {bucket: self._state.marked_keys(Level.TEN_MIN, bucket) for bucket in marked if bucket < floor}
        if gone:
            # Never so by retention, which waits for marks; a bucket whose readings went must not be made of the rest.
            self._state.finish(Level.TEN_MIN, gone)
        pieces: list[Piece] = []
        for buckets in _runs([bucket for bucket in marked if bucket >= floor], TEN_MIN_US, _LATE_BUCKETS):
            start, end = buckets[0], buckets[-1] + TEN_MIN_US
            keys, at = self._marked_pairs(Level.TEN_MIN, buckets)
            pieces += [
                Piece(Level.TEN_MIN, keys[rows], at[rows], start, end, rows=600 * len(at[rows]))
                for rows in _by_keys(keys, max(_RAW_ROWS // (600 * len(buckets)), 1))
            ]
        return pieces

    def _hour(self, now_us: int) -> list[Piece]:
        """The oldest hour not made whose windows all are."""
        horizon, made_until = self._state.horizon(Level.TEN_MIN), self._state.horizon(Level.HOUR)
        begins = [file.min_us for file in self._tables["ten_min"].files() if file.max_us >= made_until]
        if not begins:
            self._state.advance({Level.HOUR: max(made_until, horizon - horizon % HOUR_US)})
            return []
        start = max(made_until, min(begins) - min(begins) % HOUR_US)
        if start + HOUR_US > horizon:
            return []
        keys = self._keys_of("ten_min", start, start + HOUR_US)
        if not len(keys):
            self._state.advance({Level.HOUR: start + HOUR_US})
            return [] if start + 2 * HOUR_US > horizon else self._hour(now_us)
        self._state.mark({Level.HOUR: {start: keys}})
        return [
            Piece(Level.HOUR, part, np.full(len(part), start, np.int64), start, start + HOUR_US, closes=True)
            for part in _slices(keys, _TIER_ROWS // 6)
        ]

    def _late_hours(self, _now_us: int) -> list[Piece]:
        horizon = self._state.horizon(Level.HOUR)
        marked = [bucket for bucket in self._state.marked(Level.HOUR) if bucket < horizon]
        pieces: list[Piece] = []
        for buckets in _runs(marked, HOUR_US, 24):
            keys, at = self._marked_pairs(Level.HOUR, buckets)
            pieces += [
                Piece(Level.HOUR, keys[rows], at[rows], buckets[0], buckets[-1] + HOUR_US)
                for rows in _by_keys(keys, max(_TIER_ROWS // (6 * len(buckets)), 1))
            ]
        return pieces

    def _days(self, _now_us: int) -> list[Piece]:
        """The oldest civil day, of any zone, that is over and not made."""
        hours_until = self._state.horizon(Level.HOUR)
        for name, start in sorted(self._state.horizons().items()):
            if not name.startswith(_DAYS):
                continue
            zone = name.removeprefix(_DAYS)
            days = CivilDays(zone)
            begin = start
            while (end := days.next_start(begin)) <= hours_until:
                keys = self._keys_of("hour", begin, end)
                keys = keys[by_zone(self._facts(), keys).get(zone, np.zeros(len(keys), np.bool_))]
                if len(keys):
                    self._state.mark({Level.DAY: {begin: keys}})
                    return [
                        Piece(Level.DAY, part, np.full(len(part), begin, np.int64), begin, end, zone, closes=True)
                        for part in _slices(keys, _TIER_ROWS // 24)
                    ]
                self._state.advance({name: end})
                begin = end
        return []

    def _late_days(self, _now_us: int) -> list[Piece]:
        pieces: list[Piece] = []
        for start in self._state.marked(Level.DAY):
            keys = self._state.marked_keys(Level.DAY, start)
            for zone, chosen in by_zone(self._facts(), keys).items():
                end = CivilDays(zone).next_start(start)
                pieces += [
                    Piece(Level.DAY, part, np.full(len(part), start, np.int64), start, end, zone)
                    for part in _slices(keys[chosen], _TIER_ROWS // 24)
                ]
        return pieces

    def _late_fleet(self, now_us: int) -> list[Piece]:
        """Marked windows, one at a time, each with every key that has readings in it."""
        marked = [bucket for bucket in self._state.marked(Level.FLEET) if bucket < self._intake.closed_until]
        if not marked or 0 <= now_us - self._fleet_at < FLEET_SETTLE_US:
            return []
        start = marked[0]
        if len(marked) == 1:
            self._fleet_at = now_us
        if start - LEAD_US < self._state.raw_floor:
            # Its readings are gone, or going.
            self._state.finish(Level.FLEET, {start: np.zeros(1, np.int64)})
            return []
        self._state.begin(Level.FLEET, [start])
        keys = self._keys_of("raw", start - LEAD_US, start + TEN_MIN_US)
        if not len(keys):
            self._state.finish(Level.FLEET, {start: np.zeros(1, np.int64)})
            return []
        per_key = max(self._rows_in(start, start + TEN_MIN_US) // len(keys), 1)
        return [
            Piece(Level.FLEET, part, np.full(len(part), start, np.int64), start, start + TEN_MIN_US)
            for part in _slices(keys, max(_RAW_ROWS // per_key, 1))
        ]

    def _marked_pairs(self, level: Level, buckets: list[int]) -> tuple[Int64s, Int64s]:
        """(key, bucket) of each mark, sorted by key."""
        by_bucket = [self._state.marked_keys(level, bucket) for bucket in buckets]
        keys = np.concatenate(by_bucket)
        at = np.repeat(np.array(buckets, np.int64), [len(part) for part in by_bucket])
        order = np.argsort(keys, kind="stable")
        return keys[order], at[order]

    def _keys_of(self, table: str, start_us: int, end_us: int) -> Int64s:
        """The keys with rows in a range, a bounded part of it at a time."""
        parts = -(-self._rows_in(start_us, end_us) // _KEY_ROWS) if table == "raw" else (end_us - start_us) // DAY_US
        edges = np.linspace(start_us, end_us, max(parts, 1) + 1).astype(np.int64).tolist()
        keys = EMPTY
        for begin, end in itertools.pairwise(edges):
            rows = self._tables.scan(table, columns=["key", "time"], start_us=begin, end_us=end)
            if rows.num_rows:
                keys = np.union1d(keys, numbers(rows, "key")[0])
        return keys


def _slices(keys: Int64s, size: int) -> list[Int64s]:
    return [keys[at : at + size] for at in range(0, len(keys), max(size, 1))]


def _by_keys(keys: Int64s, size: int) -> Iterator[slice]:
    """Slices of rows sorted by key, each of at most `size` whole keys."""
    edges = np.append(np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))[::size], len(keys)).tolist()
    return (slice(start, end) for start, end in itertools.pairwise(edges))


def _runs(buckets: list[int], width_us: int, longest: int) -> list[list[int]]:
    """Buckets, rising, in runs that span at most `longest` widths."""
    runs: list[list[int]] = []
    for bucket in buckets:
        if runs and bucket - runs[-1][0] < longest * width_us:
            runs[-1].append(bucket)
        else:
            runs.append([bucket])
    return runs
