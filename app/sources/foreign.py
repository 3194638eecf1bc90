"""Modules of others over MQTT: what their dialects hear, as readings, births, presence and answers of our modules."""

from __future__ import annotations

import collections
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from app.domain.reading import Reading
from app.protocol.dialects import Dialects
from app.protocol.foreign import Dialect, Facts, Presence, Refusal, Sending, What, serial_of
from app.protocol.messages import Ack, Cmd, Fota, Log, Message, State
from app.protocol.topics import Kind
from app.sources.command_line import CommandLine
from app.sources.known_devices import Device, KnownDevices, is_id
from app.sources.presence import ForeignPresence
from app.stores.registry.records import DeviceStanding, DeviceState
from broker.engine import Batch

log = logging.getLogger(__name__)

# Topics of ours, whatever else stands there: no dialect is asked for them.
_OURS = "wd/"
# Refusals of devices that are no modules, kept a second: above, they are counted only.
_REFUSALS_A_SECOND = 20
# Topics that no dialect claimed when they came; a dialect may learn of them later (Home Assistant's discovery).
_MOST_UNCLAIMED = 20_000
_UNCLAIMED_AT_ONCE = 200
# A signal that was told apart goes with the next reading, if that comes within the longest usual period.
_RSSI_HOLDS_US = 900_000_000
# A fault of ours that comes with each message is told in full this often, and counted always.
_TELL_FAULT_EACH_S = 60.0
_LEAST_RSSI_DBM = -127
_MOST_CHANNEL = 255
_LEAST_PERIOD_MS, _MOST_PERIOD_MS = 100, 86_400_000
_KINDS: dict[type[Any], Kind] = {Ack: Kind.ACK, Fota: Kind.FOTA, Log: Kind.LOG}


class ForeignReadings(Protocol):
    """Where readings go that waited for others; see app.ingest.ingest.Ingest."""

    def take(
        self, slots: Sequence[int], readings: Sequence[Reading], arrival_us: int, *, guaranteed: Batch | None = None
    ) -> None:
        """Take readings that arrived together."""
        ...


class ForeignRefusals(Protocol):
    """Where refused messages go; see app.ingest.quarantine.Quarantine."""

    def put(self, arrival_us: int, module: str, kind: str, reason: str, detail: str, payload: bytes) -> None:
        """Count and keep one refused message."""
        ...

    def count(self, reason: str, messages: int) -> None:
        """Count refusals of which nothing is kept."""
        ...


class ForeignHandle:
    """The handle of a topic of a dialect."""

    __slots__ = ("dialect", "topic")

    def __init__(self, topic: str, dialect: Dialect) -> None:
        self.topic = topic
        self.dialect = dialect


