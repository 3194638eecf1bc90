"""What is known of the roll-ups: which buckets are made, which must be made anew; and changes of it as data."""

from __future__ import annotations

import enum
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Marks = Mapping[int, Int64s]

_FRAME = struct.Struct("<II")

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


class TierMemory:
    """Reads may come from any thread.

    `horizon(level)`: every bucket that ended by then is made, but for the marked ones. `raw_floor`: raw rows before it
    may be gone, so that no bucket before it can be made from raw again. All times are UTC microseconds.
    """

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        self._lock = threading.RLock()
        self._horizons: dict[str, int] = {}
        self._marks: dict[str, dict[int, Int64s]] = {level: {} for level in Level}
        self._erased: set[int] = set()
        self._raw_floor = 0
        self._version_limit = 0
        for change in changes:
            self.apply(change)

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

    def apply(self, change: Change) -> None:
        """Takes a change, in order."""
        for level, buckets in change.clear.items():
            marks = self._marks[level]
            for bucket, data in buckets.items():
                left = np.setdiff1d(marks.get(bucket, EMPTY), unpacked(data))
                if len(left):
                    marks[bucket] = left
                else:
                    marks.pop(bucket, None)
        for level, buckets in change.mark.items():
            marks = self._marks[level]
            for bucket, data in buckets.items():
                keys = unpacked(data)
                marks[bucket] = np.union1d(marks[bucket], keys) if bucket in marks else np.unique(keys)
        self._horizons.update(change.horizons)
        if change.erased:
            self._forget(unpacked(change.erased))
        if change.raw_floor is not None:
            self._raw_floor = change.raw_floor
        if change.version_limit is not None:
            self._version_limit = change.version_limit

    def whole(self) -> Change:
        """One change that says all."""
        return Change(
            mark={
                level: {bucket: packed(keys) for bucket, keys in buckets.items()}
                for level, buckets in self._marks.items()
            },
            horizons=self._horizons,
            erased=packed(np.array(sorted(self._erased), np.int64)),
            raw_floor=self._raw_floor,
            version_limit=self._version_limit,
        )

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


def read_changes(data: bytes) -> list[Change]:
    """The whole frames of a log, up to the first torn one."""
    changes = []
    position = 0
    while position + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, position)
        body = data[position + _FRAME.size : position + _FRAME.size + length]
        if not length or len(body) < length or zlib.crc32(body) != checksum:
            break
        changes.append(msgspec.msgpack.decode(body, type=Change))
        position += _FRAME.size + length
    return changes


def framed(change: Change) -> bytes:
    body = msgspec.msgpack.encode(change)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def packed(keys: Int64s) -> bytes:
    return keys.astype("<i8", copy=False).tobytes()


def unpacked(data: bytes) -> Int64s:
    keys: Any = np.frombuffer(data, "<i8").astype(np.int64, copy=False)
    return keys  # type: ignore[no-any-return]


def _contains(keys: Int64s, key: int) -> bool:
    at = int(np.searchsorted(keys, key))
    return at < len(keys) and int(keys[at]) == key
