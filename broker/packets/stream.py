"""Packets out of a stream of bytes that comes in any chunks."""

from __future__ import annotations

from broker.packets import acks, connect, control, kinds, publish, subscribe
from broker.packets.errors import ProtocolError, Reason, malformed

Packet = (
    connect.Connect
    | connect.Connack
    | publish.Publish
    | acks.Ack
    | subscribe.Subscribe
    | subscribe.Suback
    | subscribe.Unsubscribe
    | subscribe.Unsuback
    | control.Ping
    | control.Disconnect
    | control.Auth
)

# The first byte and a length of up to four bytes.
_LONGEST_HEADER = 5


def read_header(data: bytes, pos: int, size: int, max_packet_size: int) -> tuple[int, int] | int:
    """Start and end of the body of the packet at `pos`, or how many bytes from `pos` on are needed to go on.

    Raises ProtocolError for a packet longer than `max_packet_size`, as soon as its header is there.
    """
    length = shift = 0
    for index in range(pos + 1, min(pos + _LONGEST_HEADER, size)):
        byte = data[index]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise malformed("remaining length is not in its shortest form")
            start = index + 1
            end = start + length
            if end - pos > max_packet_size:
                raise ProtocolError(Reason.PACKET_TOO_LARGE, "packet is larger than allowed")
            return (start, end) if end <= size else end - pos
        shift += 7
    if size - pos >= _LONGEST_HEADER:
        raise malformed("remaining length is too long")
    return size - pos + 1


def decode(first: int, data: bytes, start: int, end: int, version: int) -> Packet:
    """The packet with this first byte and the body between `start` and `end`. Raises ProtocolError and nothing else."""
    kind, flags = first >> 4, first & 15
    match kind:
        case kinds.PUBLISH:
            return publish.read_publish(data, start, end, flags, version)
        case kinds.PUBACK | kinds.PUBREC | kinds.PUBREL | kinds.PUBCOMP:
            return acks.read_ack(data, start, end, kind, flags, version)
        case kinds.PINGREQ | kinds.PINGRESP:
            return control.read_ping(start, end, kind, flags)
        case kinds.SUBSCRIBE:
            return subscribe.read_subscribe(data, start, end, flags, version)
        case kinds.SUBACK:
            return subscribe.read_suback(data, start, end, flags, version)
        case kinds.UNSUBSCRIBE:
            return subscribe.read_unsubscribe(data, start, end, flags, version)
        case kinds.UNSUBACK:
            return subscribe.read_unsuback(data, start, end, flags, version)
        case kinds.CONNECT:
            return connect.read_connect(data, start, end, flags)
        case kinds.CONNACK:
            return connect.read_connack(data, start, end, flags, version)
        case kinds.DISCONNECT:
            return control.read_disconnect(data, start, end, flags, version)
        case kinds.AUTH:
            return control.read_auth(data, start, end, flags, version)
    raise malformed("packet kind 0 does not exist")


def encode(packet: Packet, version: int) -> bytes:
    """The bytes of any packet. Raises ProtocolError when a field does not fit its form."""
    match packet:
        case publish.Publish():
            return publish.write_publish(packet, version)
        case acks.Ack():
            return acks.write_ack(packet, version)
        case connect.Connect():
            return connect.write_connect(packet)
        case connect.Connack():
            return connect.write_connack(packet, version)
        case subscribe.Subscribe():
            return subscribe.write_subscribe(packet, version)
        case subscribe.Suback():
            return subscribe.write_suback(packet, version)
        case subscribe.Unsubscribe():
            return subscribe.write_unsubscribe(packet, version)
        case subscribe.Unsuback():
            return subscribe.write_unsuback(packet, version)
        case control.Ping():
            return control.write_ping(packet)
        case control.Disconnect():
            return control.write_disconnect(packet, version)
        case control.Auth():
            return control.write_auth(packet)


class PacketReader:
    """Turns received chunks into packets.

    `version` is set by the reader itself when a CONNECT passes. After a ProtocolError the reader is of no more use.
    """

    __slots__ = ("_buffer", "_max_packet_size", "_need", "version")

    def __init__(self, *, version: int = kinds.V311, max_packet_size: int = 268_435_460) -> None:
        self.version = version
        self._max_packet_size = max_packet_size
        self._buffer = bytearray()
        self._need = 2

    def feed(self, chunk: bytes) -> list[Packet]:
        """The packets that this chunk completes."""
        self._buffer += chunk
        if len(self._buffer) < self._need:
            return []
        data = bytes(self._buffer)
        size, pos = len(data), 0
        packets: list[Packet] = []
        while True:
            found = read_header(data, pos, size, self._max_packet_size)
            if isinstance(found, int):
                self._need = found
                break
            start, end = found
            packet = decode(data[pos], data, start, end, self.version)
            if isinstance(packet, connect.Connect):
                self.version = packet.version
            packets.append(packet)
            pos = end
        del self._buffer[:pos]
        return packets
