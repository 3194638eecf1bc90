"""The few MQTT 3.1.1 packets a module needs, encoded as lean as a load generator wants them."""

from __future__ import annotations

import ssl
import struct

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"

# Non-blocking TLS says it could not go on with exceptions of its own.
TLS_WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

CONNACK_TYPE = 0x20
PUBACK_TYPE = 0x40

_CLEAN_SESSION = 0x02
_PASSWORD = 0x40
_USERNAME = 0x80


def remaining_length(length: int) -> bytes:
    """MQTT's variable byte integer. Section 2.2.3 of the standard."""
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def connect(client_id: str, username: str, password: str, keep_alive_s: int) -> bytes:
    """A CONNECT with clean session."""
    body = b"\x00\x04MQTT\x04"
    flags = _CLEAN_SESSION | (_USERNAME if username else 0) | (_PASSWORD if password else 0)
    body += struct.pack(">BH", flags, keep_alive_s)
    for text in (client_id, username, password) if username else (client_id,):
        encoded = text.encode()
        body += struct.pack(">H", len(encoded)) + encoded
    return b"\x10" + remaining_length(len(body)) + body


def publish_head(topic: str, payload_size: int, qos: int) -> bytes:
    """Everything of a PUBLISH before the packet identifier (QoS 1) or the payload (QoS 0)."""
    encoded = topic.encode()
    length = 2 + len(encoded) + (2 if qos else 0) + payload_size
    return bytes([0x30 | qos << 1]) + remaining_length(length) + struct.pack(">H", len(encoded)) + encoded


def subscribe(packet_id: int, topic_filter: str) -> bytes:
    """A SUBSCRIBE to one filter, QoS 0."""
    encoded = topic_filter.encode()
    body = struct.pack(">HH", packet_id, len(encoded)) + encoded + b"\x00"
    return b"\x82" + remaining_length(len(body)) + body


def split(buffer: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Complete packets of a received buffer as (first byte, body), and the rest. Lengths up to 127 and beyond."""
    packets: list[tuple[int, bytes]] = []
    at = 0
    end = len(buffer)
    while at + 2 <= end:
        length = shift = 0
        here = at + 1
        while here < end and shift <= 21:
            digit = buffer[here]
            length |= (digit & 0x7F) << shift
            shift += 7
            here += 1
            if digit < 0x80:
                break
        else:
            if shift > 21:
                raise ValueError("the broker sent a malformed remaining length")
            break
        if here + length > end:
            break
        packets.append((buffer[at], buffer[here : here + length]))
        at = here + length
    return packets, buffer[at:]
