"""A TLS worker: `python -m broker.native.worker` terminates TLS on a shared port and feeds the one broker.

The first line of standard input is its order (JSON); it ends when standard input or the link ends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import cast

import msgspec

from broker.native import mux_frames as frames
from broker.native.event_loop import new_event_loop
from broker.native.listening import bind, server_context
from broker.native.open_files import allow_connections
from broker.native.tls_server import TlsServer
from broker.options import Listener, Tls

_log = logging.getLogger(__name__)

# Bytes on the way to the broker above which no client is read.
_LINK_HIGH = 4 * 1024 * 1024


class Order(msgspec.Struct, frozen=True):
    """What a worker is told: where to listen, with which files, and where the broker is."""

    listener: str
    hosts: list[str]
    port: int
    certificate: str
    key: str
    client_ca: str | None
    link: str
    link_port: int
    token: str
    backlog: int
    handshake_s: float
    max_unsent_bytes: int
    max_connections: int


class _Link(asyncio.Protocol):
    """The link to the broker; `clients` are the TLS connections by number."""

    def __init__(self, loop: asyncio.AbstractEventLoop, token: bytes) -> None:
        self._loop = loop
        self._token = token
        self._reader = frames.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._number = 0
        self.clients: dict[int, _Client] = {}
        self.choked = False
        self.ended = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_LINK_HIGH)
        self.send(frames.HELLO, 0, self._token)

    def data_received(self, data: bytes) -> None:
        for kind, number, chunk in self._reader.feed(data):
            client = self.clients.get(number)
            if client is not None:
                client.on_frame(kind, chunk)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        self.choked = True
        for client in self.clients.values():
            client.read(False)

    def resume_writing(self) -> None:
        self.choked = False
        for client in self.clients.values():
            client.read(True)

    def send(self, kind: int, number: int, data: bytes = b"") -> None:
        if self._transport is None:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frames.head(kind, number, len(data)))
        if data:
            self._out.append(data)

    def take_number(self) -> int:
        while True:
            self._number = (self._number + 1) & 0xFFFFFFFF
            if self._number not in self.clients:
                return self._number

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))


class _Client(asyncio.Protocol):
    """One TLS connection."""

    __slots__ = ("_held", "_high", "_link", "_number", "_transport")

    def __init__(self, link: _Link, high: int) -> None:
        self._link = link
        self._high = high
        self._number = 0
        # Held by the broker.
        self._held = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._high)
        self._number = self._link.take_number()
        self._link.clients[self._number] = self
        peer = transport.get_extra_info("peername")
        self._link.send(frames.OPEN, self._number, str(peer[0]).encode() if isinstance(peer, tuple) else b"")
        if self._link.choked:
            self.read(False)

    def data_received(self, data: bytes) -> None:
        self._link.send(frames.DATA, self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if self._link.clients.pop(self._number, None) is not None:
            self._link.send(frames.CLOSE, self._number)

    def pause_writing(self) -> None:
        self._link.send(frames.PAUSE, self._number)

    def resume_writing(self) -> None:
        self._link.send(frames.RESUME, self._number)

    def read(self, allowed: bool) -> None:
        if self._transport is None or self._held or self._transport.is_closing():
            return
        if allowed:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def on_frame(self, kind: int, chunk: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if kind == frames.DATA:
            transport.write(chunk)
        elif kind == frames.CLOSE:
            transport.close()
        elif kind == frames.ABORT:
            transport.abort()
        elif kind == frames.PAUSE and not self._held:
            if not self._link.choked:
                self.read(False)
            self._held = True
        elif kind == frames.RESUME and self._held:
            self._held = False
            if not self._link.choked:
                self.read(True)


async def serve(order: Order, stdin: asyncio.StreamReader) -> None:
    """Work until the broker is gone. Raises OSError when the port or the link can not be had."""
    loop = asyncio.get_running_loop()
    allow_connections(order.max_connections)
    link = _Link(loop, order.token.encode())
    if order.link_port:
        await loop.create_connection(lambda: link, order.link, order.link_port)
    else:
        await loop.create_unix_connection(lambda: link, order.link)
    tls = Tls(Path(order.certificate), Path(order.key), Path(order.client_ca) if order.client_ca else None)
    context = server_context(tls)
    listener = Listener(order.listener, order.port, tuple(order.hosts), tls)
    servers = [
        TlsServer(
            sock,
            context,
            lambda: _Client(link, order.max_unsent_bytes),
            lambda address, reason: link.send(frames.FAILED, 0, f"{address}\n{reason}".encode()),
            backlog=order.backlog,
            handshake_s=order.handshake_s,
        )
        for sock in bind(listener, reuse_port=True)
    ]
    print("listening", flush=True)
    end_of_input = asyncio.ensure_future(stdin.read())
    await asyncio.wait([link.ended, end_of_input], return_when=asyncio.FIRST_COMPLETED)
    for server in servers:
        server.close()


async def _main() -> None:
    # The terminal's ^C and a service manager's stop go to the whole group; the broker says goodbye to clients first.
    # A worker does not outlive it: its link and its input end with the broker, whatever ends that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    order = msgspec.json.decode(await stdin.readline(), type=Order)
    await serve(order, stdin)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_main())
