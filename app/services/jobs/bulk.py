"""The job that does one thing to many modules: sends a command, blocks, unblocks, re-keys, tags, untags."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from app.domain.commands import (
    DEFAULT_EXPIRY_S,
    LONGEST_EXPIRY_S,
    REFUSAL_TEXTS,
    SHORTEST_EXPIRY_S,
    CommandKind,
    Value,
    kind_of,
)
from app.domain.credentials import is_serial
from app.domain.errors import OperatorInputError
from app.domain.people import Scope
from app.protocol.api.texts import Tag
from app.services.commands.sending import BulkPart, Commands
from app.services.fleet.operations import FleetOperations
from app.services.jobs.context import JobContext
from app.services.jobs.kinds import JobKind, Parameters, as_parameters
from app.stores.registry.commands import NewCommand, Selection
from app.stores.registry.module_edits import BulkAction

MOST_MODULES = 100_000
COMMAND = "command"
# One transaction, and one save of how far it is: some tens of milliseconds in which nobody else writes.
MODULES_A_STEP = 250
_MOST_SHOWN = 20
_SECOND_US = 1_000_000
_OVER = "the time of the command was over before its turn came"

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Serial = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
ArgumentValue = bool | int | float | Annotated[str, msgspec.Meta(max_length=512)] | None


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody asks for: `modules`, or `all` of which may be narrowed to those that have all that is named."""

    action: Literal["command", "block", "unblock", "rekey", "tag", "untag"]
    modules: Annotated[list[Serial], msgspec.Meta(max_length=MOST_MODULES)] = []
    all: bool = False
    with_tag: Text | None = None
    city: Text | None = None
    firmware: Text | None = None
    # Of a command.
    name: Text | None = None
    arguments: dict[Annotated[str, msgspec.Meta(max_length=64)], ArgumentValue] = {}
    expires_in_s: Annotated[int, msgspec.Meta(ge=SHORTEST_EXPIRY_S, le=LONGEST_EXPIRY_S)] = DEFAULT_EXPIRY_S
    # Of tag and untag.
    tag: Tag | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """What became of a module; `told` are the columns of the action's own."""

    serial: str
    outcome: str
    reason: str = ""
    told: tuple[str, ...] = ()


_LEFT_OUT = "left_out"
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    COMMAND: ("serial", "outcome", "reason", "command_id"),
    "rekey": ("serial", "outcome", "reason", "username", "secret"),
}
_PLAIN_COLUMNS = ("serial", "outcome", "reason")


