"""The write-ahead journal: rows that are synced here have been promised."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from app.stores.errors import JournalUnavailable, StoreUnavailable
from app.stores.failpoints import FailPoint, FailPoints
from app.stores.journal import segment_format
from app.stores.journal.identity import Identity, rebirth
from app.stores.journal.segment_format import Damage, Header, NotASegment, PreviousEnd
from app.stores.storage import Storage

__all__ = ["Journal", "JournalCounters", "Segment", "rebirth"]

_SUFFIX = ".wal"
_DAMAGED = "damaged"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed file of the journal. `(journal_id, number)` is the label its rows are committed under, once.

    `length` is the number of its bytes that count; a segment left by a crash has its whole length. `complete` when all
    of them are known to have been synced, so that an unreadable end is damage and not the trace of a crash.
    """

    path: Path
    journal_id: str
    number: int
    length: int
    complete: bool


@dataclass(slots=True)
class JournalCounters:
    """Since the journal was opened; bytes as written, rows and batches as appended."""

    batches: int = 0
    rows: int = 0
    bytes_written: int = 0
    syncs: int = 0
    sync_failures: int = 0
    torn_bytes: int = 0
    damaged_segments: int = 0
    damaged_bytes: int = 0


@dataclass(slots=True)
class _OpenSegment:
    """The file being written; bytes up to `length` are synced. `trusted` is false after a sync failed."""

    path: Path
    number: int
    descriptor: int
    length: int
    trusted: bool = True


