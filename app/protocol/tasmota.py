"""Tasmota: plugs, meters and Teleinfo modules with this firmware, the official one and the fork by Nicolas Bernaerts.

What becomes what, and what can not, is docs/dialects.md. One SENSOR, LIVE or TIC message gives one reading at most, of
the best section it has: the meter's frame (TIC), then METER and CONTRACT, then ENERGY.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import msgspec

from app.domain.reading import Reading
from app.protocol import tasmota_facts
from app.protocol.codec import Reason
from app.protocol.foreign import MOST_DEVICES, Facts, Heard, Presence, Refusal, Sending, What
from app.protocol.messages import Cmd
from app.protocol.tasmota_commands import Conversation
from app.protocol.tasmota_energy import energy_reading, is_historique, meter_reading
from app.protocol.tasmota_json import Section, number, read_object, section, words
from app.protocol.tasmota_teleinfo import Teleinfo
from app.protocol.tasmota_topics import DISCOVERY, FILTERS, Address, Topics, default_command_root, is_name

# STATE and SENSOR go out in the same moment, each TelePeriod: the signal of the one is that of the other.
SIGNAL_HOLDS_US = 10_000_000
# A device whose owner changed its FullTopic is believed when the old one has been silent so long; until then, two that
# go by the same name are not mixed.
OTHER_ROOT_AFTER_US = 900_000_000
# A clock that was never set says 1970; nothing of ours was measured before this.
_EARLIEST_EPOCH_S = 1_577_836_800
_LATEST_EPOCH_S = 253_402_300_799

_KINDS_READ = frozenset(
    {"STATE", "SENSOR", "LIVE", "TIC", "INFO1", "INFO2", "INFO3", "RESULT", "TELEPERIOD", "RESTART", "OTAURL"}
    | {"STATUS", *(f"STATUS{which}" for which in range(100))}
)

# Of each section, what makes a message broken when nothing of it can be read.
_VALUES = {
    "TIC": ("PAPP", "SINSTS", "EAST", "BASE", "HCHC", "HCHP", "IINST"),
    "METER": ("P", "W", "I", "I1", "U1", "PP", "PW"),
    "CONTRACT": ("CONSO", "PROD"),
    "ENERGY": ("Power", "ApparentPower", "Total", "Voltage", "Current"),
}


@dataclasses.dataclass(slots=True)
class _Device:
    """What is remembered of one device. `heard_us` is its last message that was not retained, 0 without one;
    `command_root` is empty while nothing was heard of it.
    """

    command_root: str = ""
    heard_us: int = 0
    online: str | None = None
    offline: str | None = None
    last_word: str | None = None
    firmware: str | None = None
    meter: tuple[str | None, str | None] = (None, None)
    teleinfo: Teleinfo | None = None
    is_official_teleinfo: bool = False
    is_historique: bool = False
    signal: tuple[int, int] | None = None
    conversation: Conversation = dataclasses.field(default_factory=Conversation)


class Tasmota:
    """The dialect; see app.protocol.foreign.Dialect. A device is the topic name (`%topic%`) of its configuration."""

    name: str = "tasmota"
    filters: tuple[str, ...] = FILTERS

    def __init__(self) -> None:
        self._topics = Topics()
        self._devices: dict[str, _Device] = {}
        self._device_of_announcement: dict[str, str] = {}
        self._asked: set[str] = set()

    def claims(self, topic: str) -> bool:
        """Whether a topic is a discovery message, or ends in one of Tasmota's kinds below `tele` or `stat`."""
        return _announcement(topic) is not None or self._topics.match(topic) is not None

    def take(self, topic: str, payload: bytes, *, retained: bool, arrival_us: int) -> Sequence[Heard]:
        """See Dialect.take."""
        announcement = _announcement(topic)
        if announcement is not None:
            return self._announced(*announcement, payload)
        address = self._topics.match(topic)
        if address is None:
            return ()
        found = self._device(address, retained=retained, arrival_us=arrival_us)
        if isinstance(found, Refusal):
            return [Heard(address.device, found)]
        if found is None:
            return ()
        found.conversation.tick(arrival_us)
        said = _said(found, address.kind, payload, retained=retained, now_us=arrival_us)
        # What sends nothing of use is not remembered, but a word of a will may be explained later.
        if found.last_word or not said or not all(isinstance(what, Refusal) for what in said):
            self._devices[address.device] = found
        return [Heard(address.device, what) for what in said]

    def due(self, arrival_us: int) -> Sequence[Heard]:
        """Nothing waits here; commands that were not answered are given up."""
        for name in list(self._asked):
            conversation = self._devices[name].conversation
            conversation.tick(arrival_us)
            if not conversation.is_open:
                self._asked.discard(name)
        return ()

    def send(self, device: str, command: Cmd) -> Sequence[Sending] | None:
        """`reboot`, `diagnose`, `set_period`, and `update` with a `url` (and a `job`); None for others."""
        known = self._devices.get(device)
        if known is None:
            if len(self._devices) >= MOST_DEVICES:
                return None
            known = _Device()
        root = known.command_root or default_command_root(device)
        messages = known.conversation.send(root, command) if root is not None else None
        if messages is not None:
            self._devices[device] = known
            self._asked.add(device)
        return messages

    def forget(self, device: str) -> None:
        """See Dialect.forget."""
        self._devices.pop(device, None)
        self._asked.discard(device)
        self._topics.forget(device)
        for announcement in [one for one, of in self._device_of_announcement.items() if of == device]:
            del self._device_of_announcement[announcement]

    def _device(self, address: Address, *, retained: bool, arrival_us: int) -> _Device | Refusal | None:
        """The device of a message; None for old news of a FullTopic that it no longer has."""
        device = self._devices.get(address.device)
        if device is None:
            if len(self._devices) >= MOST_DEVICES:
                return Refusal("too_many_devices", f"more than {MOST_DEVICES}")
            device = _Device()
        if device.command_root and device.command_root != address.command_root and not address.exact:
            if retained:
                return None
            is_fresh = device.heard_us and arrival_us - device.heard_us < OTHER_ROOT_AFTER_US
            if is_fresh or self._topics.knows(address.device):
                return Refusal(Reason.FORMAT, "another device sends under the same topic name")
        device.command_root = address.command_root
        if not retained:
            device.heard_us = arrival_us
        return device

    def _announced(self, announcement: str, kind: str, payload: bytes) -> Sequence[Heard]:
        """A discovery message: `config` says where a device is; `sensors` holds values of its start, no readings."""
        before = self._device_of_announcement.get(announcement)
        if not payload:
            if kind == "config" and before is not None:
                self._device_of_announcement.pop(announcement)
                self._topics.forget(before)
            return ()
        message = read_object(payload)
        if isinstance(message, Refusal):
            return [Heard(before or "", message)]
        if kind != "config":
            return self._sensors(before, message)
        name = message.get("t")
        if not is_name(name):
            return [Heard("", Refusal(Reason.MISSING, "no topic name in `t`"))]
        if name not in self._devices and len(self._devices) >= MOST_DEVICES:
            return [Heard(name, Refusal("too_many_devices", f"more than {MOST_DEVICES}"))]
        if before is not None and before != name:
            self.forget(before)
        root = self._topics.learn(name, message)
        if root is None:
            return [Heard(name, Refusal(Reason.FORMAT, "no usable FullTopic in `ft`"))]
        if announcement in self._device_of_announcement or len(self._device_of_announcement) < MOST_DEVICES:
            self._device_of_announcement[announcement] = name
        device = self._devices.setdefault(name, _Device())
        device.command_root = root
        return [Heard(name, what) for what in _introduced(device, message)]

    def _sensors(self, name: str | None, message: Section) -> Sequence[Heard]:
        device = self._devices.get(name or "")
        if device is not None and "TIC" in section(message.get("sn")):
            device.is_official_teleinfo = True
        return ()