class Bulk(JobKind):
    """Its modules are chosen when it is started; its file has a row for each, with the reason of those left out.

    A step that is done again after a crash changes nothing twice: a command of this job is queued once for a module,
    and the actions tell whom it has changed. Secrets that nobody could fetch yet are made anew. What was done before
    a cancel or a fault stays.
    """

    name: ClassVar[str] = "bulk"
    keeps_part: ClassVar[bool] = True

    def __init__(self, commands: Commands, operations: FleetOperations, *, now_us: Callable[[], int]) -> None:
        self._commands = commands
        self._operations = operations
        self._now_us = now_us

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        asked: Asked = as_parameters(parameters, Asked)
        now_us = self._now_us()
        definite: dict[str, Any] = {"action": asked.action, "all": asked.all}
        if asked.action == COMMAND:
            kind = _kind(asked)
            definite |= {
                "name": kind.name,
                "arguments": kind.check(asked.arguments),
                "created_us": now_us,
                "expires_us": now_us + asked.expires_in_s * _SECOND_US,
            }
        elif asked.name is not None or asked.arguments:
            raise OperatorInputError(f"{asked.action} takes no name and no arguments; a command does")
        if (asked.action in {"tag", "untag"}) != (asked.tag is not None):
            raise OperatorInputError("tag and untag need a tag, nothing else takes one")
        if asked.tag is not None:
            definite["tag"] = asked.tag
        definite["modules"] = self._chosen(asked)
        return definite

    def scopes_for(self, parameters: Parameters) -> frozenset[Scope]:
        """See JobKind. A technician may send a command to modules that they name."""
        if parameters["action"] != COMMAND:
            return frozenset({Scope.FLEET_WRITE})
        scopes = {kind_of(parameters["name"]).scope}
        return frozenset(scopes | {Scope.FLEET_WRITE} if parameters["all"] else scopes)

    def is_secret(self, parameters: Parameters) -> bool:
        """See JobKind."""
        return bool(parameters["action"] == BulkAction.REKEY)

    def shown(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        modules = parameters["modules"]
        return {**parameters, "modules": modules[:_MOST_SHOWN], "modules_count": len(modules)}

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        wanted = context.parameters
        action, modules = wanted["action"], wanted["modules"]
        file = context.result("csv")
        if file.length == 0:
            file.append(_csv([_COLUMNS.get(action, _PLAIN_COLUMNS)]))
        at, done = (0, 0) if context.cursor is None else (int(context.cursor["next"]), int(context.cursor["done"]))
        context.message = _message(action, at, len(modules), done)
        context.check()
        while at < len(modules):
            part = modules[at : at + MODULES_A_STEP]
            rows = self._command(context, part) if action == COMMAND else self._change(context, part)
            file.append(_csv([(row.serial, row.outcome, row.reason, *row.told) for row in rows]))
            at += len(part)
            done += sum(row.outcome != _LEFT_OUT for row in rows)
            message = _message(action, at, len(modules), done)
            context.step_done({"next": at, "done": done}, done=at, total=len(modules), message=message)
        return _message(action, at, len(modules), done)

    def _command(self, context: JobContext, serials: Sequence[str]) -> list[_Row]:
        wanted = context.parameters
        created_us, expires_us = wanted["created_us"], wanted["expires_us"]
        new = NewCommand(
            wanted["name"], wanted["arguments"], context.owner, created_us, expires_us, bulk_id=context.job_id
        )
        part = BulkPart((), {})
        if self._now_us() < expires_us:
            part = self._commands.queue_part(new, serials, of_modules=len(wanted["modules"]))
        queued, rows = dict(part.queued), []
        reasons = {serial: REFUSAL_TEXTS[why] for why, some in part.left_out.items() for serial in some}
        for serial in serials:
            if serial in queued:
                rows.append(_Row(serial, "queued", "", (queued[serial],)))
            else:
                rows.append(_Row(serial, _LEFT_OUT, reasons.get(serial, _OVER), ("",)))
        return rows

    def _change(self, context: JobContext, serials: Sequence[str]) -> list[_Row]:
        wanted = context.parameters
        action = BulkAction(wanted["action"])
        known = [serial for serial in serials if is_serial(serial)]
        outcome = self._operations.act(context.owner, known, action, wanted.get("tag"), job_id=context.job_id)
        affected, reasons = set(outcome.affected), dict(outcome.left_out)
        blank = ("", "") if action is BulkAction.REKEY else ()
        rows = []
        for serial in serials:
            secret = outcome.secrets.get(serial)
            if secret is not None:
                rows.append(_Row(serial, "done", "", (serial, secret)))
            elif serial in affected:
                rows.append(_Row(serial, "done", "", blank))
            else:
                rows.append(_Row(serial, _LEFT_OUT, reasons.get(serial, "unknown"), blank))
        return rows

    def _chosen(self, asked: Asked) -> list[str]:
        narrowed = [asked.with_tag, asked.city, asked.firmware]
        if asked.all == bool(asked.modules):
            raise OperatorInputError("name modules, or say all; one of them")
        if asked.modules:
            if any(text is not None for text in narrowed):
                raise OperatorInputError("with_tag, city and firmware go with all, not with modules")
            return list(dict.fromkeys(asked.modules))
        serials = self._commands.chosen(Selection(None, *narrowed))
        if not serials:
            raise OperatorInputError("no module is what was asked for")
        if len(serials) > MOST_MODULES:
            raise OperatorInputError(f"a bulk has at most {MOST_MODULES} modules, not {len(serials)}; narrow it")
        return serials


def command_parameters(name: str, arguments: Mapping[str, Value], expires_in_s: int) -> dict[str, Any]:
    """What `Asked` says of a command; whom it is for is still to be said."""
    return {"action": COMMAND, "name": name, "arguments": dict(arguments), "expires_in_s": expires_in_s}


def _kind(asked: Asked) -> CommandKind:
    if asked.name is None:
        raise OperatorInputError("a command needs its name; see /v1/command-kinds")
    return kind_of(asked.name)


def _message(action: str, at: int, total: int, done: int) -> str:
    word = "queued" if action == COMMAND else "done"
    return f"{at} of {total} modules: {done} {word}, {at - done} left out"


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
