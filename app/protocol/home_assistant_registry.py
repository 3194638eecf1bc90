"""The devices that were described, and which of them say something on a topic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from app.protocol import teleinfo2mqtt
from app.protocol.codec import Reason, Refused
from app.protocol.foreign import MOST_DEVICES, Facts, Heard, Refusal
from app.protocol.home_assistant_config import Availability, ConfigTopic, EntityConfig, parse_config
from app.protocol.home_assistant_devices import Device, topics_of
from app.protocol.home_assistant_quantities import measures
from app.protocol.topics import PREFIX
from app.protocol.zigbee2mqtt import Zigbee2Mqtt

# A fleet of 20,000 devices with ten entities each fits.
MOST_ENTITIES = 200_000
# One message is read for each of these; a device has 50.
MOST_ENTITIES_OF_TOPIC = 1_000
_MOST_REFUSED = 10_000
# First levels of topics that a listener is asked to subscribe to, one filter each.
_MOST_ROOTS = 5_000
# Our own modules' topics and the broker's are nobody else's, whatever a config says.
RESERVED = (PREFIX.split("/", 1)[0] + "/", "$")
_BRIDGE_STATE = "/bridge/state"
_TICMETER = "GammaTroniques"
_SERIAL_DIGITS = 12


class Registry:
    """Devices by id, entities by config topic, and both by the topics on which they speak."""

    def __init__(self, claimed_elsewhere: Callable[[str], bool], filters: tuple[str, ...]) -> None:
        self.devices: dict[str, Device] = {}
        self.z2m = Zigbee2Mqtt()
        self.filters = filters
        # Topics of ESPHome's logs, to the device.
        self.logs: dict[str, str] = {}
        self._claimed_elsewhere = claimed_elsewhere
        # Config topic -> digest of its payload, and its entities as (device, key).
        self._configs: dict[str, tuple[bytes, tuple[tuple[str, str], ...]]] = {}
        # State or availability topic -> (device, entity's key), in order; key "" for the device's own availability.
        self._users: dict[str, dict[tuple[str, str], None]] = {}
        self._refused: dict[bytes, None] = {}
        self._entities = 0
        self._roots: set[str] = set()

    def users_of(self, topic: str) -> list[tuple[Device, str]]:
        """Who says something on a topic: devices with the key of an entity."""
        return [(self.devices[name], key) for name, key in self._users.get(topic, ()) if name in self.devices]

    def is_used(self, topic: str) -> bool:
        """Whether anybody says something on a topic."""
        return topic in self._users or topic in self.logs

    def device(self, name: str) -> Device | None:
        """A device, made when it is new; None when there are too many."""
        device = self.devices.get(name)
        if device is None and len(self.devices) < MOST_DEVICES:
            device = self.devices[name] = Device(name)
        return device

    def set_extra_availabilities(self, device: Device, extra: tuple[Availability, ...]) -> None:
        """Availability of a device that no config describes."""
        device.set_extra_availabilities(extra)
        for one in extra:
            self._users.setdefault(one.topic, {})[device.id, ""] = None

    def forget(self, name: str) -> None:
        """Drop a device and what its configs said, so that they are taken anew when they come again."""
        device = self.devices.get(name)
        if device is None:
            return
        for topic in {key.partition("#")[0] for key in device.entities}:
            self.drop_config(topic)
        self._drop(device)

    # --- Configs ------------------------------------------------------------------------------------------------

    def take_config(self, topic: str, where: ConfigTopic, payload: bytes) -> Iterator[Heard]:
        """Take a config message; what is wrong with it, and what it says of devices."""
        if not payload:
            self.drop_config(topic)
            return
        digest = hashlib.sha256(payload).digest()
        if topic in self._configs and self._configs[topic][0] == digest:
            # The same again, as after each restart of whoever sends it.
            return
        try:
            entities = parse_config(where, payload)
        except Refused as error:
            yield Heard("", Refusal(error.reason, error.detail))
            return
        before = self._remove_entities(topic)
        keys: list[tuple[str, str]] = []
        for entity in entities:
            if not self._is_wanted(entity):
                continue
            name, number = device_name(entity.device.id)
            device = self.device(name)
            if device is None:
                yield Heard("", Refusal("too_many_devices", f"more than {MOST_DEVICES}"))
                break
            key = f"{topic}#{entity.key}"
            crowded = any(len(self._users.get(used, ())) >= MOST_ENTITIES_OF_TOPIC for used in topics_of(entity))
            if crowded or self._entities >= MOST_ENTITIES or not device.put_entity(key, entity):
                self._drop_if_empty(name)
                yield Heard("", Refusal(Reason.LENGTH, "too many entities"))
                break
            if (name, key) not in keys:
                self._entities += 1
                keys.append((name, key))
            self._watch(device, key, entity)
            device.hear_info(entity.device, number)
            if entity.unreadable is not None and measures(entity):
                what = f"value_template of {entity.component} {entity.names[0][:40]}: {entity.unreadable}"
                yield from self.refuse_once(name, what)
        if keys:
            self._configs[topic] = (digest, tuple(keys))
        for name in before - {name for name, _ in keys}:
            self._drop_if_empty(name)
        for name in dict.fromkeys(name for name, _ in keys):
            yield from told_at_discovery(self.devices[name])

    def drop_config(self, topic: str) -> None:
        """Remove the entities of a config topic, and devices that have no other."""
        for name in self._remove_entities(topic):
            self._drop_if_empty(name)

    def refuse_once(self, name: str, detail: str) -> Iterator[Heard]:
        """A refusal, the first time only: the cause stands in a config and is met with every message."""
        digest = hashlib.sha256(f"{name}\0{detail}".encode("utf-8", "replace")).digest()
        if digest not in self._refused:
            if len(self._refused) >= _MOST_REFUSED:
                self._refused.pop(next(iter(self._refused)))
            self._refused[digest] = None
            yield Heard(name, Refusal(Reason.FORMAT, detail))

    def learn_base(self, base: str) -> None:
        """Take a base topic of Zigbee2MQTT."""
        if self.z2m.learn_base(base):
            self.filters = (*self.filters, f"{base}/#")

    def _is_wanted(self, entity: EntityConfig) -> bool:
        named = [*topics_of(entity), *(one.topic for one in entity.availabilities), entity.command_topic or ""]
        if not any(named) or any(topic.startswith(RESERVED) for topic in named):
            return False
        return entity.state_topic is None or not self._claimed_elsewhere(entity.state_topic)

    def _watch(self, device: Device, key: str, entity: EntityConfig) -> None:
        for topic in topics_of(entity):
            self._users.setdefault(topic, {})[device.id, key] = None
            self._learn_root(topic)
        if entity.device.maker == _TICMETER and entity.expire_after_s is not None:
            # It gives four of its periods to each value.
            device.hear_facts(Facts(period_ms=round(entity.expire_after_s * 250)))
        for one in entity.availabilities:
            self._users.setdefault(one.topic, {})[device.id, ""] = None
            self._learn_root(one.topic)
            if one.topic.endswith(_BRIDGE_STATE):
                base = one.topic.removesuffix(_BRIDGE_STATE)
                self.learn_base(base)
                friendly = (entity.state_topic or "").removeprefix(f"{base}/")
                if friendly and friendly != entity.state_topic:
                    device.z2m = (base, friendly)
            maker = (entity.device.maker or "").lower()
            if one.topic.endswith("/status") and maker == "espressif" and len(self.logs) < MOST_DEVICES:
                self.logs[one.topic.removesuffix("status") + "debug"] = device.id

    def _learn_root(self, topic: str) -> None:
        root = topic.split("/", 1)[0]
        if root not in self._roots and len(self._roots) < _MOST_ROOTS:
            self._roots.add(root)
            # A topic without any level below it is its own filter; `a/#` is `a` as well.
            filter_ = f"{root}/#"
            if filter_ not in self.filters:
                self.filters = (*self.filters, filter_)

    def _remove_entities(self, topic: str) -> set[str]:
        _, keys = self._configs.pop(topic, (b"", ()))
        for name, key in keys:
            device = self.devices.get(name)
            entity = device.drop_entity(key) if device is not None else None
            if device is None or entity is None:
                continue
            self._entities -= 1
            for used in topics_of(entity):
                self._unuse(used, (name, key))
            still = {one.topic for other in device.entities.values() for one in other.availabilities}
            still |= {one.topic for one in device.extra_availabilities}
            for one in entity.availabilities:
                if one.topic not in still:
                    self._unuse(one.topic, (name, ""))
        return {name for name, _ in keys}

    def _unuse(self, topic: str, user: tuple[str, str]) -> None:
        users = self._users.get(topic, {})
        users.pop(user, None)
        if not users:
            self._users.pop(topic, None)

    def _drop_if_empty(self, name: str) -> None:
        device = self.devices.get(name)
        if device is not None and not device.entities and not device.extra_availabilities:
            self._drop(device)

    def _drop(self, device: Device) -> None:
        self.devices.pop(device.id, None)
        for one in device.extra_availabilities:
            self._unuse(one.topic, (device.id, ""))
        for topic in [topic for topic, name in self.logs.items() if name == device.id]:
            del self.logs[topic]


def device_name(identifier: str) -> tuple[str, str | None]:
    """The id of a device by its identifier; and the meter's number, where that is the identifier."""
    if len(identifier) == _SERIAL_DIGITS and teleinfo2mqtt.is_meter_number(identifier):
        return teleinfo2mqtt.device_of(identifier), identifier
    return identifier, None


def told_at_discovery(device: Device) -> Iterator[Heard]:
    """Facts that are new, and presence that was known before the device turned out to be a meter."""
    for facts in device.new_facts():
        yield Heard(device.id, facts)
    online = device.online
    if device.is_meter and device.told_online is None and online is not None:
        yield from (Heard(device.id, one) for one in device.presence(online))
