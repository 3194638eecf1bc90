"""An MQTT 3.1.1 client as small as a module's: one connection on an asyncio transport."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import NamedTuple, cast

from device_sim.bench.wire import PINGREQ, publish_head, remaining_length, split

_CONNACK, _PUBLISH, _PUBACK, _SUBACK = 0x20, 0x30, 0x40, 0x90
_CLEAN_SESSION, _WILL, _WILL_QOS_1, _WILL_RETAIN, _PASSWORD, _USERNAME = 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
_RETAIN = 0x01
_HIGHEST_PACKET_ID = 0xFFFF


class ConnectionEnded(ConnectionError):
    """The connection is over, or did not come about; the text says why."""


class Address(NamedTuple):
    """Where a broker listens; with TLS when a context is given."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Login(NamedTuple):
    """What a CONNECT says."""

    serial: str
    secret: str
    will_topic: str
    will_payload: bytes
    keep_alive_s: int


def connect_packet(login: Login) -> bytes:
    """CONNECT with a clean session and a retained will of QoS 1."""
    flags = _CLEAN_SESSION | _WILL | _WILL_QOS_1 | _WILL_RETAIN | _USERNAME | _PASSWORD
    body = b"\x00\x04MQTT\x04" + struct.pack(">BH", flags, login.keep_alive_s)
    for part in (login.serial, login.will_topic, login.will_payload, login.serial, login.secret):
        encoded = part if isinstance(part, bytes) else part.encode()
        body += struct.pack(">H", len(encoded)) + encoded
    return b"\x10" + remaining_length(len(body)) + body


class MqttConnection(asyncio.Protocol):
    """One connection. `on_message` is called on the loop, after the message was acknowledged."""

    def __init__(self, login: Login, on_message: Callable[[str, bytes], None]) -> None:
        self._login = login
        self._on_message = on_message
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._received = b""
        # Done at the CONNACK; fails when the broker refuses.
        self.accepted: asyncio.Future[None] = loop.create_future()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._next_id = 1
        self._ping: asyncio.TimerHandle | None = None
        # Done when the connection is over, whoever ended it.
        self.ended: asyncio.Future[None] = loop.create_future()
        self._may_write = asyncio.Event()
        self._may_write.set()

    @classmethod
    async def open(
        cls, address: Address, login: Login, on_message: Callable[[str, bytes], None], *, timeout_s: float
    ) -> MqttConnection:
        """Connect and log in. Raises ConnectionEnded, OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            _transport, protocol = await loop.create_connection(
                lambda: cls(login, on_message), address.host, address.port, ssl=address.tls
            )
            try:
                await protocol.accepted
            except BaseException:
                protocol.abort()
                raise
        return protocol

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> asyncio.Future[None] | None:
        """Send; QoS 1 gives a future: done at the PUBACK, failed with the connection. Raises ConnectionEnded."""
        head = publish_head(topic, len(payload), qos)
        if retain:
            head = bytes([head[0] | _RETAIN]) + head[1:]
        if not qos:
            self._write(head + payload)
            return None
        packet_id, future = self._expect()
        self._write(head + struct.pack(">H", packet_id) + payload)
        return future

    def subscribe(self, topic: str) -> asyncio.Future[None]:
        """Subscribe with QoS 1; done at the SUBACK. Raises ConnectionEnded."""
        packet_id, future = self._expect()
        encoded = topic.encode()
        body = struct.pack(">HH", packet_id, len(encoded)) + encoded + b"\x01"
        self._write(b"\x82" + remaining_length(len(body)) + body)
        return future

    async def drained(self) -> None:
        """Wait until the transport takes more; returns at the connection's end too."""
        await self._may_write.wait()

    def freeze(self) -> None:
        """Fall silent without a word, as a module without power or radio: no FIN, no PING, nothing is read."""
        if self._ping is not None:
            self._ping.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._end("the radio is silent")

    def disconnect(self) -> None:
        """End in order: the broker does not publish the will."""
        if self._transport is not None and not self.ended.done():
            self._transport.write(b"\xe0\x00")
            self._transport.close()
        self._end("disconnected")

    def abort(self) -> None:
        """Cut the socket."""
        if self._transport is not None:
            self._transport.abort()
        self._end("cut")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(connect_packet(self._login))

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        try:
            packets, self._received = split(self._received + data)
        except ValueError as error:
            self._end(str(error))
            self.abort()
            return
        for first, body in packets:
            self._on_packet(first, body)

    def pause_writing(self) -> None:
        """asyncio: the socket is full."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """asyncio: there is room again."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed."""
        self._end(str(exc or "the broker closed the connection"))

    def _on_packet(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == _CONNACK:
            if self.accepted.done():
                return
            if len(body) < 2 or body[1]:
                self.accepted.set_exception(ConnectionEnded(f"the broker refused: code {body[1:2].hex()}"))
            else:
                self.accepted.set_result(None)
                self._ping_later()
        elif kind in {_PUBACK, _SUBACK} and len(body) >= 2:
            future = self._waiting.pop(int.from_bytes(body[:2], "big"), None)
            if future is not None and not future.done():
                future.set_result(None)
        elif kind == _PUBLISH and len(body) >= 2:
            size = int.from_bytes(body[:2], "big")
            topic = body[2 : 2 + size].decode("utf-8", "replace")
            rest = body[2 + size :]
            if first >> 1 & 3:
                self._write(b"\x40\x02" + rest[:2])
                rest = rest[2:]
            self._on_message(topic, rest)

    def _ping_later(self) -> None:
        self._ping = self._loop.call_later(self._login.keep_alive_s / 2, self._send_ping)

    def _send_ping(self) -> None:
        if not self.ended.done():
            self._write(PINGREQ)
            self._ping_later()

    def _expect(self) -> tuple[int, asyncio.Future[None]]:
        packet_id = self._next_id
        self._next_id = packet_id % _HIGHEST_PACKET_ID + 1
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[packet_id] = future
        return packet_id, future

    def _write(self, data: bytes) -> None:
        if self._transport is None or self.ended.done() or self._transport.is_closing():
            raise ConnectionEnded("the connection is over")
        self._transport.write(data)

    def _end(self, why: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        self._may_write.set()
        if self._ping is not None:
            self._ping.cancel()
        for future in (self.accepted, *self._waiting.values()):
            if not future.done():
                future.set_exception(ConnectionEnded(why))
                # Who waits sees it; who does not is no fault.
                future.exception()
        self._waiting.clear()
