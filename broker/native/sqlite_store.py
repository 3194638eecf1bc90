"""The broker's store in one SQLite file: changes gather on the loop, a thread writes them in one transaction."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from broker.native.counters import Counters
from broker.native.message import Message
from broker.native.persistence import (
    Stored,
    StoredMessage,
    StoredOutgoing,
    StoredSession,
    pack_message,
    pack_outgoing,
    pack_session,
)
from broker.native.session import Outgoing, Session

_log = logging.getLogger(__name__)

FILE_NAME = "broker.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE retained (topic TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE session (client TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE outgoing (client TEXT, number INTEGER, value BLOB NOT NULL, PRIMARY KEY (client, number)) WITHOUT ROWID;
"""

# Changes wait this long for others: many of them cancel each other out (a message queued and delivered at once).
_GATHER_S = 0.1
# Packed in one go on the loop: one to two milliseconds.
_SLICE = 200
_SLICE_BYTES = 2 * 1024 * 1024
# After an error of the disk.
_RETRY_S = 1.0
# At the stop.
_CLOSE_S = 10.0

_Key = tuple[str, str, int]
_Value = Message | Session | tuple[Session, Outgoing] | None
# A statement and its values.
_Write = tuple[str, tuple[object, ...]]


class NewerStoreError(Exception):
    """The file was written by a newer version of this program."""


class SqliteStore:
    """Retained messages, persistent sessions and their messages (`broker.native.persistence.Store`).

    What was changed in the last tenth of a second before a `kill -9` may be lost; the file itself never breaks.
    """

    def __init__(self, directory: Path, counters: Counters, now: Callable[[], float]) -> None:
        self._path = directory / FILE_NAME
        self._counters = counters
        self._now = now
        self._changes: dict[_Key, _Value] = {}
        # Clients whose session ended: their messages go before anything new is written.
        self._ended: dict[str, None] = {}
        self._encoder = msgspec.msgpack.Encoder()
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "broker-store")
        self._connection: sqlite3.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        # Changes the thread is writing.
        self._writing = 0
        self._failing = False
        self._closing = False

    # What the broker calls on its loop.

    def retained_changed(self, topic: str, message: Message | None) -> None:
        """A topic's retained message is another one, or gone."""
        self._change(("r", topic, 0), message)

    def session_changed(self, session: Session) -> None:
        """A persistent session is new or different."""
        self._change(("s", session.client_id, 0), session)

    def session_gone(self, session: Session) -> None:
        """A persistent session ended, with its messages."""
        self._ended[session.client_id] = None
        self._change(("s", session.client_id, 0), None)

    def outgoing_changed(self, session: Session, out: Outgoing) -> None:
        """A message for a persistent session is new or further on its way."""
        self._change(("o", session.client_id, out.number), (session, out))

    def outgoing_gone(self, session: Session, out: Outgoing) -> None:
        """A message for a persistent session has arrived or was dropped."""
        key = ("o", session.client_id, out.number)
        if out.stored:
            self._change(key, None)
        else:
            self._changes.pop(key, None)

    async def close(self) -> None:
        """Write what is not written, at most for ten seconds."""
        self._closing = True
        if self._changes and self._task is None:
            self._task = asyncio.create_task(self._write_all(), name="broker store")
        if self._task is not None:
            try:
                await asyncio.wait_for(self._task, _CLOSE_S)
            except TimeoutError:
                self._counters.add("persistence_errors")
                lost = len(self._changes) + self._writing
                _log.error("%d changes of sessions and retained messages could not be written", lost)
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    # What runs in a thread.

    def load(self) -> Stored:
        """Everything, before the first change. Raises NewerStoreError; a broken file is put aside."""
        try:
            return self._executor.submit(self._open).result()
        except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
            aside = self._path.with_suffix(".broken")
            _log.error("sessions and retained messages are lost, %s is put aside: %s", self._path.name, error)
            self._counters.add("persistence_errors")
            self._executor.submit(self._close).result()
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._executor.submit(self._open).result()

    def _open(self) -> Stored:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection = connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            connection.close()
            raise NewerStoreError(f"{self._path} was written by a newer version")
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        return Stored(
            retained=[
                msgspec.msgpack.decode(value, type=StoredMessage)
                for (value,) in connection.execute("SELECT value FROM retained")
            ],
            sessions=[
                msgspec.msgpack.decode(value, type=StoredSession)
                for (value,) in connection.execute("SELECT value FROM session")
            ],
            outgoing=[
                msgspec.msgpack.decode(value, type=StoredOutgoing)
                for (value,) in connection.execute("SELECT value FROM outgoing")
            ],
        )

    def _write(self, writes: list[_Write]) -> None:
        connection = self._connection
        if connection is None:
            raise sqlite3.OperationalError("the store is closed")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in writes:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Helpers on the loop.

    def _change(self, key: _Key, value: _Value) -> None:
        self._changes[key] = value
        if self._task is None:
            self._task = asyncio.create_task(self._write_all(), name="broker store")

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._changes:
                if not self._closing and len(self._changes) < _SLICE:
                    await asyncio.sleep(_GATHER_S)
                writes = self._take_slice()
                self._writing = len(writes)
                await self._write_until_done(loop, writes)
                self._writing = 0
        finally:
            self._task = None

    async def _write_until_done(self, loop: asyncio.AbstractEventLoop, writes: list[_Write]) -> None:
        while True:
            try:
                await loop.run_in_executor(self._executor, self._write, writes)
            except sqlite3.Error as error:
                self._counters.add("persistence_errors")
                if not self._failing:
                    self._failing = True
                    _log.error("sessions and retained messages can not be written, trying on: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            if self._failing:
                self._failing = False
                _log.warning("sessions and retained messages are written again")
            return

    def _take_slice(self) -> list[_Write]:
        writes: list[_Write] = [("DELETE FROM outgoing WHERE client=?", (client,)) for client in self._ended]
        self._ended.clear()
        size = 0
        now = self._now()
        for _ in range(min(_SLICE, len(self._changes))):
            key = next(iter(self._changes))
            value = self._changes.pop(key)
            write, length = self._pack(key, value, now)
            if write is not None:
                writes.append(write)
            size += length
            if size > _SLICE_BYTES:
                break
        return writes

    def _pack(self, key: _Key, value: _Value, now: float) -> tuple[_Write | None, int]:
        kind, name, number = key
        if kind == "r":
            if value is None:
                return ("DELETE FROM retained WHERE topic=?", (name,)), 0
            blob = self._encoder.encode(pack_message(cast("Message", value)))
            return ("INSERT OR REPLACE INTO retained VALUES (?, ?)", (name, blob)), len(blob)
        if kind == "s":
            session = cast("Session | None", value)
            if session is None or not session.persistent:
                return ("DELETE FROM session WHERE client=?", (name,)), 0
            blob = self._encoder.encode(pack_session(session, now))
            return ("INSERT OR REPLACE INTO session VALUES (?, ?)", (name, blob)), len(blob)
        if value is None:
            return ("DELETE FROM outgoing WHERE client=? AND number=?", (name, number)), 0
        session, out = cast("tuple[Session, Outgoing]", value)
        if not session.persistent:
            # The session ended after the change.
            return None, 0
        out.stored = True
        blob = self._encoder.encode(pack_outgoing(session, out))
        return ("INSERT OR REPLACE INTO outgoing VALUES (?, ?, ?)", (name, number, blob)), len(blob)
