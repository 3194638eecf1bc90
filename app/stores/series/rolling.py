"""Making roll-ups as data arrive: which work is next, in bounded pieces, each piece durable before it is forgotten."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from app.domain.resolution import DAY_US, HOUR_US, SECOND_US, TEN_MIN_US, CivilDays
from app.stores.failpoints import FailPoint, FailPoints
from app.stores.series.combine import combine
from app.stores.series.fleet import LEAD_US
from app.stores.series.fleet_rollup import added, fleet_rows, fleet_source
from app.stores.series.grouping import Bools, Int64s, concat, numbers
from app.stores.series.intake import Intake, by_zone, day_marks, longer_marks
from app.stores.series.overlay import bucket_bounds, source_of
from app.stores.series.rollup import KeyFacts, roll_up
from app.stores.series.schema import INGESTED, RAW
from app.stores.series.tables import Tables, scan_tier
from app.stores.series.tiering import EMPTY, Level, TierState, day_level
from app.stores.series.tiers import TIER
from app.stores.series.unique import unique_readings
from app.stores.series.versions import resolve

# A bucket is made this long after its end by the hub's clock: nearly everything has arrived by then.
CLOSE_AFTER_US = 60 * SECOND_US
# What comes later is gathered this long, so that a trickle of late readings does not rewrite a bucket each second.
SETTLE_US = 60 * SECOND_US
# The fleet's sums of a past window need every module's readings again: seldom.
FLEET_SETTLE_US = 900 * SECOND_US
# A piece of work decodes about this many rows, some 0.3 s, and ends with a commit.
_RAW_ROWS = 1_000_000
_TIER_ROWS = 200_000
# Of these, so many at once: larger arrays cost more in page faults than smaller ones in calls.
_BATCH_ROWS = 250_000
# What roll-ups read of the raw table.
_RAW_COLUMNS = [name for name in RAW.names if name != "current_a"]
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


class Rolling:
    """Decides what is due and does one piece of it in each `step`. For one thread at a time."""

    def __init__(
        self,
        tables: Tables,
        state: TierState,
        intake: Intake,
        facts: Callable[[], KeyFacts],
        failpoints: FailPoints | None = None,
    ) -> None:
        self._tables = tables
        self._state = state
        self._intake = intake
        self._facts = facts
        self._failpoints = failpoints or FailPoints()
        self._pieces: deque[Piece] = deque()
        # By the first key of the piece they are of: a piece that failed is done again.
        self._fleet_parts: dict[int, pa.Table] = {}
        self._late_at = self._fleet_at = 0

    @property
    def busy(self) -> bool:
        """Whether pieces of work begun are left."""
        return bool(self._pieces)

    def due(self, now_us: int) -> bool:
        """Whether a window is waiting to be closed."""
        closable = now_us - CLOSE_AFTER_US
        return self.busy or any(start + TEN_MIN_US <= closable for start in self._intake.open_windows())

    def step(self, now_us: int) -> str | None:
        """Does one piece; says what, None when nothing is due."""
        if not self._pieces:
            self._pieces.extend(self._next_work(now_us))
        if not self._pieces:
            return None
        piece = self._pieces[0]
        version = self._state.next_version(now_us)
        if piece.level is not Level.FLEET:
            self._state.begin(piece.level, np.unique(piece.buckets).tolist())
        match piece.level:
            case Level.TEN_MIN:
                self._make_ten_min(piece, version)
            case Level.FLEET:
                self._make_fleet(piece, version)
            case Level.HOUR | Level.DAY:
                self._make_longer(piece, version)
        self._pieces.popleft()
        return f"{piece.level} roll-up of {len(piece.keys)} rows"

    def pause(self) -> None:
        """Forgets work begun; what was not finished is still due."""
        self._pieces.clear()
        self._fleet_parts.clear()

    # What is due.

    def _next_work(self, now_us: int) -> list[Piece]:
        self._fleet_parts.clear()
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

    def _window(self, now_us: int) -> list[Piece]:
        """The oldest window that is over, all its keys."""
        closable = now_us - CLOSE_AFTER_US
        closable -= closable % TEN_MIN_US
        over = [start for start in self._intake.open_windows() if start + TEN_MIN_US <= closable]
        if not over:
            if self._intake.pass_over(closable):
                self._state.advance({Level.TEN_MIN: max(closable, self._state.horizon(Level.TEN_MIN))})
            return []
        start = over[0]
        keys = np.union1d(self._intake.close_window(start), self._state.marked_keys(Level.TEN_MIN, start))
        per_key = self._rows_per_key(start, len(keys))
        # Marked, so that a failure midway forgets none: the horizon moves only behind the last piece.
        self._state.mark({Level.TEN_MIN: {start: keys}, Level.FLEET: {start: np.zeros(1, np.int64)}})
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

    def _rows_per_key(self, start_us: int, keys: int) -> int:
        end = start_us + TEN_MIN_US
        rows = 0.0
        for file in self._tables["raw"].files():
            overlap = min(file.max_us + 1, end) - max(file.min_us, start_us)
            if overlap > 0:
                rows += file.rows * overlap / (file.max_us + 1 - file.min_us)
        return max(int(rows / max(keys, 1)), 1)

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
        prefix = f"{Level.DAY}:"
        for name, start in sorted(self._state.horizons().items()):
            if not name.startswith(prefix):
                continue
            zone = name.removeprefix(prefix)
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
        size = max(_RAW_ROWS // self._rows_per_key(start, len(keys)), 1)
        return [
            Piece(Level.FLEET, part, np.full(len(part), start, np.int64), start, start + TEN_MIN_US)
            for part in _slices(keys, size)
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
        step = 60 * SECOND_US if table == "raw" else DAY_US
        keys = EMPTY
        for begin in range(start_us, end_us, step):
            rows = self._tables.scan(table, columns=["key", "time"], start_us=begin, end_us=min(begin + step, end_us))
            if rows.num_rows:
                keys = np.union1d(keys, numbers(rows, "key")[0])
        return keys

    def _note_zones(self, keys: Int64s, hour_us: int) -> None:
        """A zone's days are counted from the first hour that has one of its keys."""
        known = self._state.horizons()
        facts = self._facts()
        new = {
            day_level(zone): CivilDays(zone).start_of(hour_us)
            for zone in {facts.zone(int(key)) for key in keys}
            if day_level(zone) not in known
        }
        if new:
            self._state.advance(new)

    # Making it.

    def _make_ten_min(self, piece: Piece, version: int) -> None:
        keys = np.unique(piece.keys)
        parts, sums = [], []
        for some in np.array_split(keys, -(-piece.rows // _BATCH_ROWS)):
            source = source_of({name: self._rows(name, some.tolist(), piece) for name in INGESTED})
            if piece.closes:
                sums.append(self._sums(some.tolist(), source.raw, piece, version))
            parts.append(roll_up(source, self._facts(), version))
        self._fleet_parts[int(keys[0])] = added(sums)
        made = concat(TIER, parts)
        made = made.filter(pa.array(_pairs_in(made, piece)))
        last = piece.closes and len(self._pieces) == 1
        if last:
            self._append_fleet()
        self._failpoints.passing(FailPoint.ROLLUP)
        if made.num_rows:
            self._tables.append_tier("ten_min", made)
        self._state.finish(
            Level.TEN_MIN,
            _marks(piece),
            mark=longer_marks(self._state, made),
            horizons={Level.TEN_MIN: max(piece.end_us, self._state.horizon(Level.TEN_MIN))} if last else None,
        )
        if last:
            self._state.finish(Level.FLEET, {piece.start_us: np.zeros(1, np.int64)})

    def _make_longer(self, piece: Piece, version: int) -> None:
        finer, tier = (Level.TEN_MIN, "hour") if piece.level is Level.HOUR else (Level.HOUR, "day")
        days = CivilDays(piece.zone) if piece.zone else CivilDays("UTC")
        rows = resolve(scan_tier(self._tables, finer, np.unique(piece.keys).tolist(), piece.start_us, piece.end_us))
        starts, ends = bucket_bounds(piece.level, numbers(rows, "time")[0], days)
        made = combine(rows, starts, ends, self._facts(), version)
        made = made.filter(pa.array(_pairs_in(made, piece)))
        self._failpoints.passing(FailPoint.ROLLUP)
        if made.num_rows:
            self._tables.append_tier(tier, made)
        moved = None
        if piece.closes and len(self._pieces) == 1:
            moved = {Level.HOUR if piece.level is Level.HOUR else day_level(piece.zone): piece.end_us}
        follows = None
        if piece.level is Level.HOUR and made.num_rows:
            self._note_zones(np.unique(piece.keys), piece.start_us)
            follows = day_marks(self._state, self._facts(), made)
        self._state.finish(piece.level, _marks(piece), mark=follows, horizons=moved)

    def _make_fleet(self, piece: Piece, version: int) -> None:
        wanted = piece.keys.tolist()
        rows = self._rows("raw", wanted, piece)
        raw = unique_readings(rows)[0] if rows.num_rows else rows
        self._fleet_parts[int(piece.keys[0])] = self._sums(wanted, raw, piece, version)
        if len(self._pieces) == 1:
            self._append_fleet()
            self._state.finish(Level.FLEET, {piece.start_us: np.zeros(1, np.int64)})

    def _rows(self, table: str, keys: list[int], piece: Piece) -> pa.Table:
        columns = _RAW_COLUMNS if table == "raw" else None
        return self._tables.scan(table, columns=columns, keys=keys, start_us=piece.start_us, end_us=piece.end_us)

    def _sums(self, keys: list[int], raw: pa.Table, piece: Piece, version: int) -> pa.Table:
        """The fleet rows of some keys for a window, from its raw rows and what came shortly before."""
        before = self._tables.scan(
            "raw",
            columns=["key", "time", "origin", "drawn_wh"],
            keys=keys,
            start_us=piece.start_us - LEAD_US,
            end_us=piece.start_us,
        )
        if before.num_rows:
            before = unique_readings(before)[0]
        rows = fleet_source(before, raw)
        cities = self._facts().groups(numbers(rows, "key")[0])
        return fleet_rows(rows, cities, piece.start_us, piece.end_us, version)

    def _append_fleet(self) -> None:
        rows = added(list(self._fleet_parts.values()))
        if rows.num_rows:
            self._tables["fleet"].append(rows)
        self._fleet_parts.clear()


def _pairs_in(made: pa.Table, piece: Piece) -> Bools:
    """Which rows made are those the piece asks for."""
    keys, times = numbers(made, "key")[0], numbers(made, "time")[0]
    wanted: Bools = np.zeros(len(keys), np.bool_)
    for bucket in np.unique(piece.buckets):
        wanted |= (times == bucket) & np.isin(keys, piece.keys[piece.buckets == bucket])
    return wanted


def _marks(piece: Piece) -> dict[int, Int64s]:
    return {int(bucket): np.unique(piece.keys[piece.buckets == bucket]) for bucket in np.unique(piece.buckets)}


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
