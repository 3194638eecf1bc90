"""What administrators change of the credentials of sources and services; each change with its deed."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from app.domain.credentials import CredentialKind
from app.domain.errors import VersionConflict
from app.domain.listing import Column, Found, Listing
from app.stores.registry import accounts
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.models import Credential, table
from app.stores.registry.records import CredentialsChanged
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import select_page

_rows = table(Credential)
# A module's credential is changed with its module; operators listen by grants.
_KINDS = (CredentialKind.SOURCE.value, CredentialKind.SERVICE.value)
COLUMNS: Mapping[str, Column] = {
    "username": Column(str),
    "kind": Column(str),
    "note": Column(str),
    "blocked": Column(bool),
    "created_us": Column(int),
    "used_us": Column(int),
}
_SQL: Mapping[str, ColumnElement[Any]] = {
    **{name: _rows.c[name] for name in ("username", "kind", "note", "created_us")},
    "blocked": _rows.c.blocked_us.is_not(None),
    "used_us": _rows.c.last_used_us,
}


@dataclasses.dataclass(frozen=True, slots=True)
class AccountFile:
    """A credential without its secret. Times are UTC microseconds."""

    username: str
    kind: CredentialKind
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    note: str
    blocked_us: int | None
    created_us: int
    used_us: int | None

    @property
    def version(self) -> int:
        """Of what can be edited: another whenever that is another."""
        edited = (self.publish, self.subscribe, self.note, self.blocked_us)
        return zlib.crc32(msgspec.json.encode(edited))


@dataclasses.dataclass(frozen=True, slots=True)
class AccountChange:
    """What is to be changed; None stays."""

    publish: Sequence[str] | None = None
    subscribe: Sequence[str] | None = None
    note: str | None = None
    blocked: bool | None = None


class AccountEdits:
    """Every method blocks."""

    def __init__(self, registry: Registry, *, now_us: Callable[[], int]) -> None:
        self._registry = registry
        self._now_us = now_us

    def page(self, listing: Listing) -> Found[AccountFile]:
        """Some of them; by user name when nothing is said."""
        query = sa.select(_rows).where(_rows.c.kind.in_(_KINDS))
        with self._registry.reading() as connection:
            found = select_page(connection, query, _SQL, listing, last=_rows.c.username.asc())
        return Found([_file(row) for row in found.rows], found.total, found.offset, found.limit)

    def one(self, username: str) -> AccountFile:
        """Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return _one(connection, username)

    def create(
        self,
        actor: str,
        username: str,
        kind: CredentialKind,
        *,
        publish: Sequence[str],
        subscribe: Sequence[str],
        note: str,
    ) -> tuple[AccountFile, str]:
        """A credential and its secret, told this once. Raises OperatorInputError, NameTakenError."""
        now_us = self._now_us()
        with self._registry.writing() as connection:
            secret = accounts.add(
                connection, username, kind, publish=publish, subscribe=subscribe, note=note, now_us=now_us
            )
            made = _one(connection, username)
            record(connection, Deed(actor, "credential.create", _subject(username), None, _facts(made)), now_us)
        self._registry.tell(CredentialsChanged((username,)))
        return made, secret

    def edit(self, actor: str, username: str, version: int, change: AccountChange) -> AccountFile:
        """Raises UnknownNameError, VersionConflict, OperatorInputError."""
        now_us = self._now_us()
        with self._registry.writing() as connection:
            before = _one(connection, username)
            if before.version != version:
                raise VersionConflict
            values: dict[str, Any] = {}
            for name, patterns in (("publish", change.publish), ("subscribe", change.subscribe)):
                if patterns is not None:
                    accounts.check_patterns(patterns)
                    values[name] = "\n".join(patterns)
            if change.note is not None:
                values["note"] = change.note
            if change.blocked is not None and change.blocked != (before.blocked_us is not None):
                values["blocked_us"] = now_us if change.blocked else None
            if values:
                connection.execute(sa.update(_rows).where(_rows.c.username == username).values(values))
            after = _one(connection, username)
            deed = Deed(actor, "credential.edit", _subject(username), _facts(before), _facts(after))
            record(connection, deed, now_us)
        self._registry.tell(CredentialsChanged((username,)))
        return after

    def renew(self, actor: str, username: str) -> tuple[AccountFile, str]:
        """A new secret, told this once; the old one ends. Raises UnknownNameError."""
        with self._registry.writing() as connection:
            _one(connection, username)
            secret = accounts.rotate(connection, username)
            record(connection, Deed(actor, "credential.rekey", _subject(username)), self._now_us())
            renewed = _one(connection, username)
        self._registry.tell(CredentialsChanged((username,)))
        return renewed, secret

    def remove(self, actor: str, username: str) -> None:
        """Raises UnknownNameError."""
        with self._registry.writing() as connection:
            before = _one(connection, username)
            accounts.remove(connection, username)
            record(
                connection, Deed(actor, "credential.remove", _subject(username), _facts(before), None), self._now_us()
            )
        self._registry.tell(CredentialsChanged((username,)))


def _one(connection: Connection, username: str) -> AccountFile:
    named = sa.select(_rows).where(_rows.c.username == username, _rows.c.kind.in_(_KINDS))
    # PostgreSQL refuses to be asked for a NUL, and no name has one.
    row = None if "\0" in username else connection.execute(named).first()
    if row is None:
        raise UnknownNameError("credential", username)
    return _file(row)


def _file(row: Row[Any]) -> AccountFile:
    return AccountFile(
        row.username,
        CredentialKind(row.kind),
        accounts.patterns_of(row.publish),
        accounts.patterns_of(row.subscribe),
        row.note,
        row.blocked_us,
        row.created_us,
        row.last_used_us,
    )


def _subject(username: str) -> str:
    return f"credential:{username}"


def _facts(account: AccountFile) -> dict[str, Any]:
    return {
        "kind": account.kind.value,
        "publish": list(account.publish),
        "subscribe": list(account.subscribe),
        "blocked": account.blocked_us is not None,
    }
