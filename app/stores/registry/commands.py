"""Commands in the database: queued, taken for sending, answered, expired, and who may get one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row, Select

from app.domain.commands import ANSWER_GRACE_US, OPEN_STATES, CommandState, Target, may_become, states_before
from app.domain.listing import Column, Found, Listing, SortBy
from app.stores.registry.actions import Deed, record
from app.stores.registry.chunks import chunks
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.models import Channel, Command, Credential, Module, ModuleTag, Pairing, Site, table
from app.stores.registry.records import ModuleKind
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import select_page

# Which modules get a command, each with the id that it gets it under.
Choose = Callable[[Sequence[Target]], list[tuple[str, Target]]]
# One transaction expires or forgets so many: others may write in between.
ROWS_AT_ONCE = 1000

COLUMNS: Mapping[str, Column] = {
    name: Column(kind)
    for name, kind in (
        ("id", str),
        ("state", str),
        ("name", str),
        ("module", str),
        ("sent_by", str),
        ("bulk_id", str),
        ("created_us", int),
        ("expires_us", int),
        ("sent_us", int),
        ("done_us", int),
    )
}
_SQL_COLUMNS: Mapping[str, ColumnElement[Any]] = {
    name: Module.serial.expression if name == "module" else getattr(Command, name).expression for name in COLUMNS
}
_OPEN = [state.value for state in OPEN_STATES]
_ANSWER = (
    sa.update(table(Command))
    .where(table(Command).c.id == sa.bindparam("of"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("state", "sent_us", "done_us", "result")})
)
_TAKEN = (
    sa.update(table(Command))
    .where(table(Command).c.id == sa.bindparam("of"), table(Command).c.sent_us.is_(None))
    .values(sent_us=sa.bindparam("at_us"))
)


@dataclasses.dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command as the registry knows it; `result` is what the module answered, plain JSON values."""

    id: str
    module: str
    name: str
    arguments: Mapping[str, Any]
    state: CommandState
    sent_by: str
    bulk_id: str | None
    created_us: int
    expires_us: int
    sent_us: int | None
    done_us: int | None
    result: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class NewCommand:
    """What commands that are queued together have in common."""

    name: str
    arguments: Mapping[str, Any]
    sent_by: str
    created_us: int
    expires_us: int
    bulk_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """What a module answered to a command: the state it is to take, and its result."""

    id: str
    serial: str
    state: CommandState
    result: Mapping[str, Any]
    at_us: int
    is_final: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Which modules: these serials, or all that meet every condition given."""

    serials: tuple[str, ...] | None = None
    tag: str | None = None
    city: str | None = None
    firmware: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """A command that took a state, for its event."""

    id: str
    module: str
    name: str
    state: CommandState


class CommandBook:
    """Blocks on the database; any thread but the loop's."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def targets(self, selection: Selection) -> list[Target]:
        """The registered modules of a selection, by serial."""
        with self._registry.reading() as connection:
            return _targets(connection, selection)

    def queue(
        self, command: NewCommand, serials: Sequence[str], choose: Choose, deed: Deed | None = None
    ) -> list[tuple[str, str]]:
        """Queue a command for those modules that `choose` gives an id; (id, serial) of each.

        `choose` is asked within the transaction, so what it refuses by can not change meanwhile.
        """
        with self._registry.writing() as connection:
            chosen = choose(_targets(connection, Selection(tuple(serials))))
            shared = {
                "name": command.name,
                "arguments": _json(command.arguments),
                "state": CommandState.QUEUED.value,
                "sent_by": command.sent_by,
                "bulk_id": command.bulk_id,
                "created_us": command.created_us,
                "expires_us": command.expires_us,
            }
            if chosen:
                connection.execute(
                    sa.insert(Command), [{"id": given, "module_id": target.id, **shared} for given, target in chosen]
                )
                if deed is not None:
                    record(connection, deed, command.created_us)
        return [(given, target.serial) for given, target in chosen]

    def of_bulk(self, bulk_id: str, serials: Sequence[str] | None = None) -> dict[str, str]:
        """The ids of a bulk's commands by serial, of some modules; without, one at most, which shows if there are."""
        query = sa.select(Module.serial, Command.id).join(Module).where(Command.bulk_id == bulk_id)
        query = query.limit(1) if serials is None else query.where(Module.serial.in_(serials))
        with self._registry.reading() as connection:
            return {row.serial: row.id for row in connection.execute(query)}

    def command(self, command_id: str) -> CommandRecord | None:
        """One command, or None."""
        with self._registry.reading() as connection:
            return _one(connection, command_id)

    def listed(
        self, listing: Listing, *, module: str | None = None, bulk_id: str | None = None
    ) -> Found[CommandRecord]:
        """Commands, newest first where the listing has no order; of a module or a bulk."""
        query = _commands()
        if module is not None:
            query = query.where(Module.serial == module)
        if bulk_id is not None:
            query = query.where(Command.bulk_id == bulk_id)
        if not listing.sort:
            listing = dataclasses.replace(listing, sort=(SortBy("created_us", descending=True),))
        with self._registry.reading() as connection:
            found = select_page(connection, query, _SQL_COLUMNS, listing, last=Command.id.desc())
        return Found([_record(row) for row in found.rows], found.total, found.offset, found.limit)

    def counts(self, bulk_id: str) -> dict[CommandState, int]:
        """How many commands of a bulk are in each state; empty when there is no such bulk."""
        query = sa.select(Command.state, sa.func.count()).where(Command.bulk_id == bulk_id).group_by(Command.state)
        with self._registry.reading() as connection:
            return {CommandState(state): count for state, count in connection.execute(query)}

    def take(self, serials: Sequence[str], now_us: int) -> tuple[list[CommandRecord], list[CommandRecord]]:
        """The open commands of modules that listen, in the order they were queued: those that are sent from now on, and
        those that were sent before. What is over is left to `expire`. `sent_us` is set when a module took its command.
        """
        open_now = _commands().where(Module.serial.in_(serials), Command.state.in_(_OPEN), Command.expires_us > now_us)
        open_now = open_now.order_by(Command.created_us, Command.id)
        with self._registry.reading() as connection:
            found = [_record(row) for row in connection.execute(open_now)]
        if all(command.state is CommandState.SENT for command in found):
            return [], found
        with self._registry.writing() as connection:
            found = [_record(row) for row in connection.execute(open_now)]
            fresh = [command for command in found if command.state is CommandState.QUEUED]
            for part in chunks([command.id for command in fresh]):
                _move(connection, part, CommandState.SENT)
        return fresh, [command for command in found if command.state is CommandState.SENT]

    def note_taken(self, taken_us: Mapping[str, int]) -> None:
        """Write when modules took their commands, by id; those that were answered meanwhile say it already."""
        rows = [{"of": command_id, "at_us": at_us} for command_id, at_us in taken_us.items()]
        with self._registry.writing() as connection:
            if rows:
                connection.execute(_TAKEN, rows)

    def answer(self, answers: Sequence[Answered]) -> tuple[list[Changed], dict[str, int]]:
        """Write what modules answered, in order; the changes of state, and how many were what else.

        Of the others: `unknown` (no such command of this module), `late` (its time was over), `repeated`.
        """
        changed: list[Changed] = []
        others = {"unknown": 0, "late": 0, "repeated": 0}
        with self._registry.writing() as connection:
            known: dict[str, CommandRecord] = {}
            written: dict[str, CommandRecord] = {}
            for part in chunks(sorted({one.id for one in answers})):
                known |= {row.id: _record(row) for row in connection.execute(_commands().where(Command.id.in_(part)))}
            for one in answers:
                before = known.get(one.id)
                if before is None or before.module != one.serial:
                    others["unknown"] += 1
                    continue
                after = _after(before, one)
                if after is None:
                    is_late = before.state in {CommandState.EXPIRED, CommandState.CANCELLED, CommandState.QUEUED}
                    others["late" if is_late else "repeated"] += 1
                    continue
                known[one.id] = written[one.id] = after
                if after.state is not before.state:
                    changed.append(Changed(one.id, one.serial, before.name, after.state))
            if written:
                connection.execute(_ANSWER, [_written(after) for after in written.values()])
        return changed, others

    def cancel(self, command_id: str, actor: str, now_us: int) -> CommandRecord:
        """Take a queued command back. Raises UnknownNameError, RefusedChangeError for one that is not queued."""
        with self._registry.writing() as connection:
            before = _one(connection, command_id)
            if before is None:
                raise UnknownNameError("command", command_id)
            if before.state not in states_before(CommandState.CANCELLED):
                raise RefusedChangeError(f"command {command_id} is {before.state}; only a queued one can be cancelled")
            _move(connection, [command_id], CommandState.CANCELLED, done_us=now_us)
            deed = Deed(
                actor,
                "command.cancel",
                f"command:{command_id}",
                {"state": before.state.value},
                {"state": CommandState.CANCELLED.value},
            )
            record(connection, deed, now_us)
            after = _one(connection, command_id)
        assert after is not None
        return after

    def expire(self, now_us: int) -> list[Changed]:
        """Expire some of what is over, at most `ROWS_AT_ONCE`: queued ones at once, sent ones after a grace."""
        over = (
            sa.select(Command.id, Module.serial, Command.name)
            .join(Module)
            .where(
                sa.or_(
                    sa.and_(Command.state == CommandState.QUEUED.value, Command.expires_us <= now_us),
                    sa.and_(Command.state == CommandState.SENT.value, Command.expires_us <= now_us - ANSWER_GRACE_US),
                )
            )
            .limit(ROWS_AT_ONCE)
        )
        with self._registry.reading() as connection:
            if connection.execute(over.limit(1)).first() is None:
                return []
        with self._registry.writing() as connection:
            rows = connection.execute(over).all()
            _move(connection, [row[0] for row in rows], CommandState.EXPIRED, done_us=now_us)
        return [Changed(given, serial, name, CommandState.EXPIRED) for given, serial, name in rows]

    def forget(self, before_us: int) -> int:
        """Remove some finished commands that were made before a time, at most `ROWS_AT_ONCE`; how many."""
        old = (
            sa.select(Command.id).where(Command.created_us < before_us, Command.state.not_in(_OPEN)).limit(ROWS_AT_ONCE)
        )
        with self._registry.reading() as connection:
            found = connection.execute(old).scalars().all()
        if found:
            with self._registry.writing() as connection:
                connection.execute(sa.delete(Command).where(Command.id.in_(found)))
        return len(found)


