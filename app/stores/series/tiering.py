"""Which buckets are made and which must be made anew, durably: a crash forgets none."""

from __future__ import annotations

import enum
import logging
import struct
import threading
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from app.stores.storage import Storage

Int64s = npt.NDArray[np.int64]
Marks = Mapping[int, Int64s]

_log = logging.getLogger(__name__)

_FRAME = struct.Struct("<II")
# The log is written anew when it is this long and this many times as long as what it says.
_REWRITE_BYTES = 4 << 20
_REWRITE_FACTOR = 4
# Versions are reserved ahead, so that not each one waits for the disk.
_VERSIONS_AHEAD = 60_000_000

EMPTY = np.zeros(0, np.int64)


class Level(enum.StrEnum):
    """What is made anew: a tier's buckets of some keys, or the fleet's sums of a window (no keys)."""

    TEN_MIN = "ten_min"
    HOUR = "hour"
    DAY = "day"
    FLEET = "fleet"


def day_level(zone: str) -> str:
    """The name of the horizon of a time zone's days."""
    return f"{Level.DAY}:{zone}"


class Change(msgspec.Struct, array_like=True, frozen=True):
    """What one frame of the log changes, all of it or nothing. Keys are packed little-endian int64."""

    mark: dict[str, dict[int, bytes]] = {}
    clear: dict[str, dict[int, bytes]] = {}
    horizons: dict[str, int] = {}
    erased: bytes = b""
    raw_floor: int | None = None
    version_limit: int | None = None


