"""PINGREQ, PINGRESP, DISCONNECT and AUTH."""

from __future__ import annotations

import msgspec

from broker.packets import kinds, primitives
from broker.packets.errors import ProtocolError, Reason, malformed
from broker.packets.properties import NO_PROPERTIES, Properties, read_properties, write_properties

PINGREQ_BYTES = bytes((kinds.PINGREQ << 4, 0))
PINGRESP_BYTES = bytes((kinds.PINGRESP << 4, 0))


class Ping(msgspec.Struct, frozen=True, gc=False):
    """PINGREQ, or its answer."""

    answer: bool = False


class Disconnect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A goodbye."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Auth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step of an extended authentication (5.0 only)."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


def read_ping(pos: int, end: int, kind: int, flags: int) -> Ping:
    """The PINGREQ or PINGRESP between `pos` and `end`."""
    if flags or pos != end:
        raise malformed("ping is not valid")
    return Ping(kind == kinds.PINGRESP)


def write_ping(packet: Ping) -> bytes:
    """The bytes of a PINGREQ or PINGRESP."""
    return PINGRESP_BYTES if packet.answer else PINGREQ_BYTES


def _read_reason(data: bytes, pos: int, end: int, kind: int) -> tuple[int, Properties]:
    reason = 0
    properties = NO_PROPERTIES
    if pos < end:
        reason, pos = primitives.read_u8(data, pos, end)
        if pos < end:
            properties, pos = read_properties(data, pos, end, kind)
    if pos != end:
        raise malformed("packet is longer than its fields")
    return reason, properties


def _write_reason(kind: int, reason: int, properties: Properties) -> bytes:
    if properties == NO_PROPERTIES:
        return bytes((kind << 4, 1, reason)) if reason else bytes((kind << 4, 0))
    return primitives.frame(kind << 4, bytes((reason,)), write_properties(properties))


def read_disconnect(data: bytes, pos: int, end: int, flags: int, version: int) -> Disconnect:
    """The DISCONNECT between `pos` and `end`."""
    if flags or (version != kinds.V5 and pos != end):
        raise malformed("DISCONNECT is not valid")
    reason, properties = _read_reason(data, pos, end, kinds.DISCONNECT)
    return Disconnect(reason=reason, properties=properties)


def write_disconnect(packet: Disconnect, version: int) -> bytes:
    """The bytes of a DISCONNECT; MQTT 3.1.1 has no reason."""
    if version != kinds.V5:
        return bytes((kinds.DISCONNECT << 4, 0))
    return _write_reason(kinds.DISCONNECT, packet.reason, packet.properties)


def read_auth(data: bytes, pos: int, end: int, flags: int, version: int) -> Auth:
    """The AUTH between `pos` and `end`."""
    if version != kinds.V5:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "AUTH is not a packet of MQTT 3.1.1")
    if flags:
        raise malformed("AUTH has flags in its first byte")
    reason, properties = _read_reason(data, pos, end, kinds.AUTH)
    return Auth(reason=reason, properties=properties)


def write_auth(packet: Auth) -> bytes:
    """The bytes of an AUTH."""
    return _write_reason(kinds.AUTH, packet.reason, packet.properties)