def _after(before: CommandRecord, answer: Answered) -> CommandRecord | None:
    """The command with an answer; None when it changes nothing. One that lasts gets its result later."""
    if before.state not in {CommandState.SENT, CommandState.ACKNOWLEDGED} or before.done_us is not None:
        return None
    is_its_result = before.state is answer.state is CommandState.ACKNOWLEDGED and answer.is_final
    if not (is_its_result or may_become(before.state, answer.state)):
        return None
    done_us = answer.at_us if answer.is_final else None
    # Who answers has taken it.
    sent_us = answer.at_us if before.sent_us is None else before.sent_us
    return dataclasses.replace(before, state=answer.state, sent_us=sent_us, done_us=done_us, result=answer.result)


def _written(command: CommandRecord) -> dict[str, Any]:
    return {
        "of": command.id,
        "new_state": command.state.value,
        "new_sent_us": command.sent_us,
        "new_done_us": command.done_us,
        "new_result": _json(command.result or {}),
    }


def _move(connection: Connection, ids: Sequence[str], after: CommandState, **values: int) -> None:
    """Let commands take a state that they may take; the others stay as they are."""
    allowed = [state.value for state in states_before(after)]
    connection.execute(
        sa.update(Command).where(Command.id.in_(ids), Command.state.in_(allowed)).values(state=after.value, **values)
    )