class TierState:
    """The memory of the roll-ups. Any thread may call; writing methods return when the disk has it, or raise OSError.

    `horizon(level)`: every bucket that ended by then is made, but for the marked ones. `raw_floor`: raw rows before it
    may be gone, so that no bucket before it can be made from raw again. All times are UTC microseconds.
    """

    def __init__(self, folder: Path, storage: Storage | None = None) -> None:
        self._folder = folder
        self._storage = storage or Storage()
        self._lock = threading.RLock()
        self._horizons: dict[str, int] = {}
        self._marks: dict[str, dict[int, Int64s]] = {level: {} for level in Level}
        # While a bucket is made, marks that come meanwhile must survive its clearing.
        self._fresh: dict[str, dict[int, Int64s]] = {level: {} for level in Level}
        self._erased: set[int] = set()
        self._raw_floor = 0
        self._version = 0
        self._version_limit = 0
        self._number = 0
        self._descriptor: int | None = None
        self._length = 0
        self._snapshot_length = 0
        self._storage.make_directory(folder)
        self._load()
        self._version = self._version_limit
        self._rewrite()

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                self._storage.close(self._descriptor)
                self._descriptor = None

    def horizon(self, level: str) -> int:
        """Buckets that ended by then are made; 0 when none is."""
        with self._lock:
            return self._horizons.get(level, 0)

    def horizons(self) -> dict[str, int]:
        with self._lock:
            return dict(self._horizons)

    @property
    def raw_floor(self) -> int:
        with self._lock:
            return self._raw_floor

    @property
    def erased(self) -> frozenset[int]:
        """Keys that were deleted: what still comes for them is dropped."""
        with self._lock:
            return frozenset(self._erased)

    def marked(self, level: Level, key: int | None = None) -> list[int]:
        """The starts of buckets to be made anew (of one key), oldest first."""
        with self._lock:
            return sorted(bucket for bucket, keys in self._marks[level].items() if key is None or _contains(keys, key))

    def marked_keys(self, level: Level, bucket: int) -> Int64s:
        """The keys of a bucket that are to be made anew, rising."""
        with self._lock:
            return self._marks[level].get(bucket, EMPTY)

    def marks_count(self) -> int:
        with self._lock:
            return sum(len(keys) for level in self._marks.values() for keys in level.values())

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
                        news.setdefault(str(level), {})[bucket] = _pack(new)
            if news:
                self._commit(Change(mark=news))

    def begin(self, level: Level, buckets: Iterable[int]) -> None:
        """From now on marks of these buckets outlive the `finish` that follows."""
        with self._lock:
            for bucket in buckets:
                self._fresh[level].setdefault(bucket, EMPTY)

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
                    clear[bucket] = _pack(cleared)
            marks = {
                str(upper): {start: _pack(upper_keys) for start, upper_keys in buckets.items()}
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
            self._commit(Change(erased=_pack(np.array(sorted(keys), np.int64))))
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
        frame = _framed(change)
        if self._descriptor is None:
            self._rewrite()
        assert self._descriptor is not None
        try:
            self._storage.append(self._descriptor, [frame])
            self._storage.sync(self._descriptor)
        except OSError:
            # What of it reached the file is unknown: the next change begins a new file.
            self._storage.close(self._descriptor)
            self._descriptor = None
            raise
        self._length += len(frame)
        self._apply(change)
        if self._length > max(_REWRITE_BYTES, _REWRITE_FACTOR * self._snapshot_length):
            self._rewrite()

    def _apply(self, change: Change) -> None:
        for level, buckets in change.clear.items():
            marks = self._marks[level]
            for bucket, packed in buckets.items():
                left = np.setdiff1d(marks.get(bucket, EMPTY), _unpack(packed))
                if len(left):
                    marks[bucket] = left
                else:
                    marks.pop(bucket, None)
        for level, buckets in change.mark.items():
            marks = self._marks[level]
            for bucket, packed in buckets.items():
                keys = _unpack(packed)
                marks[bucket] = np.union1d(marks[bucket], keys) if bucket in marks else np.unique(keys)
        self._horizons.update(change.horizons)
        if change.erased:
            self._forget(_unpack(change.erased))
        if change.raw_floor is not None:
            self._raw_floor = change.raw_floor
        if change.version_limit is not None:
            self._version_limit = change.version_limit

    def _forget(self, keys: Int64s) -> None:
        self._erased.update(keys.tolist())
        for level in (Level.TEN_MIN, Level.HOUR, Level.DAY):
            marks = self._marks[level]
            for bucket in list(marks):
                left = np.setdiff1d(marks[bucket], keys)
                if len(left):
                    marks[bucket] = left
                else:
                    del marks[bucket]

    def _rewrite(self) -> None:
        """A new file with all that is known, then the old one goes."""
        whole = Change(
            mark={
                level: {bucket: _pack(keys) for bucket, keys in buckets.items()}
                for level, buckets in self._marks.items()
            },
            horizons=self._horizons,
            erased=_pack(np.array(sorted(self._erased), np.int64)),
            raw_floor=self._raw_floor,
            version_limit=self._version_limit,
        )
        frame = _framed(whole)
        if self._descriptor is not None:
            self._storage.close(self._descriptor)
            self._descriptor = None
        self._number += 1
        path = self._path(self._number)
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
        for old in _logs(self._folder):
            if old != path:
                self._storage.unlink(old)
        self._storage.sync_directory(self._folder)

    def _load(self) -> None:
        logs = _logs(self._folder)
        if not logs:
            return
        self._number = max(_number(path) for path in logs)
        for path in sorted(logs, key=_number, reverse=True):
            changes = read_changes(path.read_bytes())
            if changes:
                for change in changes:
                    self._apply(change)
                return
            # Its first frame says all; without it the file was never finished, and the one before still counts.
            _log.warning("roll-up state %s is torn, taking the one before", path.name)

    def _path(self, number: int) -> Path:
        return self._folder / f"tiers-{number:08d}.log"


def read_changes(data: bytes) -> list[Change]:
    """The whole frames of a log, up to the first torn one."""
    changes = []
    position = 0
    while position + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, position)
        body = data[position + _FRAME.size : position + _FRAME.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            break
        changes.append(msgspec.msgpack.decode(body, type=Change))
        position += _FRAME.size + length
    return changes


def marks_of(keys: Int64s, buckets: Int64s) -> dict[int, Int64s]:
    """Bucket start -> its distinct keys, rising, from parallel columns."""
    distinct = np.unique(buckets)
    if len(distinct) == 1:
        return {int(distinct[0]): np.unique(keys)}
    return {int(bucket): np.unique(keys[buckets == bucket]) for bucket in distinct}


def _framed(change: Change) -> bytes:
    body = msgspec.msgpack.encode(change)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _pack(keys: Int64s) -> bytes:
    return keys.astype("<i8", copy=False).tobytes()


def _unpack(packed: bytes) -> Int64s:
    keys: Any = np.frombuffer(packed, "<i8").astype(np.int64, copy=False)
    return keys  # type: ignore[no-any-return]


def _contains(keys: Int64s, key: int) -> bool:
    at = int(np.searchsorted(keys, key))
    return at < len(keys) and int(keys[at]) == key


def _logs(folder: Path) -> list[Path]:
    return list(folder.glob("tiers-*.log"))


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("tiers-")
    return int(digits) if digits.isdigit() else -1
