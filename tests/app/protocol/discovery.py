"""Discovery messages for tests, and a listener that says what it heard."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain.reading import Reading
from app.protocol.foreign import Facts, Presence, Refusal
from app.protocol.home_assistant import HomeAssistant
from app.protocol.messages import Cmd

START_US = 1_760_000_000_000_000


class Ear:
    """A dialect with a clock."""

    def __init__(self, dialect: HomeAssistant | None = None) -> None:
        self.dialect = dialect or HomeAssistant()
        self.now_us = START_US

    def hear(self, topic: str, payload: Any, *, retained: bool = False) -> list[Any]:
        if not isinstance(payload, bytes):
            payload = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
        assert self.dialect.claims(topic), topic
        return list(self.dialect.take(topic, payload, retained=retained, arrival_us=self.now_us))

    def said(self, topic: str, payload: Any, *, retained: bool = False) -> list[Any]:
        """What was heard, without of whom."""
        return [one.what for one in self.hear(topic, payload, retained=retained)]

    def config(self, topic: str, config: Any) -> list[Any]:
        return self.said(f"homeassistant/{topic}/config", config, retained=True)

    def wait(self, seconds: float) -> list[Any]:
        self.now_us += int(seconds * 1e6)
        return [one.what for one in self.dialect.due(self.now_us)]

    def send(self, device: str, name: str, **args: Any) -> Any:
        return self.dialect.send(device, Cmd(id="c1", name=name, args=args or None))


def readings(what: list[Any]) -> list[Reading]:
    return [one for one in what if isinstance(one, Reading)]


def presences(what: list[Any]) -> list[bool]:
    return [one.online for one in what if isinstance(one, Presence)]


def facts(what: list[Any]) -> dict[str, Any]:
    """The facts of all, without what is unknown."""
    found: dict[str, Any] = {}
    for one in what:
        if isinstance(one, Facts):
            found |= {name: getattr(one, name) for name in one.__struct_fields__ if getattr(one, name) is not None}
    return found


def refusals(what: list[Any]) -> list[str]:
    return [one.reason for one in what if isinstance(one, Refusal)]


def values(reading: Reading) -> dict[str, Any]:
    """A reading without what is unknown."""
    return {name: getattr(reading, name) for name in reading.__struct_fields__ if getattr(reading, name) is not None}


def sensor(unit: str | None, device_class: str | None, **more: Any) -> dict[str, Any]:
    """A config with long keys of a device `meter-1`, all of whose entities speak on `meter/state`."""
    config: dict[str, Any] = {"state_topic": "meter/state", "device": {"identifiers": ["meter-1"]}}
    if unit is not None:
        config["unit_of_measurement"] = unit
    if device_class is not None:
        config["device_class"] = device_class
    return config | more
