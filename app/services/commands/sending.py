"""What operators do with commands: send one or many, look who would get it, take one back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from app.domain.commands import (
    LONGEST_EXPIRY_S,
    REFUSAL_TEXTS,
    SHORTEST_EXPIRY_S,
    CommandKind,
    CommandState,
    Refusal,
    Target,
    Value,
    kind_of,
    refusal_of,
)
from app.domain.credentials import is_serial
from app.domain.errors import NotAllowed, OperatorInputError
from app.domain.events import EventSink
from app.domain.ids import is_id, new_id
from app.domain.listing import Found, Listing
from app.domain.people import Principal, Scope
from app.protocol.messages import Cmd
from app.services.commands.delivery import Sendings, note_command
from app.services.commands.tally import CommandTally
from app.stores.registry.actions import Deed
from app.stores.registry.commands import Changed, CommandBook, CommandRecord, NewCommand, Selection
from app.stores.registry.faults import RefusedChangeError, UnknownNameError

_SECOND_US = 1_000_000
# Queued in one transaction: a few tenths of a second in which nobody else writes. More are a job's work.
MODULES_AT_ONCE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """A command for many modules."""

    name: str
    arguments: Mapping[str, Value]
    selection: Selection
    expires_in_s: int


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """Who would get a command: at once, when it is back, not at all and why. Serials are sorted."""

    now: Sequence[str]
    when_back: Sequence[str]
    left_out: Mapping[Refusal, Sequence[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class BulkSent:
    """A bulk that was queued."""

    bulk_id: str
    preview: Preview


@dataclasses.dataclass(frozen=True, slots=True)
class BulkPart:
    """Some modules of a bulk: serial and command of those that have one, and who got none and why."""

    queued: Sequence[tuple[str, str]]
    left_out: Mapping[Refusal, Sequence[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk that was sent: how many of its commands are in each state, and a part of them."""

    bulk_id: str
    counts: Mapping[CommandState, int]
    commands: Found[CommandRecord]


