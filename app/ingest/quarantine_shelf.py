"""The quarantine's file as operators see it: listed, counted, one message, dropped, or kept with a new reason."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, exc
from sqlalchemy.pool import NullPool

from app.domain.errors import EnvironmentFault
from app.domain.listing import Column, Found, Listing, SortBy
from app.ingest.quarantine import Quarantine, opened
from app.stores.registry.select_page import conditions_of, select_page

# One transaction removes so many, so that ingest waits for milliseconds only.
ROWS_AT_ONCE = 500
# An operator rather waits than is told that the file is busy; nothing of ingest waits for them.
_LONGEST_WAIT_S = 10.0

COLUMNS: Mapping[str, Column] = {
    "id": Column(int),
    "module": Column(str),
    "kind": Column(str),
    "reason": Column(str),
    "arrival_us": Column(int),
    "size": Column(int),
    "cut": Column(bool),
}
_REFUSED = sa.table(
    "refused",
    sa.column("id", sa.Integer),
    sa.column("arrival_us", sa.Integer),
    sa.column("module", sa.String),
    sa.column("kind", sa.String),
    sa.column("reason", sa.String),
    sa.column("detail", sa.String),
    sa.column("payload", sa.LargeBinary),
    sa.column("size", sa.Integer),
)
_ROW = _REFUSED.c
_CUT: ColumnElement[bool] = _ROW.size > sa.func.length(_ROW.payload)
_SQL_COLUMNS: Mapping[str, ColumnElement[Any]] = {name: _CUT if name == "cut" else _ROW[name] for name in COLUMNS}
_FACTS = (_ROW.id, _ROW.arrival_us, _ROW.module, _ROW.kind, _ROW.reason, _ROW.detail, _ROW.size, _CUT.label("cut"))


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedFacts:
    """A refused message without its payload. `cut`: only its first 4 kB were kept."""

    id: int
    arrival_us: int
    module: str
    kind: str
    reason: str
    detail: str
    size: int
    cut: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A refused message as it is kept."""

    facts: RefusedFacts
    payload: bytes


class QuarantineShelf:
    """Blocks on the file: any thread but the loop's. Ingest goes on writing meanwhile.

    Every method may raise EnvironmentFault: the file can not be used.
    """

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(quarantine.path)),
            poolclass=NullPool,
            connect_args={"timeout": _LONGEST_WAIT_S},
        )
        sa.event.listen(self._engine, "connect", _forget_for_good)

    def listed(self, listing: Listing) -> Found[RefusedFacts]:
        """Messages, newest first where the listing has no order."""
        if not listing.sort:
            listing = dataclasses.replace(listing, sort=(SortBy("id", descending=True),))
        with self._reading() as connection:
            found = select_page(connection, sa.select(*_FACTS), _SQL_COLUMNS, listing, last=_ROW.id)
            return Found([_facts(row) for row in found.rows], found.total, found.offset, found.limit)

    def message(self, number: int) -> Refused | None:
        """One message, or None."""
        return next(iter(self.messages([number])), None)

    def messages(self, numbers: Sequence[int]) -> list[Refused]:
        """Those of some messages that are there, by number."""
        with self._reading() as connection:
            return _messages(connection, [_ROW.id.in_(numbers)], len(numbers))

    def matching(self, listing: Listing, *, after: int, up_to: int, most: int) -> list[Refused]:
        """Messages that meet a listing's conditions, by number, from behind one up to another."""
        with self._reading() as connection:
            return _messages(connection, [*_matching(listing, up_to), _ROW.id > after], most)

    def count(self, listing: Listing, *, up_to: int) -> int:
        """How many messages up to a number meet a listing's conditions."""
        query = sa.select(sa.func.count()).select_from(_REFUSED).where(*_matching(listing, up_to))
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def counts(self) -> dict[str, int]:
        """How many messages there are of each reason, the most frequent first."""
        count = sa.func.count()
        query = sa.select(_ROW.reason, count).group_by(_ROW.reason).order_by(count.desc(), _ROW.reason)
        with self._reading() as connection:
            return {row.reason: int(row[1]) for row in connection.execute(query)}

    def remove(self, numbers: Sequence[int]) -> int:
        """Forget messages; how many were there."""
        removed = 0
        for begin in range(0, len(numbers), ROWS_AT_ONCE):
            with self._writing() as connection:
                part = numbers[begin : begin + ROWS_AT_ONCE]
                removed += connection.execute(sa.delete(_REFUSED).where(_ROW.id.in_(part))).rowcount
        return removed

    def remove_matching(self, listing: Listing, *, up_to: int) -> int:
        """Forget messages that meet a listing's conditions; how many."""
        removed = 0
        while True:
            query = sa.select(_ROW.id).where(*_matching(listing, up_to)).limit(ROWS_AT_ONCE)
            with self._reading() as connection:
                numbers = connection.execute(query).scalars().all()
            removed += self.remove(numbers)
            if len(numbers) < ROWS_AT_ONCE:
                return removed

    def change(self, number: int, reason: str, detail: str, payload: bytes, size: int) -> None:
        """Keep a message on with another reason, and what is left of it."""
        with self._writing() as connection:
            connection.execute(
                sa.update(_REFUSED)
                .where(_ROW.id == number)
                .values(reason=reason, detail=detail, payload=payload, size=size)
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._quarantine.writing, self._faults():
            self._prepare()
            with self._engine.begin() as connection:
                yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._faults():
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    def _prepare(self) -> None:
        """Nothing was ever refused, or an older version wrote the file: the table is made as it is now."""
        with opened(self._quarantine.path):
            pass

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise EnvironmentFault(f"the quarantine can not be used: {error.orig}") from error
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(f"the quarantine can not be used: {error}") from error


def _forget_for_good(connection: sqlite3.Connection, _record: object) -> None:
    # What is dropped may be somebody's readings: overwritten, not only unlinked.
    connection.execute("PRAGMA secure_delete = ON")


def _matching(listing: Listing, up_to: int) -> list[ColumnElement[bool]]:
    return [*conditions_of(_SQL_COLUMNS, listing), _ROW.id <= up_to]


def _messages(connection: Connection, conditions: Sequence[ColumnElement[bool]], most: int) -> list[Refused]:
    query = sa.select(*_FACTS, _ROW.payload).where(*conditions).order_by(_ROW.id).limit(most)
    return [Refused(_facts(row), row.payload) for row in connection.execute(query)]


def _facts(row: sa.Row[*tuple[Any, ...]]) -> RefusedFacts:
    return RefusedFacts(
        row.id, row.arrival_us, row.module, row.kind, row.reason, row.detail, row.size, cut=bool(row.cut)
    )
