"""Reading what was written down of changes, and its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement

from app.domain.listing import Column, Found, Listing
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.models import Action, table
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import conditions_of, select_page

# What a list of actions may be ordered by and filtered on.
ACTION_COLUMNS: Mapping[str, Column] = {
    "id": Column(int),
    "at_us": Column(int),
    "actor": Column(str),
    "what": Column(str),
    "subject": Column(str),
}
_COLUMNS: Mapping[str, ColumnElement[Any]] = {name: table(Action).c[name] for name in ACTION_COLUMNS}
_ROWS_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class ActionRecord:
    """Who changed what; see actions.Deed."""

    id: int
    at_us: int
    actor: str
    what: str
    subject: str
    before: Any
    after: Any


class ActionLog:
    """Every method blocks; see Registry for what each may raise beside what it names."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def found(self, listing: Listing) -> Found[ActionRecord]:
        """Some actions; the newest first where nothing else is said."""
        with self._registry.reading() as connection:
            found = select_page(connection, sa.select(table(Action)), _COLUMNS, listing, last=_COLUMNS["id"].desc())
        return Found([_record(row) for row in found.rows], found.total, found.offset, found.limit)

    def get(self, number: int) -> ActionRecord:
        """One action. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            row = connection.execute(sa.select(table(Action)).where(_COLUMNS["id"] == number)).one_or_none()
        if row is None:
            raise UnknownNameError("action", number)
        return _record(row)

    def all(self, listing: Listing) -> Iterator[ActionRecord]:
        """Every action that meets a listing's conditions, oldest first, some at a time; for a file."""
        last = 0
        while True:
            query = (
                sa.select(table(Action))
                .where(_COLUMNS["id"] > last, *conditions_of(_COLUMNS, listing))
                .order_by(_COLUMNS["id"])
                .limit(_ROWS_AT_ONCE)
            )
            # No connection stays taken while a slow reader takes its time.
            with self._registry.reading() as connection:
                rows = [_record(row) for row in connection.execute(query)]
            yield from rows
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1].id

    def naming(self, subject: str) -> int:
        """How many actions are on somebody or something, by kind:name."""
        with self._registry.reading() as connection:
            query = sa.select(sa.func.count()).where(_COLUMNS["subject"] == subject)
            return connection.execute(query).scalar_one()

    def prune(self, before_us: int, most: int) -> int:
        """Remove actions before a time, at most so many; how many there were."""
        with self._registry.writing() as connection:
            old = sa.select(Action.id).where(Action.at_us < before_us).order_by(Action.at_us).limit(most)
            ids = list(connection.execute(old).scalars())
            if ids:
                connection.execute(sa.delete(Action).where(Action.id.in_(ids)))
            return len(ids)


def _record(row: Any) -> ActionRecord:
    return ActionRecord(row.id, row.at_us, row.actor, row.what, row.subject, _facts(row.before), _facts(row.after))


def _facts(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
