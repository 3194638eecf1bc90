"""Operators in the registry: who may log in, as what, and the hash of their password."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from app.domain.errors import VersionConflict
from app.domain.listing import Column, Found, Listing
from app.domain.people import Role
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import NameTakenError, RefusedChangeError, UnknownNameError
from app.stores.registry.models import Operator, Session, table
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import select_page


@dataclasses.dataclass(frozen=True, slots=True)
class OperatorRecord:
    """An operator, without their password's hash."""

    id: int
    name: str
    full_name: str
    role: Role
    must_change_password: bool
    password_us: int
    created_us: int
    disabled_us: int | None
    failed_logins: int
    locked_until_us: int | None
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class OperatorChange:
    """What an edit changes; None leaves it as it is."""

    full_name: str | None = None
    role: Role | None = None
    disabled: bool | None = None


COLUMNS: Mapping[str, Column] = {
    "name": Column(str),
    "full_name": Column(str),
    "role": Column(str),
    "disabled": Column(bool),
    "must_change_password": Column(bool),
    "password_us": Column(int),
    "created_us": Column(int),
    "locked_until_us": Column(int),
}
_rows = table(Operator)
_SQL: Mapping[str, ColumnElement[Any]] = {
    "name": _rows.c.name,
    "full_name": _rows.c.full_name,
    "role": _rows.c.role,
    "disabled": _rows.c.disabled_us.is_not(None),
    "must_change_password": _rows.c.must_change_password,
    "password_us": _rows.c.password_us,
    "created_us": _rows.c.created_us,
    "locked_until_us": _rows.c.locked_until_us,
}
_FIELDS = tuple(_rows.c[field.name] for field in dataclasses.fields(OperatorRecord))


class Operators:
    """Blocks on the database; names are compared whatever their case."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_empty(self) -> bool:
        """Whether there is no operator yet: a first start."""
        with self._registry.reading() as connection:
            return connection.execute(sa.select(_rows.c.id).limit(1)).first() is None

    def get(self, name: str) -> OperatorRecord:
        """Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return operator_named(connection, name)

    def page(self, listing: Listing) -> Found[OperatorRecord]:
        """Some of them; by name when nothing is said."""
        with self._registry.reading() as connection:
            found = select_page(connection, sa.select(*_FIELDS), _SQL, listing, last=_rows.c.name.asc())
        return Found([_record(row) for row in found.rows], found.total, found.offset, found.limit)

    def with_password(self, name: str) -> tuple[OperatorRecord, str] | None:
        """An operator and the hash of their password; None when there is none of that name."""
        with self._registry.reading() as connection:
            row = connection.execute(sa.select(*_FIELDS, _rows.c.password_hash).where(_is_named(name))).first()
        return None if row is None else (_record(row), row.password_hash)

    def attempts(self) -> list[tuple[str, int, int | None]]:
        """Name, failed log-ins and end of the lock of everybody who has some."""
        query = sa.select(_rows.c.name, _rows.c.failed_logins, _rows.c.locked_until_us)
        with self._registry.reading() as connection:
            found = connection.execute(query.where(_rows.c.failed_logins > 0)).all()
        return [(row.name, row.failed_logins, row.locked_until_us) for row in found]

    def note_attempts(self, name: str, failed: int, locked_until_us: int | None) -> None:
        """Write down how often a log-in failed; an unknown name is passed over."""
        values = {"failed_logins": failed, "locked_until_us": locked_until_us}
        with self._registry.writing() as connection:
            connection.execute(sa.update(_rows).where(_is_named(name)).values(values))

    def create(
        self, name: str, role: Role, password_hash: str, *, full_name: str = "", actor: str, at_us: int
    ) -> OperatorRecord:
        """Add an operator with a one-time password. Raises NameTakenError."""
        with self._registry.writing() as connection:
            if connection.execute(sa.select(_rows.c.id).where(_is_named(name))).first() is not None:
                raise NameTakenError("operators", [name])
            connection.execute(
                sa.insert(_rows).values(
                    name=name,
                    full_name=full_name,
                    role=role.value,
                    password_hash=password_hash,
                    must_change_password=True,
                    password_us=at_us,
                    created_us=at_us,
                )
            )
            record(connection, Deed(actor, "operator.create", f"operator:{name}", None, {"role": role.value}), at_us)
            return operator_named(connection, name)

    def edit(self, name: str, change: OperatorChange, *, version: int | None, actor: str, at_us: int) -> OperatorRecord:
        """Change an operator; disabling ends their sessions. `version` None: whichever it has.

        Raises UnknownNameError, VersionConflict, and RefusedChangeError where no enabled administrator would be left.
        """
        with self._registry.writing() as connection:
            old = operator_named(connection, name)
            if version is not None and version != old.version:
                raise VersionConflict
            values, before, after = _difference(old, change, at_us)
            if not values:
                return old
            if _is_admin(old) and (values.get("role") or values.get("disabled_us")):
                _keep_an_admin(connection, old)
            connection.execute(
                sa.update(_rows).where(_rows.c.id == old.id).values(**values, version=_rows.c.version + 1)
            )
            if values.get("disabled_us") is not None:
                connection.execute(sa.delete(Session).where(Session.operator_id == old.id))
            record(connection, Deed(actor, "operator.edit", f"operator:{old.name}", before, after), at_us)
            return operator_named(connection, name)

    def set_password(
        self,
        name: str,
        password_hash: str,
        *,
        one_time: bool,
        actor: str,
        at_us: int,
        keep_session: int | None = None,
        seen_hash: str | None = None,
    ) -> OperatorRecord:
        """A new password; ends the lock, and every session but one.

        Raises UnknownNameError, and VersionConflict when the hash is no longer the one that was seen.
        """
        with self._registry.writing() as connection:
            operator = operator_named(connection, name)
            current = sa.select(_rows.c.password_hash).where(_rows.c.id == operator.id)
            if seen_hash is not None and connection.execute(current).scalar() != seen_hash:
                raise VersionConflict
            values = {
                "password_hash": password_hash,
                "password_us": at_us,
                "must_change_password": one_time,
                "failed_logins": 0,
                "locked_until_us": None,
            }
            connection.execute(sa.update(_rows).where(_rows.c.id == operator.id).values(values))
            others = sa.delete(Session).where(Session.operator_id == operator.id)
            connection.execute(others if keep_session is None else others.where(Session.id != keep_session))
            what = "operator.reset_password" if one_time else "operator.change_password"
            record(connection, Deed(actor, what, f"operator:{operator.name}"), at_us)
            return operator_named(connection, name)


