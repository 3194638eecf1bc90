"""The data types every MQTT packet is made of (OASIS MQTT 5.0, section 1.5).

Readers take the data, a position and the end of what they may read; they return the value and the next position.
"""

from __future__ import annotations

from broker.packets.errors import ProtocolError, Reason, malformed

# Largest value of four bytes of seven bits.
VARINT_MAX = 268_435_455
STRING_MAX = 65_535


def read_u8(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """One byte."""
    if pos >= end:
        raise malformed("packet ends inside a field")
    return data[pos], pos + 1


def read_u16(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Two bytes, big end first."""
    after = pos + 2
    if after > end:
        raise malformed("packet ends inside a field")
    return data[pos] << 8 | data[pos + 1], after


def read_u32(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Four bytes, big end first."""
    after = pos + 4
    if after > end:
        raise malformed("packet ends inside a field")
    return int.from_bytes(data[pos:after], "big"), after


def read_varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """A variable byte integer, in its shortest form only."""
    value = shift = 0
    for index in range(pos, min(pos + 4, end)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise malformed("variable byte integer is not in its shortest form")
            return value, index + 1
        shift += 7
    raise malformed("variable byte integer is too long or cut off")


def read_binary(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Binary data with its two-byte length."""
    size, start = read_u16(data, pos, end)
    after = start + size
    if after > end:
        raise malformed("field is longer than its packet")
    return data[start:after], after


def read_string(data: bytes, pos: int, end: int) -> tuple[str, int]:
    """A UTF-8 string; the null character and surrogates are refused (MQTT-1.5.4-1, -2)."""
    raw, after = read_binary(data, pos, end)
    return to_text(raw), after


def to_text(raw: bytes) -> str:
    """The string of UTF-8 bytes; the null character and surrogates are refused."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise malformed("string is not UTF-8") from None
    if "\0" in text:
        raise malformed("string has a null character")
    return text


def write_u16(value: int) -> bytes:
    """Two bytes, big end first."""
    return value.to_bytes(2, "big")


def write_varint(value: int) -> bytes:
    """A variable byte integer. Raises ProtocolError above its range."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value > VARINT_MAX:
        raise ProtocolError(Reason.PACKET_TOO_LARGE, "length does not fit a variable byte integer")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_binary(value: bytes) -> bytes:
    """Binary data with its two-byte length. Raises ProtocolError when it is too long."""
    if len(value) > STRING_MAX:
        raise ProtocolError(Reason.PACKET_TOO_LARGE, "field is longer than 65,535 bytes")
    return len(value).to_bytes(2, "big") + value


def write_string(value: str) -> bytes:
    """A UTF-8 string with its two-byte length. Raises ProtocolError when it is too long or no valid string."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise malformed("string has surrogates") from None
    return write_binary(raw)


def frame(first: int, *parts: bytes) -> bytes:
    """A whole packet: first byte, remaining length, and the parts in order."""
    body = b"".join(parts)
    return bytes((first,)) + write_varint(len(body)) + body
