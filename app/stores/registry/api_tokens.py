"""API tokens in the registry: third parties' ways in."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from app.domain.listing import Column, Found, Listing
from app.domain.people import Scope
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import NameTakenError, RefusedChangeError, UnknownNameError
from app.stores.registry.models import ApiToken, table
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import select_page


@dataclasses.dataclass(frozen=True, slots=True)
class ApiTokenRecord:
    """A token without what is secret of it."""

    id: int
    name: str
    scopes: frozenset[Scope]
    created_by: str
    created_us: int
    expires_us: int | None
    used_us: int | None
    revoked_us: int | None


COLUMNS: Mapping[str, Column] = {
    "name": Column(str),
    "created_by": Column(str),
    "created_us": Column(int),
    "expires_us": Column(int),
    "used_us": Column(int),
    "revoked": Column(bool),
}
_rows = table(ApiToken)
_SQL: Mapping[str, ColumnElement[Any]] = {
    **{name: _rows.c[name] for name in COLUMNS if name != "revoked"},
    "revoked": _rows.c.revoked_us.is_not(None),
}


class ApiTokens:
    """Blocks on the database; names are compared whatever their case, and are never given twice."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def page(self, listing: Listing) -> Found[ApiTokenRecord]:
        """Some of them, revoked ones too; by name when nothing is said."""
        with self._registry.reading() as connection:
            found = select_page(connection, sa.select(_rows), _SQL, listing, last=_rows.c.name.asc())
        return Found([_record(row) for row in found.rows], found.total, found.offset, found.limit)

    def get(self, name: str) -> ApiTokenRecord:
        """Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return _token_named(connection, name)[0]

    def create(
        self,
        name: str,
        scopes: Collection[Scope],
        token_sha256: bytes,
        *,
        expires_us: int | None,
        actor: str,
        at_us: int,
    ) -> ApiTokenRecord:
        """Raises NameTakenError."""
        words = sorted(scope.value for scope in scopes)
        with self._registry.writing() as connection:
            if connection.execute(sa.select(_rows.c.id).where(_is_named(name))).first() is not None:
                raise NameTakenError("API tokens", [name])
            connection.execute(
                sa.insert(_rows).values(
                    name=name,
                    token_sha256=token_sha256,
                    scopes="\n".join(words),
                    created_by=actor,
                    created_us=at_us,
                    expires_us=expires_us,
                )
            )
            after = {"scopes": words, "expires_us": expires_us}
            record(connection, Deed(actor, "api_token.create", f"api_token:{name}", None, after), at_us)
            return _token_named(connection, name)[0]

    def revoke(self, name: str, *, actor: str, at_us: int) -> bytes:
        """End a token; its hash. Raises UnknownNameError, and RefusedChangeError for one that is revoked already."""
        with self._registry.writing() as connection:
            token, digest = _token_named(connection, name)
            if token.revoked_us is not None:
                raise RefusedChangeError(f"the token {token.name} is revoked already")
            connection.execute(sa.update(_rows).where(_rows.c.id == token.id).values(revoked_us=at_us))
            record(connection, Deed(actor, "api_token.revoke", f"api_token:{token.name}"), at_us)
        return digest

    def valid(self, now_us: int) -> list[tuple[bytes, ApiTokenRecord]]:
        """Every token that lets somebody in, with its hash."""
        query = sa.select(_rows).where(_rows.c.revoked_us.is_(None))
        query = query.where(_rows.c.expires_us.is_(None) | (_rows.c.expires_us > now_us))
        with self._registry.reading() as connection:
            return [(row.token_sha256, _record(row)) for row in connection.execute(query)]

    def note_used(self, used_us: Mapping[bytes, int]) -> None:
        """Write when tokens were used last, by their hash; what is no API token's is passed over."""
        set_used = sa.update(_rows).where(_rows.c.token_sha256 == sa.bindparam("of")).values(used_us=sa.bindparam("at"))
        if used_us:
            with self._registry.writing() as connection:
                connection.execute(set_used, [{"of": digest, "at": at} for digest, at in used_us.items()])


def _token_named(connection: Connection, name: str) -> tuple[ApiTokenRecord, bytes]:
    row = connection.execute(sa.select(_rows).where(_is_named(name))).first()
    if row is None:
        raise UnknownNameError("API token", name)
    return _record(row), row.token_sha256


def _is_named(name: str) -> ColumnElement[bool]:
    return sa.func.lower(_rows.c.name) == name.lower() if name.isascii() and "\0" not in name else sa.false()


def _record(row: Row[Any]) -> ApiTokenRecord:
    # A scope that a later version has taken away is no right any more.
    known = set(Scope)
    scopes = frozenset(Scope(word) for word in row.scopes.split("\n") if word in known)
    return ApiTokenRecord(
        row.id,
        row.name,
        scopes,
        row.created_by,
        row.created_us,
        row.expires_us,
        row.used_us,
        row.revoked_us,
    )
