"""The generic dialect: whatever describes itself by Home Assistant's MQTT discovery, ZLinky and teleinfo2mqtt besides.

`home_assistant_config.py` reads configs, `home_assistant_quantities.py` says what an entity measures,
`value_template.py` reads its values; `zlinky.py` and `teleinfo2mqtt.py` know two kinds of JSON that need rules of their
own, with a config or without. Devices without any entity of a meter are remembered and not told of.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from app.protocol import teleinfo2mqtt, zlinky
from app.protocol.codec import Reason
from app.protocol.esphome_log import log_of
from app.protocol.foreign import MOST_DEVICES, Facts, Heard, Refusal, Sending
from app.protocol.home_assistant_config import (
    DEFAULT_PREFIX,
    MAX_TOPIC_LENGTH,
    Availability,
    EntityConfig,
    parse_config_topic,
)
from app.protocol.home_assistant_devices import Body, Device
from app.protocol.home_assistant_quantities import Kind, Use
from app.protocol.home_assistant_readings import Gathering, number_of, says_nothing
from app.protocol.home_assistant_registry import RESERVED, Registry, told_at_discovery
from app.protocol.messages import Cmd, Fota
from app.protocol.tic_values import read_labels
from app.protocol.value_template import UNDEFINED, NoValue, ValueTemplate
from app.protocol.zigbee2mqtt import DEFAULT_BASE, availabilities, update_request

# Values of one device that come on several topics within this time are one reading.
WINDOW_US = 1_500_000
_MAX_STATE_BYTES = 262_144
_TELEINFO_BASE = "teleinfo"
_BRIDGE_ENDS = ("/bridge/state", "/bridge/devices")


class HomeAssistant:
    """Devices by their discovery configs, and what they say on the topics that those name."""

    name = "home_assistant"

    def __init__(
        self, claimed_elsewhere: Callable[[str], bool] = lambda _topic: False, prefix: str = DEFAULT_PREFIX
    ) -> None:
        """`claimed_elsewhere` says whether another dialect reads a topic: entities there are left to it."""
        self._claimed_elsewhere = claimed_elsewhere
        self._prefix = prefix
        self._registry = Registry(
            claimed_elsewhere,
            (
                f"{prefix}/+/+/config",
                f"{prefix}/+/+/+/config",
                *(f"+{end}" for end in _BRIDGE_ENDS),
                f"{DEFAULT_BASE}/#",
                f"{_TELEINFO_BASE}/#",
            ),
        )
        # Devices with values that wait for others, and the time of the first; in the order of time.
        self._windows: dict[str, int] = {}
        self._expiries: list[tuple[int, str]] = []
        self._expiring: set[str] = set()

    @property
    def filters(self) -> tuple[str, ...]:
        """MQTT filters; they grow with the configs, so a listener that subscribes looks at them again."""
        return self._registry.filters

    @filters.setter
    def filters(self, filters: tuple[str, ...]) -> None:
        self._registry.filters = filters

    def claims(self, topic: str) -> bool:
        """Discovery, Zigbee2MQTT and teleinfo2mqtt; and topics that a config named."""
        if topic.startswith(RESERVED) or len(topic) > MAX_TOPIC_LENGTH:
            return False
        if parse_config_topic(topic, self._prefix) is not None:
            return True
        known = (
            self._registry.is_used(topic)
            or topic.startswith(f"{_TELEINFO_BASE}/")
            or topic.endswith(_BRIDGE_ENDS)
            or self._registry.z2m.split(topic) is not None
        )
        return known and not self._claimed_elsewhere(topic)

    def take(self, topic: str, payload: bytes, *, retained: bool, arrival_us: int) -> Sequence[Heard]:
        """What a message says; see Dialect.take."""
        if topic.startswith(RESERVED) or len(topic) > MAX_TOPIC_LENGTH:
            return ()
        where = parse_config_topic(topic, self._prefix)
        if where is not None:
            return list(self._registry.take_config(topic, where, payload))
        if topic.endswith(_BRIDGE_ENDS):
            self._registry.learn_base(topic.rsplit("/", 2)[0])
        if topic.endswith("/bridge/devices"):
            return list(self._take_listed(topic.removesuffix("/bridge/devices"), payload))
        if len(payload) > _MAX_STATE_BYTES:
            return [Heard("", Refusal(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {_MAX_STATE_BYTES}"))]
        if topic in self._registry.logs:
            return [] if retained else [Heard(self._registry.logs[topic], log_of(payload))]
        return list(self._take_state(topic, payload, retained, arrival_us))

    def due(self, arrival_us: int) -> Sequence[Heard]:
        """Readings whose window is over, and devices whose values are all out of date."""
        heard: list[Heard] = []
        while self._windows:
            name, first_us = next(iter(self._windows.items()))
            if 0 <= arrival_us - first_us < WINDOW_US:
                break
            heard.extend(self._end_window(name))
        while self._expiries and self._expiries[0][0] <= arrival_us:
            _, name = heapq.heappop(self._expiries)
            self._expiring.discard(name)
            device = self._registry.devices.get(name)
            expires_us = _expires_us(device) if device is not None else None
            if device is None or expires_us is None:
                continue
            if expires_us > arrival_us:
                self._watch_expiry(device, expires_us)
            elif device.told_online is not False:
                heard.extend(Heard(name, one) for one in device.presence(False))
        return heard

    def send(self, device: str, command: Cmd) -> Sequence[Sending] | None:
        """`reboot` by a restart button, `update` by an update entity or Zigbee2MQTT; None for everything else."""
        known = self._registry.devices.get(device)
        if known is None:
            return None
        if command.name == "reboot":
            for entity in known.entities.values():
                if entity.component == "button" and entity.device_class == "restart" and self._may_send(known, entity):
                    return [Sending(entity.command_topic or "", entity.payload_press.encode())]
        # Neither of these lets us choose the image.
        if command.name == "update" and (command.args or {}).get("url") is None:
            for entity in known.entities.values():
                if entity.component == "update" and entity.payload_install and self._may_send(known, entity):
                    return [Sending(entity.command_topic or "", entity.payload_install.encode())]
            if known.z2m is not None:
                return [update_request(*known.z2m)]
        return None

    def forget(self, device: str) -> None:
        """Drop the state of a device; its configs are taken anew when they come again."""
        self._registry.forget(device)
        self._windows.pop(device, None)

    def _may_send(self, device: Device, entity: EntityConfig) -> bool:
        """Whether a command topic may be the device's own: it begins as a topic does on which the device speaks.

        Who may write a config would otherwise have us send whatever he likes to any other device.
        """
        topic = entity.command_topic
        if not topic or topic.startswith(RESERVED) or self._claimed_elsewhere(topic):
            return False
        root = topic.split("/", 1)[0]
        spoken = (one for other in device.entities.values() for one in _own_topics(other))
        return any(one.split("/", 1)[0] == root for one in spoken)

    # --- States -------------------------------------------------------------------------------------------------

    def _take_state(self, topic: str, payload: bytes, retained: bool, arrival_us: int) -> Iterator[Heard]:
        body = Body(payload)
        users = self._registry.users_of(topic)
        self._registry.z2m.keep_availability(topic, payload)
        for device in dict.fromkeys(device for device, _ in users):
            if device.hear_availability(topic, body):
                online = device.online
                if online is not None:
                    yield from (Heard(device.id, one) for one in device.presence(online))
        if isinstance(body.json, dict):
            described = (device for device, key in users if _is_state(device, key, topic))
            owner = next(described, None) or self._owner_without_config(topic, body.json)
            if isinstance(owner, Refusal):
                yield Heard("", owner)
                return
            if owner is not None and self._has_own_rules(owner, body.json):
                yield from self._take_own_rules(owner, body.json, retained, arrival_us)
                return
        by_device: dict[str, list[str]] = {}
        for device, key in users:
            if key:
                by_device.setdefault(device.id, []).append(key)
        for name, keys in by_device.items():
            yield from self._take_entities(self._registry.devices[name], keys, topic, body, retained, arrival_us)

    def _owner_without_config(self, topic: str, message: dict[str, Any]) -> Device | Refusal | None:
        """The device of a state topic that no config named: a ZLinky or teleinfo2mqtt, by what it says."""
        place = self._registry.z2m.split(topic)
        friendly = self._registry.z2m.friendly_name(place[1]) if place is not None else None
        if place is not None and friendly is not None:
            name = self._registry.z2m.device_of(place[0], friendly, zlinky.ieee_address_of(message))
            known = self._registry.devices.get(name)
            if (known is None or known.zlinky is None) and not zlinky.is_zlinky(message):
                return None
            return self._z2m_device(place[0], friendly, name) or _TOO_MANY
        number = topic.removeprefix(f"{_TELEINFO_BASE}/")
        if teleinfo2mqtt.is_meter_number(number) and teleinfo2mqtt.is_teleinfo(message):
            device = self._registry.device(teleinfo2mqtt.device_of(number))
            if device is None:
                return _TOO_MANY
            device.is_meter = True
            if not device.extra_availabilities:
                status = Availability(f"{_TELEINFO_BASE}/status", None, "up", "down")
                self._registry.set_extra_availabilities(device, (status,))
            return device
        return None

    def _z2m_device(self, base: str, friendly: str, name: str) -> Device | None:
        device = self._registry.device(name)
        if device is None:
            return None
        device.is_meter = True
        if device.z2m != (base, friendly) or not device.extra_availabilities:
            device.z2m = (base, friendly)
            extra = availabilities(base, friendly)
            self._registry.set_extra_availabilities(device, extra)
            for one in extra:
                kept = self._registry.z2m.kept_availability(one.topic)
                if kept is not None:
                    device.hear_availability(one.topic, Body(kept))
        return device

    def _take_listed(self, base: str, payload: bytes) -> Iterator[Heard]:
        try:
            listed = list(self._registry.z2m.take_devices(base, payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield Heard("", Refusal(Reason.SYNTAX, str(error)[:160]))
            return
        for one in listed:
            device = self._z2m_device(base, one.name, one.device)
            if device is None:
                yield Heard("", _TOO_MANY)
                return
            device.zlinky = device.zlinky or zlinky.ZLinky()
            device.hear_facts(one.facts)
            yield from told_at_discovery(device)

    def _has_own_rules(self, device: Device, message: dict[str, Any]) -> bool:
        if device.zlinky is None and zlinky.is_zlinky(message):
            device.zlinky = zlinky.ZLinky()
        return device.zlinky is not None or teleinfo2mqtt.is_teleinfo(message)

    def _take_own_rules(
        self, device: Device, message: dict[str, Any], retained: bool, arrival_us: int
    ) -> Iterator[Heard]:
        device.is_meter = True
        if device.zlinky is not None:
            labels = device.zlinky.labels(message)
            time_ms, facts, exact = (
                zlinky.time_ms_of(message),
                zlinky.facts_of(message, device.zlinky.meter_kind),
                False,
            )
        else:
            labels = teleinfo2mqtt.labels_of(message)
            time_ms, facts, exact = teleinfo2mqtt.time_ms_of(message), teleinfo2mqtt.facts_of(message), True
        device.hear_facts(facts)
        yield from told_at_discovery(device)
        if (update := _update_of(message.get("update"))) is not None:
            yield Heard(device.id, update)
        reading = read_labels(device.maker, labels, time_ms=time_ms, exact=exact) if not retained and labels else None
        if reading is not None:
            yield from self._lives(device, arrival_us)
            yield Heard(device.id, reading)

    def _take_entities(
        self, device: Device, keys: Sequence[str], topic: str, body: Body, retained: bool, arrival_us: int
    ) -> Iterator[Heard]:
        together = Gathering() if isinstance(body.json, dict) else None
        found = False
        for key in keys:
            entity = device.entities.get(key)
            if entity is None:
                continue
            if entity.component == "update":
                yield from self._take_update(device, entity, topic, body)
            use = device.use_of(key) if entity.state_topic == topic else None
            if use is None:
                continue
            try:
                value = _value(entity.template, body)
            except NoValue:
                if entity.template is not None and entity.template.needs_json and body.json is UNDEFINED:
                    yield Heard(device.id, Refusal(Reason.SYNTAX, f"{entity.names[0][:40]} is to be read from JSON"))
                continue
            if use.kind is Kind.FACT:
                device.hear_fact(use.name, value)
                continue
            if retained:
                continue
            if together is None:
                yield from self._take_single(device, use, value, entity, arrival_us)
            elif (reason := together.put(use, value)) is not None:
                yield Heard(device.id, _refusal(reason, entity))
            found = found or not says_nothing(value)
        yield from told_at_discovery(device)
        if found:
            yield from self._lives(device, arrival_us)
        reading = together.reading(device.maker, device.phases) if together is not None else None
        if reading is not None:
            yield Heard(device.id, reading)

    def _take_single(
        self, device: Device, use: Use, value: Any, entity: EntityConfig, arrival_us: int
    ) -> Iterator[Heard]:
        """Put one value to those that came within the window; the same again begins the next reading."""
        first_us = self._windows.get(device.id)
        if first_us is not None and (
            not 0 <= arrival_us - first_us < WINDOW_US or (device.gathering is not None and device.gathering.has(use))
        ):
            yield from self._end_window(device.id)
        if device.gathering is None:
            device.gathering = Gathering()
        reason = device.gathering.put(use, value)
        if reason is not None:
            yield Heard(device.id, _refusal(reason, entity))
        elif not says_nothing(value):
            self._windows.setdefault(device.id, arrival_us)

    def _end_window(self, name: str) -> Iterator[Heard]:
        self._windows.pop(name, None)
        device = self._registry.devices.get(name)
        if device is None or device.gathering is None:
            return
        gathering, device.gathering = device.gathering, None
        reading = gathering.reading(device.maker, device.phases)
        if reading is not None:
            yield Heard(name, reading)

    def _take_update(self, device: Device, entity: EntityConfig, topic: str, body: Body) -> Iterator[Heard]:
        said = body.json if isinstance(body.json, dict) else {}
        installed = said.get("installed_version")
        newer = said.get("latest_version")
        if isinstance(update := said.get("update"), dict):
            installed, newer = update.get("installed_version", installed), update.get("latest_version", newer)
            if (progress := _update_of(update)) is not None and device.is_meter:
                yield Heard(device.id, progress)
        for template, wanted, is_newer in (
            (entity.template, entity.state_topic, False),
            (entity.latest_template, entity.latest_topic, True),
        ):
            if wanted != topic or (template is None and said):
                continue
            try:
                value = _value(template, body)
            except NoValue:
                continue
            if is_newer:
                newer = value
            else:
                installed = value
        if installed is not None:
            device.hear_fact("firmware", installed)
        if newer is not None:
            # The empty text is: there is none.
            none = installed is not None and newer == installed
            device.hear_facts(Facts(newer_firmware="")) if none else device.hear_fact("newer_firmware", newer)

    def _lives(self, device: Device, arrival_us: int) -> Iterator[Heard]:
        """A value came: who was thought gone is back, unless its availability says otherwise."""
        device.last_value_us = arrival_us
        if device.told_online is False and device.online is not False:
            yield from (Heard(device.id, one) for one in device.presence(True))
        expires_us = _expires_us(device)
        if expires_us is not None and device.id not in self._expiring:
            self._watch_expiry(device, expires_us)

    def _watch_expiry(self, device: Device, expires_us: int) -> None:
        self._expiring.add(device.id)
        heapq.heappush(self._expiries, (expires_us, device.id))


_TOO_MANY = Refusal("too_many_devices", f"more than {MOST_DEVICES}")


def _own_topics(entity: EntityConfig) -> list[str]:
    return [topic for topic in (entity.state_topic, *(one.topic for one in entity.availabilities)) if topic]


def _is_state(device: Device, key: str, topic: str) -> bool:
    entity = device.entities.get(key)
    return entity is not None and entity.state_topic == topic


def _expires_us(device: Device) -> int | None:
    seconds = device.expire_after_s
    return None if seconds is None or device.last_value_us is None else device.last_value_us + int(seconds * 1e6)


def _value(template: ValueTemplate | None, body: Body) -> Any:
    return body.text if template is None else template.value(body.text, body.json)


def _refusal(reason: Reason, entity: EntityConfig) -> Refusal:
    return Refusal(reason, f"the value of {entity.names[0][:60]}")


def _update_of(update: Any) -> Fota | None:
    """How far an update over the air is, while one runs."""
    if not isinstance(update, dict) or update.get("state") != "updating":
        return None
    percent = number_of(update.get("progress"))
    return Fota(phase="downloading", percent=percent if percent is not None and 0 <= percent <= 100 else None)
