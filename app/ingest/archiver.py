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
    """Since the start."""

    segments: int = 0
    failures: int = 0
    upkeep_steps: int = 0


class Archiver:
    """One thread that owns the series store's writing side. A segment is deleted only after its commit is durable.

    When the store can not be written, segments stay in the journal (the spill is on disk) and are tried again.
    """

    def __init__(
        self,
        journal: Journal,
        store: SeriesStore,
        tail: Tail,
        *,
        now_us: Callable[[], int],
        upkeep_each_s: float = UPKEEP_EACH_S,
    ) -> None:
        """`upkeep_each_s`: how often upkeep looks for what has become due, also while nothing arrives."""
        self.counters = ArchiveCounters()
        self._journal = journal
        self._store = store
        self._tail = tail
        self._now_us = now_us
        self._upkeep_each_s = upkeep_each_s
        self._waiting: deque[Segment] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._failing = False
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

    def stop(self, timeout_s: float) -> None:
        """Archive what waits if the store takes it in this time; the rest is replayed at the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
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
                        self._wake.wait(RETRY_S)
            elif stopping:
                return
            if not stopping and time.monotonic() >= upkeep_at:
                more = self._upkeep()
                upkeep_at = time.monotonic() + (0 if more else self._upkeep_each_s)

    def _archived(self, segment: Segment) -> bool:
        try:
            self._store.append(SegmentLabel(segment.journal_id, segment.number), _tables(self._tail.rows_of(segment)))
            self._tail.archived(segment)
            self._journal.remove(segment)
        except (EnvironmentFault, OSError) as error:
            self._say_failing(error)
            return False
        self.counters.segments += 1
        if self._failing:
            self._failing = False
            log.warning("the series store can be written again")
        return True

    def _upkeep(self) -> bool:
        """One bounded step; whether more is due at once."""
        try:
            more = self._store.maintain(self._now_us())
        except (EnvironmentFault, OSError) as error:
            self._say_failing(error)
            return False
        self.counters.upkeep_steps += 1
        return more

    def _say_failing(self, error: Exception) -> None:
        self.counters.failures += 1
        if not self._failing:
            self._failing = True
            log.error("the series store can not be written, its data wait in the journal: %s", error)


def _tables(rows: list[tuple[str, pa.RecordBatch]]) -> dict[str, pa.Table]:
    by_table: dict[str, list[pa.RecordBatch]] = {}
    for table, batch in rows:
        by_table.setdefault(table, []).append(batch)
    return {table: pa.Table.from_batches(batches) for table, batches in by_table.items()}
