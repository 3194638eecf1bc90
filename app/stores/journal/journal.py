"""The write-ahead journal: rows that are synced here have been promised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from app.stores.failpoints import FailPoints
from app.stores.storage import Storage


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed file of the journal. `(journal_id, number)` is the label its rows are committed under, once.

    `length` is the number of its bytes that count; a segment left by a crash has its whole length.
    """

    path: Path
    journal_id: str
    number: int
    length: int
    sealed: bool


@dataclass(slots=True)
class JournalCounters:
    """Since the journal was opened."""

    batches: int = 0
    rows: int = 0
    bytes_written: int = 0
    syncs: int = 0
    sync_failures: int = 0
    torn_bytes: int = 0
    damaged_segments: int = 0
    damaged_bytes: int = 0


class Journal:
    """Append, sync, seal; later read back and remove.

    `append`, `sync`, `seal` and `close` come from one writer thread (`sync` blocks for as long as the disk takes);
    `pending`, `read` and `remove` may be called by one other thread meanwhile.
    """

    counters: JournalCounters

    @classmethod
    def open(
        cls,
        directory: Path,
        schemas: Mapping[str, pa.Schema],
        failpoints: FailPoints | None = None,
        storage: Storage | None = None,
    ) -> Journal:
        """Opens or makes the journal; what a crash left becomes pending. Garbage is moved to `damaged/`, never raised.

        A directory that was copied (backup, restore) is noticed and gets a new journal id for what it will write.
        Raises JournalUnavailable when the directory can not be made or written at all.
        """
        raise NotImplementedError

    @property
    def journal_id(self) -> str:
        """32 hexadecimal digits, random, of the segments written from now on."""
        raise NotImplementedError

    @property
    def size_bytes(self) -> int:
        """Bytes on disk: pending segments and the open one."""
        raise NotImplementedError

    @property
    def open_bytes(self) -> int:
        """Bytes of the open segment, unsynced ones included: seal when it reaches the size of a commit."""
        raise NotImplementedError

    @property
    def unsynced_bytes(self) -> int:
        """Bytes held in memory until a sync succeeds; the caller bounds them by not appending."""
        raise NotImplementedError

    def append(self, table: str, batch: pa.RecordBatch) -> None:
        """Takes rows into memory for the next sync; no input or output, so it does not fail.

        Raises KeyError for an unknown table and ValueError for another schema than the table's.
        """
        raise NotImplementedError

    def sync(self) -> None:
        """Makes everything appended durable, in one write and one sync; then it may be acknowledged.

        Raises JournalUnavailable (disk full, read-only, input/output error): the rows stay in memory and the next
        `sync` writes them again, into a new segment when the old one can no longer be trusted.
        """
        raise NotImplementedError

    def seal(self) -> Segment | None:
        """Syncs, closes the open segment and makes it pending; None when it is empty. Raises JournalUnavailable."""
        raise NotImplementedError

    def pending(self) -> list[Segment]:
        """Closed segments, oldest first, those left by a crash included."""
        raise NotImplementedError

    def read(self, segment: Segment) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Rows in the order they were appended, with the schemas they were written with; memory of one segment.

        A torn tail of an unsealed segment (never acknowledged) is passed over; damage elsewhere is an ERROR, counted,
        and its bytes are kept in `damaged/`, what is good after it is still read. Raises StoreUnavailable only.
        """
        raise NotImplementedError

    def remove(self, segment: Segment) -> None:
        """Unlinks a segment whose rows are durable elsewhere. Raises JournalUnavailable."""
        raise NotImplementedError

    def close(self, *, seal: bool = True) -> None:
        """Ends writing; without `seal` as a crash would, save that the file is closed. Raises JournalUnavailable."""
        raise NotImplementedError


def rebirth(directory: Path, storage: Storage | None = None) -> str:
    """Gives a restored journal a new id, so that its numbers never meet labels of its earlier life; returns it.

    Segments already there keep the id they were written under. Not while a Journal is open on the directory.
    """
    raise NotImplementedError
