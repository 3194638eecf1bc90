"""A socket that is read and written in large pieces, for a client library that asks for single bytes."""

from __future__ import annotations

import contextlib
import socket
import ssl

_RECEIVE = 1 << 16
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BufferedSocket:
    """What paho takes for its socket (recv, send, close, fileno, pending, setblocking).

    paho makes three system calls for each message and one for each acknowledgement; each gives up the interpreter, and
    while the hub's loop computes it is a millisecond until it comes back.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = b""
        self._position = 0
        self._unsent = bytearray()
        self.blocked = False
        """The last look found nothing to read."""

    def recv(self, size: int) -> bytes:
        """At most so many bytes. Raises BlockingIOError when there is none."""
        position = self._position
        if position >= len(self._received):
            try:
                self._received = self._sock.recv(_RECEIVE)
            except _WOULD_BLOCK as error:
                self.blocked = True
                raise BlockingIOError from error
            position = 0
        end = position + size
        self._position = end
        return self._received[position:end]

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it; `flush` sends it."""
        self._unsent += data
        return len(data)

    def flush(self) -> None:
        """Send what the system takes of it. Raises OSError when the connection is gone."""
        while self._unsent:
            try:
                taken = self._sock.send(self._unsent)
            except _WOULD_BLOCK:
                return
            del self._unsent[:taken]

    @property
    def unsent(self) -> int:
        """Bytes that wait for `flush`."""
        return len(self._unsent)

    @property
    def unread(self) -> int:
        """Bytes that were received and not read."""
        return max(0, len(self._received) - self._position)

    def pending(self) -> int:
        """The same, by the name that paho asks for."""
        return self.unread

    def close(self) -> None:
        """Send what can be sent, and close."""
        with contextlib.suppress(OSError):
            self.flush()
        self._sock.close()

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._sock.setblocking(flag)
