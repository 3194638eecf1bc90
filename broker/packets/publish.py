"""PUBLISH."""

from __future__ import annotations

import msgspec

from broker.packets import kinds, primitives
from broker.packets.errors import ProtocolError, Reason, malformed
from broker.packets.properties import NO_PROPERTIES, Properties, read_properties, write_properties
from broker.packets.topics import is_topic


class Publish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message on its way. `topic` is empty only where a topic alias stands for it; `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES


def read_publish(data: bytes, pos: int, end: int, flags: int, version: int) -> Publish:
    """The PUBLISH between `pos` and `end`."""
    qos = flags >> 1 & 3
    if qos == 3 or (qos == 0 and flags & 8):
        raise malformed("PUBLISH flags are not valid")
    topic, pos = primitives.read_string(data, pos, end)
    packet_id = 0
    if qos:
        packet_id, pos = primitives.read_u16(data, pos, end)
        if not packet_id:
            raise malformed("packet identifier is zero")
    properties = NO_PROPERTIES
    if version == kinds.V5:
        properties, pos = read_properties(data, pos, end, kinds.PUBLISH)
        if properties.topic_alias == 0:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "topic alias is zero")
        response = properties.response_topic
        if response is not None and not is_topic(response):
            raise ProtocolError(Reason.PROTOCOL_ERROR, "response topic is not valid")
    if not is_topic(topic) and not (topic == "" and properties.topic_alias is not None):
        raise ProtocolError(Reason.TOPIC_NAME_INVALID, "topic is not valid")
    return Publish(
        topic=topic,
        payload=data[pos:end],
        qos=qos,
        retain=bool(flags & 1),
        dup=bool(flags & 8),
        packet_id=packet_id,
        properties=properties,
    )


def write_publish(packet: Publish, version: int) -> bytes:
    """The bytes of a PUBLISH."""
    return primitives.frame(
        kinds.PUBLISH << 4 | (8 if packet.dup else 0) | packet.qos << 1 | packet.retain,
        primitives.write_string(packet.topic),
        primitives.write_u16(packet.packet_id) if packet.qos else b"",
        write_properties(packet.properties) if version == kinds.V5 else b"",
        packet.payload,
    )


class PublishTemplate:
    """A PUBLISH without properties on one topic, encoded ahead: a load generator adds packet id and payload.

    `encode` takes the payload and, at QoS 1 or 2, the packet id; the result is one packet's bytes.
    """

    __slots__ = ("_first", "_qos", "_tail", "_topic")

    def __init__(self, topic: str, *, qos: int = 0, retain: bool = False, version: int = kinds.V311) -> None:
        self._first = bytes((kinds.PUBLISH << 4 | qos << 1 | retain,))
        self._qos = qos
        self._topic = primitives.write_string(topic)
        self._tail = b"\0" if version == kinds.V5 else b""

    def encode(self, payload: bytes, packet_id: int = 0) -> bytes:
        """One packet's bytes."""
        number = packet_id.to_bytes(2, "big") if self._qos else b""
        size = len(self._topic) + len(number) + len(self._tail) + len(payload)
        return b"".join((self._first, primitives.write_varint(size), self._topic, number, self._tail, payload))
