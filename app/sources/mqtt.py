"""Our own modules over MQTT: topics to slots, payloads to readings, in batches on the hub's loop."""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from app.domain.reading import Reading
from app.protocol.codec import DECODERS, Refused, decode_tele
from app.protocol.messages import Ack, Message, Tele
from app.protocol.topics import Kind, ModuleTopic, parse
from app.sources.command_line import CommandLine
from app.sources.foreign import ForeignHandle, ForeignSource
from broker.engine import Batch, ClientInfo

# Handle, payload, and whether it is old news.
_Sent = tuple[object, bytes, bool]
# What nearly every payload is: one reading as JSON. Anything else takes the longer way through decode_tele.
_decode_one = msgspec.json.Decoder(Tele).decode


class ReadingSink(Protocol):
    """Where readings go; see app.ingest.ingest.Ingest."""

    def take(
        self, slots: Sequence[int], readings: Sequence[Reading], arrival_us: int, *, guaranteed: Batch | None = None
    ) -> None:
        """Take readings that arrived together."""
        ...

    def acknowledge_later(self, batch: Batch) -> None:
        """Acknowledge a batch that carries no reading."""
        ...


class Refusals(Protocol):
    """Where refused messages go; see app.ingest.quarantine.Quarantine."""

    def put(self, arrival_us: int, module: str, kind: str, reason: str, detail: str, payload: bytes) -> None:
        """Count and keep one refused message."""
        ...


class ModuleHandle:
    """The handle of a topic that needs a look per message; `slot` is None while the module is unknown."""

    __slots__ = ("kind", "serial", "slot")

    def __init__(self, topic: ModuleTopic, slot: int | None) -> None:
        self.serial = topic.serial
        self.kind = topic.kind
        self.slot = slot


# What waits for its module to be registered (a second or two of a fleet that comes for the first time); above either,
# messages are refused like those of any unknown module.
MOST_POSTPONED = 100_000
MOST_POSTPONED_BYTES = 64_000_000
# Of those, so many are taken in one turn of the loop once they may be: one or two milliseconds.
_POSTPONED_AT_ONCE = 500


