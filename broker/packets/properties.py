"""MQTT 5.0 properties: one table, one reader, one writer (OASIS MQTT 5.0, section 2.2.2)."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgspec

from broker.packets import kinds, primitives
from broker.packets.errors import ProtocolError, Reason, malformed

# Decoded, a user property takes twenty times its bytes: without a limit a packet could use far more memory than its
# size. No real client comes near.
MAX_USER_PROPERTIES = 1000


class Properties(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The properties of one packet; None is absent. Times are in seconds."""

    payload_format: int | None = None
    message_expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    session_expiry_s: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_s: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_s: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_available: int | None = None
    subscription_ids_available: int | None = None
    shared_available: int | None = None


NO_PROPERTIES = Properties()


class _Type(enum.IntEnum):
    FLAG = 0
    U8 = 1
    U16 = 2
    U32 = 3
    VARINT = 4
    STRING = 5
    BINARY = 6
    PAIR = 7


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    number: int
    field: str
    type: _Type
    packets: frozenset[int]
    zero_is_wrong: bool = False


_ACKS = (kinds.PUBACK, kinds.PUBREC, kinds.PUBREL, kinds.PUBCOMP)
_WITH_REASON = (
    kinds.CONNACK,
    *_ACKS,
    kinds.SUBACK,
    kinds.UNSUBACK,
    kinds.DISCONNECT,
    kinds.AUTH,
)
_WITH_USER = (*_WITH_REASON, kinds.CONNECT, kinds.PUBLISH, kinds.WILL, kinds.SUBSCRIBE, kinds.UNSUBSCRIBE)


def _row(number: int, field: str, type_: _Type, *packets: int, zero_is_wrong: bool = False) -> _Row:
    return _Row(number, field, type_, frozenset(packets), zero_is_wrong)


_TABLE = (
    _row(0x01, "payload_format", _Type.FLAG, kinds.PUBLISH, kinds.WILL),
    _row(0x02, "message_expiry_s", _Type.U32, kinds.PUBLISH, kinds.WILL),
    _row(0x03, "content_type", _Type.STRING, kinds.PUBLISH, kinds.WILL),
    _row(0x08, "response_topic", _Type.STRING, kinds.PUBLISH, kinds.WILL),
    _row(0x09, "correlation_data", _Type.BINARY, kinds.PUBLISH, kinds.WILL),
    _row(0x0B, "subscription_ids", _Type.VARINT, kinds.PUBLISH, kinds.SUBSCRIBE, zero_is_wrong=True),
    _row(0x11, "session_expiry_s", _Type.U32, kinds.CONNECT, kinds.CONNACK, kinds.DISCONNECT),
    _row(0x12, "assigned_client_id", _Type.STRING, kinds.CONNACK),
    _row(0x13, "server_keep_alive_s", _Type.U16, kinds.CONNACK),
    _row(0x15, "authentication_method", _Type.STRING, kinds.CONNECT, kinds.CONNACK, kinds.AUTH),
    _row(0x16, "authentication_data", _Type.BINARY, kinds.CONNECT, kinds.CONNACK, kinds.AUTH),
    _row(0x17, "request_problem_information", _Type.FLAG, kinds.CONNECT),
    _row(0x18, "will_delay_s", _Type.U32, kinds.WILL),
    _row(0x19, "request_response_information", _Type.FLAG, kinds.CONNECT),
    _row(0x1A, "response_information", _Type.STRING, kinds.CONNACK),
    _row(0x1C, "server_reference", _Type.STRING, kinds.CONNACK, kinds.DISCONNECT),
    _row(0x1F, "reason_string", _Type.STRING, *_WITH_REASON),
    _row(0x21, "receive_maximum", _Type.U16, kinds.CONNECT, kinds.CONNACK, zero_is_wrong=True),
    _row(0x22, "topic_alias_maximum", _Type.U16, kinds.CONNECT, kinds.CONNACK),
    _row(0x23, "topic_alias", _Type.U16, kinds.PUBLISH),
    _row(0x24, "maximum_qos", _Type.FLAG, kinds.CONNACK),
    _row(0x25, "retain_available", _Type.FLAG, kinds.CONNACK),
    _row(0x26, "user", _Type.PAIR, *_WITH_USER),
    _row(0x27, "maximum_packet_size", _Type.U32, kinds.CONNECT, kinds.CONNACK, zero_is_wrong=True),
    _row(0x28, "wildcard_available", _Type.FLAG, kinds.CONNACK),
    _row(0x29, "subscription_ids_available", _Type.FLAG, kinds.CONNACK),
    _row(0x2A, "shared_available", _Type.FLAG, kinds.CONNACK),
)
_BY_NUMBER = {row.number: row for row in _TABLE}


