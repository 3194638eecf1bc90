"""Moves sealed journal segments into the series store, in order, each exactly once; and runs the store's upkeep."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import pyarrow as pa

from app.domain.errors import EnvironmentFault
from app.ingest.tail import Tail
from app.stores.journal.journal import Journal, Segment
from app.stores.series.interface import SegmentLabel, SeriesStore

log = logging.getLogger(__name__)

RETRY_S = 2.0
UPKEEP_EACH_S = 5.0


@dataclasses.dataclass(slots=True)
class ArchiveCounters:
    """Since the start; `faults` are failures by a fault of ours."""

    segments: int = 0
    failures: int = 0
    upkeep_steps: int = 0
    upkeep_failures: int = 0
    faults: int = 0


class Archiver:
    """One thread that owns the series store's writing side. A segment is deleted only after its commit is durable.

    When the store can not be written, segments stay in the journal (the spill is on disk) and are tried again. So it is
    with a fault of ours: the thread goes on, an ERROR with its traceback and a counter tell of it.
    """

    def __init__(
        self,
        journal: Journal,
        store: SeriesStore,
        tail: Tail,
        *,
        now_us: Callable[[], int],
        upkeep_each_s: float = UPKEEP_EACH_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """`upkeep_each_s`: how often upkeep looks for what has become due, also while nothing arrives."""
        self.counters = ArchiveCounters()
        self._journal = journal
        self._store = store
        self._tail = tail
        self._now_us = now_us
        self._upkeep_each_s = upkeep_each_s
        self._retry_s = retry_s
        self._waiting: deque[Segment] = deque()
        # The first of them is in the store, and only its file is still to be removed.
        self._first_is_stored = False
        self._wake = threading.Condition()
        self._stopping = False
        self._appending = _Trouble("the series store can not be written, its data wait in the journal")
        self._keeping_up = _Trouble("upkeep of the series store fails and is tried again")
        self._thread = threading.Thread(target=self._run, name="archiver", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier run left in the journal."""
        left = self._journal.pending()
        for segment in left:
            self._tail.add_segment(segment)
        if left:
            log.info("replaying %d journal segments of an earlier run", len(left))
        self.put(left)
        self._thread.start()

    def put(self, segments: Iterable[Segment]) -> None:
        """Segments that have been sealed, oldest first."""
        with self._wake:
            self._waiting.extend(segments)
            self._wake.notify()

    @property
    def waiting(self) -> int:
        """Segments not yet in the store."""
        return len(self._waiting)

    @property
    def failing(self) -> bool:
        """Whether the last try to append a segment, or the last step of upkeep, failed."""
        return self._appending.present or self._keeping_up.present

    def stop(self, timeout_s: float) -> None:
        """Archive what waits if the store takes it in this time; the rest is replayed at the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive() or self._waiting:
            log.warning("%d segments stay in the journal for the next start", len(self._waiting))

    def _run(self) -> None:
        upkeep_at = time.monotonic() + self._upkeep_each_s
        while True:
            with self._wake:
                if not self._waiting and not self._stopping:
                    self._wake.wait(max(0.0, upkeep_at - time.monotonic()))
                segment = self._waiting[0] if self._waiting else None
                stopping = self._stopping
            if segment is not None:
                if self._archived(segment):
                    with self._wake:
                        self._waiting.popleft()
                elif stopping:
                    return
                else:
                    with self._wake:
                        if not self._stopping:
                            self._wake.wait(self._retry_s)
            elif stopping:
                return
            if not stopping and time.monotonic() >= upkeep_at:
                more = self._upkeep()
                upkeep_at = time.monotonic() + (0 if more else self._upkeep_each_s)

    def _archived(self, segment: Segment) -> bool:
        try:
            if not self._first_is_stored:
                label = SegmentLabel(segment.journal_id, segment.number)
                self._store.append(label, _tables(self._tail.rows_of(segment)))
                self._first_is_stored = True
                self._tail.archived(segment)
            # Unlinked, but the folder could not be synced: a segment that comes back is passed over by its label.
            if segment in self._journal.pending():
                self._journal.remove(segment)
        except Exception as error:  # noqa: BLE001 - the top of the thread: what comes is said, and tried again
            self.counters.failures += 1
            self._note(self._appending, error)
            return False
        self._first_is_stored = False
        self.counters.segments += 1
        self._appending.over()
        return True

    def _upkeep(self) -> bool:
        """One bounded step; whether more is due at once."""
        try:
            more = self._store.maintain(self._now_us())
        except Exception as error:  # noqa: BLE001 - the top of the thread: what comes is said, and tried again
            self.counters.upkeep_failures += 1
            self._note(self._keeping_up, error)
            return False
        self.counters.upkeep_steps += 1
        self._keeping_up.over()
        return more

    def _note(self, trouble: _Trouble, error: Exception) -> None:
        ours = not isinstance(error, (EnvironmentFault, OSError))
        self.counters.faults += ours
        trouble.begin(error, traceback=ours)


class _Trouble:
    """Something that fails: said when it begins or changes its kind, and once when it is over."""

    def __init__(self, sentence: str) -> None:
        self.present = False
        self._sentence = sentence
        self._kind: type[Exception] | None = None

    def begin(self, error: Exception, *, traceback: bool) -> None:
        if self._kind is not type(error):
            what = str(error) or type(error).__name__
            log.error("%s: %s", self._sentence, what, exc_info=error if traceback else None)
        self.present = True
        self._kind = type(error)

    def over(self) -> None:
        if self.present:
            log.warning("no longer: %s", self._sentence)
        self.present = False
        self._kind = None


def _tables(rows: list[tuple[str, pa.RecordBatch]]) -> dict[str, pa.Table]:
    by_table: dict[str, list[pa.RecordBatch]] = {}
    for table, batch in rows:
        by_table.setdefault(table, []).append(batch)
    return {table: pa.Table.from_batches(batches) for table, batches in by_table.items()}
