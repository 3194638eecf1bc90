"""The access log in the registry: appended to, listed, and read through; never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from app.domain.access_chain import ChainEnd, Entry, Look, chained
from app.domain.errors import EnvironmentFault
from app.domain.listing import Column, Found, Listing
from app.stores.registry.actions import Deed, record
from app.stores.registry.models import AccessEntry, table
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import conditions_of, select_page

COLUMNS: Mapping[str, Column] = {
    "number": Column(int),
    "quarter_us": Column(int),
    "at_us": Column(int),
    "operator": Column(str),
    "subject": Column(str),
    "attributes": Column(str),
    "purpose": Column(str),
    "ticket": Column(str),
    "count": Column(int),
}
_rows = table(AccessEntry)
_SQL: Mapping[str, ColumnElement[Any]] = {name: _rows.c[name] for name in COLUMNS}
# A chain is read through in pieces: long reading transactions hold back the database's own cleaning.
_ROWS_AT_ONCE = 1000
# No hub gets there by counting; a row with such a number was put in by somebody else.
_HIGHEST_NUMBER = 2**53


class AccessLogDamaged(EnvironmentFault):
    """The access log was changed from outside and can not be continued; `./run verify-log` says where."""


class AccessEntries:
    """Blocks on the database. One hub appends."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def end(self) -> ChainEnd:
        """The newest entry."""
        with self._registry.reading() as connection:
            return _end(connection)

    def append(self, looks: Sequence[Look], announce: Callable[[ChainEnd, ChainEnd], None]) -> ChainEnd:
        """Write looks down in one transaction; the new end.

        `announce` is told the ends before and after once it is the only writer and before the commit; when it raises,
        nothing is written. Raises AccessLogDamaged.
        """
        with self._registry.writing() as connection:
            before = _end(connection)
            if before.number > _HIGHEST_NUMBER:
                raise AccessLogDamaged
            entries = chained(before, looks)
            after = entries[-1].end if entries else before
            announce(before, after)
            if entries:
                connection.execute(sa.insert(_rows), [_values(entry) for entry in entries])
        return after

    def looks_of(self, quarter_us: int, most: int) -> dict[Look, int]:
        """The looks of a quarter of an hour, each with count and time 0: how often, as far as it is written."""
        keys = (
            _rows.c.operator,
            _rows.c.subject,
            _rows.c.attributes,
            _rows.c.purpose,
            _rows.c.ticket,
        )
        query = sa.select(*keys, sa.func.max(_rows.c["count"]).label("most"))
        query = query.where(_rows.c.quarter_us == quarter_us).group_by(*keys).limit(most)
        with self._registry.reading() as connection:
            found = connection.execute(query).all()
        return {Look(quarter_us, 0, *row[:5], 0): row.most for row in found}

    def page(self, listing: Listing) -> Found[Entry]:
        """Some of them, the newest first when nothing is said."""
        with self._registry.reading() as connection:
            found = select_page(connection, sa.select(_rows), _SQL, listing, last=_rows.c.number.desc())
        return Found([_entry(row) for row in found.rows], found.total, found.offset, found.limit)

    def each(self, listing: Listing | None = None, *, pause: Callable[[], None] = lambda: None) -> Iterator[Entry]:
        """Every entry in the order of their numbers, or those that meet a listing's conditions.

        `pause` is called after each piece.
        """
        query = sa.select(_rows).where(*conditions_of(_SQL, listing or Listing()))
        query = query.order_by(_rows.c.number).limit(_ROWS_AT_ONCE)
        last: int | None = None
        while True:
            with self._registry.reading() as connection:
                found = connection.execute(query if last is None else query.where(_rows.c.number > last)).all()
            yield from map(_entry, found)
            if len(found) < _ROWS_AT_ONCE:
                return
            last = found[-1].number
            pause()

    def record_reading(self, actor: str, what: str, facts: Mapping[str, Any], at_us: int) -> None:
        """Write down that somebody looked at the log itself, among the actions."""
        with self._registry.writing() as connection:
            record(connection, Deed(actor, f"access_log.{what}", "access_log", None, facts), at_us)


def _end(connection: Connection) -> ChainEnd:
    row = connection.execute(sa.select(_rows.c.number, _rows.c.sha256).order_by(_rows.c.number.desc()).limit(1)).first()
    return ChainEnd() if row is None else ChainEnd(row.number, bytes(row.sha256))


def _values(entry: Entry) -> dict[str, Any]:
    return {"number": entry.number, "previous": entry.previous, "sha256": entry.sha256} | entry.look._asdict()


def _entry(row: Row[Any]) -> Entry:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    look = Look(**{name: values[name] for name in Look._fields})
    return Entry(values["number"], look, bytes(values["previous"]), bytes(values["sha256"]))
