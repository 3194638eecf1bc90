"""Configs of Home Assistant's MQTT discovery: what a retained message on `<prefix>/.../config` says of an entity.

Long and short keys, `~` as a part of topics, availability as one topic or as a list, one entity a message or a whole
device (`cmps`). Wrong types never raise: a value of the wrong kind is as if it were not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from app.protocol.codec import Reason, Refused
from app.protocol.value_template import UnreadableTemplate, ValueTemplate

# A whole device of 200 entities in one message has about 100 kB.
MAX_CONFIG_BYTES = 262_144
MAX_COMPONENTS = 512
MAX_TOPIC_LENGTH = 512
MAX_AVAILABILITIES = 8
_MAX_TEXT = 200
_MAX_PAYLOAD_TEXT = 512
DEFAULT_PREFIX = "homeassistant"

# Short keys that matter here, as Home Assistant's table of abbreviations has them.
_LONG = {
    "avty": "availability",
    "avty_mode": "availability_mode",
    "avty_t": "availability_topic",
    "avty_tpl": "availability_template",
    "cmd_t": "command_topic",
    "cmps": "components",
    "def_ent_id": "default_entity_id",
    "dev": "device",
    "dev_cla": "device_class",
    "exp_aft": "expire_after",
    "l_ver_t": "latest_version_topic",
    "l_ver_tpl": "latest_version_template",
    "o": "origin",
    "obj_id": "object_id",
    "p": "platform",
    "pl_avail": "payload_available",
    "pl_inst": "payload_install",
    "pl_not_avail": "payload_not_available",
    "pl_off": "payload_off",
    "pl_on": "payload_on",
    "pl_prs": "payload_press",
    "stat_cla": "state_class",
    "stat_t": "state_topic",
    "t": "topic",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
}
_LONG_IN_DEVICE = {
    "cns": "connections",
    "hw": "hw_version",
    "ids": "identifiers",
    "mdl": "model",
    "mdl_id": "model_id",
    "mf": "manufacturer",
    "sn": "serial_number",
    "sw": "sw_version",
}
_TOPIC_KEYS = ("state_topic", "command_topic", "availability_topic", "latest_version_topic")


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a config says of the device. `id` is its first identifier, or connection; `mac` of a network card."""

    id: str
    name: str | None = None
    maker: str | None = None
    model: str | None = None
    firmware: str | None = None
    hardware: str | None = None
    mac: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Availability:
    """One topic that says whether an entity is there."""

    topic: str
    template: ValueTemplate | None
    available: str
    not_available: str


@dataclasses.dataclass(frozen=True, slots=True)
class EntityConfig:
    """One entity. `names` are the texts that tell what it measures: the topic's last level, object_id, unique_id, name.

    `unreadable` is the text of a template outside the subset and what is wrong with it.
    """

    key: str
    component: str
    device: DeviceInfo
    names: tuple[str, ...]
    state_topic: str | None
    template: ValueTemplate | None
    unreadable: str | None
    unit: str | None
    device_class: str | None
    availabilities: tuple[Availability, ...]
    availability_mode: str
    expire_after_s: float | None
    command_topic: str | None
    payload_install: str | None
    payload_press: str
    payload_on: str
    payload_off: str
    latest_topic: str | None
    latest_template: ValueTemplate | None


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigTopic:
    """A discovery topic: the component and the ids in it."""

    component: str
    node_id: str
    object_id: str


def parse_config_topic(topic: str, prefix: str = DEFAULT_PREFIX) -> ConfigTopic | None:
    """`<prefix>/<component>/[<node_id>/]<object_id>/config`, or None for any other topic."""
    if not topic.startswith(f"{prefix}/") or not topic.endswith("/config") or len(topic) > MAX_TOPIC_LENGTH:
        return None
    levels = topic[len(prefix) + 1 :].split("/")
    if len(levels) not in {3, 4} or not all(levels):
        return None
    return ConfigTopic(levels[0], levels[1] if len(levels) == 4 else "", levels[-2])


def parse_config(where: ConfigTopic, payload: bytes) -> list[EntityConfig]:
    """The entities of a config message, none for one that names no device. Raises Refused."""
    if len(payload) > MAX_CONFIG_BYTES:
        raise Refused(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_CONFIG_BYTES}")
    try:
        tree = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(Reason.SYNTAX, str(error)) from None
    except RecursionError:
        raise Refused(Reason.NESTING, "nested too deep") from None
    if not isinstance(tree, dict):
        raise Refused(Reason.TYPE, "a config is a JSON object")
    config = _lengthened(tree, _LONG)
    device = _device(config)
    if device is None:
        if not where.node_id:
            # Nobody can tell which entities belong together.
            return []
        device = DeviceInfo(id=where.node_id[:_MAX_TEXT])
    if where.component != "device":
        return [_entity(where.object_id, where.component, where.object_id, config, device)]
    return list(_components(where, config, device))


def _components(where: ConfigTopic, config: Mapping[str, Any], device: DeviceInfo) -> Iterator[EntityConfig]:
    parts = config.get("components")
    if not isinstance(parts, dict):
        return
    # Topics, availability and `~` of the message hold for each of its components that has none of its own.
    common = {key: config[key] for key in config if key not in {"components", "device", "platform", "unique_id"}}
    for number, (key, part) in enumerate(parts.items()):
        if number >= MAX_COMPONENTS:
            return
        if not isinstance(part, dict):
            continue
        own = common | _lengthened(part, _LONG)
        component = _text(own.get("platform"))
        # A component with nothing but its platform is one that was removed.
        if component and len(part) > 1:
            yield _entity(f"{where.object_id}/{key}"[:_MAX_TEXT], component, key, own, device)