class Journal:
    """Append, sync, seal; later read back and remove.

    `append`, `sync`, `seal` and `close` come from one writer thread (`sync` blocks for as long as the disk takes);
    `pending`, `read` and `remove` may be called by one other thread meanwhile.
    """

    def __init__(
        self, directory: Path, schemas: Mapping[str, pa.Schema], failpoints: FailPoints, storage: Storage
    ) -> None:
        self.counters = JournalCounters()
        self._directory = directory
        self._schemas = dict(schemas)
        self._numbers = {name: number for number, name in enumerate(schemas)}
        self._failpoints = failpoints
        self._storage = storage
        self._identity = Identity(directory, storage)
        self._open: _OpenSegment | None = None
        # The segment before, when bytes behind its end must not count.
        self._previous: PreviousEnd | None = None
        self._unsynced: list[bytes | memoryview] = []
        self._unsynced_bytes = 0
        self._lock = threading.Lock()  # of _pending
        self._pending: list[Segment] = []

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
        Raises JournalUnavailable when the directory can not be made or listed.
        """
        storage = storage or Storage()
        try:
            storage.make_directory(directory)
            journal = cls(directory, schemas, failpoints or FailPoints(), storage)
            journal._find_segments()
        except OSError as problem:
            raise JournalUnavailable(directory, problem) from problem
        return journal

    @property
    def journal_id(self) -> str:
        """32 hexadecimal digits, random, of the segments written from now on."""
        return self._identity.journal_id

    def skip_numbers(self, through: int) -> None:
        """Never uses the numbers up to `through`: the newest label of this journal found in the tables at start.

        They are higher than ours when the tables survived and the journal was restored from an older copy.
        """
        self._identity.rise_above(through)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk that count: pending segments and the open one, unsynced ones included."""
        with self._lock:
            pending = sum(segment.length for segment in self._pending)
        return pending + self.open_bytes

    @property
    def open_bytes(self) -> int:
        """Bytes of the open segment, unsynced ones included: seal when it reaches the size of a commit."""
        return (self._open.length if self._open else 0) + self._unsynced_bytes

    @property
    def unsynced_bytes(self) -> int:
        """Bytes held in memory until a sync succeeds; the caller bounds them by not appending."""
        return self._unsynced_bytes

    def append(self, table: str, batch: pa.RecordBatch) -> None:
        """Takes rows into memory for the next sync; no input or output, so it does not fail.

        Raises KeyError for an unknown table and ValueError for another schema than the table's.
        """
        number = self._numbers[table]
        if batch.schema != self._schemas[table]:
            raise ValueError(f"rows for table {table!r} have another schema than the journal's")
        buffers = segment_format.encode_frame(number, memoryview(batch.serialize()).cast("B"))
        self._unsynced.extend(buffers)
        self._unsynced_bytes += segment_format.length_of(buffers)
        self.counters.batches += 1
        self.counters.rows += batch.num_rows

    def sync(self) -> None:
        """Makes everything appended durable, in one write and one sync; then it may be acknowledged.

        Raises JournalUnavailable (disk full, read-only, input/output error): the rows stay in memory and the next
        `sync` writes them again, into a new segment when the old one can no longer be trusted.
        """
        if not self._unsynced:
            return
        try:
            self._commit(self._unsynced)
        except OSError as problem:
            self.counters.sync_failures += 1
            raise JournalUnavailable(self._directory, problem) from problem
        self._unsynced = []
        self._unsynced_bytes = 0
        self.counters.syncs += 1
        self._failpoints.passing(FailPoint.JOURNAL_SYNCED)

    def seal(self) -> Segment | None:
        """Syncs, closes the open segment and makes it pending; None when it is empty. Raises JournalUnavailable."""
        self.sync()
        segment = self._open
        if segment is None:
            return None
        if segment.trusted:
            try:
                mark = segment_format.encode_frame(segment_format.SEAL, b"")
                segment.length += self._storage.append(segment.descriptor, mark)
            except OSError as problem:
                # The rows are synced; without the mark a damaged end would only be taken for a torn one.
                _log.warning("journal: segment %d stays without its end mark: %s", segment.number, problem)
        return self._close_segment()

    def pending(self) -> list[Segment]:
        """Closed segments, oldest first, those left by a crash included."""
        with self._lock:
            return list(self._pending)

    def read(self, segment: Segment) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Rows in the order they were appended, with the schemas they were written with; memory of one segment.

        A torn tail of an unsealed segment (never acknowledged) is passed over; damage elsewhere is an ERROR, counted,
        and its bytes are kept in `damaged/`, what is good after it is still read. Raises StoreUnavailable only.
        """
        try:
            data = segment.path.read_bytes()
        except OSError as problem:
            raise StoreUnavailable(segment.path, problem) from problem
        try:
            header = segment_format.decode_header(data)
        except NotASegment as problem:
            self._report_damage(segment, data, Damage(0, len(data), last=True), str(problem))
            return
        end = min(segment.length, len(data))
        for found in segment_format.frames(data, header.end, end):
            if isinstance(found, Damage):
                if found.last and not segment.complete:
                    self.counters.torn_bytes += found.end - found.start
                    _log.warning(
                        "journal: segment %d ends in %d bytes that were never synced; passed over",
                        segment.number,
                        found.end - found.start,
                    )
                else:
                    self._report_damage(segment, data, found, "checksum is wrong")
            elif found.table < len(header.tables):
                name, schema = header.tables[found.table]
                yield name, pa.ipc.read_record_batch(pa.py_buffer(found.body), schema)

    def remove(self, segment: Segment) -> None:
        """Unlinks a segment whose rows are durable elsewhere. Raises JournalUnavailable."""
        try:
            self._failpoints.passing(FailPoint.SEGMENT_DELETE)
            self._storage.unlink(segment.path)
            with self._lock:
                self._pending = [other for other in self._pending if other.path != segment.path]
            self._storage.sync_directory(self._directory)
        except OSError as problem:
            raise JournalUnavailable(segment.path, problem) from problem

    def close(self, *, seal: bool = True) -> None:
        """Ends writing; without `seal` as a crash would, save that the file is closed. Raises JournalUnavailable."""
        if seal:
            self.seal()
        elif self._open is not None:
            self._close_segment()

    def _commit(self, buffers: list[bytes | memoryview]) -> None:
        if self._open is not None and not self._open.trusted:
            self._close_segment()
        if self._open is None:
            self._open = self._create_segment(buffers)
            return
        segment = self._open
        try:
            self._failpoints.passing(FailPoint.JOURNAL_WRITE)
            written = self._storage.append(segment.descriptor, buffers)
        except OSError:
            self._take_back(segment)
            raise
        self._sync_segment(segment)
        segment.length += written
        self.counters.bytes_written += written

    def _create_segment(self, buffers: list[bytes | memoryview]) -> _OpenSegment:
        """Header and rows in one write; when anything fails, the file is gone again and nothing has changed."""
        number = self._identity.next_number()
        path = self._directory / f"{number:020d}{_SUFFIX}"
        header = segment_format.encode_header(self.journal_id, number, self._previous, self._schemas)
        segment = _OpenSegment(path, number, self._storage.create(path), 0)
        try:
            self._failpoints.passing(FailPoint.JOURNAL_WRITE)
            segment.length = self._storage.append(segment.descriptor, [header, *buffers])
            self._sync_segment(segment)
            self._storage.sync_directory(self._directory)
        except OSError:
            self._storage.close(segment.descriptor)
            self._discard(path)
            raise
        self._previous = None
        self.counters.bytes_written += segment.length
        return segment

    def _sync_segment(self, segment: _OpenSegment) -> None:
        try:
            self._failpoints.passing(FailPoint.JOURNAL_WRITTEN)
            self._failpoints.passing(FailPoint.JOURNAL_SYNC)
            self._storage.sync(segment.descriptor)
        except OSError:
            # The kernel may have dropped the pages it could not write and will not say so again: this file is done.
            segment.trusted = False
            raise

    def _take_back(self, segment: _OpenSegment) -> None:
        """Cuts off what a failed write left, so that the same file can go on."""
        try:
            self._storage.truncate(segment.descriptor, segment.length)
        except OSError:
            segment.trusted = False

    def _discard(self, path: Path) -> None:
        try:
            self._storage.unlink(path)
        except OSError as problem:
            # It holds rows that the next segment holds too; readers keep one reading per key and time.
            _log.error("journal: %s could not be taken back: %s", path.name, problem)

    def _close_segment(self) -> Segment:
        segment = self._open
        assert segment is not None
        self._open = None
        if not segment.trusted:
            self._take_back(segment)
            self._previous = PreviousEnd(segment.number, segment.length)
        self._storage.close(segment.descriptor)
        closed = Segment(segment.path, self.journal_id, segment.number, segment.length, complete=True)
        with self._lock:
            self._pending.append(closed)
        return closed

    def _find_segments(self) -> None:
        headers: list[tuple[Path, Header]] = []
        for path in sorted(self._directory.glob("*" + _SUFFIX)):
            if path.stem.isdecimal():
                self._identity.rise_above(int(path.stem))
            try:
                headers.append((path, _read_header(path)))
            except NotASegment as problem:
                self._set_aside(path, str(problem))
            except OSError as problem:
                self.counters.damaged_segments += 1
                _log.error("journal: %s can not be read and stays where it is: %s", path.name, problem)
        ends = {header.previous.number: header.previous.length for _path, header in headers if header.previous}
        for path, header in headers:
            size = path.stat().st_size
            end = ends.get(header.number)
            length = size if end is None else min(size, end)
            self._pending.append(Segment(path, header.journal_id, header.number, length, complete=end is not None))

    def _set_aside(self, path: Path, reason: str) -> None:
        size = path.stat().st_size
        if not path.read_bytes().strip(b"\0"):
            # A power cut between making the file and its first sync leaves just this: nothing, or zeros.
            self.counters.torn_bytes += size
            self._storage.unlink(path)
            return
        self.counters.damaged_segments += 1
        self.counters.damaged_bytes += size
        folder = self._directory / _DAMAGED
        try:
            self._storage.make_directory(folder)
            self._storage.rename(path, folder / path.name)
        except OSError as problem:
            reason = f"{reason}; it could not be moved to {_DAMAGED}/ either: {problem}"
        _log.error("journal: %s is no segment (%s); %d bytes set aside", path.name, reason, size)

    def _report_damage(self, segment: Segment, data: bytes, damage: Damage, reason: str) -> None:
        self.counters.damaged_segments += 1
        self.counters.damaged_bytes += damage.end - damage.start
        folder = self._directory / _DAMAGED
        kept = folder / f"{segment.path.stem}-{damage.start}.bin"
        try:
            self._storage.make_directory(folder)
            self._storage.unlink(kept)
            self._storage.write_file(kept, data[damage.start : damage.end])
        except OSError as problem:
            reason = f"{reason}; the bytes could not be kept: {problem}"
        _log.error(
            "journal: segment %d is damaged from byte %d to %d: %s", segment.number, damage.start, damage.end, reason
        )


def _read_header(path: Path) -> Header:
    with path.open("rb") as file:
        prefix = file.read(16)
        return segment_format.decode_header(prefix + file.read(segment_format.header_bytes(prefix) - len(prefix)))
