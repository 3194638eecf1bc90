"""The journal's tail: rows that are durable in the journal and not yet in the series store, for reads."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from app.stores.errors import StoreUnavailable
from app.stores.journal.journal import Segment

# Sealed rows held in memory; when the series store stalls, older segments are read from disk instead.
MOST_SEALED_ROWS = 2_000_000

Rows = list[tuple[str, pa.RecordBatch]]


class Tail:
    """What is committed but not archived. Any thread may call; batches are immutable.

    A row may be seen both here and in the store for a moment: readers keep one reading per (key, time) anyway.
    """

    def __init__(self, read_segment: Callable[[Segment], Iterator[tuple[str, pa.RecordBatch]]]) -> None:
        self._read_segment = read_segment
        self._lock = threading.Lock()
        self._open: Rows = []
        # None: to be read from disk.
        self._sealed: dict[Segment, Rows | None] = {}

    def add(self, tables: Mapping[str, pa.RecordBatch]) -> None:
        """Rows that have just been synced."""
        with self._lock:
            self._open.extend(tables.items())

    def seal(self, segments: Sequence[Segment], *, whole: bool = True) -> None:
        """The open rows now stand in these segments, oldest first.

        Which segment a row stands in is known when there is one segment and `whole` says that it has no others; else
        (a failed sync made the journal change files, or the hub gave up on rows that reached the disk after all) the
        segments are read from disk.
        """
        with self._lock:
            rows, self._open = self._open, []
            for segment in segments:
                self._sealed[segment] = rows if whole and len(segments) == 1 else None
            self._spill()

    def add_segment(self, segment: Segment) -> None:
        """A segment left by an earlier run."""
        with self._lock:
            self._sealed[segment] = None

    def rows_of(self, segment: Segment) -> Rows:
        """A sealed segment's rows, from memory or disk. Raises StoreUnavailable."""
        with self._lock:
            rows = self._sealed.get(segment)
        return list(self._read_segment(segment)) if rows is None else rows

    def archived(self, segment: Segment) -> None:
        """The series store has these rows."""
        with self._lock:
            self._sealed.pop(segment, None)

    def batches(self, table: str) -> list[pa.RecordBatch]:
        """Every batch of a table that the series store may not have yet, in order of commit.

        Raises StoreUnavailable when a segment that is not archived can not be read.
        """
        with self._lock:
            sealed = list(self._sealed.items())
            newest = list(self._open)
        out = []
        for segment, rows in sealed:
            out += [batch for name, batch in (self._from_disk(segment) if rows is None else rows) if name == table]
        return out + [batch for name, batch in newest if name == table]

    def _from_disk(self, segment: Segment) -> Rows:
        try:
            return list(self._read_segment(segment))
        except StoreUnavailable as problem:
            if problem.errno != errno.ENOENT:
                raise
            # Archived and removed since we looked: its rows are in the store.
            return []

    def _spill(self) -> None:
        rows = 0
        for segment, held in reversed(self._sealed.items()):
            if held is None:
                continue
            rows += sum(batch.num_rows for _name, batch in held)
            if rows > MOST_SEALED_ROWS:
                self._sealed[segment] = None
