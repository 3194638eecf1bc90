"""A message inside the broker, and its bytes for each kind of receiver."""

from __future__ import annotations

import math
from collections.abc import Callable

from broker.packets import kinds, primitives
from broker.packets.properties import NO_PROPERTIES, Properties, write_body

_NEVER = math.inf


def forwarded(properties: Properties) -> bytes:
    """The properties of a PUBLISH (or will) that go on to receivers as they are (MQTT-3.3.2-4, -15 to -20)."""
    if properties == NO_PROPERTIES:
        return b""
    return write_body(
        Properties(
            payload_format=properties.payload_format,
            content_type=properties.content_type,
            response_topic=properties.response_topic,
            correlation_data=properties.correlation_data,
            user=properties.user,
        )
    )


class Message:
    """What was published. `expires_at` is wall-clock seconds; `origin` is the publisher's client id ("" is the hub).

    `on_taken` is called when a receiver has answered it (QoS 1), or it was written to one (QoS 0); not after a restart.
    `properties` are the encoded forwarded properties. Bytes for QoS 0 receivers are made once and shared.
    """

    __slots__ = (
        "_wire4",
        "_wire5",
        "expires_at",
        "on_taken",
        "origin",
        "payload",
        "properties",
        "qos",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: bytes = b"",
        expires_at: float = _NEVER,
        origin: str = "",
        on_taken: Callable[[], None] | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires_at = expires_at
        self.origin = origin
        self.on_taken = on_taken
        self._wire4: bytes | None = None
        self._wire5: bytes | None = None

    @property
    def size(self) -> int:
        """About the bytes it takes."""
        return len(self.payload) + len(self.topic) + len(self.properties)

    def plain(self, version: int) -> bytes:
        """The bytes for a QoS 0 receiver without anything special (no retain flag, alias, identifier or expiry)."""
        if version == kinds.V5:
            wire = self._wire5
            if wire is None:
                wire = self._wire5 = self.encode(version, 0, 0)
            return wire
        wire = self._wire4
        if wire is None:
            wire = self._wire4 = self.encode(version, 0, 0)
        return wire

    def encode(
        self,
        version: int,
        qos: int,
        packet_id: int,
        *,
        retain: bool = False,
        dup: bool = False,
        subscription_ids: tuple[int, ...] = (),
        alias: int = 0,
        alias_known: bool = False,
        now: float = 0.0,
    ) -> bytes:
        """The bytes of a PUBLISH; `now` (wall clock) is needed when the message expires."""
        topic = b"\0\0" if alias_known else primitives.write_string(self.topic)
        number = packet_id.to_bytes(2, "big") if qos else b""
        properties = b""
        if version == kinds.V5:
            properties = self.properties
            if self.expires_at != _NEVER:
                remaining = max(0, math.ceil(self.expires_at - now))
                properties += b"\x02" + remaining.to_bytes(4, "big")
            for identifier in subscription_ids:
                properties += b"\x0b" + primitives.write_varint(identifier)
            if alias:
                properties += b"\x23" + alias.to_bytes(2, "big")
            properties = primitives.write_varint(len(properties)) + properties
        first = kinds.PUBLISH << 4 | (8 if dup else 0) | qos << 1 | retain
        size = len(topic) + len(number) + len(properties) + len(self.payload)
        return b"".join((bytes((first,)), primitives.write_varint(size), topic, number, properties, self.payload))

    def expired(self, now: float) -> bool:
        """Whether its expiry has passed at this wall-clock time."""
        return now >= self.expires_at

    @property
    def expires(self) -> bool:
        """Whether it has an expiry."""
        return self.expires_at != _NEVER
