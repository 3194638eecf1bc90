"""CONNECT and CONNACK."""

from __future__ import annotations

import msgspec

from broker.packets import kinds, primitives
from broker.packets.errors import ProtocolError, Reason, malformed
from broker.packets.properties import NO_PROPERTIES, Properties, read_properties, write_properties
from broker.packets.topics import is_topic

# MQTT 3.1.1 knows five refusals (section 3.2.2.3); every reason of 5.0 becomes the nearest of them.
_RETURN_CODES = {
    Reason.UNSUPPORTED_VERSION: 1,
    Reason.CLIENT_ID_NOT_VALID: 2,
    Reason.BAD_CREDENTIALS: 4,
    Reason.NOT_AUTHORIZED: 5,
    Reason.BANNED: 5,
}
_OTHER_RETURN_CODE = 3


class Will(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The message a broker publishes when a connection ends without a goodbye."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES


class Connect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first packet of a client. `version` is the protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5.0."""

    client_id: str
    version: int = kinds.V311
    clean_start: bool = True
    keep_alive_s: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NO_PROPERTIES


class Connack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to CONNECT. In MQTT 3.1.1 `reason` is its return code (0 to 5)."""

    session_present: bool = False
    reason: int = 0
    properties: Properties = NO_PROPERTIES


def return_code(reason: Reason) -> int:
    """The MQTT 3.1.1 return code that says most nearly the same."""
    return _RETURN_CODES.get(reason, _OTHER_RETURN_CODE) if reason >= Reason.UNSPECIFIED_ERROR else 0


def read_connect(data: bytes, pos: int, end: int, flags: int) -> Connect:
    """The CONNECT between `pos` and `end`."""
    if flags:
        raise malformed("CONNECT has flags in its first byte")
    name, pos = primitives.read_string(data, pos, end)
    version, pos = primitives.read_u8(data, pos, end)
    if name != "MQTT" or version not in (kinds.V311, kinds.V5):
        raise ProtocolError(Reason.UNSUPPORTED_VERSION, "neither MQTT 3.1.1 nor MQTT 5.0")
    bits, pos = primitives.read_u8(data, pos, end)
    keep_alive_s, pos = primitives.read_u16(data, pos, end)
    will_qos = bits >> 3 & 3
    if bits & 1 or will_qos == 3 or (not bits & 4 and bits & 0x38):
        raise malformed("CONNECT flags are not valid")
    if version == kinds.V311 and bits & 0xC0 == 0x40:
        raise malformed("a password without a user name")
    properties = NO_PROPERTIES
    if version == kinds.V5:
        properties, pos = read_properties(data, pos, end, kinds.CONNECT)
        if properties.authentication_data is not None and properties.authentication_method is None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "authentication data without a method")
    client_id, pos = primitives.read_string(data, pos, end)
    will = None
    if bits & 4:
        will_properties = NO_PROPERTIES
        if version == kinds.V5:
            will_properties, pos = read_properties(data, pos, end, kinds.WILL)
        topic, pos = primitives.read_string(data, pos, end)
        payload, pos = primitives.read_binary(data, pos, end)
        if not is_topic(topic):
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, "will topic is not valid")
        will = Will(topic=topic, payload=payload, qos=will_qos, retain=bool(bits & 0x20), properties=will_properties)
    username = password = None
    if bits & 0x80:
        username, pos = primitives.read_string(data, pos, end)
    if bits & 0x40:
        password, pos = primitives.read_binary(data, pos, end)
    if pos != end:
        raise malformed("CONNECT is longer than its fields")
    return Connect(
        client_id=client_id,
        version=version,
        clean_start=bool(bits & 2),
        keep_alive_s=keep_alive_s,
        username=username,
        password=password,
        will=will,
        properties=properties,
    )


def write_connect(packet: Connect) -> bytes:
    """The bytes of a CONNECT."""
    bits = 2 if packet.clean_start else 0
    tail = [primitives.write_string(packet.client_id)]
    five = packet.version == kinds.V5
    if packet.will is not None:
        will = packet.will
        bits |= 4 | will.qos << 3 | (0x20 if will.retain else 0)
        if five:
            tail.append(write_properties(will.properties))
        tail += (primitives.write_string(will.topic), primitives.write_binary(will.payload))
    if packet.username is not None:
        bits |= 0x80
        tail.append(primitives.write_string(packet.username))
    if packet.password is not None:
        bits |= 0x40
        tail.append(primitives.write_binary(packet.password))
    head = b"\0\x04MQTT" + bytes((packet.version, bits)) + primitives.write_u16(packet.keep_alive_s)
    properties = write_properties(packet.properties) if five else b""
    return primitives.frame(kinds.CONNECT << 4, head, properties, *tail)


def read_connack(data: bytes, pos: int, end: int, flags: int, version: int) -> Connack:
    """The CONNACK between `pos` and `end`."""
    if flags:
        raise malformed("CONNACK has flags in its first byte")
    bits, pos = primitives.read_u8(data, pos, end)
    reason, pos = primitives.read_u8(data, pos, end)
    properties = NO_PROPERTIES
    # A broker that refuses the version answers in the layout of 3.1.1.
    if version == kinds.V5 and pos < end:
        properties, pos = read_properties(data, pos, end, kinds.CONNACK)
    if bits > 1 or pos != end:
        raise malformed("CONNACK is not valid")
    return Connack(session_present=bool(bits), reason=reason, properties=properties)


def write_connack(packet: Connack, version: int) -> bytes:
    """The bytes of a CONNACK."""
    body = bytes((packet.session_present, packet.reason))
    return primitives.frame(
        kinds.CONNACK << 4, body, write_properties(packet.properties) if version == kinds.V5 else b""
    )
