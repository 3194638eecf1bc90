"""Who changed what: written in the transaction of the change itself, so that neither is there without the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from app.stores.registry.models import Action, table

Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Deed:
    """One change. `what` is noun.verb, such as module.block; `subject` kind:name, such as module:WD00001.

    `before` and `after` hold what changed; never a secret, and of a personal value only its name and that it changed.
    """

    actor: str
    what: str
    subject: str
    before: Facts | None = None
    after: Facts | None = None


def record(connection: Connection, deed: Deed, at_us: int) -> None:
    """Write a change down, within its transaction."""
    record_many(connection, [deed], at_us)


def record_many(connection: Connection, deeds: Sequence[Deed], at_us: int) -> None:
    """Write down what was changed together."""
    if not deeds:
        return
    connection.execute(
        sa.insert(table(Action)),
        [
            {
                "at_us": at_us,
                "actor": deed.actor,
                "what": deed.what,
                "subject": deed.subject,
                "before": _json(deed.before),
                "after": _json(deed.after),
            }
            for deed in deeds
        ],
    )


def _json(facts: Facts | None) -> str | None:
    return None if facts is None else msgspec.json.encode(facts).decode()
