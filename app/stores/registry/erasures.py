"""What was erased for ever, and the keys that go with it: rows of the tables person_keys and erasures."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa
from sqlalchemy import Connection

from app.stores.registry.models import Erasure, PersonKey

# What can be erased.
SUBJECT_KINDS = frozenset({"holder", "site", "module", "key"})


@dataclasses.dataclass(frozen=True, slots=True)
class Erased:
    """A subject that was erased, and when (UTC microseconds)."""

    subject: str
    at_us: int


# In the `info` of a connection: its transaction has erased somebody.
ERASED = "wattdeck.erased"


def note_erasing(connection: Connection) -> None:
    """Have `Registry.on_erased` told after the commit of this transaction."""
    connection.info[ERASED] = True


def remember_erased(connection: Connection, subject: str, at_us: int) -> None:
    """Within a transaction: drop the subject's key, and note it as erased now."""
    connection.execute(sa.delete(PersonKey).where(PersonKey.subject == subject))
    note_erasing(connection)
    moved = connection.execute(sa.update(Erasure).where(Erasure.subject == subject).values(at_us=at_us))
    if not moved.rowcount:
        connection.execute(sa.insert(Erasure).values(subject=subject, at_us=at_us))


def secrets_of(connection: Connection) -> dict[str, bytes]:
    """Subject -> key."""
    query = sa.select(PersonKey.subject, PersonKey.secret)
    return {subject: bytes(secret) for subject, secret in connection.execute(query)}


def newest_erasures(connection: Connection) -> tuple[int, int]:
    """How many subjects were erased, and when the last one was; (0, 0) when none was."""
    count, newest_us = connection.execute(sa.select(sa.func.count(), sa.func.max(Erasure.at_us))).one()
    return count, newest_us or 0


def erasures_of(connection: Connection) -> list[Erased]:
    """Oldest first."""
    query = sa.select(Erasure.subject, Erasure.at_us).order_by(Erasure.at_us, Erasure.id)
    return [Erased(subject, at_us) for subject, at_us in connection.execute(query)]
