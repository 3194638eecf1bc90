"""What did not fit: refused messages with their reason, bounded, kept for an operator to read."""

from __future__ import annotations

import collections
import dataclasses
import logging
import sqlite3
import threading
from pathlib import Path

log = logging.getLogger(__name__)

# A flood of garbage must not become a flood of writes: above this many between two flushes, messages are only counted.
_MOST_PENDING = 500
LONGEST_PAYLOAD = 4096
# Somebody who reads the file holds up the journal's writer thread no longer than this.
LONGEST_WAIT_S = 1.0
# AUTOINCREMENT: an operator who decides on number 12 must not meet a later message under that number.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS refused (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    arrival_us INTEGER NOT NULL,
    module TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    payload BLOB NOT NULL,
    size INTEGER NOT NULL
)
"""
# Files of the first version had no size, so a payload of the full length may have been longer.
_TAKE_OVER = """
INSERT INTO refused
SELECT id, arrival_us, module, kind, reason, detail, payload, length(payload) + (length(payload) >= ?)
FROM refused_before
"""


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedMessage:
    """One refused message; the payload is cut at 4 kB, `size` is how long it was."""

    arrival_us: int
    module: str
    kind: str
    reason: str
    detail: str
    payload: bytes
    size: int


class Quarantine:
    """Counts every refusal by reason on the loop; keeps the newest `most_rows` in a small SQLite file of its own.

    `put` and `take_pending` are for the loop, `store` for a worker thread; a file that can not be written loses the
    messages, never the counts, and says so once. Whoever else in this process writes to the file takes `writing`.
    """

    def __init__(self, path: Path, most_rows: int) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.path = path
        self.writing = threading.Lock()
        self._most_rows = most_rows
        self._pending: list[RefusedMessage] = []
        self._failed = False

    def put(self, arrival_us: int, module: str, kind: str, reason: str, detail: str, payload: bytes) -> None:
        """Count a refusal, and keep it unless too many came since the last flush."""
        self.counts[reason] += 1
        if self.room > 0:
            kept = payload[:LONGEST_PAYLOAD]
            self._pending.append(RefusedMessage(arrival_us, module, kind, reason, detail, kept, len(payload)))

    def keep_rows(self, most_rows: int) -> None:
        """Keep so many from the next flush on."""
        self._most_rows = most_rows

    @property
    def room(self) -> int:
        """How many more messages are kept until the next flush; for those above it `count` is enough."""
        return _MOST_PENDING - len(self._pending) if self._most_rows else 0

    def count(self, reason: str, messages: int) -> None:
        """Count refusals of which nothing is kept."""
        self.counts[reason] += messages

    def take_pending(self) -> list[RefusedMessage]:
        """The messages to be stored next."""
        pending, self._pending = self._pending, []
        return pending

    def store(self, messages: list[RefusedMessage]) -> None:
        """Write messages and forget the oldest above the bound. Blocks; never raises for a bad disk."""
        try:
            with self.writing, opened(self.path) as database:
                database.executemany(
                    "INSERT INTO refused (arrival_us, module, kind, reason, detail, payload, size) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [dataclasses.astuple(message) for message in messages],
                )
                database.execute(
                    "DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (self._most_rows,)
                )
        except (sqlite3.Error, OSError) as error:
            if not self._failed:
                log.error("quarantine can not be written, refused messages are only counted: %s", error)
            self._failed = True
            return
        if self._failed:
            log.info("quarantine can be written again")
        self._failed = False


def newest_refused(path: Path, most: int) -> list[RefusedMessage]:
    """The newest stored messages, newest first; none where no file is. Any process may ask beside the hub."""
    if not path.exists():
        return []
    with opened(path) as database:
        rows = database.execute(
            "SELECT arrival_us, module, kind, reason, detail, payload, size FROM refused ORDER BY id DESC LIMIT ?",
            (most,),
        ).fetchall()
    return [RefusedMessage(*row) for row in rows]


class opened:  # noqa: N801 - reads as a verb at its uses
    """A connection that commits and closes at the end of a with block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        self._database = sqlite3.connect(self._path, timeout=LONGEST_WAIT_S)
        try:
            # Refused messages may be somebody's readings: overwritten when they go, not only given free.
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.execute(_SCHEMA)
            if not self._is_current():
                self._upgrade()
        except BaseException:
            self._database.close()
            raise
        return self._database

    def _is_current(self) -> bool:
        return "size" in {row[1] for row in self._database.execute("PRAGMA table_info(refused)")}

    def _upgrade(self) -> None:
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        # Another thread may have been faster.
        if not self._is_current():
            execute("ALTER TABLE refused RENAME TO refused_before")
            execute(_SCHEMA)
            execute(_TAKE_OVER, (LONGEST_PAYLOAD,))
            execute("DROP TABLE refused_before")
        self._database.commit()

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            self._database.commit()
        self._database.close()
