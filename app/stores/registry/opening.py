"""Opens the database of a registry: one connection that writes, others that read, each set up for its role."""

from __future__ import annotations

import dataclasses
import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.stores.registry.faults import RegistryFull, RegistryReadOnly, RegistryUnreachable, RegistryUrlError

Role = Literal["probe", "migrate", "write", "read"]

# Another process (a command line beside the hub) writes for moments only; longer than this is a fault.
BUSY_TIMEOUT_MS = 5_000
# Clearing the log of changes can wait for another time, writers can not.
CLEARING_TIMEOUT_MS = 200
# A server is slower with a whole fleet (docs/decisions/0005), and nobody waits for it in the meantime.
LOCK_TIMEOUT_S = 30
# Writers of one PostgreSQL database take turns by this advisory lock, as on SQLite by the lock of the file.
WRITER_LOCK = 0x57_41_54_54
# Connections for reading at once; the hub's worker threads are fewer.
READ_CONNECTIONS = 4
# Long enough that waiting costs nothing, short enough that nobody notices.
_RETRY_S = 0.02
# A server that does not answer within this is not there.
CONNECT_TIMEOUT_S = 10

_SUPPORTED = "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """Where a registry is; `place` is fit for messages and logs."""

    url: URL
    path: Path | None
    place: str

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of our own rather than a server."""
        return self.path is not None


def locate(url: str | Path) -> Location:
    """The location that a URL or the path of an SQLite file names.

    Raises:
        RegistryUrlError: it is no URL, or of a database we have no support for.
    """
    if isinstance(url, Path):
        return Location(URL.create("sqlite", database=str(url)), url, str(url))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # The text may hold a password, so it is not repeated.
        raise RegistryUrlError(f"registry.url is not a database URL; use {_SUPPORTED}") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.get_driver_name() == "pysqlite":
        if parsed.database in {None, "", ":memory:"} or parsed.query:
            raise RegistryUrlError(
                "registry.url must name a file that outlives the hub: sqlite:////folder/registry.sqlite"
            )
        path = Path(str(parsed.database))
        return Location(parsed, path, str(path))
    if backend == "postgresql":
        psycopg = parsed.set(drivername="postgresql+psycopg")
        return Location(psycopg, None, psycopg.render_as_string(hide_password=True))
    raise RegistryUrlError(f"registry.url: {backend} is not supported; use {_SUPPORTED}")


def make_file(location: Location) -> None:
    """Make the empty file of a new SQLite registry, for its owner's eyes only: it will say who lives where."""
    if location.path is None:
        return
    try:
        os.close(os.open(location.path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    except OSError as error:
        detail = error.strerror or type(error).__name__
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise RegistryReadOnly(location.place, detail) from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise RegistryFull(location.place, detail) from error
        raise RegistryUnreachable(location.place, detail) from error


def connect(location: Location, role: Role) -> Engine:
    """An engine whose connections are set up for a role; nothing is connected yet."""
    pool: dict[str, Any] = {"pool_size": READ_CONNECTIONS if role == "read" else 1, "max_overflow": 0}
    if location.is_sqlite:
        engine = create_engine(
            location.url,
            connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
            **pool,
        )
        _set_up_sqlite(engine, role)
        return engine
    options = [option for option in [location.url.query.get("options")] if isinstance(option, str)]
    if role in {"read", "probe"}:
        # Read-only is the session's default, so that a read that writes is an error here as on SQLite.
        options.append("-c default_transaction_read_only=on")
    else:
        options.append(f"-c lock_timeout={LOCK_TIMEOUT_S}s")
    engine = create_engine(
        location.url,
        # A server may have been restarted since the last statement.
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": f"wattdeck {role}",
            "options": " ".join(options),
        },
        **pool,
    )
    if role in {"write", "migrate"}:
        event.listen(engine, "begin", _take_turn)
    return engine


def _take_turn(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


def _set_up_sqlite(engine: Engine, role: Role) -> None:
    # A writer takes its lock at once: one that only finds out at its first write can not wait for it any more.
    begin = "BEGIN IMMEDIATE" if role in {"write", "migrate"} else "BEGIN"

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own BEGIN comes before the first change of data only and leaves changes of tables outside, so
        # transactions are begun by us, below.
        connection.isolation_level = None
        for statement in _sqlite_settings(role):
            _execute_patiently(connection, statement)

    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", begin_transaction)


def _execute_patiently(connection: sqlite3.Connection, statement: str) -> None:
    # SQLite's busy timeout does not hold for the change to WAL, for which two processes may meet at a first start.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _sqlite_settings(role: Role) -> tuple[str, ...]:
    if role == "probe":
        # Not even the journal mode of a database that may not be ours is changed.
        return ("PRAGMA query_only = ON",)
    if role == "read":
        return ("PRAGMA query_only = ON", "PRAGMA cache_size = -8000", "PRAGMA temp_store = MEMORY")
    return (
        "PRAGMA journal_mode = WAL",
        # A registered credential and a closed key must survive power loss; NORMAL may lose the last commits.
        "PRAGMA synchronous = FULL",
        # Off while migrating: rebuilding a table would otherwise delete what refers to it. Checked before the commit.
        f"PRAGMA foreign_keys = {'OFF' if role == 'migrate' else 'ON'}",
        # What is erased is overwritten, not only given free: somebody's address must not be found in the file.
        "PRAGMA secure_delete = ON",
        "PRAGMA cache_size = -32000",
        "PRAGMA temp_store = MEMORY",
    )