def _commands() -> Select[*tuple[Any, ...]]:
    return sa.select(
        Command.id,
        Module.serial.label("module"),
        Command.name,
        Command.arguments,
        Command.state,
        Command.sent_by,
        Command.bulk_id,
        Command.created_us,
        Command.expires_us,
        Command.sent_us,
        Command.done_us,
        Command.result,
    ).join(Module, Module.id == Command.module_id)


def _one(connection: Connection, command_id: str) -> CommandRecord | None:
    row = connection.execute(_commands().where(Command.id == command_id)).first()
    return None if row is None else _record(row)


def _record(row: Row[*tuple[Any, ...]]) -> CommandRecord:
    facts = row._asdict()
    return CommandRecord(
        **facts
        | {
            "state": CommandState(facts["state"]),
            "arguments": msgspec.json.decode(facts["arguments"]),
            "result": None if facts["result"] is None else msgspec.json.decode(facts["result"]),
        }
    )


def _json(facts: Mapping[str, Any]) -> str:
    return msgspec.json.encode(facts).decode()


def _targets(connection: Connection, selection: Selection) -> list[Target]:
    open_commands = (
        sa.select(sa.func.count())
        .where(Command.module_id == Module.id, Command.state.in_(_OPEN))
        .correlate(Module)
        .scalar_subquery()
    )
    blocked = (
        sa.select(Credential.id)
        .where(Credential.module_id == Module.id, Credential.kind == "module", Credential.blocked_us.is_not(None))
        .exists()
    )
    query = (
        sa.select(
            Module.id,
            Module.serial,
            Module.kind,
            Module.dialect,
            Module.collection,
            blocked.label("blocked"),
            open_commands,
        )
        .where(*_conditions(selection))
        .order_by(Module.serial)
    )
    if selection.serials is None:
        parts = [query]
    else:
        parts = [query.where(Module.serial.in_(part)) for part in chunks(sorted(selection.serials))]
    return [
        Target(number, serial, kind == ModuleKind.METER.value, dialect, collection, bool(is_blocked), count)
        for part in parts
        for number, serial, kind, dialect, collection, is_blocked, count in connection.execute(part)
    ]


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if selection.firmware is not None:
        conditions.append(Module.firmware == selection.firmware)
    if selection.tag is not None:
        tagged = sa.select(ModuleTag.module_id).where(ModuleTag.module_id == Module.id, ModuleTag.tag == selection.tag)
        conditions.append(tagged.exists())
    if selection.city is not None:
        placed = (
            sa.select(Channel.id)
            .join(Pairing, Pairing.channel_id == Channel.id)
            .join(Site, Site.id == Pairing.site_id)
            .where(Channel.module_id == Module.id, Pairing.to_us.is_(None), Site.city == selection.city)
        )
        conditions.append(placed.exists())
    return conditions
