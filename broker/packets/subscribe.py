"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK."""

from __future__ import annotations

import msgspec

from broker.packets import kinds, primitives
from broker.packets.errors import ProtocolError, Reason, malformed
from broker.packets.properties import NO_PROPERTIES, Properties, read_properties, write_properties

# A decoded filter takes thirty times the bytes of a short one: without a limit a packet could use far more memory
# than its size. Clients with more filters send several packets.
MAX_FILTERS = 1000


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """One filter with its options; `retain_handling`: 0 send retained, 1 only when new, 2 never."""

    pattern: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request for subscriptions."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NO_PROPERTIES


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request to end subscriptions."""

    packet_id: int
    patterns: tuple[str, ...]
    properties: Properties = NO_PROPERTIES


class Suback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to SUBSCRIBE: one reason for each filter (in MQTT 3.1.1: granted QoS, or 0x80)."""

    packet_id: int
    reasons: bytes
    properties: Properties = NO_PROPERTIES


class Unsuback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to UNSUBSCRIBE: one reason for each filter (in MQTT 3.1.1: none)."""

    packet_id: int
    reasons: bytes = b""
    properties: Properties = NO_PROPERTIES


def _read_head(data: bytes, pos: int, end: int, kind: int, version: int) -> tuple[int, Properties, int]:
    packet_id, pos = primitives.read_u16(data, pos, end)
    if not packet_id:
        raise malformed("packet identifier is zero")
    properties = NO_PROPERTIES
    if version == kinds.V5:
        properties, pos = read_properties(data, pos, end, kind)
    return packet_id, properties, pos


def read_subscribe(data: bytes, pos: int, end: int, flags: int, version: int) -> Subscribe:
    """The SUBSCRIBE between `pos` and `end`. Filters are not judged here."""
    if flags != 2:
        raise malformed("SUBSCRIBE has wrong flags")
    packet_id, properties, pos = _read_head(data, pos, end, kinds.SUBSCRIBE, version)
    found: list[Subscription] = []
    while pos < end:
        if len(found) >= MAX_FILTERS:
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "too many filters in one SUBSCRIBE")
        pattern, pos = primitives.read_string(data, pos, end)
        bits, pos = primitives.read_u8(data, pos, end)
        handling = bits >> 4 & 3
        if bits & 3 == 3 or bits & 0xC0 or handling == 3 or (version != kinds.V5 and bits > 2):
            raise malformed("subscription options are not valid")
        if bits & 4 and pattern.startswith("$share/"):
            raise ProtocolError(Reason.PROTOCOL_ERROR, "no local on a shared subscription")
        found.append(Subscription(pattern, bits & 3, bool(bits & 4), bool(bits & 8), handling))
    if not found:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "SUBSCRIBE without a filter")
    return Subscribe(packet_id=packet_id, subscriptions=tuple(found), properties=properties)


def write_subscribe(packet: Subscribe, version: int) -> bytes:
    """The bytes of a SUBSCRIBE; in MQTT 3.1.1 only the QoS of the options is sent."""
    five = version == kinds.V5
    parts = [primitives.write_u16(packet.packet_id)]
    if five:
        parts.append(write_properties(packet.properties))
    for item in packet.subscriptions:
        bits = item.qos
        if five:
            bits |= item.no_local << 2 | item.retain_as_published << 3 | item.retain_handling << 4
        parts += (primitives.write_string(item.pattern), bytes((bits,)))
    return primitives.frame(kinds.SUBSCRIBE << 4 | 2, *parts)


def read_unsubscribe(data: bytes, pos: int, end: int, flags: int, version: int) -> Unsubscribe:
    """The UNSUBSCRIBE between `pos` and `end`."""
    if flags != 2:
        raise malformed("UNSUBSCRIBE has wrong flags")
    packet_id, properties, pos = _read_head(data, pos, end, kinds.UNSUBSCRIBE, version)
    patterns: list[str] = []
    while pos < end:
        if len(patterns) >= MAX_FILTERS:
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "too many filters in one UNSUBSCRIBE")
        pattern, pos = primitives.read_string(data, pos, end)
        patterns.append(pattern)
    if not patterns:
        raise ProtocolError(Reason.PROTOCOL_ERROR, "UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id=packet_id, patterns=tuple(patterns), properties=properties)


def write_unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    """The bytes of an UNSUBSCRIBE."""
    return primitives.frame(
        kinds.UNSUBSCRIBE << 4 | 2,
        primitives.write_u16(packet.packet_id),
        write_properties(packet.properties) if version == kinds.V5 else b"",
        *(primitives.write_string(pattern) for pattern in packet.patterns),
    )


def read_suback(data: bytes, pos: int, end: int, flags: int, version: int) -> Suback:
    """The SUBACK between `pos` and `end`."""
    if flags:
        raise malformed("SUBACK has flags in its first byte")
    packet_id, properties, pos = _read_head(data, pos, end, kinds.SUBACK, version)
    return Suback(packet_id=packet_id, reasons=data[pos:end], properties=properties)


def write_suback(packet: Suback, version: int) -> bytes:
    """The bytes of a SUBACK."""
    return primitives.frame(
        kinds.SUBACK << 4,
        primitives.write_u16(packet.packet_id),
        write_properties(packet.properties) if version == kinds.V5 else b"",
        packet.reasons,
    )


def read_unsuback(data: bytes, pos: int, end: int, flags: int, version: int) -> Unsuback:
    """The UNSUBACK between `pos` and `end`."""
    if flags:
        raise malformed("UNSUBACK has flags in its first byte")
    packet_id, properties, pos = _read_head(data, pos, end, kinds.UNSUBACK, version)
    if version != kinds.V5 and pos != end:
        raise malformed("UNSUBACK is longer than its fields")
    return Unsuback(packet_id=packet_id, reasons=data[pos:end], properties=properties)


def write_unsuback(packet: Unsuback, version: int) -> bytes:
    """The bytes of an UNSUBACK; MQTT 3.1.1 has no reasons."""
    five = version == kinds.V5
    return primitives.frame(
        kinds.UNSUBACK << 4,
        primitives.write_u16(packet.packet_id),
        write_properties(packet.properties) + packet.reasons if five else b"",
    )