def _announcement(topic: str) -> tuple[str, str] | None:
    """The device's part and the kind of a discovery topic."""
    if not topic.startswith(DISCOVERY):
        return None
    who, _, kind = topic[len(DISCOVERY) :].partition("/")
    return (who, kind) if is_name(who) and kind in {"config", "sensors"} else None


def _introduced(device: _Device, config: Section) -> list[What]:
    """What a discovery message tells."""
    device.online, device.offline = words(config.get("onln"), 64), words(config.get("ofln"), 64)
    facts = tasmota_facts.of_discovery(config)
    device.firmware = facts.firmware or device.firmware
    # Its will may have come before what its words mean.
    word, device.last_word = device.last_word, None
    presence = _presence(device, word) if word is not None else None
    return [*_any(facts), *([presence] if presence is not None else [])]


def _said(device: _Device, kind: str, payload: bytes, *, retained: bool, now_us: int) -> list[What]:
    """What a message below a device's own topics says."""
    if kind == "LWT":
        return _will(device, payload, retained=retained, now_us=now_us)
    if kind == "UPGRADE":
        return [] if retained else device.conversation.upgrade(_outcome(payload), device.firmware, now_us)
    if kind not in _KINDS_READ:
        return []
    message = read_object(payload)
    if isinstance(message, Refusal):
        return [message]
    if kind == "STATE":
        return _state(device, message, retained=retained, now_us=now_us)
    if kind in {"SENSOR", "LIVE", "TIC"}:
        if kind == "TIC" and "TIC" not in message:
            # The fork's raw frame is the whole message.
            message = {"TIC": message}
        elif "TIC" in message:
            device.is_official_teleinfo = True
        return _measured(device, message, retained=retained, now_us=now_us)
    if kind.startswith("INFO"):
        return _info(device, message, retained=retained, now_us=now_us)
    if kind.startswith("STATUS"):
        return _status(device, message, retained=retained, now_us=now_us)
    answers = [] if retained else device.conversation.result(message, now_us)
    return [*_any(tasmota_facts.of_result(message)), *answers]


