"""Keys of persons, which their data in backups are encrypted with; dropping one makes every backup forget them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.errors import OperatorInputError
from app.stores.registry.actions import Deed, record
from app.stores.registry.erasures import Erased, erasures_of, remember_erased, secrets_of
from app.stores.registry.models import Erasure, PersonKey
from app.stores.registry.registry import Registry, wall_clock_us

SECRET_BYTES = 32
# kind:name, as the tables have it.
LONGEST_SUBJECT = 80
_ROWS_AT_ONCE = 2_000


class Added(NamedTuple):
    """Subjects that had got another key meanwhile, and those that were erased meanwhile."""

    conflicts: tuple[str, ...]
    refused: tuple[str, ...]


class PersonKeys:
    """The tables person_keys and erasures. A subject is kind:name: holder:c-..., site:12, module:WD1, key:123."""

    def __init__(self, registry: Registry, now_us: Callable[[], int] = wall_clock_us) -> None:
        self._registry = registry
        self._now_us = now_us

    def all(self) -> dict[str, bytes]:
        """Every subject that has a key."""
        with self._registry.reading() as connection:
            return secrets_of(connection)

    def add(self, fresh: Mapping[str, bytes], since_us: int) -> Added:
        """Keep keys that were drawn while a dump was written.

        Who was erased since then gets none: what was written of them is noise from the beginning.
        """
        subjects = sorted(fresh)
        conflicts: list[str] = []
        refused: list[str] = []
        for start in range(0, len(subjects), _ROWS_AT_ONCE):
            part = subjects[start : start + _ROWS_AT_ONCE]
            with self._registry.writing() as connection:
                known = _known(connection, part)
                conflicts += [subject for subject, secret in known.items() if secret != fresh[subject]]
                gone = set(
                    connection.execute(
                        sa.select(Erasure.subject).where(Erasure.subject.in_(part), Erasure.at_us >= since_us)
                    ).scalars()
                )
                refused += [subject for subject in part if subject in gone and subject not in known]
                rows = [
                    {"subject": subject, "secret": fresh[subject], "created_us": self._now_us()}
                    for subject in part
                    if subject not in known and subject not in gone
                ]
                if rows:
                    connection.execute(sa.insert(PersonKey), rows)
        return Added(tuple(conflicts), tuple(refused))

    def ensure(self, subject: str) -> bytes:
        """The key of a subject, made if there is none."""
        _check(subject)
        with self._registry.writing() as connection:
            found = _known(connection, [subject])
            if subject in found:
                return found[subject]
            secret = secrets.token_bytes(SECRET_BYTES)
            connection.execute(sa.insert(PersonKey).values(subject=subject, secret=secret, created_us=self._now_us()))
            return secret

    def erase_person(self, subject: str, *, actor: str = "system") -> None:
        """Drop a subject's key and remember that it is to be erased again after each restore; twice is allowed."""
        _check(subject)
        with self._registry.writing() as connection:
            at_us = self._now_us()
            remember_erased(connection, subject, at_us)
            record(connection, Deed(actor, "person.erase", subject), at_us)

    def erasures(self) -> list[Erased]:
        """Everything that was erased, oldest first."""
        with self._registry.reading() as connection:
            return erasures_of(connection)


def _known(connection: Connection, subjects: list[str]) -> dict[str, bytes]:
    query = sa.select(PersonKey.subject, PersonKey.secret).where(PersonKey.subject.in_(subjects))
    return {subject: bytes(secret) for subject, secret in connection.execute(query)}


def _check(subject: str) -> None:
    kind, colon, name = subject.partition(":")
    if not (kind and colon and name) or len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        raise OperatorInputError("a subject is kind:name, such as holder:c-0123456789 or site:12")