def operator_named(connection: Connection, name: str) -> OperatorRecord:
    """Raises UnknownNameError."""
    row = connection.execute(sa.select(*_FIELDS).where(_is_named(name))).first()
    if row is None:
        raise UnknownNameError("operator", name)
    return _record(row)


def operators_by_id(connection: Connection) -> dict[int, OperatorRecord]:
    """Every operator."""
    return {row.id: _record(row) for row in connection.execute(sa.select(*_FIELDS))}


def _is_named(name: str) -> ColumnElement[bool]:
    # Names are ASCII, so that every database folds them alike; what can not be stored is nobody's name.
    return sa.func.lower(_rows.c.name) == name.lower() if name.isascii() and "\0" not in name else sa.false()


def _is_admin(operator: OperatorRecord) -> bool:
    return operator.role is Role.ADMIN and operator.disabled_us is None


def _keep_an_admin(connection: Connection, leaving: OperatorRecord) -> None:
    others = sa.select(_rows.c.id).where(
        _rows.c.role == Role.ADMIN.value, _rows.c.disabled_us.is_(None), _rows.c.id != leaving.id
    )
    if connection.execute(others.limit(1)).first() is None:
        raise RefusedChangeError(f"{leaving.name} is the last administrator who can log in; make another one first")


def _difference(
    old: OperatorRecord, change: OperatorChange, at_us: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What an edit really changes: columns, and the deed's before and after."""
    values: dict[str, Any] = {}
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if change.full_name is not None and change.full_name != old.full_name:
        values["full_name"] = change.full_name
        after["full_name"] = "changed"
    if change.role is not None and change.role is not old.role:
        values["role"] = after["role"] = change.role.value
        before["role"] = old.role.value
    if change.disabled is not None and change.disabled != (old.disabled_us is not None):
        values["disabled_us"] = at_us if change.disabled else None
        before["disabled"], after["disabled"] = not change.disabled, change.disabled
    return values, before, after


def _record(row: Row[*tuple[Any, ...]]) -> OperatorRecord:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return OperatorRecord(
        **{field.name: values[field.name] for field in dataclasses.fields(OperatorRecord) if field.name != "role"},
        role=Role(values["role"]),
    )
