"""Making roll-ups as data arrive, piece by piece, each durable before it is forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from app.domain.resolution import CivilDays
from app.stores.failpoints import FailPoint, FailPoints
from app.stores.series.combine import combine
from app.stores.series.due_work import DueWork, Piece
from app.stores.series.fleet import LEAD_US
from app.stores.series.fleet_rollup import added, fleet_rows, fleet_source
from app.stores.series.grouping import Bools, Int64s, concat, numbers
from app.stores.series.intake import Intake, day_marks, longer_marks
from app.stores.series.overlay import bucket_bounds, source_of
from app.stores.series.rollup import KeyFacts, roll_up
from app.stores.series.schema import INGESTED, RAW
from app.stores.series.tables import Tables, scan_tier
from app.stores.series.tiering import Level, TierState, day_level
from app.stores.series.tiers import TIER
from app.stores.series.unique import unique_readings
from app.stores.series.versions import resolve

# Of a piece, so many rows at once: larger arrays cost more in page faults than smaller ones in calls.
_BATCH_ROWS = 250_000
# What roll-ups read of the raw table.
_RAW_COLUMNS = [name for name in RAW.names if name != "current_a"]


class Rolling:
    """Does one piece of what is due in each `step`. For one thread at a time."""

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
        self._due = DueWork(tables, state, intake, facts)
        self._facts = facts
        self._failpoints = failpoints or FailPoints()
        self._pieces: deque[Piece] = deque()
        # By the first key of the piece they are of: a piece that failed is done again.
        self._fleet_parts: dict[int, pa.Table] = {}

    @property
    def busy(self) -> bool:
        """Whether pieces of work begun are left."""
        return bool(self._pieces)

    def due(self, now_us: int) -> bool:
        """Whether a window is waiting to be closed."""
        return self.busy or self._due.window_waits(now_us)

    def step(self, now_us: int) -> str | None:
        """Does one piece; says what, None when nothing is due."""
        if not self._pieces:
            self._fleet_parts.clear()
            self._pieces.extend(self._due.next(now_us))
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

    def remake(self, piece: Piece, now_us: int) -> int:
        """Makes a piece of ten-minute buckets that nobody marked; work begun goes on after it. How many were made."""
        self._state.begin(piece.level, np.unique(piece.buckets).tolist())
        return self._make_ten_min(piece, self._state.next_version(now_us))

    def pause(self) -> None:
        """Forgets work begun; what was not finished is still due."""
        self._pieces.clear()
        self._fleet_parts.clear()

    def _make_ten_min(self, piece: Piece, version: int) -> int:
        keys = np.unique(piece.keys)
        parts, sums = [], []
        for some in np.array_split(keys, -(-piece.rows // _BATCH_ROWS)):
            source = source_of({name: self._rows(name, some.tolist(), piece) for name in INGESTED})
            if piece.closes:
                sums.append(self._sums(some.tolist(), source.raw, piece, version))
            parts.append(roll_up(source, self._facts(), version))
        if piece.closes:
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
        return int(made.num_rows)

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


def _pairs_in(made: pa.Table, piece: Piece) -> Bools:
    """Which rows made are those the piece asks for."""
    keys, times = numbers(made, "key")[0], numbers(made, "time")[0]
    wanted: Bools = np.zeros(len(keys), np.bool_)
    for bucket in np.unique(piece.buckets):
        wanted |= (times == bucket) & np.isin(keys, piece.keys[piece.buckets == bucket])
    return wanted


def _marks(piece: Piece) -> dict[int, Int64s]:
    return {int(bucket): np.unique(piece.keys[piece.buckets == bucket]) for bucket in np.unique(piece.buckets)}