def _entity(key: str, component: str, object_id: str, config: Mapping[str, Any], device: DeviceInfo) -> EntityConfig:
    topics = {name: _topic(config, config.get(name)) for name in _TOPIC_KEYS}
    template, unreadable = _template(config.get("value_template"))
    latest_template, _ = _template(config.get("latest_version_template"))
    names = (object_id, *(_text(config.get(name)) for name in ("object_id", "unique_id", "name", "default_entity_id")))
    return EntityConfig(
        key=key,
        component=component,
        device=device,
        names=tuple(dict.fromkeys(name for name in names if name)),
        state_topic=topics["state_topic"],
        template=template,
        unreadable=unreadable,
        unit=_text(config.get("unit_of_measurement")),
        device_class=_text(config.get("device_class")),
        availabilities=tuple(_availabilities(config, topics["availability_topic"])),
        availability_mode=mode if (mode := _text(config.get("availability_mode"))) in {"all", "any"} else "latest",
        expire_after_s=_seconds(config.get("expire_after")),
        command_topic=topics["command_topic"],
        payload_install=_payload(config.get("payload_install")),
        payload_press=_payload(config.get("payload_press")) or "PRESS",
        payload_on=_payload(config.get("payload_on")) or "ON",
        payload_off=_payload(config.get("payload_off")) or "OFF",
        latest_topic=topics["latest_version_topic"],
        latest_template=latest_template,
    )


def _lengthened(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The config with long keys alone; a long key wins over its short form."""
    short = {names[key]: value for key, value in config.items() if key in names}
    return short | {key: value for key, value in config.items() if key not in names}


def _device(config: Mapping[str, Any]) -> DeviceInfo | None:
    given = config.get("device")
    if not isinstance(given, dict):
        return None
    device = _lengthened(given, _LONG_IN_DEVICE)
    connections = [
        (_text(pair[0]), _text(pair[1]))
        for pair in _as_list(device.get("connections"))[:MAX_AVAILABILITIES]
        if isinstance(pair, list) and len(pair) == 2
    ]
    identifiers = [_text(one) for one in _as_list(device.get("identifiers"))[:MAX_AVAILABILITIES]]
    ids = [one for one in (*identifiers, *(value for _, value in connections)) if one]
    if not ids:
        return None
    return DeviceInfo(
        id=ids[0],
        name=_text(device.get("name")),
        maker=_text(device.get("manufacturer")),
        model=_text(device.get("model")),
        firmware=_text(device.get("sw_version")),
        hardware=_text(device.get("hw_version")),
        mac=next((value for kind, value in connections if kind == "mac"), None),
    )


def _availabilities(config: Mapping[str, Any], single: str | None) -> Iterator[Availability]:
    given = [_lengthened(one, _LONG) for one in _as_list(config.get("availability")) if isinstance(one, dict)]
    if single is not None:
        given.append(
            {
                "topic": single,
                "value_template": config.get("availability_template"),
                "payload_available": config.get("payload_available"),
                "payload_not_available": config.get("payload_not_available"),
            }
        )
    for one in given[:MAX_AVAILABILITIES]:
        topic = _topic(config, one.get("topic"))
        template, unreadable = _template(one.get("value_template"))
        if topic is not None and unreadable is None:
            yield Availability(
                topic,
                template,
                _payload(one.get("payload_available")) or "online",
                _payload(one.get("payload_not_available")) or "offline",
            )


def _template(given: Any) -> tuple[ValueTemplate | None, str | None]:
    if not isinstance(given, str) or not given.strip():
        return None, None
    try:
        return ValueTemplate(given), None
    except UnreadableTemplate as error:
        return None, f"{given[:100]} ({error})"


def _topic(config: Mapping[str, Any], given: Any) -> str | None:
    if not isinstance(given, str) or not given:
        return None
    base = config.get("~")
    if isinstance(base, str):
        # As Home Assistant does: at the beginning or at the end.
        if given[0] == "~":
            given = base + given[1:]
        elif given[-1] == "~":
            given = given[:-1] + base
    fits = 0 < len(given) <= MAX_TOPIC_LENGTH and not any(sign in given for sign in "+#\0")
    return given if fits else None


def _as_list(given: Any) -> list[Any]:
    if isinstance(given, list):
        return given
    return [] if given is None else [given]


def _text(given: Any) -> str | None:
    """Text, from text or a number (versions are numbers at times)."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = str(given)[:_MAX_TEXT] if abs(given) < 1e15 else None
    if not isinstance(given, str):
        return None
    return given.strip()[:_MAX_TEXT] or None


def _payload(given: Any) -> str | None:
    if isinstance(given, bool):
        return str(given)
    if isinstance(given, str):
        return given if 0 < len(given) <= _MAX_PAYLOAD_TEXT else None
    return _text(given)


def _seconds(given: Any) -> float | None:
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 8:
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    # A year: longer is as good as never. NaN is in no range.
    return float(given) if 0 < given <= 31_536_000 else None