def read_properties(data: bytes, pos: int, end: int, packet: int) -> tuple[Properties, int]:
    """The properties at `pos` of a packet kind, and the position after them."""
    size, pos = primitives.read_varint(data, pos, end)
    after = pos + size
    if after > end:
        raise malformed("properties are longer than their packet")
    if not size:
        return NO_PROPERTIES, after
    values: dict[str, Any] = {}
    while pos < after:
        number, pos = primitives.read_varint(data, pos, after)
        row = _BY_NUMBER.get(number)
        if row is None:
            raise malformed(f"property 0x{number:02x} does not exist")
        if packet not in row.packets:
            raise ProtocolError(Reason.PROTOCOL_ERROR, f"property {row.field} does not belong into this packet")
        if row.type is _Type.PAIR:
            key, pos = primitives.read_string(data, pos, after)
            text, pos = primitives.read_string(data, pos, after)
            pairs = values.setdefault(row.field, [])
            if len(pairs) >= MAX_USER_PROPERTIES:
                raise ProtocolError(Reason.QUOTA_EXCEEDED, "too many user properties")
            pairs.append((key, text))
            continue
        value, pos = _read_value(row, data, pos, after)
        if row.field == "subscription_ids":
            numbers = values.setdefault(row.field, [])
            if numbers and (packet == kinds.SUBSCRIBE or len(numbers) >= MAX_USER_PROPERTIES):
                raise ProtocolError(Reason.PROTOCOL_ERROR, "more than one subscription identifier")
            numbers.append(value)
            continue
        if row.field in values:
            raise ProtocolError(Reason.PROTOCOL_ERROR, f"property {row.field} appears twice")
        values[row.field] = value
    for field in ("user", "subscription_ids"):
        if field in values:
            values[field] = tuple(values[field])
    return Properties(**values), after


def _read_value(row: _Row, data: bytes, pos: int, end: int) -> tuple[Any, int]:
    value: Any
    match row.type:
        case _Type.FLAG | _Type.U8:
            value, pos = primitives.read_u8(data, pos, end)
            if row.type is _Type.FLAG and value > 1:
                raise ProtocolError(Reason.PROTOCOL_ERROR, f"property {row.field} is neither 0 nor 1")
        case _Type.U16:
            value, pos = primitives.read_u16(data, pos, end)
        case _Type.U32:
            value, pos = primitives.read_u32(data, pos, end)
        case _Type.VARINT:
            value, pos = primitives.read_varint(data, pos, end)
        case _Type.STRING:
            value, pos = primitives.read_string(data, pos, end)
        case _:
            value, pos = primitives.read_binary(data, pos, end)
    if row.zero_is_wrong and value == 0:
        raise ProtocolError(Reason.PROTOCOL_ERROR, f"property {row.field} is zero")
    return value, pos


def write_properties(properties: Properties) -> bytes:
    """The properties with their length."""
    if properties is NO_PROPERTIES:
        return b"\0"
    body = write_body(properties)
    return primitives.write_varint(len(body)) + body


def write_body(properties: Properties) -> bytes:
    """The properties without their length."""
    out: list[bytes] = []
    for row in _TABLE:
        value = getattr(properties, row.field)
        if value is None or value == ():
            continue
        number = bytes((row.number,))
        match row.type:
            case _Type.PAIR:
                out += [number + primitives.write_string(key) + primitives.write_string(text) for key, text in value]
            case _Type.VARINT:
                out += [number + primitives.write_varint(item) for item in value]
            case _Type.FLAG | _Type.U8:
                out.append(number + bytes((value,)))
            case _Type.U16:
                out.append(number + value.to_bytes(2, "big"))
            case _Type.U32:
                out.append(number + value.to_bytes(4, "big"))
            case _Type.STRING:
                out.append(number + primitives.write_string(value))
            case _:
                out.append(number + primitives.write_binary(value))
    return b"".join(out)
