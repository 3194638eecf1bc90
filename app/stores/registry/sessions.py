"""Sessions in the registry: log-ins that outlive a restart of the hub."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from app.stores.registry.actions import Deed, record
from app.stores.registry.models import Operator, Session, table
from app.stores.registry.operators import OperatorRecord, operator_named, operators_by_id
from app.stores.registry.registry import Registry

# A script that logs in for every request shall not fill the table.
MOST_PER_OPERATOR = 50

_rows = table(Session)


@dataclasses.dataclass(frozen=True, slots=True)
class NewSession:
    """A log-in to be written down; `agent` is how the program names itself."""

    token_sha256: bytes
    created_us: int
    expires_us: int
    agent: str


@dataclasses.dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session that was valid when it was read, and whose it is."""

    id: int
    token_sha256: bytes
    created_us: int
    expires_us: int
    operator: OperatorRecord


class Sessions:
    """Blocks on the database."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def begin(
        self, operator: OperatorRecord, session: NewSession, *, seen_hash: str, better_hash: str | None
    ) -> tuple[SessionRecord, list[bytes]] | None:
        """Write a log-in down and forget the failed ones before it; the session, and the tokens that ended for it.

        None when the operator was disabled or got another password since `seen_hash` was read. `better_hash` replaces
        a hash with old parameters.
        """
        operators = table(Operator)
        current = sa.select(operators.c.password_hash, operators.c.disabled_us).where(operators.c.id == operator.id)
        values: dict[str, Any] = {"failed_logins": 0, "locked_until_us": None}
        if better_hash is not None:
            values["password_hash"] = better_hash
        with self._registry.writing() as connection:
            row = connection.execute(current).first()
            if row is None or row.disabled_us is not None or row.password_hash != seen_hash:
                return None
            connection.execute(sa.update(operators).where(operators.c.id == operator.id).values(values))
            ended = _make_room(connection, operator.id)
            added = connection.execute(
                sa.insert(_rows).values(
                    operator_id=operator.id,
                    token_sha256=session.token_sha256,
                    created_us=session.created_us,
                    expires_us=session.expires_us,
                    used_us=session.created_us,
                    agent=session.agent,
                )
            )
            (key,) = added.inserted_primary_key or (0,)
            current_operator = operator_named(connection, operator.name)
        return SessionRecord(key, session.token_sha256, session.created_us, session.expires_us, current_operator), ended

    def valid(self, now_us: int) -> list[SessionRecord]:
        """Every session whose time is not over, of operators who are not disabled."""
        with self._registry.reading() as connection:
            operators = operators_by_id(connection)
            found = connection.execute(sa.select(_rows).where(_rows.c.expires_us > now_us)).all()
        records = [_record(row, operators[row.operator_id]) for row in found if row.operator_id in operators]
        return [one for one in records if one.operator.disabled_us is None]

    def expiry(self, session_id: int) -> int | None:
        """Until when a session holds; None when it has ended."""
        with self._registry.reading() as connection:
            return connection.execute(sa.select(_rows.c.expires_us).where(_rows.c.id == session_id)).scalar()

    def end(self, session_id: int) -> None:
        """Log out; one that is not there is passed over."""
        with self._registry.writing() as connection:
            connection.execute(sa.delete(_rows).where(_rows.c.id == session_id))

    def end_all(self, operator: OperatorRecord, *, actor: str, at_us: int) -> int:
        """End every session of an operator; how many there were."""
        with self._registry.writing() as connection:
            ended = connection.execute(sa.delete(_rows).where(_rows.c.operator_id == operator.id)).rowcount
            deed = Deed(actor, "operator.end_sessions", f"operator:{operator.name}", None, {"sessions": ended})
            record(connection, deed, at_us)
        return ended

    def tidy(self, used_us: Mapping[bytes, int], now_us: int) -> None:
        """Write when sessions were used last, and drop those whose time is over."""
        set_used = sa.update(_rows).where(_rows.c.token_sha256 == sa.bindparam("of")).values(used_us=sa.bindparam("at"))
        with self._registry.writing() as connection:
            if used_us:
                connection.execute(set_used, [{"of": digest, "at": at} for digest, at in used_us.items()])
            connection.execute(sa.delete(_rows).where(_rows.c.expires_us <= now_us))


def _make_room(connection: Connection, operator_id: int) -> list[bytes]:
    """End the oldest sessions of an operator who has too many."""
    of_operator = sa.select(_rows.c.id, _rows.c.token_sha256).where(_rows.c.operator_id == operator_id)
    newest_first = of_operator.order_by(_rows.c.created_us.desc(), _rows.c.id.desc())
    oldest = connection.execute(newest_first.offset(MOST_PER_OPERATOR - 1).limit(1000)).all()
    if oldest:
        connection.execute(sa.delete(_rows).where(_rows.c.id.in_([row.id for row in oldest])))
    return [row.token_sha256 for row in oldest]


def _record(row: Row[Any], operator: OperatorRecord) -> SessionRecord:
    return SessionRecord(row.id, row.token_sha256, row.created_us, row.expires_us, operator)
