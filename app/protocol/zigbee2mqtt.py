"""Topics of Zigbee2MQTT: its bases, the devices behind friendly names, and what its bridge tells and takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from app.protocol.foreign import Facts, Sending
from app.protocol.home_assistant_config import MAX_TOPIC_LENGTH, Availability
from app.protocol.zlinky import MAKER, MODEL

DEFAULT_BASE = "zigbee2mqtt"
# Bases beside the default: one house has one or two.
MOST_BASES = 16
MOST_NAMES = 50_000
# The description of 200 devices has about 2 MB.
MAX_DEVICES_BYTES = 8_000_000
_ADDRESS = re.compile(r"0x[0-9a-f]{16}\Z", re.ASCII)
_ENDS_OF_OTHERS = ("/set", "/get")
_AVAILABILITY = "/availability"


class _Definition(msgspec.Struct):
    model: Any = None


class _Device(msgspec.Struct):
    ieee_address: Any = None
    friendly_name: Any = None
    model_id: Any = None
    software_build_id: Any = None
    definition: _Definition | None = None


class Listed(NamedTuple):
    """A ZLinky in the bridge's list of devices."""

    name: str
    device: str
    facts: Facts


class Zigbee2Mqtt:
    """The bases that are known, and which radio is behind a friendly name."""

    def __init__(self) -> None:
        self.bases: list[str] = [DEFAULT_BASE]
        self._addresses: dict[tuple[str, str], str] = {}
        self._availability: dict[str, bytes] = {}

    def learn_base(self, base: str) -> bool:
        """Take a base; False when it was known, can not be one, or there are too many."""
        if not base or base in self.bases or len(self.bases) >= MOST_BASES or base.startswith(("$", "wd/")):
            return False
        self.bases.append(base)
        return True

    def split(self, topic: str) -> tuple[str, str] | None:
        """Base and the rest of a topic, None for a topic below no base."""
        for base in self.bases:
            if topic.startswith(base) and topic[len(base) : len(base) + 1] == "/" and len(topic) <= MAX_TOPIC_LENGTH:
                return base, topic[len(base) + 1 :]
        return None

    def friendly_name(self, rest: str) -> str | None:
        """The friendly name in a topic with a device's state; None for the bridge's topics and for those to devices."""
        if not rest or rest.startswith("bridge/") or rest.endswith((*_ENDS_OF_OTHERS, _AVAILABILITY)):
            return None
        return rest

    def device_of(self, base: str, name: str, address: str | None) -> str:
        """The id of a device, as its discovery configs have it where its address is known."""
        address = address or self._addresses.get((base, name)) or (name if _ADDRESS.match(name) else None)
        return f"zigbee2mqtt_{address or name}"

    def take_devices(self, base: str, payload: bytes) -> Iterator[Listed]:
        """The ZLinkys of a message on `bridge/devices`; all names are remembered. Raises what msgspec raises."""
        if len(payload) > MAX_DEVICES_BYTES:
            raise msgspec.DecodeError(f"{len(payload)} bytes, at most {MAX_DEVICES_BYTES}")
        for item in msgspec.json.decode(payload, type=list[msgspec.Raw]):
            try:
                one = msgspec.json.decode(item, type=_Device)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            name, address = one.friendly_name, one.ieee_address
            if not isinstance(name, str) or not isinstance(address, str) or not _ADDRESS.match(address):
                continue
            if len(self._addresses) < MOST_NAMES and len(name) <= MAX_TOPIC_LENGTH:
                self._addresses[base, name] = address
            model = one.definition.model if one.definition is not None else None
            if MODEL in {
                one.model_id if isinstance(one.model_id, str) else None,
                model if isinstance(model, str) else 0,
            }:
                build = one.software_build_id
                yield Listed(
                    name,
                    self.device_of(base, name, None),
                    Facts(
                        name=name[:64],
                        maker=MAKER,
                        model=MODEL,
                        firmware=build[:64] if isinstance(build, str) and build else None,
                    ),
                )

    def keep_availability(self, topic: str, payload: bytes) -> None:
        """Availability that comes before its device is known, as retained messages may."""
        if (topic.endswith((_AVAILABILITY, "/bridge/state"))) and len(payload) <= 256:
            if topic not in self._availability and len(self._availability) >= MOST_NAMES:
                self._availability.pop(next(iter(self._availability)))
            self._availability[topic] = payload

    def kept_availability(self, topic: str) -> bytes | None:
        """What was kept of a topic."""
        return self._availability.get(topic)


def availabilities(base: str, name: str) -> tuple[Availability, ...]:
    """Where Zigbee2MQTT says whether a device is there: the bridge's state, and the device's if that is turned on."""
    return (
        Availability(f"{base}/bridge/state", None, "online", "offline"),
        Availability(f"{base}/{name}{_AVAILABILITY}", None, "online", "offline"),
    )


def update_request(base: str, name: str) -> Sending:
    """The request to update a device over the air to the newest image that Zigbee2MQTT knows."""
    return Sending(f"{base}/bridge/request/device/ota_update/update", msgspec.json.encode({"id": name}))