class ForeignSource:
    """On the loop. `pass_on` is set by the source of our own modules, behind whose sink this one stands."""

    def __init__(
        self,
        dialects: Dialects,
        find_slot: Callable[[str], int | None],
        readings: ForeignReadings,
        refusals: ForeignRefusals,
        *,
        presence: ForeignPresence,
        show_rssi: Callable[[int, int], None],
    ) -> None:
        """`show_rssi` gets a slot and a signal in dBm that was told apart from readings."""
        self.counts: collections.Counter[str] = collections.Counter(
            dict.fromkeys(("messages", "readings", "unadopted", "ignored", "too_many", "refused", "faults"), 0)
        )
        self.known = KnownDevices()
        self.pass_on: Callable[[str, int, Kind, Message, int], None] = lambda *_said: None
        self.forget_topics: Callable[[], None] = lambda: None
        # Told when an adopted device comes or goes: serial, whether it is there, when.
        self.on_presence: list[Callable[[str, bool, int], None]] = []
        self.commands = CommandLine()
        self._dialects = dialects
        self._find_slot = find_slot
        self._readings = readings
        self._refusals = refusals
        self._presence = presence
        self._show_rssi = show_rssi
        # Devices that have just become modules, until those have their slots.
        self._fresh: set[str] = set()
        self._unclaimed: dict[str, None] = {}
        self._refused_this_second = 0
        self._fault_told_at = float("-inf")

    def open_topic(self, topic: str) -> ForeignHandle | None:
        """A handle when a dialect claims the topic."""
        if topic.startswith(_OURS):
            return None
        try:
            dialect = self._dialects.of_topic(topic)
        except Exception as error:  # noqa: BLE001 - a dialect must not end the connection of a client
            self._tell_fault(error)
            return None
        if dialect is not None:
            return ForeignHandle(topic, dialect)
        if len(self._unclaimed) >= _MOST_UNCLAIMED:
            del self._unclaimed[next(iter(self._unclaimed))]
        self._unclaimed[topic] = None
        return None

    def take(
        self,
        handle: ForeignHandle,
        payload: bytes,
        arrival_us: int,
        slots: list[int],
        readings: list[Reading],
        *,
        retained: bool = False,
    ) -> None:
        """What a message says; readings of adopted devices are put into the lists. Never raises."""
        self.counts["messages"] += 1
        name = handle.dialect.name
        counted: set[str] = set()
        try:
            for one in handle.dialect.take(handle.topic, payload, retained=retained, arrival_us=arrival_us):
                if isinstance(one.what, Refusal):
                    self._refuse(name, one.device, one.what, payload, arrival_us)
                    continue
                device = self._device(name, one.device, payload, arrival_us)
                if device is None:
                    continue
                if one.device not in counted:
                    counted.add(one.device)
                    device.messages += 1
                    if not retained:
                        device.last_seen_us = arrival_us
                self._hear(device, one.what, arrival_us, slots, readings, retained=retained)
        except Exception as error:  # noqa: BLE001 - one message must not take its batch with it
            self._tell_fault(error)
            self._refuse(name, "", Refusal("bug"), payload, arrival_us)

    def due(self, now_us: int) -> None:
        """What waited for its time; call it about once a second."""
        self._refused_this_second = 0
        slots: list[int] = []
        readings: list[Reading] = []
        try:
            for one in self._dialects.due(now_us):
                if isinstance(one.what, Refusal):
                    self._refuse(one.dialect, one.device, one.what, b"", now_us)
                    continue
                device = self._device(one.dialect, one.device, b"", now_us)
                if device is not None:
                    self._hear(device, one.what, now_us, slots, readings, waited=True)
        except Exception as error:  # noqa: BLE001 - as above
            self._tell_fault(error)
        if readings:
            self._readings.take(slots, readings, now_us)
        self._look_at_unclaimed()

    def put(self, standing: DeviceStanding, now_us: int) -> None:
        """What people decided of a device."""
        known = self.known.heard(standing.dialect, standing.device, now_us)
        before = None if known is None else known.serial
        device = self.known.put(standing)
        if before is not None and before != standing.serial:
            self.commands.absent(before)
            if (slot := self._find_slot(before)) is not None:
                self._presence.told(slot, None)
        if device is not None and device.serial is not None:
            self._fresh.add(device.serial)
            self.adopted(now_us)

    def adopted(self, now_us: int) -> None:
        """Modules may have got their slots by now: tell what is known of them before they speak again."""
        for serial in list(self._fresh):
            device, slot = self.known.of_serial(serial), self._find_slot(serial)
            if device is None or slot is not None:
                self._fresh.discard(serial)
            if device is not None and slot is not None:
                self._tell(device, serial, slot, now_us)

    def sendings(self, serial: str, command: Cmd) -> Sequence[Sending] | None:
        """A command as messages to the foreign device that a module is; None when it is none, or has no such command.

        Any thread may ask: a dialect that changes meanwhile says no at worst.
        """
        device = self.known.of_serial(serial)
        dialect = None if device is None else self._dialects.named(device.dialect)
        if device is None or dialect is None:
            return None
        try:
            return dialect.send(device.device, command) or None
        except Exception as error:  # noqa: BLE001 - a command that can not be put into words is one it has not
            self._tell_fault(error)
            return None

    def is_foreign(self, serial: str) -> bool:
        """Whether a module is a device of a dialect."""
        return self.known.of_serial(serial) is not None

    def forget_facts(self, serial: str) -> None:
        """Know no more of a module than that it is there."""
        device = self.known.of_serial(serial)
        if device is not None:
            device.forget_facts()

    def forget(self, dialect_name: str, device: str) -> None:
        """A device that nobody has heard for long, and nobody wanted."""
        self.known.forget(dialect_name, device)
        dialect = self._dialects.named(dialect_name)
        if dialect is not None:
            dialect.forget(device)

    def statistics(self) -> dict[str, float]:
        """Counters and gauges."""
        return {
            **self.counts,
            **{f"devices_{state.value}": self.known.count(state) for state in DeviceState},
            "unwritten": self.known.unwritten,
        }

    def _device(self, dialect: str, name: str, payload: bytes, arrival_us: int) -> Device | None:
        if not is_id(name):
            self._refuse(dialect, "", Refusal("length", "the id of the device"), payload, arrival_us)
            return None
        device = self.known.heard(dialect, name, arrival_us)
        if device is None:
            self.counts["too_many"] += 1
        return device

    def _hear(
        self,
        device: Device,
        what: What,
        arrival_us: int,
        slots: list[int],
        readings: list[Reading],
        *,
        retained: bool = False,
        waited: bool = False,
    ) -> None:
        serial = device.serial
        slot = None if serial is None else self._find_slot(serial)
        if isinstance(what, Reading):
            self._reading(device, slot, what, arrival_us, slots, readings, retained=retained)
        elif isinstance(what, Facts):
            if device.state is not DeviceState.IGNORED:
                self._learn(device, slot, what, arrival_us)
        elif isinstance(what, Presence):
            self._set_online(device, slot, what.online, arrival_us, retained=retained)
        if serial is not None and slot is not None:
            self._presence.heard_of(slot)
            if isinstance(what, Ack | Fota | Log):
                self.pass_on(serial, slot, _KINDS[type(what)], what, arrival_us)
            if not retained and not waited and not isinstance(what, Presence) and device.online is False:
                # Its will was of a connection before this one.
                self._set_online(device, slot, True, arrival_us)
            if device.online is not False and not retained:
                self.commands.present(serial)
            self._tell(device, serial, slot, arrival_us)
        self.known.touched(device)

    def _reading(
        self,
        device: Device,
        slot: int | None,
        reading: Reading,
        arrival_us: int,
        slots: list[int],
        readings: list[Reading],
        *,
        retained: bool,
    ) -> None:
        self.counts["readings"] += 1
        if retained:
            return  # Old news; a dialect says none of it.
        kind = "W" if reading.active_w is not None else "VA" if reading.apparent_va is not None else None
        if kind is not None and kind != device.power_kind:
            device.power_kind = kind
            device.is_changed = True
        if device.arrived(arrival_us) and slot is not None:
            self._presence.learned(slot, device.usual_us)
        if slot is None:
            self.counts["ignored" if device.state is DeviceState.IGNORED else "unadopted"] += 1
            return
        if device.rssi is not None:
            rssi_dbm, told_us = device.rssi
            device.rssi = None
            if reading.rssi_dbm is None and arrival_us - told_us <= _RSSI_HOLDS_US:
                reading = msgspec.structs.replace(reading, rssi_dbm=rssi_dbm)
        slots.append(slot)
        readings.append(reading)

    def _learn(self, device: Device, slot: int | None, facts: Facts, arrival_us: int) -> None:
        device.learn(facts)
        rssi_dbm = facts.rssi_dbm
        # 0 is a radio that does not know.
        if rssi_dbm is not None and _LEAST_RSSI_DBM <= rssi_dbm < 0:
            device.rssi = (rssi_dbm, arrival_us)
            if slot is not None:
                self._show_rssi(slot, rssi_dbm)

    def _set_online(
        self,
        device: Device,
        slot: int | None,
        online: bool,
        arrival_us: int,
        *,
        retained: bool = False,
    ) -> None:
        before, device.online = device.online, online
        serial = device.serial
        if serial is None or slot is None:
            return
        self._presence.told(slot, online)
        if not online:
            self.commands.absent(serial)
        # What a broker remembers from before this hub began is no event of now.
        if online is not before and not (before is None and retained):
            for tell in self.on_presence:
                tell(serial, online, arrival_us)

    def _tell(self, device: Device, serial: str, slot: int, arrival_us: int) -> None:
        """Tell what is known of it, when that is new, as a module's birth tells it."""
        if device.told is None:
            # Of a module that has just got its slot: what was heard before.
            if device.online is not None:
                self._presence.told(slot, device.online)
            if device.usual_us:
                self._presence.learned(slot, device.usual_us)
        state = _birth_of(device.facts)
        if state != device.told:
            device.told = state
            self.pass_on(serial, slot, Kind.STATE, state, arrival_us)

    def _refuse(self, dialect: str, device: str, refusal: Refusal, payload: bytes, arrival_us: int) -> None:
        self.counts["refused"] += 1
        known = self.known.heard(dialect, device, arrival_us) if is_id(device) else None
        serial = None if known is None else known.serial
        if serial is None:
            self._refused_this_second += 1
            if self._refused_this_second > _REFUSALS_A_SECOND:
                self._refusals.count(refusal.reason, 1)
                return
            serial = serial_of(dialect, device) if device else ""
        self._refusals.put(arrival_us, serial, dialect, refusal.reason, refusal.detail, payload)

    def _look_at_unclaimed(self) -> None:
        """Whether a dialect claims by now what none did before; some at a time."""
        looked_at = list(itertools.islice(self._unclaimed, _UNCLAIMED_AT_ONCE))
        claimed = False
        for topic in looked_at:
            del self._unclaimed[topic]
            try:
                claimed |= self._dialects.of_topic(topic) is not None
            except Exception as error:  # noqa: BLE001 - as above
                self._tell_fault(error)
            else:
                self._unclaimed[topic] = None
        if claimed:
            # Every open topic is asked for anew, and those that nobody claims come back.
            self._unclaimed.clear()
            self.forget_topics()

    def _tell_fault(self, error: Exception) -> None:
        self.counts["faults"] += 1
        if time.monotonic() - self._fault_told_at >= _TELL_FAULT_EACH_S:
            self._fault_told_at = time.monotonic()
            log.error("a dialect of foreign modules failed; its message is counted and put aside", exc_info=error)


def _birth_of(facts: dict[str, Any]) -> State:
    """What the registry and the events take of facts, as a module's own birth says it."""

    def text(name: str) -> str | None:
        value = facts.get(name)
        return value[:64] if isinstance(value, str) and value else None

    period_ms = facts.get("period_ms")
    if not isinstance(period_ms, int) or not _LEAST_PERIOD_MS <= period_ms <= _MOST_PERIOD_MS:
        period_ms = None
    channel = facts.get("channel")
    if not isinstance(channel, int) or not 1 <= channel <= _MOST_CHANNEL:
        channel = None
    return State(
        period_ms=period_ms,
        firmware=text("firmware"),
        hardware=text("hardware") or text("model"),
        meter_kind=text("meter_kind"),
        meter_serial=text("meter_serial"),
        bssid=text("bssid"),
        channel=channel,
        reset_reason=text("reset_reason"),
    )
