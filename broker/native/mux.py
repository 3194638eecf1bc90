"""The broker's end of the link to a TLS worker: each client of the worker gets a transport of its own here."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import Any, cast

from broker.native import mux_frames as frames

_log = logging.getLogger(__name__)

# Unsent bytes towards a worker above which all its clients count as choked.
_LINK_HIGH = 8 * 1024 * 1024


class MuxTransport(asyncio.Transport):
    """What a `Connection` sees instead of a socket."""

    __slots__ = ("_address", "_closing", "_link", "_number", "blocked", "protocol")

    def __init__(self, link: MuxLink, number: int, address: str) -> None:
        super().__init__()
        self._link = link
        self._number = number
        self._address = address
        self._closing = False
        # The client itself does not take what it is sent, whatever the link does.
        self.blocked = False
        self.protocol: asyncio.Protocol | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Only the address of the client is known here."""
        return (self._address, 0) if name == "peername" else default

    def is_closing(self) -> bool:
        """Whether it was closed from this side or that."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send at the end of the loop iteration."""
        if not self._closing:
            self._link.send(frames.DATA, self._number, bytes(data))

    def close(self) -> None:
        """Close once the client has taken what was written."""
        self._end(frames.CLOSE)

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections."""
        return False

    def abort(self) -> None:
        """Close at once."""
        self._end(frames.ABORT)

    def pause_reading(self) -> None:
        """What is on its way from the worker still comes."""
        self._link.send(frames.PAUSE, self._number)

    def resume_reading(self) -> None:
        """Read again."""
        self._link.send(frames.RESUME, self._number)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The worker has limits of its own and says when they are reached."""

    def get_write_buffer_size(self) -> int:
        """Not known here."""
        return 0

    def gone(self) -> None:
        """The worker says, or is taken to have said, that the client is gone."""
        self._closing = True
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connection_lost(None)

    def _end(self, kind: int) -> None:
        if self._closing and kind == frames.CLOSE:
            return
        self._closing = True
        self._link.send(kind, self._number)


class MuxLink(asyncio.Protocol):
    """One worker's link; `make` builds the protocol of a new client, `lost` is called when the link is gone.

    `failed` hears address and reason of TLS handshakes that failed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        token: bytes,
        make: Callable[[], asyncio.Protocol],
        joined: Callable[[MuxLink], None],
        lost: Callable[[MuxLink], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._token = token
        self._make = make
        self._joined = joined
        self._lost = lost
        self._failed = failed
        self._reader = frames.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._clients: dict[int, MuxTransport] = {}
        self._out: list[bytes] = []
        self._trusted = False
        self._choked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A worker, or somebody who says so, is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_LINK_HIGH)

    def data_received(self, data: bytes) -> None:
        """Frames of a worker."""
        try:
            for kind, number, chunk in self._reader.feed(data):
                self._on_frame(kind, number, chunk)
        except frames.MuxError as error:
            _log.error("link of a TLS worker: %s", error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker is gone, and its clients with it."""
        del exc
        self._transport = None
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.gone()
        self._lost(self)

    def pause_writing(self) -> None:
        """The worker does not keep up."""
        self._choked = True
        for client in list(self._clients.values()):
            if client.protocol is not None:
                client.protocol.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._choked = False
        for client in list(self._clients.values()):
            if client.protocol is not None and not client.blocked:
                client.protocol.resume_writing()

    def send(self, kind: int, number: int, data: bytes = b"") -> None:
        """Write a frame at the end of the loop iteration."""
        if self._transport is None:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frames.head(kind, number, len(data)))
        if data:
            self._out.append(data)

    def close(self) -> None:
        """End the link."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def _on_frame(self, kind: int, number: int, chunk: bytes) -> None:
        if not self._trusted:
            if kind != frames.HELLO or not hmac.compare_digest(chunk, self._token):
                raise frames.MuxError("it does not know the token")
            self._trusted = True
            self._joined(self)
            return
        if kind == frames.OPEN:
            client = self._clients[number] = MuxTransport(self, number, chunk.decode(errors="replace"))
            client.protocol = self._make()
            client.protocol.connection_made(client)
            return
        if kind == frames.FAILED:
            address, _, reason = chunk.decode(errors="replace").partition("\n")
            self._failed(address, reason)
            return
        known = self._clients.get(number)
        if known is None or known.protocol is None:
            return
        if kind == frames.DATA:
            known.protocol.data_received(chunk)
        elif kind == frames.CLOSE:
            del self._clients[number]
            known.gone()
        elif kind == frames.PAUSE:
            known.blocked = True
            known.protocol.pause_writing()
        elif kind == frames.RESUME:
            known.blocked = False
            if not self._choked:
                known.protocol.resume_writing()
