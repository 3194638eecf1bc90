"""The store of events: taken from any thread, written in bulk by one."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from app.domain.events import Event
from app.stores.events import schema
from app.stores.events.reader import EventReader
from app.stores.events.writing import Writing

log = logging.getLogger(__name__)

WRITE_EACH_S = 1.0
BATCH_EVENTS = 5_000
# A fleet of 48,000 that goes and comes back is 96,000 events; about 100 MB at the most.
MOST_WAITING = 200_000
# Deleted in one transaction: some milliseconds, so that new events never wait long behind it.
_DELETE_AT_ONCE = 2_000
_RETENTION_EACH_S = 600.0
_DAY_US = 86_400_000_000
_CLOSE_S = 10.0


@dataclasses.dataclass(slots=True)
class EventCounters:
    """Since the start; noted = written + shed + lost + waiting. `lost` are those that could not be rows, by a fault."""

    noted: int = 0
    written: int = 0
    shed: int = 0
    lost: int = 0
    deleted: int = 0
    write_failures: int = 0


class EventStore:
    """An EventSink. Overflow rule: above `most_waiting` the oldest that wait are shed and counted.

    A disk that is full or read-only costs nothing until then; it is told once, and once when it is over.
    """

    def __init__(
        self,
        path: Path,
        *,
        days: Callable[[], int],
        zone: str,
        now_us: Callable[[], int],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.counters = EventCounters()
        self.reader = EventReader(path)
        self._path = path
        self._days = days
        self._writing = Writing(zone)
        self._now_us = now_us
        self._most_waiting = most_waiting
        self._lock = threading.Lock()
        self._queue: collections.deque[Event] = collections.deque()
        # Taken from the queue and not written yet; only the writer changes it.
        self._batch: list[Event] = []
        self._wake = threading.Event()
        self._written = threading.Condition()
        self._database: sqlite3.Connection | None = None
        self._stopping = False
        self._shedding = False
        self._failing = False
        self._retention_due = 0.0
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        # What names that must not be shown are hidden with; the same as long as the file.
        self.alias_key = secrets.token_bytes(16)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        days: Callable[[], int],
        zone: str,
        now_us: Callable[[], int],
        most_waiting: int = MOST_WAITING,
    ) -> Self:
        """Open and begin to write. Raises EventsTooNew; a disk that fails is tried again, a damaged file moved away."""
        store = cls(path, days=days, zone=zone, now_us=now_us, most_waiting=most_waiting)
        try:
            store._open()
            store._keep_alias_key()
        except (sqlite3.Error, OSError) as error:
            store._tell_failing(error)
        store._thread.start()
        return store

    def note(self, event: Event) -> None:
        """Take an event; any thread may call, nothing blocks."""
        with self._lock:
            self.counters.noted += 1
            self._queue.append(event)
            waiting = len(self._queue)
            if waiting > self._most_waiting:
                self._queue.popleft()
                self.counters.shed += 1
                tell, self._shedding = not self._shedding, True
            else:
                tell = False
        if tell:
            log.error("more than %d events wait to be written: the oldest are dropped", self._most_waiting)
        if waiting >= BATCH_EVENTS:
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Events taken and not written."""
        return len(self._queue) + len(self._batch)

    @property
    def failing(self) -> bool:
        """Whether the file can not be written now."""
        return self._failing

    def born(self) -> dict[str, Mapping[str, Any]]:
        """What each module last said at its birth, by serial; empty while the file can not be read. Blocks."""
        try:
            return self.reader.born()
        except schema.EventsUnavailable as error:
            log.warning("earlier births can not be read: %s", error)
            return {}

    def erase(self, serial: str, from_us: int, to_us: int) -> int:
        """Delete a module's events of a time, in steps; how many. Blocks. Raises EventsUnavailable."""
        self.flush()
        deleted = 0
        try:
            with contextlib.closing(schema.open_to_write(self._path)) as database:
                while found := self._writing.erase(database, serial, from_us, to_us, _DELETE_AT_ONCE):
                    deleted += found
                schema.clear_log(database, self._path)
        except (sqlite3.Error, OSError) as error:
            raise schema.EventsUnavailable(self._path, error) from error
        return deleted

    def flush(self, within_s: float = _CLOSE_S) -> bool:
        """Wait until what was noted so far is written; whether it is. Blocks."""
        target = self.counters.noted
        deadline = time.monotonic() + within_s
        with self._written:
            while self._settled() < target:
                self._wake.set()
                if self._failing or not self._thread.is_alive() or time.monotonic() > deadline:
                    return False
                self._written.wait(0.05)
        return True

    def look_for_old(self) -> None:
        """Delete what is kept too long now, rather than at the next turn; any thread may call."""
        self._retention_due = 0.0
        self._wake.set()

    def close(self) -> None:
        """Write what waits, at most for ten seconds; what can not be written is told."""
        self._stopping = True
        self._wake.set()
        self._thread.join(_CLOSE_S)
        if self.waiting:
            log.error("%d events could not be written before the end", self.waiting)
        if self._database is not None and not self._thread.is_alive():
            self._database.close()

    # The writer's thread.

    def _run(self) -> None:
        while True:
            self._wake.wait(WRITE_EACH_S)
            self._wake.clear()
            stopping = self._stopping
            try:
                self._write_all()
                self._delete_old()
            except Exception:
                log.exception("the writer of events failed and goes on")
            if stopping:
                return
            if self._failing:
                # A disk that fails is not asked without end, however many events come.
                time.sleep(WRITE_EACH_S / 4)

    def _write_all(self) -> None:
        while True:
            if not self._batch:
                with self._lock:
                    count = min(len(self._queue), BATCH_EVENTS)
                    self._batch = [self._queue.popleft() for _ in range(count)]
                if not self._batch:
                    return
            if not self._write_batch():
                return
            with self._written:
                self._batch = []
                self._written.notify_all()

    def _write_batch(self) -> bool:
        """Whether it is done with, written or lost."""
        try:
            if self._database is None:
                self._open()
            assert self._database is not None
            written = self._writing.write(self._database, self._batch)
        except (sqlite3.OperationalError, OSError) as error:
            self._give_up(error)
            return False
        except sqlite3.DatabaseError as error:
            if schema.is_damaged(error):
                self._give_up(error)
                return False
            self.counters.lost += len(self._batch)
            log.exception("%d events could not be made into rows", len(self._batch))
            return True
        self.counters.written += written
        self.counters.lost += len(self._batch) - written
        if self._failing:
            log.info("events can be written again; %d were dropped since the start", self.counters.shed)
        self._failing = self._shedding = False
        return True

    def _give_up(self, error: sqlite3.Error | OSError) -> None:
        self.counters.write_failures += 1
        self._tell_failing(error)
        self._writing.forget()
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def _tell_failing(self, error: Exception) -> None:
        if not self._failing:
            log.error("events can not be written, they wait in memory: %s", error)
        self._failing = True

    def _open(self) -> None:
        try:
            self._database = schema.open_to_write(self._path)
        except sqlite3.DatabaseError as error:
            if not schema.is_damaged(error):
                raise
            aside = schema.move_aside(self._path, self._now_us())
            log.error("the events were damaged (%s); they are in %s now, new ones begin", error, aside.name)
            self._database = schema.open_to_write(self._path)

    def _keep_alias_key(self) -> None:
        assert self._database is not None
        values = ("alias", self.alias_key)
        self._database.execute("INSERT OR IGNORE INTO secret (name, value) VALUES (?, ?)", values)
        row = self._database.execute("SELECT value FROM secret WHERE name = 'alias'").fetchone()
        self.alias_key = bytes(row[0])

    def _delete_old(self) -> None:
        if self._database is None or self._failing or time.monotonic() < self._retention_due:
            return
        try:
            deleted, more = self._writing.delete_before(
                self._database, self._now_us() - self._days() * _DAY_US, _DELETE_AT_ONCE
            )
        except sqlite3.Error as error:
            self._give_up(error)
            return
        self.counters.deleted += deleted
        if more:
            # The rest after what came meanwhile.
            self._wake.set()
        else:
            self._retention_due = time.monotonic() + _RETENTION_EACH_S

    def _settled(self) -> int:
        return self.counters.written + self.counters.shed + self.counters.lost
