"""Events as rows: what the one writer does in its transactions."""

from __future__ import annotations

import collections
import datetime as dt
import logging
import sqlite3
import zoneinfo
from collections.abc import Iterator, Sequence

import msgspec

from app.domain.events import Event, EventKind
from app.stores.events.schema import transaction

log = logging.getLogger(__name__)

# Log lines have 1,000 characters; what is longer is a mistake and is not kept.
_LONGEST_DETAILS = 8_192
_TOO_LONG = b'{"cut":true}'
# Names in one statement; SQLite allows 32,766 parameters.
_NAMES_AT_ONCE = 500
# Zones change their offset at quarters of an hour.
_QUARTER_US = 900_000_000
_QUARTERS_KEPT = 1_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Year 9999: the last with a day.
_LATEST_US = 253_370_764_800_000_000
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Writing:
    """Keeps in memory which name has which number in the file; `forget` it when a transaction failed."""

    def __init__(self, zone: str) -> None:
        self._zone = zoneinfo.ZoneInfo(zone)
        self._modules: dict[str, int] = {}
        self._kinds: dict[str, int] = {}
        self._days: dict[int, int] = {}

    def forget(self) -> None:
        """Ask the file again."""
        self._modules.clear()
        self._kinds.clear()

    def write(self, database: sqlite3.Connection, events: Sequence[Event]) -> int:
        """Write events in one transaction; how many could be rows. Raises sqlite3.Error, nothing is written then."""
        encoded = [(event, details) for event in events if (details := _encoded(event)) is not None]
        try:
            with transaction(database):
                self._learn(database, "module", "serial", self._modules, {event.module for event, _ in encoded})
                self._learn(database, "kind", "name", self._kinds, {event.kind.value for event, _ in encoded})
                self._insert(database, encoded)
        except BaseException:
            self.forget()
            raise
        return len(encoded)

    def delete_before(self, database: sqlite3.Connection, time_us: int, most: int) -> tuple[int, bool]:
        """Delete some events before a time, and the tallies of their days; how many events, and whether more may be.

        Raises sqlite3.Error.
        """
        with transaction(database):
            events = database.execute(
                "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE time_us < ? ORDER BY time_us LIMIT ?)",
                (time_us, most),
            ).rowcount
            tallies = database.execute(
                "DELETE FROM tally WHERE (day, kind, module) IN "
                "(SELECT day, kind, module FROM tally WHERE day < ? LIMIT ?)",
                (self._day(time_us), most),
            ).rowcount
        return events, most in (events, tallies)

    def erase(self, database: sqlite3.Connection, serial: str, from_us: int, to_us: int, most: int) -> int:
        """Delete some of a module's events of a time, what is known of its birth, and its tallies of those days.

        Days that are only partly in the time go whole: a tally says nothing of the hour. Raises sqlite3.Error.
        """
        with transaction(database):
            row = database.execute("SELECT id FROM module WHERE serial = ?", (serial,)).fetchone()
            if row is None:
                return 0
            deleted = database.execute(
                "DELETE FROM event WHERE id IN "
                "(SELECT id FROM event WHERE module = ? AND time_us >= ? AND time_us < ? LIMIT ?)",
                (row[0], from_us, to_us, most),
            ).rowcount
            database.execute(
                "DELETE FROM born WHERE module = ? AND time_us >= ? AND time_us < ?", (row[0], from_us, to_us)
            )
            if deleted < most:
                for kind in database.execute("SELECT id FROM kind").fetchall():
                    database.execute(
                        "DELETE FROM tally WHERE day >= ? AND day <= ? AND kind = ? AND module = ?",
                        (self._day(from_us), self._day(to_us), kind[0], row[0]),
                    )
        return deleted

    def _insert(self, database: sqlite3.Connection, encoded: Sequence[tuple[Event, bytes]]) -> None:
        rows = [
            (_time_us(event), self._modules[event.module], self._kinds[event.kind.value], details)
            for event, details in encoded
        ]
        database.executemany("INSERT INTO event (time_us, module, kind, details) VALUES (?, ?, ?, ?)", rows)
        tallies = collections.Counter((self._day(time_us), kind, module) for time_us, module, kind, _ in rows)
        database.executemany(
            "INSERT INTO tally (day, kind, module, events) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (day, kind, module) DO UPDATE SET events = events + excluded.events",
            [(*key, count) for key, count in tallies.items()],
        )
        database.executemany(
            "INSERT INTO born (module, time_us, details) VALUES (?, ?, ?) "
            "ON CONFLICT (module) DO UPDATE SET time_us = excluded.time_us, details = excluded.details "
            "WHERE excluded.time_us >= time_us",
            [
                (self._modules[event.module], _time_us(event), details)
                for event, details in encoded
                if event.kind is EventKind.BORN
            ],
        )

    def _learn(
        self, database: sqlite3.Connection, table: str, column: str, known: dict[str, int], names: set[str]
    ) -> None:
        """Have a number for each of these names."""
        missing = sorted(names - known.keys())
        # Table and column are ours, never somebody's text.
        database.executemany(f"INSERT OR IGNORE INTO {table} ({column}) VALUES (?)", [(name,) for name in missing])  # noqa: S608
        for some in _slices(missing, _NAMES_AT_ONCE):
            marks = ",".join("?" * len(some))
            found = database.execute(f"SELECT {column}, id FROM {table} WHERE {column} IN ({marks})", some)  # noqa: S608
            known.update(found.fetchall())

    def _day(self, time_us: int) -> int:
        """The civil day, as days since 1970."""
        quarter = min(max(time_us, 0), _LATEST_US) // _QUARTER_US
        day = self._days.get(quarter)
        if day is None:
            if len(self._days) >= _QUARTERS_KEPT:
                self._days.clear()
            moment = _EPOCH + dt.timedelta(microseconds=quarter * _QUARTER_US)
            day = self._days[quarter] = (moment.astimezone(self._zone).date() - _EPOCH.date()).days
        return day


def _time_us(event: Event) -> int:
    return min(max(event.time_us, 0), _LATEST_US)


def _encoded(event: Event) -> bytes | None:
    """The details as JSON; None, and told, for what no row can hold."""
    try:
        event.module.encode()
        details = _encode(dict(event.details))
    except (TypeError, ValueError, RecursionError) as error:
        log.error("an event %s can not be kept: %s", event.kind, type(error).__name__)
        return None
    return details if len(details) <= _LONGEST_DETAILS else _TOO_LONG


def _slices(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), size):
        yield names[begin : begin + size]