class MqttSource:
    """The broker's sink. A tele topic's handle is the module's slot, an int: nothing is looked up per message."""

    def __init__(
        self,
        find_slot: Callable[[str], int | None],
        readings: ReadingSink,
        refusals: Refusals,
        *,
        serial_of: Callable[[int], str],
        on_message: Callable[[str, int, Kind, Message, int], None],
        adopt: Callable[[str], None] | None = None,
        foreign: ForeignSource | None = None,
    ) -> None:
        """`on_message` gets serial, slot, kind, message and arrival_us.

        With `adopt`, unknown modules are registered: it is told the serial, and their messages wait for `adopted`.
        `foreign` takes what is on other topics than our modules'.
        """
        self.counts: collections.Counter[str] = collections.Counter()
        # Have the engine ask `open_topic` again: readings whose handle became a slot take the short way then.
        self.forget_topics: Callable[[], None] = lambda: None
        # Told of each client that comes and goes (with the cause); on the loop, quick.
        self.on_connected: list[Callable[[ClientInfo], None]] = []
        self.on_disconnected: list[Callable[[ClientInfo, str], None]] = []
        # Told of each batch, where the broker tells of no client; on the loop, quick.
        self.on_batch: list[Callable[[Batch], None]] = []
        # While `on_message` is called: a broker had kept the message, which tells nothing of now.
        self.is_old_news = False
        self.commands = CommandLine()
        self._find_slot = find_slot
        self._readings = readings
        self._refusals = refusals
        self._serial_of = serial_of
        self._on_message = on_message
        self._adopt = adopt
        self._foreign = foreign
        if foreign is not None:
            foreign.pass_on = self.pass_on
            foreign.commands = self.commands
            foreign.forget_topics = self._ask_topics_anew
        self._handles_grew_old = False
        self._postponed: collections.deque[_Postponed] = collections.deque()
        self._postponed_bytes = 0

    @property
    def postponed(self) -> int:
        """Messages that wait for their module to be registered."""
        return len(self._postponed)

    def open_topic(self, client: ClientInfo, topic: str) -> object | None:  # noqa: ARG002 - the engine has checked the client's rights
        """The slot for readings, a ModuleHandle for the rest, a ForeignHandle for others' modules, None for what is
        nobody's.
        """
        parsed = parse(topic)
        if parsed is None:
            return None if self._foreign is None else self._foreign.open_topic(topic)
        if parsed.kind is Kind.CMD:
            return None
        slot = self._find_slot(parsed.serial)
        if slot is not None and parsed.kind is Kind.TELE:
            return slot
        return ModuleHandle(parsed, slot)

    def adopted(self) -> None:
        """Unknown modules may be registered by now: take what waited for them, on the running loop."""
        self._take_postponed(len(self._postponed))

    def accept(self, batch: Batch) -> None:
        """Decode a batch; never raises for what is in it."""
        for tell in self.on_batch:
            tell(batch)
        handles, payloads = batch.handles, batch.payloads
        guaranteed = batch if any(batch.guaranteed) else None
        kinds = set(map(type, handles))
        if kinds == {int} and not batch.retained:
            try:
                decoded = list(map(_decode_one, payloads))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                pass  # One of them is something else: go through them one by one.
            else:
                self.counts["tele"] += len(decoded)
                self._readings.take(handles, decoded, batch.arrival_us, guaranteed=guaranteed)  # type: ignore[arg-type]
                return
        self._accept_singly(batch, guaranteed, has_foreign=ForeignHandle in kinds)

    def client_connected(self, client: ClientInfo) -> None:
        """Tell who wants to know."""
        for tell in self.on_connected:
            tell(client)

    def client_disconnected(self, client: ClientInfo, cause: str) -> None:
        """Tell who wants to know."""
        for tell in self.on_disconnected:
            tell(client, cause)
        self.commands.gone(client)

    def client_subscribed(self, client: ClientInfo, pattern: str, held: Sequence[bytes]) -> None:
        """A module may listen for its commands now."""
        self.commands.subscribed(client, pattern, held)

    def pass_on(self, serial: str, slot: int, kind: Kind, message: Message, arrival_us: int) -> None:
        """A message of a known module that is no reading."""
        if isinstance(message, Ack):
            self.commands.answered(serial, message, arrival_us)
        self._on_message(serial, slot, kind, message, arrival_us)

    def _accept_singly(self, batch: Batch, guaranteed: Batch | None, *, has_foreign: bool) -> None:
        taken = _Taken([], [])
        waiting: list[tuple[ModuleHandle, bytes]] = []
        messages: Iterable[_Sent] = zip(
            batch.handles, batch.payloads, batch.retained or itertools.repeat(False), strict=False
        )
        if has_foreign:
            # Ours are not slowed down by who shares a batch with them.
            messages = self._without_foreign(messages, batch.arrival_us, taken)
        for handle, payload, old in messages:
            if old and not _describes(handle):
                self.counts["old_news"] += 1
                continue
            self.is_old_news = old
            if isinstance(handle, int):
                self._tele(handle, payload, batch.arrival_us, taken)
            elif isinstance(handle, ModuleHandle):
                if self._is_known(handle):
                    self._known(handle, payload, batch.arrival_us, taken)
                elif self._adopt is not None and self._has_room(len(waiting)):
                    waiting.append((handle, payload))
                else:
                    self._refuse_unknown(handle, payload, batch.arrival_us)
        self.is_old_news = False
        if waiting and guaranteed is not None:
            # Acknowledged once all of it is: what is taken now, and each message that waits.
            guaranteed = _PartOfBatch(guaranteed, len(waiting) + 1)
        self._pass_on(taken, batch.arrival_us, guaranteed)
        for handle, payload in waiting:
            self._postpone(_Postponed(handle, payload, batch.arrival_us, guaranteed))

    def _without_foreign(self, messages: Iterable[_Sent], arrival_us: int, taken: _Taken) -> list[_Sent]:
        """Take what is foreign, and the readings of ours in one go where that can be; what is left."""
        foreign = self._foreign
        assert foreign is not None
        ours: list[_Sent] = []
        for handle, payload, old in messages:
            if isinstance(handle, ForeignHandle):
                foreign.take(handle, payload, arrival_us, taken.slots, taken.readings, retained=old)
            else:
                ours.append((handle, payload, old))
        tele = [(handle, payload) for handle, payload, old in ours if isinstance(handle, int) and not old]
        try:
            decoded = [_decode_one(payload) for _slot, payload in tele]
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return ours  # As above.
        self.counts["tele"] += len(decoded)
        taken.slots.extend(slot for slot, _payload in tele)
        taken.readings.extend(decoded)
        return [message for message in ours if message[2] or not isinstance(message[0], int)]

    def _pass_on(self, taken: _Taken, arrival_us: int, guaranteed: Batch | None) -> None:
        if taken.readings:
            self._readings.take(taken.slots, taken.readings, arrival_us, guaranteed=guaranteed)
        elif guaranteed is not None:
            self._readings.acknowledge_later(guaranteed)

    def _ask_topics_anew(self) -> None:
        # What is set there is set after both sources were built.
        self.forget_topics()

    def _has_room(self, more: int) -> bool:
        return len(self._postponed) + more < MOST_POSTPONED and self._postponed_bytes < MOST_POSTPONED_BYTES

    def _postpone(self, waiting: _Postponed) -> None:
        self._postponed.append(waiting)
        self._postponed_bytes += len(waiting.payload)
        if self._adopt is not None:
            self._adopt(waiting.handle.serial)

    def _take_postponed(self, count: int) -> None:
        for _ in range(min(count, len(self._postponed), _POSTPONED_AT_ONCE)):
            waiting = self._postponed.popleft()
            self._postponed_bytes -= len(waiting.payload)
            self._take_one(waiting)
        if count > _POSTPONED_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._take_postponed, count - _POSTPONED_AT_ONCE)
        elif self._handles_grew_old:
            self._handles_grew_old = False
            self.forget_topics()

    def _take_one(self, waiting: _Postponed) -> None:
        """A message whose module is registered by now; one whose module still is not waits on."""
        if not self._is_known(waiting.handle):
            self._postpone(waiting)
            return
        taken = _Taken([], [])
        self._known(waiting.handle, waiting.payload, waiting.arrival_us, taken)
        self._pass_on(taken, waiting.arrival_us, waiting.guaranteed)

    def _is_known(self, handle: ModuleHandle) -> bool:
        if handle.slot is None:
            handle.slot = self._find_slot(handle.serial)
            self._handles_grew_old |= handle.slot is not None
        return handle.slot is not None

    def _known(self, handle: ModuleHandle, payload: bytes, arrival_us: int, taken: _Taken) -> None:
        assert handle.slot is not None
        if handle.kind is Kind.TELE:
            self._tele(handle.slot, payload, arrival_us, taken)
        else:
            self._other(handle, handle.slot, payload, arrival_us)

    def _refuse_unknown(self, handle: ModuleHandle, payload: bytes, arrival_us: int) -> None:
        self._refusals.put(arrival_us, handle.serial, handle.kind, "unknown_module", "", payload)

    def _tele(self, slot: int, payload: bytes, arrival_us: int, taken: _Taken) -> None:
        try:
            decoded = decode_tele(payload)
        except Refused as refusal:
            self._refusals.put(
                arrival_us, self._serial_of(slot), Kind.TELE, refusal.reason.value, refusal.detail, payload
            )
            return
        many = decoded if isinstance(decoded, list) else [decoded]
        self.counts["tele"] += len(many)
        taken.slots.extend([slot] * len(many))
        taken.readings.extend(many)

    def _other(self, topic: ModuleHandle, slot: int, payload: bytes, arrival_us: int) -> None:
        if not payload:
            return  # An empty retained message: somebody clears the topic.
        try:
            message = DECODERS[topic.kind](payload)
        except Refused as refusal:
            self._refusals.put(arrival_us, topic.serial, topic.kind, refusal.reason.value, refusal.detail, payload)
            return
        self.counts[topic.kind.value] += 1
        for one in message if isinstance(message, list) else [message]:
            self.pass_on(topic.serial, slot, topic.kind, one, arrival_us)


