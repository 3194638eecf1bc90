"""The file of events: its tables, its version and how older ones are brought up to it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.domain.errors import EnvironmentFault, OperatorInputError

log = logging.getLogger(__name__)

# A reader never waits for the writer (WAL); a writer waits for an erasure, which goes in small steps.
_BUSY_S = 10.0
_CLEARING_MS = 200
# Rows are found by module, by kind, by time alone; each index ends in the row's id, so that the order is complete.
# `tally` counts a module's events of a kind in a day, so that a month's unique connections need no look at each event.
# `born` holds the newest birth of each module for ever: what a change is a change of.
_FIRST = """
CREATE TABLE module (id INTEGER PRIMARY KEY, serial TEXT NOT NULL UNIQUE);
CREATE TABLE kind (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    module INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    details BLOB NOT NULL
);
CREATE INDEX event_module ON event (module, kind, time_us);
CREATE INDEX event_kind ON event (kind, time_us);
CREATE INDEX event_time ON event (time_us);
CREATE TABLE tally (
    day INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    module INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (day, kind, module)
) WITHOUT ROWID;
CREATE TABLE born (module INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, details BLOB NOT NULL);
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
# Step N takes a file of version N to version N + 1. A released step is never changed.
MIGRATIONS: Sequence[str] = (_FIRST,)


class EventsTooNew(OperatorInputError):
    """A newer Wattdeck wrote the events."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"the events {path} have version {found}, this Wattdeck knows versions up to {known} and did not touch "
            "them; install the newer Wattdeck again, or move the file away"
        )


class EventsUnavailable(EnvironmentFault):
    """The file of events can not be read or written now."""

    def __init__(self, path: Path, cause: Exception) -> None:
        super().__init__(f"{path}: {cause}")


def open_to_write(path: Path, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """The file, made or migrated where needed. Raises EventsTooNew, sqlite3.Error."""
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # Power loss may cost the last second; the file stays whole. A sync per second would wear out a laptop's disk.
        database.execute("PRAGMA synchronous = NORMAL")
        # What an erasure deletes is overwritten, not only given free.
        database.execute("PRAGMA secure_delete = ON")
        _migrate(database, path, migrations)
    except BaseException:
        database.close()
        raise
    return database


def clear_log(database: sqlite3.Connection, path: Path) -> None:
    """Leave nothing in the log of changes, where what was deleted may still stand. Raises EventsUnavailable.

    Tried for some seconds, in short turns: the writer waits meanwhile, and readers are done within moments.
    """
    database.execute(f"PRAGMA busy_timeout = {_CLEARING_MS}")
    deadline = time.monotonic() + _BUSY_S
    while database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() < deadline:
            time.sleep(_CLEARING_MS / 1000)
            continue
        problem = "it is being read, so that deleted events stay in its log of changes for now"
        raise EventsUnavailable(path, sqlite3.OperationalError(problem))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that can not write, None where no file is. Raises EventsUnavailable."""
    if not path.exists():
        yield None
        return
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        try:
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise EventsUnavailable(path, error) from error


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # A disk that is full may have ended the transaction already.
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether waiting will not mend it: the file is no database any more."""
    return (getattr(error, "sqlite_errorname", "") or "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def move_aside(path: Path, now_us: int) -> Path:
    """Put a damaged file, with its log, out of the way for an inquiry; where it is now. Raises OSError."""
    aside = path.with_name(f"{path.stem}.damaged-{now_us // 1_000_000}{path.suffix}")
    for ending in ("-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.replace(aside.with_name(aside.name + ending))
    path.replace(aside)
    return aside


def _migrate(database: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    known = len(migrations)
    found = int(database.execute("PRAGMA user_version").fetchone()[0])
    if found > known:
        raise EventsTooNew(path, found, known)
    for version in range(found, known):
        with transaction(database):
            for statement in migrations[version].split(";"):
                if statement.strip():
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {version + 1}")
        if found:
            log.info("events: migrated to version %d", version + 1)
