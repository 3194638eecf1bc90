"""Brings commands to modules that listen, takes their answers, and lets what is over expire."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from app.domain.commands import ACCEPTED, KINDS, CommandState, state_of_answer
from app.domain.errors import WattdeckError
from app.domain.events import Event, EventKind, EventSink
from app.domain.ids import is_id
from app.protocol.codec import encode_json
from app.protocol.foreign import Sending
from app.protocol.messages import Ack, Cmd
from app.protocol.topics import Kind, build
from app.services.commands.tally import CommandTally
from app.sources.command_line import Answer, CommandLine
from app.stores.failpoints import FailPoint, FailPoints
from app.stores.registry.commands import ROWS_AT_ONCE, Answered, Changed, CommandBook, CommandRecord

log = logging.getLogger(__name__)

# One transaction takes so many modules or answers: tens of milliseconds of a thread.
SERIALS_AT_ONCE = 500
ANSWERS_AT_ONCE = 1000
# Published in one go, about a millisecond of the loop.
_PUBLISHED_AT_ONCE = 25
_NOTED_AT_ONCE = 200
RETRY_S = 1.0
EXPIRE_EACH_S = 2.0
# Finished commands stay as long as the events that tell of them.
KEPT_US = 90 * 86_400_000_000
# A result is shown in a list; the module's own limits would allow 18 kB.
MOST_RESULT_BYTES = 4096


# A command as messages to a foreign device, by the serial of its module; None when it is none or has no such command.
Sendings = Callable[[str, Cmd], Sequence[Sending] | None]


class Publisher(Protocol):
    """The part of a broker engine that commands need."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        on_taken: Callable[[], None] | None = None,
    ) -> None:
        """Publish from inside the hub."""
        ...

    def receivers(self, topic: str) -> int:
        """How many would get a message now."""
        ...