def _describes(handle: object) -> bool:
    """Whether messages of a topic tell of a module, so that a kept one is worth taking."""
    return isinstance(handle, ModuleHandle) and handle.kind is Kind.STATE


class _Taken(NamedTuple):
    """Readings of one batch and their slots, parallel."""

    slots: list[int]
    readings: list[Reading]


class _Postponed(NamedTuple):
    """A message whose module is not registered yet; `guaranteed` is told when it is dealt with."""

    handle: ModuleHandle
    payload: bytes
    arrival_us: int
    guaranteed: Batch | None


class _PartOfBatch:
    """A batch that is dealt with in several parts: acknowledged when each of them has acknowledged."""

    def __init__(self, whole: Batch, parts: int) -> None:
        self.arrival_us = whole.arrival_us
        # The messages are counted as waiting with the parts that hold them: one each.
        self.handles: Sequence[object] = whole.handles[:1]
        self.payloads: Sequence[bytes] = whole.payloads[:1]
        self.guaranteed: Sequence[bool] = whole.guaranteed[:1]
        self.retained: Sequence[bool] = whole.retained[:1]
        self._whole = whole
        self._parts = parts

    def acknowledge(self) -> None:
        """One part is done."""
        self._parts -= 1
        if self._parts == 0:
            self._whole.acknowledge()
