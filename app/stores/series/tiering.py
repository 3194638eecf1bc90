"""The memory of the roll-ups on disk: a crash forgets none of what must be made anew."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from app.stores.errors import StoreUnavailable
from app.stores.series.tier_memory import (
    EMPTY,
    Change,
    Int64s,
    Level,
    Marks,
    TierMemory,
    day_level,
    framed,
    packed,
    read_changes,
)
from app.stores.storage import Storage

__all__ = ["EMPTY", "Int64s", "Level", "Marks", "TierState", "day_level", "marks_of", "newest_log"]

_log = logging.getLogger(__name__)

# The log is written anew when it is this long and this many times as long as what it says.
_REWRITE_BYTES = 4 << 20
_REWRITE_FACTOR = 4
# Versions are reserved ahead, so that not each one waits for the disk.
_VERSIONS_AHEAD = 60_000_000


class TierState(TierMemory):
    """Any thread may call. Writing methods return when the disk has it; else StoreUnavailable, and it may be repeated.

    The log's first frame says all that was known when it was begun, each later one a change; a torn end counts as
    never written.
    """

    def __init__(self, folder: Path, storage: Storage | None = None) -> None:
        found, number = newest_log(folder)
        super().__init__(found)
        self._folder = folder
        self._storage = storage or Storage()
        # While a bucket is made, marks that come meanwhile must survive its clearing.
        self._fresh: dict[str, dict[int, Int64s]] = {level: {} for level in Level}
        self._version = self._version_limit
        self._number = number
        self._descriptor: int | None = None
        self._length = 0
        self._snapshot_length = 0
        self._storage.make_directory(folder)
        self._rewrite()

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                self._storage.close(self._descriptor)
                self._descriptor = None

    def mark(self, marks: Mapping[Level, Marks]) -> None:
        """Notes buckets to be made anew."""
        with self._lock:
            news: dict[str, dict[int, bytes]] = {}
            for level, buckets in marks.items():
                for bucket, keys in buckets.items():
                    if bucket in self._fresh[level]:
                        self._fresh[level][bucket] = np.union1d(self._fresh[level][bucket], keys)
                    new = np.setdiff1d(keys, self._marks[level].get(bucket, EMPTY))
                    if len(new):
                        news.setdefault(str(level), {})[bucket] = packed(new)
            if news:
                self._commit(Change(mark=news))

    def begin(self, level: Level, buckets: Iterable[int]) -> None:
        """Call before reading what buckets are made from: marks that come later outlive the `finish` that follows."""
        with self._lock:
            for bucket in buckets:
                self._fresh[level][bucket] = EMPTY

    def finish(
        self,
        level: Level,
        made: Marks,
        *,
        mark: Mapping[Level, Marks] | None = None,
        horizons: Mapping[str, int] | None = None,
    ) -> None:
        """Clears the marks of keys that were made (but for those marked since `begin`), marks what follows, moves
        horizons: all of it or nothing.
        """
        with self._lock:
            clear = {}
            for bucket, keys in made.items():
                again = self._fresh[level].get(bucket, EMPTY)
                cleared = np.intersect1d(np.setdiff1d(keys, again), self._marks[level].get(bucket, EMPTY))
                if len(cleared):
                    clear[bucket] = packed(cleared)
            marks = {
                str(upper): {start: packed(upper_keys) for start, upper_keys in buckets.items()}
                for upper, buckets in (mark or {}).items()
                if buckets
            }
            moved = {name: value for name, value in (horizons or {}).items() if self._horizons.get(name) != value}
            if clear or marks or moved:
                self._commit(Change(mark=marks, clear={str(level): clear} if clear else {}, horizons=moved))
            for bucket in made:
                self._fresh[level].pop(bucket, None)

    def advance(self, horizons: Mapping[str, int]) -> None:
        """Moves horizons."""
        with self._lock:
            if any(self._horizons.get(level) != value for level, value in horizons.items()):
                self._commit(Change(horizons=dict(horizons)))

    def raise_raw_floor(self, floor_us: int) -> None:
        """Says that raw rows before this go; call it before they do."""
        with self._lock:
            if floor_us > self._raw_floor:
                self._commit(Change(raw_floor=floor_us))

    def erase(self, keys: Collection[int]) -> None:
        """Remembers deleted keys and forgets their marks."""
        with self._lock:
            self._commit(Change(erased=packed(np.array(sorted(keys), np.int64))))
            # The old log may hold the keys' marks.
            self._rewrite()

    def next_version(self, now_us: int) -> int:
        """A version above every one given before, also across restarts."""
        with self._lock:
            version = max(now_us, self._version + 1)
            if version > self._version_limit:
                self._commit(Change(version_limit=version + _VERSIONS_AHEAD))
            self._version = version
            return version

    # The log.

    def _commit(self, change: Change) -> None:
        frame = framed(change)
        if self._descriptor is None:
            self._rewrite()
        assert self._descriptor is not None
        try:
            self._storage.append(self._descriptor, [frame])
            self._storage.sync(self._descriptor)
        except OSError as problem:
            # What of it reached the file is unknown: the next change begins a new file.
            self._storage.close(self._descriptor)
            self._descriptor = None
            raise StoreUnavailable(self._folder, problem) from problem
        self._length += len(frame)
        self.apply(change)
        if self._length > max(_REWRITE_BYTES, _REWRITE_FACTOR * self._snapshot_length):
            self._rewrite()

    def _rewrite(self) -> None:
        """A new file with all that is known, then the old one goes."""
        frame = framed(self.whole())
        if self._descriptor is not None:
            self._storage.close(self._descriptor)
            self._descriptor = None
        self._number += 1
        path = self._folder / f"tiers-{self._number:08d}.log"
        try:
            self._begin_log(path, frame)
            for old in _logs(self._folder):
                if old != path:
                    self._storage.unlink(old)
            self._storage.sync_directory(self._folder)
        except OSError as problem:
            raise StoreUnavailable(path, problem) from problem

    def _begin_log(self, path: Path, frame: bytes) -> None:
        descriptor = self._storage.create(path)
        try:
            self._storage.append(descriptor, [frame])
            self._storage.sync(descriptor)
            self._storage.sync_directory(self._folder)
        except OSError:
            self._storage.close(descriptor)
            self._storage.unlink(path)
            raise
        self._descriptor = descriptor
        self._length = self._snapshot_length = len(frame)


def newest_log(folder: Path) -> tuple[list[Change], int]:
    """What the newest whole log says, and the highest number of any log (0: none)."""
    logs = sorted(_logs(folder), key=_number, reverse=True)
    for path in logs:
        try:
            changes = read_changes(path.read_bytes())
        except FileNotFoundError:
            # Beside a running hub: it has just begun a newer one.
            return newest_log(folder)
        if changes:
            return changes, _number(logs[0])
        # Without its first frame the file was never finished, and the one before still counts.
        _log.warning("the roll-ups' state %s is torn, taking the one before", path.name)
    return [], _number(logs[0]) if logs else 0


def marks_of(keys: Int64s, buckets: Int64s) -> dict[int, Int64s]:
    """Bucket start -> its distinct keys, rising, from parallel columns."""
    distinct = np.unique(buckets)
    if len(distinct) == 1:
        return {int(distinct[0]): np.unique(keys)}
    return {int(bucket): np.unique(keys[buckets == bucket]) for bucket in distinct}


def _logs(folder: Path) -> list[Path]:
    return list(folder.glob("tiers-*.log"))


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("tiers-")
    return int(digits) if digits.isdigit() else -1
