"""Our own modules over MQTT: topics to slots, payloads to readings, in batches on the hub's loop."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from app.domain.reading import Reading
from app.protocol.codec import DECODERS, Refused, decode_tele
from app.protocol.messages import Message, Tele
from app.protocol.topics import Kind, ModuleTopic, parse
from broker.engine import Batch, ClientInfo

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


# Batches that wait for their modules to be registered; more are refused like those of any unknown module.
MOST_POSTPONED = 1000


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
        on_connection: Callable[[ClientInfo, str | None], None],
        adopt: Callable[[str], None] | None = None,
    ) -> None:
        """`on_message` gets serial, slot, kind, message and arrival_us.

        With `adopt`, unknown modules are registered: it is told the serial, and their messages wait for `adopted`.
        """
        self.counts: collections.Counter[str] = collections.Counter()
        self._find_slot = find_slot
        self._readings = readings
        self._refusals = refusals
        self._serial_of = serial_of
        self._on_message = on_message
        self._on_connection = on_connection
        self._adopt = adopt
        self._unknown: list[ModuleHandle] = []
        self._postponed: list[Batch] = []

    def open_topic(self, client: ClientInfo, topic: str) -> object | None:  # noqa: ARG002 - the engine has checked the client's rights
        """The slot for readings, a ModuleHandle for the rest, None for topics that are not our modules'."""
        parsed = parse(topic)
        if parsed is None or parsed.kind is Kind.CMD:
            return None
        slot = self._find_slot(parsed.serial)
        if slot is not None and parsed.kind is Kind.TELE:
            return slot
        handle = ModuleHandle(parsed, slot)
        if slot is None and self._adopt is not None:
            self._unknown.append(handle)
            self._adopt(parsed.serial)
        return handle

    def adopted(self) -> None:
        """Unknown modules may be registered by now: take what waited for them."""
        for handle in self._unknown:
            handle.slot = self._find_slot(handle.serial)
        self._unknown = [handle for handle in self._unknown if handle.slot is None]
        postponed, self._postponed = self._postponed, []
        for batch in postponed:
            self.accept(batch)

    def accept(self, batch: Batch) -> None:
        """Decode a batch; never raises for what is in it."""
        handles, payloads = batch.handles, batch.payloads
        guaranteed = batch if any(batch.guaranteed) else None
        if set(map(type, handles)) == {int}:
            try:
                decoded = list(map(_decode_one, payloads))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                pass  # One of them is something else: go through them one by one.
            else:
                self.counts["tele"] += len(decoded)
                self._readings.take(handles, decoded, batch.arrival_us, guaranteed=guaranteed)  # type: ignore[arg-type]
                return
        self._accept_singly(batch, guaranteed)

    def client_connected(self, client: ClientInfo) -> None:
        """Tell who came."""
        self._on_connection(client, None)

    def client_disconnected(self, client: ClientInfo, cause: str) -> None:
        """Tell who left, and why."""
        self._on_connection(client, cause)

    def _accept_singly(self, batch: Batch, guaranteed: Batch | None) -> None:
        if self._unknown and len(self._postponed) < MOST_POSTPONED and self._waits(batch):
            self._postponed.append(batch)
            return
        slots: list[int] = []
        readings: list[Reading] = []
        for handle, payload in zip(batch.handles, batch.payloads, strict=True):
            if isinstance(handle, int):
                self._tele(handle, payload, batch.arrival_us, slots, readings)
            elif isinstance(handle, ModuleHandle):
                if handle.slot is None:
                    self._refusals.put(batch.arrival_us, handle.serial, handle.kind, "unknown_module", "", payload)
                elif handle.kind is Kind.TELE:
                    self._tele(handle.slot, payload, batch.arrival_us, slots, readings)
                else:
                    self._other(handle, handle.slot, payload, batch.arrival_us)
        if readings:
            self._readings.take(slots, readings, batch.arrival_us, guaranteed=guaranteed)
        elif guaranteed is not None:
            self._readings.acknowledge_later(guaranteed)

    def _waits(self, batch: Batch) -> bool:
        return any(isinstance(handle, ModuleHandle) and handle.slot is None for handle in batch.handles)

    def _tele(self, slot: int, payload: bytes, arrival_us: int, slots: list[int], readings: list[Reading]) -> None:
        try:
            decoded = decode_tele(payload)
        except Refused as refusal:
            self._refusals.put(
                arrival_us, self._serial_of(slot), Kind.TELE, refusal.reason.value, refusal.detail, payload
            )
            return
        many = decoded if isinstance(decoded, list) else [decoded]
        self.counts["tele"] += len(many)
        slots += [slot] * len(many)
        readings += many

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
            self._on_message(topic.serial, slot, topic.kind, one, arrival_us)