def _any(facts: Facts) -> list[What]:
    return [facts] if tasmota_facts.said_by(facts) else []


def _will(device: _Device, payload: bytes, *, retained: bool, now_us: int) -> list[What]:
    word = words(payload[:256].decode("utf-8", "replace"), 64)
    if word is None:
        # An empty retained message deletes the will of a device that is gone for good.
        return [] if not payload else [Refusal(Reason.FORMAT, "no text")]
    presence = _presence(device, word)
    if presence is None:
        device.last_word = None if device.online else word
        return [Refusal(Reason.FORMAT, "neither of the words for online and offline")]
    device.last_word = None
    started = device.conversation.started(now_us) if presence.online and not retained else []
    return [presence, *started]


def _presence(device: _Device, word: str) -> Presence | None:
    """What a word means: the device's own words first, then those it is delivered with."""
    if word in (device.online, device.offline):
        return Presence(online=word == device.online)
    plain = word.casefold()
    return Presence(online=plain == "online") if plain in {"online", "offline"} else None


def _outcome(payload: bytes) -> str:
    """The text of an UPGRADE: inside an object since 2019, bare before."""
    message = read_object(payload)
    text = payload[:512].decode("utf-8", "replace") if isinstance(message, Refusal) else message.get("Upgrade")
    return words(text, 512) or ""


def _state(device: _Device, state: Section, *, retained: bool, now_us: int) -> list[What]:
    facts = tasmota_facts.of_state(state)
    if facts.rssi_dbm is not None and not retained:
        device.signal = (facts.rssi_dbm, now_us)
    return _any(facts)


def _info(device: _Device, message: Section, *, retained: bool, now_us: int) -> list[What]:
    facts = tasmota_facts.of_info(message)
    before, device.firmware = device.firmware, facts.firmware or device.firmware
    said = _any(facts)
    if retained:
        return said
    if facts.reset_reason is not None:
        said += device.conversation.started(now_us)
    if facts.firmware is not None:
        said += device.conversation.runs(facts.firmware, before, now_us)
    return said


