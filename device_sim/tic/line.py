"""The line of a simulated meter: a pseudo terminal or a TCP port, at a real one's pace or as fast as it is read."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from app.domain.errors import OperatorInputError
from device_sim.tic.stream import MeterStream

# A meter waits for nobody: what a TCP reader leaves lying beyond this is lost to it.
MOST_WAITING_BYTES = 65_536
# A process that was stopped longer than this goes on from now, and does not send what it owes at once.
LONGEST_DELAY_S = 2.0
# How long the end waits for a reader of a pseudo terminal to take the last bytes.
LAST_WORDS_S = 0.5


class Outlet(Protocol):
    """Where the bytes go."""

    async def write(self, data: bytes) -> None:
        """Send without waiting; what nobody takes is lost."""
        ...

    async def drain(self) -> None:
        """Wait until a reader is there and has taken what was sent."""
        ...

    async def close(self) -> None:
        """End."""
        ...


class TcpOutlet:
    """A port of this machine; every reader hears the same line, from where it is."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._readers: set[asyncio.StreamWriter] = set()
        self._someone = asyncio.Event()

    async def open(self, port: int) -> None:
        """Listen; 0 takes a free port."""
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        except OSError as error:
            raise OperatorInputError(f"port {port} can not be opened: {error.strerror}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def write(self, data: bytes) -> None:
        """See Outlet."""
        for writer in self._readers:
            if writer.transport.get_write_buffer_size() <= MOST_WAITING_BYTES:
                writer.write(data)

    async def drain(self) -> None:
        """See Outlet."""
        await self._someone.wait()
        for writer in list(self._readers):
            try:
                await writer.drain()
            except ConnectionError:
                self._leave(writer)

    async def close(self) -> None:
        """See Outlet."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._readers):
            # What was sent goes out first.
            writer.close()
        for writer in list(self._readers):
            try:
                await asyncio.wait_for(writer.wait_closed(), 1.0)
            except (ConnectionError, TimeoutError):
                continue

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._readers.add(writer)
        self._someone.set()
        try:
            # A meter hears nothing; this only notices that the reader has left.
            while await reader.read(1024):
                pass
        except ConnectionError:
            pass
        finally:
            self._leave(writer)
            writer.close()

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        self._readers.discard(writer)
        if not self._readers:
            self._someone.clear()


class PtyOutlet:
    """A pseudo terminal; `path` is what a reader opens."""

    def __init__(self) -> None:
        try:
            import pty  # noqa: PLC0415 - not on every system
            import tty  # noqa: PLC0415 - not on every system
        except ImportError as error:
            raise OperatorInputError("this system has no pseudo terminals; use --tcp PORT") from error
        # The other end stays open here, so that readers may come and go.
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.path = os.ttyname(self._theirs)
        self._rest = b""

    async def write(self, data: bytes) -> None:
        """See Outlet."""
        self._rest = data
        self._send()

    def _send(self) -> None:
        try:
            self._rest = self._rest[os.write(self._ours, self._rest) :]
        except BlockingIOError:
            return

    async def drain(self) -> None:
        """See Outlet."""
        loop = asyncio.get_running_loop()
        while self._rest:
            writable = asyncio.Event()
            loop.add_writer(self._ours, writable.set)
            try:
                await writable.wait()
            finally:
                loop.remove_writer(self._ours)
            self._send()

    async def close(self) -> None:
        """See Outlet."""
        import fcntl  # noqa: PLC0415 - not on every system
        import termios  # noqa: PLC0415 - not on every system

        # Closing throws away what a reader has not taken yet: it gets a moment for it.
        ends_s = asyncio.get_running_loop().time() + LAST_WORDS_S
        empty = 0
        # Twice: the system hands bytes over a little after they were written.
        while asyncio.get_running_loop().time() < ends_s and empty < 2:
            await asyncio.sleep(0.01)
            empty = 0 if any(fcntl.ioctl(self._theirs, termios.FIONREAD, b"\0" * 4)) else empty + 1
        os.close(self._ours)
        os.close(self._theirs)


async def play(stream: MeterStream, outlet: Outlet, *, fast: bool = False, seconds: float | None = None) -> None:
    """Send until it is cancelled, or for so many seconds of the line (whole frames)."""
    loop = asyncio.get_running_loop()
    begun_s, next_s = stream.at_s, loop.time()
    for piece in stream.pieces():
        if fast:
            await outlet.drain()
        await outlet.write(piece.data)
        if not fast:
            next_s += piece.line_s
            delay_s = next_s - loop.time()
            if delay_s < -LONGEST_DELAY_S:
                stream.at_s -= delay_s
                next_s -= delay_s
            # A sleep for each group: the line is as busy as a real one.
            await asyncio.sleep(max(0.0, delay_s))
        if piece.ends_frame and seconds is not None and stream.at_s + piece.line_s - begun_s >= seconds:
            break
    if fast:
        await outlet.drain()
