"""Reads events: pages from the newest on, counts by day, what modules last said at their birth."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import heapq
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from app.domain.errors import OperatorInputError
from app.domain.events import EventKind
from app.stores.events.schema import reading

# A page of nothing but a flood of equal log lines ends here, with a cursor to go on from.
_MOST_SCANNED = 20_000
_SECOND_US = 1_000_000
_EPOCH = dt.date(1970, 1, 1)
_LATEST_US = 2**62
_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: of one module or of all, of some kinds or of all, with from_us <= time < to_us."""

    module: str | None = None
    kinds: tuple[EventKind, ...] = ()
    from_us: int = 0
    to_us: int = _LATEST_US
    limit: int = 100
    cursor: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was kept. `count` equal log lines of one second are one, at the time of the newest."""

    id: int
    module: str
    time_us: int
    kind: str
    details: Mapping[str, Any]
    count: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class EventPage:
    """Newest first; `cursor` is where the next page begins, None when there is none."""

    events: list[StoredEvent]
    cursor: str | None


class DayCount(NamedTuple):
    """A civil day's events of a kind, and how many modules they were of."""

    day: dt.date
    kind: str
    events: int
    modules: int


class _Row(NamedTuple):
    """As the file has it; ordered from the newest on by `order`."""

    time_us: int
    id: int
    module: str
    kind: str
    details: bytes

    @property
    def order(self) -> tuple[int, int]:
        return -self.time_us, -self.id


class EventReader:
    """Any thread may ask, also beside a writer. Every method blocks and raises EventsUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def page(self, wanted: Wanted) -> EventPage:
        """Some events. Raises OperatorInputError for what is no cursor."""
        below = _position(wanted.cursor, wanted.to_us)
        with reading(self._path) as database:
            if database is None:
                return EventPage([], None)
            return _collapsed(_rows(database, wanted, below), wanted.limit)

    def knows(self, serial: str) -> bool:
        """Whether there ever was an event of this module."""
        with reading(self._path) as database:
            return database is not None and _number(database, "module", "serial", serial) is not None

    def count(self, serial: str, from_us: int, to_us: int) -> int:
        """How many events of a module a time has."""
        with reading(self._path) as database:
            if database is None:
                return 0
            found = database.execute(
                "SELECT count(*) FROM event WHERE module = (SELECT id FROM module WHERE serial = ?) "
                "AND time_us >= ? AND time_us < ?",
                (serial, from_us, to_us),
            ).fetchone()
        return int(found[0])

    def days(self, first: dt.date, last: dt.date) -> list[DayCount]:
        """Counts of each day and kind, rising."""
        with reading(self._path) as database:
            if database is None:
                return []
            rows = database.execute(
                "SELECT day, name, sum(events), count(*) FROM tally JOIN kind ON kind.id = tally.kind "
                "WHERE day >= ? AND day <= ? GROUP BY day, name ORDER BY day, name",
                ((first - _EPOCH).days, (last - _EPOCH).days),
            ).fetchall()
        return [DayCount(_EPOCH + dt.timedelta(days=day), kind, events, modules) for day, kind, events, modules in rows]

    def born(self) -> dict[str, Mapping[str, Any]]:
        """The newest birth of every module."""
        with reading(self._path) as database:
            if database is None:
                return {}
            rows = database.execute(
                "SELECT serial, details FROM born JOIN module ON module.id = born.module"
            ).fetchall()
        return {serial: _decode(details) for serial, details in rows}


def _position(cursor: str, to_us: int) -> tuple[int, int]:
    """The (time, id) below which rows are wanted."""
    if not cursor:
        return min(to_us, _LATEST_US), 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise OperatorInputError("that is no cursor of an earlier page")
    return min((int(found[1]), int(found[2])), (to_us, 0))


def _rows(database: sqlite3.Connection, wanted: Wanted, below: tuple[int, int]) -> Iterator[_Row]:
    """Rows from the newest on: one index per question, several kinds merged as they are read."""
    condition = "time_us >= :from_us AND time_us <= :below_us AND (time_us < :below_us OR event.id < :below_id)"
    values: dict[str, int] = {"from_us": wanted.from_us, "below_us": below[0], "below_id": below[1]}
    index = "event_time"
    kinds: Sequence[tuple[int, str]] = database.execute("SELECT id, name FROM kind").fetchall()
    names = dict(kinds)
    if wanted.kinds:
        kinds = [(number, name) for number, name in kinds if name in wanted.kinds]
    if wanted.module is not None:
        module = _number(database, "module", "serial", wanted.module)
        if module is None:
            return
        values["module"] = module
        condition = f"event.module = :module AND event.kind = :kind AND {condition}"
        index = "event_module"
    elif wanted.kinds:
        condition = f"event.kind = :kind AND {condition}"
        index = "event_kind"
    # Every part of the text is ours; what was asked for is in the values.
    question = (
        "SELECT time_us, event.id, serial, event.kind, details "  # noqa: S608
        f"FROM event INDEXED BY {index} JOIN module ON module.id = event.module "
        f"WHERE {condition} ORDER BY time_us DESC, event.id DESC"
    )
    asked = [values] if index == "event_time" else [{**values, "kind": number} for number, _name in kinds]
    with contextlib.ExitStack() as stack:
        answers = [stack.enter_context(contextlib.closing(database.execute(question, one))) for one in asked]
        streams = [
            (
                _Row(time_us, number, serial, names.get(kind, ""), details)
                for time_us, number, serial, kind, details in answer
            )
            for answer in answers
        ]
        yield from heapq.merge(*streams, key=lambda row: row.order)


def _collapsed(rows: Iterator[_Row], limit: int) -> EventPage:
    """Equal log lines of one second become one."""
    found: list[StoredEvent] = []
    # Where in `found` each log line of the present second is.
    lines: dict[tuple[str, bytes], int] = {}
    second = -1
    last: _Row | None = None
    for number, row in enumerate(rows):
        is_line = row.kind == EventKind.LOG
        if row.time_us // _SECOND_US != second:
            second = row.time_us // _SECOND_US
            lines.clear()
        at = lines.get((row.module, row.details)) if is_line else None
        if at is not None:
            found[at] = dataclasses.replace(found[at], count=found[at].count + 1)
        elif len(found) >= limit or number >= _MOST_SCANNED:
            assert last is not None
            return EventPage(found, f"{last.time_us}-{last.id}")
        else:
            if is_line:
                lines[row.module, row.details] = len(found)
            found.append(StoredEvent(row.id, row.module, row.time_us, row.kind, _decode(row.details)))
        last = row
    return EventPage(found, None)


def _number(database: sqlite3.Connection, table: str, column: str, name: str) -> int | None:
    row = database.execute(f"SELECT id FROM {table} WHERE {column} = ?", (name,)).fetchone()  # noqa: S608 - both ours
    return None if row is None else int(row[0])