def _status(device: _Device, message: Section, *, retained: bool, now_us: int) -> list[What]:
    facts = tasmota_facts.of_status(message)
    device.firmware = facts.firmware or device.firmware
    said = _any(facts)
    if not retained:
        if facts.rssi_dbm is not None:
            device.signal = (facts.rssi_dbm, now_us)
        said += device.conversation.status(message, facts, now_us)
    if "StatusSNS" in message:
        said += _measured(device, section(message["StatusSNS"]), retained=retained, now_us=now_us)
    return said


def _measured(device: _Device, message: Section, *, retained: bool, now_us: int) -> list[What]:
    """The reading of a message with values, and what it tells of the meter. Retained, it is no reading."""
    reading = _reading(device, message, now_us) if not retained else None
    said = _meter(device, message, retained=retained)
    if reading is not None:
        if device.signal is not None and abs(now_us - device.signal[1]) <= SIGNAL_HOLDS_US:
            reading = msgspec.structs.replace(reading, rssi_dbm=device.signal[0])
        if reading.time_ms is None:
            reading = msgspec.structs.replace(reading, time_ms=_time_ms(message))
        return [reading, *said]
    if not said and not retained and _is_broken(message):
        return [Refusal(Reason.TYPE, "no number of use in TIC, METER, CONTRACT or ENERGY")]
    return said


def _reading(device: _Device, message: Section, now_us: int) -> Reading | None:
    """One reading, of the best section. Sections are not mixed: ENERGY's Total is not the meter's index."""
    frame = section(message.get("TIC"))
    if frame:
        device.teleinfo = device.teleinfo or Teleinfo()
        reading = device.teleinfo.take(frame, now_us)
        if reading is not None:
            return reading
    device.is_historique = device.is_historique if "CONTRACT" not in message else is_historique(message)
    reading = meter_reading(message, measures_voltage=not device.is_historique)
    if reading is not None:
        return reading
    energy = section(message.get("ENERGY"))
    # `Load` is written by the official Teleinfo driver alone.
    return energy_reading(energy, of_teleinfo=device.is_official_teleinfo or "Load" in energy)


def _meter(device: _Device, message: Section, *, retained: bool) -> list[What]:
    """The meter's kind and number, when they are others than before."""
    teleinfo = device.teleinfo
    if retained and section(message.get("TIC")):
        teleinfo = Teleinfo()
        teleinfo.take(section(message["TIC"]), 0)
    kind, serial = (teleinfo.meter_kind, teleinfo.meter_serial) if teleinfo is not None else (None, None)
    said = (kind, serial or tasmota_facts.contract_serial(section(message.get("CONTRACT"))))
    known = (said[0] or device.meter[0], said[1] or device.meter[1])
    if known == device.meter:
        return []
    device.meter = known
    return [Facts(meter_kind=known[0], meter_serial=known[1])]


def _is_broken(message: Section) -> bool:
    """Whether it has a section of values, and something in it that should have been one."""
    for name, keys in _VALUES.items():
        found = message.get(name)
        if name in message and (not isinstance(found, dict) or any(key in found for key in keys)):
            return True
    return False


def _time_ms(message: Section) -> int | None:
    """The time of a message when it is sure: `Epoch` (command `Time 1` or `Time 2`), or a `Time` with an offset.

    The usual `Time` is local time without an offset, of a zone we can not know and twice the same in autumn: such a
    reading has none, and gets that of its arrival.
    """
    told = message.get("Time")
    for seconds in (number(message.get("Epoch"), _EARLIEST_EPOCH_S, _LATEST_EPOCH_S), _epoch_s(told)):
        if seconds is not None:
            return round(seconds * 1000)
    return None


def _epoch_s(told: object) -> float | None:
    if not isinstance(told, str):
        return number(told, _EARLIEST_EPOCH_S, _LATEST_EPOCH_S)
    try:
        time = dt.datetime.fromisoformat(told[:40])
        seconds = time.timestamp() if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
    return None if seconds is None or not _EARLIEST_EPOCH_S <= seconds <= _LATEST_EPOCH_S else seconds
