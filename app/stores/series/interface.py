"""What every series store can do; `tests/app/stores/series/contract.py` says it again as tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from app.domain.resolution import Resolution


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentLabel:
    """Makes an append exactly-once: a journal's random id, and the segment's number, which only rises."""

    journal_id: str
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class StoreSize:
    """What one table takes: rows and bytes that are read, and bytes of removed files and logs still kept."""

    rows: int
    live_bytes: int
    kept_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class CopiedPiece:
    """A piece of a copy that was looked at: the rows in it, and those of them that were new and are taken."""

    rows: int
    taken: int


@dataclasses.dataclass(frozen=True, slots=True)
class Recomputed:
    """Buckets made anew, and buckets that stay as they are because what they were made of is not all there."""

    made: int
    kept: int


class SeriesReader(Protocol):
    """Reads series. Blocking: for threads, never on an event loop. Times are UTC microseconds since 1970.

    Ranges are half-open, [start_us, end_us). What an append has returned from is in every answer that begins later.
    """

    def read(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> pa.Table:
        """One key's rows, rising by time.

        RAW: schema.RAW, one row per time (the lowest origin wins, then the latest commit). Others: tiers.TIER_READ, a
        row for each bucket that begins in the range and holds a reading; a bucket without readings has no row. A bucket
        not over yet is marked Reason.OPEN. Days are civil days of the key's time zone.
        """
        ...

    def read_many(self, keys: Collection[int] | None, start_us: int, end_us: int) -> pa.Table:
        """schema.RAW rows of some keys, or of all, rising by (key, time), one for each: for exports and benches.

        All of it in memory at once; the range is the caller's to choose.
        """
        ...

    def read_registers(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """schema.REGISTERS rows of one key, rising by (time, register), one for each."""
        ...

    def read_aux(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """schema.AUX rows of one key, rising by (time, channel, kind), one for each."""
        ...

    def read_group(self, group: int, start_us: int, end_us: int) -> pa.Table:
        """tiers.FLEET rows of a group (0 the fleet, else a city) that begin in the range, one per 10 s, rising."""
        ...

    def latest(self, keys: Collection[int]) -> pa.Table:
        """schema.RAW: the newest reading of each key that has one within raw retention, rising by key."""
        ...

    def sizes(self) -> Mapping[str, StoreSize]:
        """What each table takes."""
        ...

    def close(self) -> None:
        """Lets go of files and threads; closing twice is allowed."""
        ...


class SeriesStore(SeriesReader, Protocol):
    """Reads and writes series. One per data directory; any thread may call."""

    def append(self, label: SegmentLabel, tables: Mapping[str, pa.Table]) -> bool:
        """Takes a segment's rows (by names and schemas of schema.INGESTED; a table may be left out), exactly once.

        False when all of it was there already: a replay after a crash, which completes what the crash interrupted.
        Durable on return. Segments of one journal come in order. Rows of deleted keys are dropped. Raises
        StoreUnavailable when the disk refuses; the same call may then be repeated.
        """
        ...

    def maintain(self, now_us: int) -> bool:
        """One bounded step of upkeep (roll-ups, merging, retention, cleaning) by the hub's clock; whether more is due.

        Begin only when every segment left by an earlier run has been appended. Raises StoreUnavailable; nothing is lost
        then, a later step does it.
        """
        ...

    def recompute(self, resolution: Resolution, keys: Collection[int], start_us: int, end_us: int) -> Recomputed:
        """Makes the buckets of some keys anew that begin in the range and are over, from what is held one tier finer.

        Finer tiers first, where several are wanted. Never from less than a bucket was made of: where finer rows are
        gone, or count fewer readings than the bucket does, the bucket stays. Days of a time zone that holds no longer
        give way to those of the present one. May be repeated; all of it at once, so keys and range are the caller's to
        choose.
        """
        ...

    def delete_key(self, key: int) -> int:
        """Deletes every row of a key from every table and its files, for ever; returns how many.

        Proved by a scan of what is left before it returns. What is appended for the key later is dropped.
        """
        ...

    def held(self, keys: Collection[int]) -> Mapping[str, int]:
        """Rows of some keys in each table as they lie there, every version of them.

        Under "removed": files that were replaced, are kept for readers, and hold rows of these keys.
        """
        ...

    def copy_out(self, folder: Path, start_us: int, end_us: int, *, keys: Collection[int] | None = None) -> int:
        """Writes the rows of a range (of some keys, or all) as Parquet files into a new folder; returns the rows.

        Origins are kept; the folder holds a `copy.json` that names it, its range and its rows by table.
        """
        ...

    def copy_in(self, folder: Path) -> int:
        """Takes what `copy_out` wrote, exactly once however often it is called; returns the rows taken.

        Origins are kept. Readings go through the same rules as appended ones; longer buckets whose readings did not
        come along are taken as they are. Raises OperatorInputError when the folder is no copy, or damaged.
        """
        ...

    def copy_in_pieces(self, folder: Path, *, after: int = 0) -> Iterator[CopiedPiece]:
        """As `copy_in`, a piece at a time: each is durable when it is given out, and whoever stops asking keeps it.

        `after`: so many pieces are known to be taken, and are passed over unread where possible (they are not given
        out). A copy has the same pieces each time.
        """
        ...
