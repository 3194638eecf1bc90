"""Modules of others: what every dialect gives and takes, whatever its topics and payloads look like.

A dialect is pure: topics and payloads in, what was heard out, with a small state per device inside. It opens nothing,
knows no clock but the times it is given, and never raises for what it is sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from app.domain.reading import Reading
from app.protocol.messages import Ack, Cmd, Fota, Log
from app.protocol.topics import MAX_SERIAL_LENGTH

# Devices one dialect remembers; messages of further ones are refused as `too_many_devices`.
MOST_DEVICES = 20_000
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+", re.ASCII)


class Presence(msgspec.Struct, frozen=True):
    """What a device or its last will says: it is there or it is gone."""

    online: bool


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was recognised of a device; None is unknown, and leaves what was known before.

    `rssi_dbm` is a Wi-Fi signal in dBm and nothing else: percentages are converted by their own scale, Zigbee's
    `link_quality` (0..255) stays apart.
    """

    name: str | None = None
    maker: str | None = None
    model: str | None = None
    firmware: str | None = None
    hardware: str | None = None
    newer_firmware: str | None = None
    meter_kind: str | None = None
    meter_serial: str | None = None
    ip: str | None = None
    mac: str | None = None
    ssid: str | None = None
    bssid: str | None = None
    channel: int | None = None
    rssi_dbm: int | None = None
    link_quality: int | None = None
    wifi_connects: int | None = None
    wifi_down_ms: int | None = None
    uptime_s: int | None = None
    reset_reason: str | None = None
    period_ms: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """A message that could not be used: `reason` is a word of app.protocol.codec.Reason, `detail` for people."""

    reason: str
    detail: str = ""


What = Reading | Presence | Facts | Ack | Fota | Log | Refusal


class Heard(NamedTuple):
    """Something of one device. `device` is the dialect's own id of it, stable over restarts."""

    device: str
    what: What


class Sending(NamedTuple):
    """A message to a device."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Dialect(Protocol):
    """How one family of modules speaks."""

    @property
    def name(self) -> str:
        """One word, as it stands in the registry: tasmota, shelly, shelly_gen1, home_assistant."""
        ...

    @property
    def filters(self) -> tuple[str, ...]:
        """MQTT filters that bring a listener everything this dialect may say; they may grow with what was heard."""
        ...

    def claims(self, topic: str) -> bool:
        """Whether a message on this topic is of this dialect; it may depend on what was heard before."""
        ...

    def take(self, topic: str, payload: bytes, *, retained: bool, arrival_us: int) -> Sequence[Heard]:
        """What a message says. Retained ones tell facts and presence, never readings: they are old news.

        Never raises: what can not be used comes back as a Refusal (with device "" when nobody can tell whose).
        """
        ...

    def due(self, arrival_us: int) -> Sequence[Heard]:
        """What waited for its time: readings that are assembled from several messages. Call it once a second or so."""
        ...

    def send(self, device: str, command: Cmd) -> Sequence[Sending] | None:
        """A command as messages to the device; None when the dialect has no such command."""
        ...

    def forget(self, device: str) -> None:
        """Drop the state of a device."""
        ...


def serial_of(dialect: str, device: str) -> str:
    """The serial an adopted device gets: its id where that can be one, else a readable part of it and a hash."""
    plain = _UNSAFE.sub("-", device).strip("-._")
    if plain == device and 0 < len(plain) <= MAX_SERIAL_LENGTH:
        return plain
    digest = hashlib.sha256(f"{dialect}\0{device}".encode()).hexdigest()[:8]
    return f"{plain[: MAX_SERIAL_LENGTH - 9].rstrip('-._') or dialect[:16]}-{digest}"