class Commands:
    """Every method blocks: not on the loop."""

    def __init__(
        self,
        book: CommandBook,
        listening: Callable[[], frozenset[str]],
        look_at: Callable[[Sequence[str]], None],
        events: EventSink,
        tally: CommandTally,
        now_us: Callable[[], int],
        sendings: Sendings = lambda _serial, _command: None,
    ) -> None:
        """`listening` says which modules would get one now; `look_at` is told for which something was queued.

        `sendings`: how a foreign device is told a command; None when it has none such.
        """
        self._book = book
        self._listening = listening
        self._look_at = look_at
        self._events = events
        self._tally = tally
        self._now_us = now_us
        self._sendings = sendings

    def send(
        self, sender: Principal, serial: str, name: str, arguments: Mapping[str, Value], expires_in_s: int
    ) -> CommandRecord:
        """Queue a command for one module.

        Raises OperatorInputError, NotAllowed, UnknownNameError for the module, RefusedChangeError that says why not.
        """
        kind = _permitted(sender, name)
        new = self._new(sender, kind, arguments, expires_in_s)

        def choose(targets: Sequence[Target]) -> list[tuple[str, Target]]:
            if not targets:
                raise UnknownNameError("module", serial)
            refusal = refusal_of(targets[0], kind, speaks=self._speaking(new.name, new.arguments))
            if refusal is not None:
                raise RefusedChangeError(f"{serial} gets no command: {REFUSAL_TEXTS[refusal]}")
            return [(new_id(new.created_us), targets[0])]

        if not is_serial(serial):
            raise UnknownNameError("module", serial[:40])
        deed = Deed(
            sender.name, "command.send", f"module:{serial}", None, {"name": name, "arguments": dict(new.arguments)}
        )
        ((command_id, _serial),) = self._queue(new, [serial], choose, deed)
        found = self._book.command(command_id)
        assert found is not None
        return found

    def preview(self, sender: Principal, order: Order) -> Preview:
        """Who would get a bulk command. Raises OperatorInputError, NotAllowed."""
        kind = self._bulk_kind(sender, order)
        speaks = self._speaking(kind.name, kind.check(order.arguments))
        targets = self._book.targets(_asked(order.selection))
        left_out = _unknown(order.selection, targets)
        for target in targets:
            refusal = refusal_of(target, kind, of_many=True, speaks=speaks)
            if refusal is not None:
                left_out.setdefault(refusal, []).append(target.serial)
        refused = {serial for serials in left_out.values() for serial in serials}
        return self._preview([target.serial for target in targets if target.serial not in refused], left_out)

    def send_bulk(self, sender: Principal, order: Order) -> BulkSent:
        """Queue a command for at most `MODULES_AT_ONCE` modules, all or none; more are a job's work.

        Raises OperatorInputError, NotAllowed, RefusedChangeError when no module gets it.
        """
        kind = self._bulk_kind(sender, order)
        new = self._new(sender, kind, order.arguments, order.expires_in_s)
        new = dataclasses.replace(new, bulk_id=new_id(new.created_us))
        targets = self._book.targets(_asked(order.selection))
        if len(targets) > MODULES_AT_ONCE:
            raise RefusedChangeError(f"for more than {MODULES_AT_ONCE} modules start a job of the kind bulk")
        left_out = _unknown(order.selection, targets)
        queued = self._queue_bulk(new, [target.serial for target in targets], left_out, of_modules=len(targets))
        if not queued:
            reasons = "; ".join(f"{len(some)}: {REFUSAL_TEXTS[why]}" for why, some in left_out.items())
            raise RefusedChangeError(f"no module gets the command{': ' if reasons else ''}{reasons}")
        assert new.bulk_id is not None
        return BulkSent(new.bulk_id, self._preview([serial for _id, serial in queued], left_out))

    def chosen(self, selection: Selection) -> list[str]:
        """The serials of the registered modules of a selection. Raises OperatorInputError."""
        _check_texts(selection)
        return [target.serial for target in self._book.targets(_asked(selection))]

    def queue_part(self, new: NewCommand, serials: Sequence[str], *, of_modules: int) -> BulkPart:
        """Queue a part of a bulk, with its `bulk_id`; whoever has its command from an earlier try keeps that one.

        `of_modules`: how many the whole bulk is for.
        """
        assert new.bulk_id is not None
        selection = _asked(Selection(tuple(serials)))
        asked = selection.serials or ()
        before = self._book.of_bulk(new.bulk_id, asked)
        left_out: dict[Refusal, list[str]] = {}
        wanted = [serial for serial in asked if serial not in before]
        found = [target.serial for target in self._book.targets(Selection(tuple(wanted)))] if wanted else []
        unknown = sorted(set(serials) - set(found) - before.keys())
        if unknown:
            left_out[Refusal.UNKNOWN] = unknown
        queued = self._queue_bulk(new, found, left_out, of_modules=of_modules) if found else []
        return BulkPart((*before.items(), *((serial, given) for given, serial in queued)), left_out)

    def cancel(self, sender: Principal, command_id: str) -> CommandRecord:
        """Take a queued command back. Raises UnknownNameError, RefusedChangeError."""
        if not is_id(command_id):
            raise UnknownNameError("command", command_id[:40])
        now_us = self._now_us()
        cancelled = self._book.cancel(command_id, sender.name, now_us)
        self._tally.add(cancelled.state.value)
        note_command(self._events, Changed(cancelled.id, cancelled.module, cancelled.name, cancelled.state), now_us)
        return cancelled

    def command(self, command_id: str) -> CommandRecord:
        """One command. Raises UnknownNameError."""
        found = self._book.command(command_id) if is_id(command_id) else None
        if found is None:
            raise UnknownNameError("command", command_id[:40])
        return found

    def listed(self, listing: Listing, *, module: str | None = None) -> Found[CommandRecord]:
        """Commands, of every module or of one. Raises UnknownNameError."""
        if module is not None and not (is_serial(module) and self._book.targets(Selection((module,)))):
            raise UnknownNameError("module", module[:40])
        return self._book.listed(listing, module=module)

    def bulk(self, bulk_id: str, listing: Listing) -> Bulk:
        """How a bulk goes. Raises UnknownNameError."""
        counts = self._book.counts(bulk_id) if is_id(bulk_id) else {}
        if not counts:
            raise UnknownNameError("bulk", bulk_id[:40])
        return Bulk(bulk_id, counts, self._book.listed(listing, bulk_id=bulk_id))

    def _speaking(self, name: str, arguments: Mapping[str, Value]) -> Callable[[Target], bool]:
        """Whether a foreign device has this command with these arguments."""
        asked = Cmd("ask", name, args=dict(arguments) or None)
        return lambda target: self._sendings(target.serial, asked) is not None

    def _bulk_kind(self, sender: Principal, order: Order) -> CommandKind:
        kind = _permitted(sender, order.name)
        if order.selection.serials is None and not sender.may(Scope.FLEET_WRITE):
            raise NotAllowed(f"a command to all modules needs the right {Scope.FLEET_WRITE}; name some by serial")
        _check_texts(order.selection)
        return kind

    def _queue_bulk(
        self, new: NewCommand, serials: Sequence[str], left_out: dict[Refusal, list[str]], *, of_modules: int
    ) -> list[tuple[str, str]]:
        """Queue for whom may have it, in one transaction; the others are put into `left_out`."""
        assert new.bulk_id is not None
        kind = kind_of(new.name)
        speaks = self._speaking(new.name, new.arguments)
        refused: dict[Refusal, list[str]] = {}

        def choose(found: Sequence[Target]) -> list[tuple[str, Target]]:
            chosen = []
            for target in found:
                refusal = refusal_of(target, kind, of_many=True, speaks=speaks)
                if refusal is None:
                    chosen.append((new_id(new.created_us), target))
                else:
                    refused.setdefault(refusal, []).append(target.serial)
            return chosen

        deed = None
        if not self._book.of_bulk(new.bulk_id):
            about = {"name": new.name, "arguments": dict(new.arguments), "modules": of_modules}
            deed = Deed(new.sent_by, "command.send_bulk", f"bulk:{new.bulk_id}", None, about)
        queued = self._queue(new, serials, choose, deed)
        for refusal, some in refused.items():
            left_out.setdefault(refusal, []).extend(some)
        return queued

    def _new(
        self, sender: Principal, kind: CommandKind, arguments: Mapping[str, Value], expires_in_s: int
    ) -> NewCommand:
        if not SHORTEST_EXPIRY_S <= expires_in_s <= LONGEST_EXPIRY_S:
            raise OperatorInputError(f"a command expires in {SHORTEST_EXPIRY_S} to {LONGEST_EXPIRY_S} seconds")
        now_us = self._now_us()
        return NewCommand(kind.name, kind.check(arguments), sender.name, now_us, now_us + expires_in_s * _SECOND_US)

    def _queue(
        self,
        new: NewCommand,
        serials: Sequence[str],
        choose: Callable[[Sequence[Target]], list[tuple[str, Target]]],
        deed: Deed | None,
    ) -> list[tuple[str, str]]:
        queued = self._book.queue(new, serials, choose, deed)
        self._tally.add(CommandState.QUEUED.value, len(queued))
        for command_id, serial in queued:
            note_command(self._events, Changed(command_id, serial, new.name, CommandState.QUEUED), new.created_us)
        self._look_at([serial for _id, serial in queued])
        return queued

    def _preview(self, serials: Sequence[str], left_out: Mapping[Refusal, Sequence[str]]) -> Preview:
        listening = self._listening()
        return Preview(
            [serial for serial in serials if serial in listening],
            [serial for serial in serials if serial not in listening],
            left_out,
        )


def _permitted(sender: Principal, name: str) -> CommandKind:
    kind = kind_of(name)
    if not sender.may(kind.scope):
        raise NotAllowed(f"{name} needs the right {kind.scope}, which you do not have")
    return kind


def _asked(selection: Selection) -> Selection:
    """What can be asked of the database: each serial once, without what can be none."""
    if selection.serials is None:
        return selection
    return dataclasses.replace(selection, serials=tuple(sorted({one for one in selection.serials if is_serial(one)})))


def _check_texts(selection: Selection) -> None:
    for text in (selection.tag, selection.city, selection.firmware):
        if text is not None and "\0" in text:
            raise OperatorInputError("no tag, city or firmware has the character NUL")


def _unknown(selection: Selection, targets: Sequence[Target]) -> dict[Refusal, list[str]]:
    if selection.serials is None:
        return {}
    unknown = sorted(set(selection.serials) - {target.serial for target in targets})
    return {Refusal.UNKNOWN: unknown} if unknown else {}
