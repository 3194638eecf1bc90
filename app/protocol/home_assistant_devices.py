"""What is known of one device that speaks Home Assistant's discovery, Zigbee2MQTT or teleinfo2mqtt."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.domain.linky import TicMode
from app.protocol.foreign import Facts, Presence
from app.protocol.home_assistant_config import Availability, DeviceInfo, EntityConfig
from app.protocol.home_assistant_quantities import Kind, Use, is_metering, measures, uses_of
from app.protocol.home_assistant_readings import Gathering, number_of
from app.protocol.tic.labels import LABELS_OF_MODE
from app.protocol.tic.readings import ReadingMaker
from app.protocol.value_template import UNDEFINED, NoValue
from app.protocol.zlinky import ZLinky

MOST_ENTITIES = 512
_MAX_TEXT = 64
# Numbers among the facts: least and greatest. 0 dBm is what drivers say when they do not know.
_FACT_BOUNDS = {"rssi_dbm": (-127, -1), "link_quality": (0, 255), "uptime_s": (0, 2**53)}
# Facts that are told each time they are heard: a survey counts them.
_ALWAYS = frozenset({"rssi_dbm"})
_FACT_NAMES = Facts.__struct_fields__


class Body:
    """A payload: its text, and its JSON when it is some."""

    __slots__ = ("_json", "_parsed", "text")

    def __init__(self, payload: bytes) -> None:
        self.text = payload.decode("utf-8", "replace")
        self._json: Any = UNDEFINED
        self._parsed = False

    @property
    def json(self) -> Any:
        """The JSON, UNDEFINED for a payload that is none."""
        if not self._parsed:
            self._parsed = True
            try:
                self._json = msgspec.json.decode(self.text)
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                self._json = UNDEFINED
        return self._json


class Device:
    """One device: its entities, what was told of it, and values that wait for their window to end."""

    __slots__ = (
        "_availabilities", "_dirty", "_expire_after_s", "_facts",
        "_latest", "_mode", "_phases", "_states", "_told", "_uses", "entities",
        "extra_availabilities", "gathering", "id", "is_meter", "last_value_us", "maker", "told_online", "z2m", "zlinky",
    )  # fmt: skip

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.entities: dict[str, EntityConfig] = {}
        # Whether anybody has to know of it: only meters are.
        self.is_meter = False
        self.maker = ReadingMaker()
        self.zlinky: ZLinky | None = None
        # Base topic and friendly name in Zigbee2MQTT.
        self.z2m: tuple[str, str] | None = None
        # Of a device that no config describes.
        self.extra_availabilities: tuple[Availability, ...] = ()
        self.gathering: Gathering | None = None
        self.last_value_us: int | None = None
        self.told_online: bool | None = None
        self._facts = Facts()
        self._told = Facts()
        self._states: dict[str, bool] = {}
        self._latest: bool | None = None
        self._dirty = True
        self._expire_after_s: float | None = None
        self._uses: dict[str, Use] = {}
        self._phases: dict[str, int] = {}
        self._availabilities: dict[str, list[Availability]] = {}
        self._mode = "latest"

    # --- Entities -----------------------------------------------------------------------------------------------

    def put_entity(self, key: str, entity: EntityConfig) -> bool:
        """Add or replace an entity; False when the device has too many."""
        if key not in self.entities and len(self.entities) >= MOST_ENTITIES:
            return False
        self.entities[key] = entity
        self._dirty = True
        if measures(entity):
            self.is_meter = True
        return True

    def drop_entity(self, key: str) -> EntityConfig | None:
        """Remove an entity and return it."""
        self._dirty = True
        return self.entities.pop(key, None)

    def use_of(self, key: str) -> Use | None:
        """What an entity's value is used for."""
        self._judge()
        return self._uses.get(key)

    @property
    def phases(self) -> Mapping[str, int]:
        """Field -> of how many phases there is a value."""
        self._judge()
        return self._phases

    @property
    def expire_after_s(self) -> float | None:
        """After so long without a value every entity is out of date; None when no entity says it."""
        self._judge()
        return self._expire_after_s

    def _judge(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        readable = {key: entity for key, entity in self.entities.items() if entity.unreadable is None}
        self._uses = uses_of(readable)
        labels = {use.name for use in self._uses.values() if use.kind is Kind.LABEL and is_metering(use)}
        # A ZLinky has Zigbee2MQTT's names for them, the same in both modes.
        if labels and self.z2m is None:
            mode = TicMode.STANDARD if labels & LABELS_OF_MODE[TicMode.STANDARD].keys() else TicMode.HISTORIQUE
            self.hear_facts(Facts(meter_kind=f"linky-{mode}"))
        # Values that change once a day have none of it; those that have it say whether the device lives.
        lasting = [self.entities[key].expire_after_s for key, use in self._uses.items() if is_metering(use)]
        self._expire_after_s = max((seconds for seconds in lasting if seconds is not None), default=None)
        self._phases = {}
        for use in self._uses.values():
            if use.kind is Kind.FIELD and use.number:
                self._phases[use.name] = self._phases.get(use.name, 0) + 1
        self._availabilities = {}
        modes = set()
        for entity in self.entities.values():
            if entity.availabilities:
                modes.add(entity.availability_mode)
            for one in entity.availabilities:
                known = self._availabilities.setdefault(one.topic, [])
                if not any(_same(one, other) for other in known):
                    known.append(one)
        self._mode = next((mode for mode in ("all", "any") if mode in modes), "latest")
        if not self._availabilities:
            sensors = map(_connectivity_of, self.entities.values())
            self._availabilities = {one.topic: [one] for one in sensors if one is not None}
        if not self._availabilities and self.extra_availabilities:
            self._availabilities = {one.topic: [one] for one in self.extra_availabilities}
            self._mode = "all"

    # --- Presence -----------------------------------------------------------------------------------------------

    def hear_availability(self, topic: str, body: Body) -> bool:
        """Take a message of an availability topic; False when the device has none there or it says nothing."""
        self._judge()
        for one in self._availabilities.get(topic, ()):
            state = availability_of(one, body)
            if state is not None:
                self._states[topic] = state
                self._latest = state
                return True
        return False

    def set_extra_availabilities(self, extra: tuple[Availability, ...]) -> None:
        """Availability of a device that no config describes."""
        self.extra_availabilities = extra
        self._dirty = True

    @property
    def online(self) -> bool | None:
        """Whether it is there by its availability topics, None when they have not said it yet."""
        self._judge()
        if self._mode == "latest":
            return self._latest
        states = [self._states.get(topic) for topic in self._availabilities]
        if self._mode == "all":
            return False if False in states else None if None in states or not states else True
        return True if True in states else None if None in states or not states else False

    def presence(self, online: bool) -> list[Presence]:
        """The presence as something to tell, empty while the device is none that anybody needs to know."""
        if not self.is_meter:
            return []
        self.told_online = online
        return [Presence(online)]

    # --- Facts --------------------------------------------------------------------------------------------------

    def hear_info(self, info: DeviceInfo, number: str | None = None) -> None:
        """Take what a config says of the device; `number` is a meter's number that must not stand in its names."""

        def clean(text: str | None) -> str | None:
            if text is None:
                return None
            return (text.replace(number, "").strip(" _-") if number else text)[:_MAX_TEXT] or None

        self.hear_facts(
            Facts(
                name=clean(info.name),
                maker=clean(info.maker),
                model=clean(info.model),
                firmware=clean(info.firmware),
                hardware=clean(info.hardware),
                mac=clean(info.mac),
            )
        )

    def hear_facts(self, facts: Facts) -> None:
        """Take facts; `new_facts` tells them."""
        given = {name: value for name in _FACT_NAMES if (value := getattr(facts, name)) is not None}
        if given:
            self._facts = msgspec.structs.replace(self._facts, **given)
            if not _ALWAYS.isdisjoint(given):
                self._told = msgspec.structs.replace(self._told, **dict.fromkeys(_ALWAYS & given.keys()))

    def hear_fact(self, name: str, value: Any) -> bool:
        """Take the value of an entity as a fact; False when it can not be one."""
        if name in _FACT_BOUNDS:
            number = number_of(value)
            least, greatest = _FACT_BOUNDS[name]
            if number is None or not least <= number <= greatest:
                return False
            self.hear_facts(_fact(name, round(number)))
            return True
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            return False
        self.hear_facts(_fact(name, value.strip()[:_MAX_TEXT]))
        return True

    def new_facts(self) -> list[Facts]:
        """What was not told yet, at most one; nothing while the device is none that anybody needs to know."""
        if not self.is_meter:
            return []
        self._judge()
        fresh = {
            name: value
            for name in _FACT_NAMES
            if (value := getattr(self._facts, name)) is not None and value != getattr(self._told, name)
        }
        self._told = self._facts
        return [Facts(**fresh)] if fresh else []


def availability_of(one: Availability, body: Body) -> bool | None:
    """What a message of an availability topic says, None when it is neither of its two payloads.

    Bare text and `{"state": ...}` are both understood whatever the template: Zigbee2MQTT changed from one to the other.
    """
    candidates: list[Any] = [body.text.strip()]
    if one.template is not None:
        with contextlib.suppress(NoValue):
            candidates.insert(0, one.template.value(body.text, body.json))
    if isinstance(body.json, dict):
        candidates.append(body.json.get("state"))
    for candidate in candidates:
        if isinstance(candidate, (str, bool, int, float)):
            text = str(candidate)
            if text == one.available:
                return True
            if text == one.not_available:
                return False
    return None


def _fact(name: str, value: Any) -> Facts:
    return msgspec.structs.replace(Facts(), **{name: value})


def _same(one: Availability, other: Availability) -> bool:
    return (one.available, one.not_available, one.template.text if one.template else None) == (
        other.available,
        other.not_available,
        other.template.text if other.template else None,
    )


def _connectivity_of(entity: EntityConfig) -> Availability | None:
    """A binary sensor of connectivity as an availability: ESPHome's `status`."""
    if entity.component != "binary_sensor" or entity.device_class != "connectivity" or entity.state_topic is None:
        return None
    return Availability(entity.state_topic, entity.template, entity.payload_on, entity.payload_off)


def topics_of(entity: EntityConfig) -> Sequence[str]:
    """The topics on which the values of an entity are said."""
    topics = (entity.state_topic, entity.latest_topic)
    return list(dict.fromkeys(topic for topic in topics if topic is not None))
