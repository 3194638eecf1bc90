"""Credentials in the database: who may connect, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.credentials import CredentialKind, hash_secret, is_topic_filter, is_username, new_secret
from app.domain.errors import OperatorInputError
from app.stores.registry.chunks import chunks
from app.stores.registry.faults import NameTakenError, UnknownNameError
from app.stores.registry.models import Credential, Module, table
from app.stores.registry.records import CredentialRecord, CredentialRow


def add(
    connection: Connection,
    username: str,
    kind: CredentialKind,
    *,
    publish: Sequence[str],
    subscribe: Sequence[str],
    note: str,
    now_us: int,
) -> str:
    """Add a credential of a source, an operator or a service; its secret.

    Raises:
        OperatorInputError: a name or pattern that can be none, or the kind of a module (those are provisioned).
        NameTakenError: the name is in use, also as a module's serial.
    """
    if kind is CredentialKind.MODULE:
        raise OperatorInputError("a module's credential comes with its provisioning")
    if not is_username(username):
        raise OperatorInputError("a user name has 1 to 128 characters and no control characters")
    check_patterns((*publish, *subscribe))
    taken = sa.select(Credential.id).where(Credential.username == username).exists()
    module = sa.select(Module.id).where(Module.serial == username).exists()
    if connection.execute(sa.select(taken | module)).scalar():
        raise NameTakenError("credentials", [username])
    secret = new_secret()
    connection.execute(
        sa.insert(Credential).values(
            username=username,
            kind=kind.value,
            secret_sha256=hash_secret(secret),
            publish="\n".join(publish),
            subscribe="\n".join(subscribe),
            created_us=now_us,
            note=note,
        )
    )
    return secret


def check_patterns(patterns: Sequence[str]) -> None:
    """Raises OperatorInputError for what is no topic filter."""
    for pattern in patterns:
        if not is_topic_filter(pattern) or "\n" in pattern:
            raise OperatorInputError(f"{pattern[:100]!r} is no topic pattern: + and # fill a level, # is the last one")


def rotate(connection: Connection, username: str) -> str:
    """Give a credential a new secret; the old one is worth nothing from now on. Raises UnknownNameError."""
    secret = new_secret()
    _update(connection, username, {"secret_sha256": hash_secret(secret)})
    return secret


def set_blocked(connection: Connection, username: str, blocked_us: int | None) -> None:
    """Block a credential, or allow it again with None. Raises UnknownNameError."""
    _update(connection, username, {"blocked_us": blocked_us})


def remove(connection: Connection, username: str) -> None:
    """Remove a credential. Raises UnknownNameError."""
    if connection.execute(sa.delete(Credential).where(Credential.username == username)).rowcount == 0:
        raise UnknownNameError("credential", username)


def note_used(connection: Connection, used_us: Mapping[str, int]) -> None:
    """Write when credentials were used last; unknown names are passed over."""
    if used_us:
        columns = table(Credential).c
        statement = (
            sa.update(table(Credential))
            .where(columns.username == sa.bindparam("name"))
            .values(last_used_us=sa.bindparam("at_us"))
        )
        connection.execute(statement, [{"name": name, "at_us": at_us} for name, at_us in used_us.items()])


def rows(connection: Connection, usernames: Sequence[str] | None) -> list[CredentialRow]:
    """What the authenticator needs, of every credential or of some."""
    query = sa.select(
        Credential.username,
        Credential.kind,
        Credential.secret_sha256,
        Credential.blocked_us,
        Credential.publish,
        Credential.subscribe,
    )
    parts = [query] if usernames is None else [query.where(Credential.username.in_(part)) for part in chunks(usernames)]
    kinds = {kind.value: kind for kind in CredentialKind}
    return [
        CredentialRow(
            username, kinds[kind], bytes(secret), blocked is not None, patterns_of(publish), patterns_of(subscribe)
        )
        for part in parts
        for username, kind, secret, blocked, publish, subscribe in connection.execute(part)
    ]


def records(connection: Connection) -> list[CredentialRecord]:
    """Every credential, by user name."""
    query = (
        sa.select(
            Credential.username,
            Credential.kind,
            Credential.publish,
            Credential.subscribe,
            Module.serial,
            Credential.blocked_us,
            Credential.created_us,
            Credential.last_used_us,
            Credential.note,
        )
        .join(Module, isouter=True)
        .order_by(Credential.username)
    )
    return [
        CredentialRecord(
            username=row.username,
            kind=CredentialKind(row.kind),
            publish=patterns_of(row.publish),
            subscribe=patterns_of(row.subscribe),
            module_serial=row.serial,
            blocked_us=row.blocked_us,
            created_us=row.created_us,
            last_used_us=row.last_used_us,
            note=row.note,
        )
        for row in connection.execute(query)
    ]


def _update(connection: Connection, username: str, values: dict[str, Any]) -> None:
    changed = connection.execute(sa.update(Credential).where(Credential.username == username).values(values))
    if changed.rowcount == 0:
        raise UnknownNameError("credential", username)


def patterns_of(lines: str) -> tuple[str, ...]:
    """The filters of a column that holds one a line."""
    return tuple(lines.split("\n")) if lines else ()