class CommandDelivery:
    """Everything but `look_at` is for the loop.

    A command is marked as sent before it is published, and published when its module listens. That its module took it
    (the PUBACK) is written after that. It is published again, under the same id, only on a new connection, while
    nothing was answered and the broker does not hold it itself; one whose kind is not `repeated` only when it is not
    known that its module took it. So a hub that is killed at any moment brings a command once more rather than never,
    and the module knows it by its id.
    """

    def __init__(
        self,
        book: CommandBook,
        line: CommandLine,
        broker: Publisher,
        events: EventSink,
        tally: CommandTally,
        now_us: Callable[[], int],
        failpoints: FailPoints | None = None,
        *,
        is_foreign: Callable[[str], bool] = lambda _serial: False,
        sendings: Sendings = lambda _serial, _command: None,
    ) -> None:
        """`is_foreign`: whether a module is a device of another dialect; `sendings` has the messages for it then."""
        self._book = book
        self._line = line
        self._broker = broker
        self._events = events
        self._tally = tally
        self._now_us = now_us
        self._loop = asyncio.get_running_loop()
        # Modules to look at; true: they began to listen, so what they had before is due again.
        self._due: dict[str, bool] = {}
        self._failpoints = failpoints or FailPoints()
        # What modules took, with the time, and what of it is not written yet.
        self._taken: dict[str, int] = {}
        self._failing = False
        self._is_foreign = is_foreign
        self._sendings = sendings
        # Foreign devices that are there and have not subscribed to what is for them (yet).
        self._unreached: set[str] = set()

    def look_at(self, serials: Sequence[str]) -> None:
        """Something was queued for these modules. Any thread may call."""
        self._loop.call_soon_threadsafe(self._note_due, serials)

    def statistics(self) -> dict[str, float]:
        """Counters and gauges."""
        return {
            **self._tally.now(),
            "answers_shed": self._line.shed,
            "answers_waiting": self._line.answers_waiting,
            "modules_waiting": len(self._due),
        }

    async def run(self) -> None:
        """Deliver and take answers, until cancelled."""
        while True:
            for serial in self._line.take_begun():
                self._due[serial] = True
            answers = self._line.take_answers(ANSWERS_AT_ONCE)
            due = {serial: self._due.pop(serial) for serial in list(self._due)[:SERIALS_AT_ONCE]}
            if not (answers or due or self._taken):
                self._line.changed.clear()
                await self._line.changed.wait()
                continue
            try:
                if answers:
                    await self._take_answers(answers)
                    answers = []
                # After the answers, which say the same and are written anyway.
                if self._taken:
                    await self._note_taken()
                if due:
                    await self._send(due)
            except WattdeckError as error:
                self._line.put_back(answers)
                self._due = {serial: begun or self._due.get(serial, False) for serial, begun in due.items()} | {
                    serial: begun or due.get(serial, False) for serial, begun in self._due.items()
                }
                self._say_failing(error)
                await asyncio.sleep(RETRY_S)
                continue
            if self._failing:
                self._failing = False
                log.info("commands go on")

    async def run_expiry(self) -> None:
        """Expire and forget now and then, until cancelled."""
        while True:
            await asyncio.sleep(EXPIRE_EACH_S)
            self._try_unreached()
            try:
                await self.expire()
            except WattdeckError as error:
                self._say_failing(error)

    async def expire(self) -> None:
        """Expire every command whose time is over, and forget what finished long ago."""
        while True:
            expired = await asyncio.to_thread(self._book.expire, self._now_us())
            await self._note(expired)
            if len(expired) < ROWS_AT_ONCE:
                break
        while await asyncio.to_thread(self._book.forget, self._now_us() - KEPT_US) == ROWS_AT_ONCE:
            pass

    def _try_unreached(self) -> None:
        """Nothing tells when a foreign device has subscribed, so it is looked at anew."""
        unreached, self._unreached = self._unreached, set()
        for serial in unreached:
            if serial in self._line:
                self._due[serial] = True
        if unreached:
            self._line.changed.set()

    def _note_due(self, serials: Sequence[str]) -> None:
        for serial in serials:
            if serial in self._line:
                self._due.setdefault(serial, False)
        self._line.changed.set()

    async def _send(self, due: Mapping[str, bool]) -> None:
        # Who has gone meanwhile is told of again when it is back.
        serials = [serial for serial in due if serial in self._line]
        if not serials:
            return
        fresh, before = await asyncio.to_thread(self._take, serials)
        again = [
            command
            for command in before
            if due[command.module]
            and (_is_repeated(command) or (command.sent_us is None and command.id not in self._taken))
        ]
        await self._note([Changed(one.id, one.module, one.name, CommandState.SENT) for one in fresh])
        for number, command in enumerate([*again, *fresh], 1):
            if self._publish(command) and number <= len(again):
                self._tally.add("sent_again")
            if number % _PUBLISHED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _publish(self, command: CommandRecord) -> bool:
        """Whether it was published now."""
        message = Cmd(
            command.id, command.name, expires_ms=command.expires_us // 1000, args=dict(command.arguments) or None
        )
        is_foreign = self._is_foreign(command.module)
        if is_foreign:
            # A dialect that has lost the command leaves it to its expiry.
            messages = self._sendings(command.module, message) or ()
        else:
            messages = [Sending(build(command.module, Kind.CMD), encode_json(message))]
        if command.module not in self._line or not messages or not self._broker.receivers(messages[0].topic):
            # It has gone meanwhile, or has unsubscribed: it is told of again when it listens.
            if is_foreign and messages:
                self._unreached.add(command.module)
            return False
        if not self._line.bring(command.module, command.id):
            return False
        *before, last = messages
        for one in before:
            self._broker.publish(one.topic, one.payload, qos=one.qos, retain=one.retain)
        taken = functools.partial(self._note_one_taken, command.id)
        self._broker.publish(last.topic, last.payload, qos=last.qos, retain=last.retain, on_taken=taken)
        return True

    def _take(self, serials: Sequence[str]) -> tuple[list[CommandRecord], list[CommandRecord]]:
        fresh, before = self._book.take(serials, self._now_us())
        if fresh:
            self._failpoints.passing(FailPoint.COMMANDS_MARKED)
        return fresh, before

    def _note_one_taken(self, command_id: str) -> None:
        # On the loop, told by the broker.
        self._taken[command_id] = self._now_us()
        self._line.changed.set()

    async def _note_taken(self) -> None:
        part = dict(itertools.islice(self._taken.items(), ANSWERS_AT_ONCE))

        def write() -> None:
            self._failpoints.passing(FailPoint.COMMANDS_TAKEN)
            self._book.note_taken(part)

        await asyncio.to_thread(write)
        for command_id in part:
            self._taken.pop(command_id, None)

    async def _take_answers(self, answers: Sequence[Answer]) -> None:
        # What can be no id of ours is not looked for.
        known = [answer for answer in answers if is_id(answer.ack.id)]
        self._tally.add("answers_unknown", len(answers) - len(known))
        if not known:
            return
        changed, others = await asyncio.to_thread(lambda: self._book.answer([_answered(one) for one in known]))
        for name, count in others.items():
            self._tally.add(f"answers_{name}", count)
        await self._note(changed)

    async def _note(self, changed: Sequence[Changed]) -> None:
        now_us = self._now_us()
        for number, one in enumerate(changed, 1):
            self._tally.add(one.state.value)
            if one.state is not CommandState.SENT:
                self._taken.pop(one.id, None)
                self._line.forget(one.module, one.id)
            note_command(self._events, one, now_us)
            if number % _NOTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _say_failing(self, error: WattdeckError) -> None:
        if not self._failing:
            self._failing = True
            log.error("commands wait: %s", error)


def note_command(events: EventSink, changed: Changed, now_us: int) -> None:
    """The event of a command that took a state."""
    details = {"id": changed.id, "name": changed.name, "state": changed.state.value}
    events.note(Event(changed.module, now_us, EventKind.COMMAND, details))


def _is_repeated(command: CommandRecord) -> bool:
    kind = KINDS.get(command.name)
    return kind is None or kind.repeated


def _answered(answer: Answer) -> Answered:
    ack = answer.ack
    return Answered(
        ack.id,
        answer.serial,
        state_of_answer(ack.result),
        _result(ack),
        answer.arrival_us,
        is_final=ack.result != ACCEPTED,
    )


def _result(ack: Ack) -> dict[str, Any]:
    """What is kept of an answer."""
    kept = {
        name: value for name in ("result", "detail", "took_ms", "data") if (value := getattr(ack, name)) is not None
    }
    if len(msgspec.json.encode(kept)) > MOST_RESULT_BYTES:
        kept.pop("data", None)
        kept["data_left_out"] = True
    return kept
