"""PUBACK, PUBREC, PUBREL and PUBCOMP, which share one shape."""

from __future__ import annotations

import msgspec

from broker.packets import kinds, primitives
from broker.packets.errors import malformed
from broker.packets.properties import NO_PROPERTIES, Properties, read_properties, write_properties


class Ack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of the QoS 1 and 2 handshakes; `kind` is the packet kind (4 to 7)."""

    kind: int
    packet_id: int
    reason: int = 0
    properties: Properties = NO_PROPERTIES


def read_ack(data: bytes, pos: int, end: int, kind: int, flags: int, version: int) -> Ack:
    """The acknowledgement between `pos` and `end`."""
    if flags != (2 if kind == kinds.PUBREL else 0):
        raise malformed("acknowledgement has wrong flags")
    packet_id, pos = primitives.read_u16(data, pos, end)
    if not packet_id:
        raise malformed("packet identifier is zero")
    reason = 0
    properties = NO_PROPERTIES
    if version == kinds.V5 and pos < end:
        reason, pos = primitives.read_u8(data, pos, end)
        if pos < end:
            properties, pos = read_properties(data, pos, end, kind)
    if pos != end:
        raise malformed("acknowledgement is longer than its fields")
    return Ack(kind=kind, packet_id=packet_id, reason=reason, properties=properties)


def write_ack(packet: Ack, version: int) -> bytes:
    """The bytes of an acknowledgement; what 5.0 lets out is left out."""
    first = packet.kind << 4 | (2 if packet.kind == kinds.PUBREL else 0)
    number = primitives.write_u16(packet.packet_id)
    if version != kinds.V5 or (not packet.reason and packet.properties == NO_PROPERTIES):
        return bytes((first, 2)) + number
    if packet.properties == NO_PROPERTIES:
        return bytes((first, 3)) + number + bytes((packet.reason,))
    return primitives.frame(first, number, bytes((packet.reason,)), write_properties(packet.properties))
