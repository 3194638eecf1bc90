"""Accepts TLS connections of one socket and tells of handshakes that fail; a loop's own server keeps them to itself."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

_log = logging.getLogger(__name__)

# When no file descriptor is left: as long as asyncio's own server waits.
_OUT_OF_FILES_S = 1.0
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# OpenSSL's names for bytes that begin no TLS: MQTT in the clear is a "wrong version".
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG"})
_NO_TRUST = ("ALERT_UNKNOWN_CA", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_BAD_CERTIFICATE")


class TlsServer:
    """One listening socket; `make` builds the protocol of a connection, `failed` hears address and reason."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        failed: Callable[[str, str], None],
        *,
        backlog: int,
        handshake_s: float,
    ) -> None:
        self._sock = sock
        self._context = context
        self._make = make
        self._failed = failed
        self._handshake_s = handshake_s
        self._handshakes: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        sock.listen(backlog)
        self._accepting = asyncio.create_task(self._accept(), name="TLS accept")

    def close(self) -> None:
        """Accept no further; handshakes under way are given up, connections stay."""
        self._accepting.cancel()
        for handshake in self._handshakes:
            handshake.cancel()
        # After the loop has let go of it: the task ends in its next turn.
        self._accepting.add_done_callback(lambda _task: self._sock.close())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(self._sock)
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    _log.error("no TLS connection can be accepted: %s", error)
                    await asyncio.sleep(_OUT_OF_FILES_S)
                # Anything else was the fault of one client, gone before it was accepted.
                continue
            handshake = loop.create_task(self._shake_hands(sock, str(peer[0])), name="TLS handshake")
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, sock: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._make, sock, ssl=self._context, ssl_handshake_timeout=self._handshake_s
            )
        except OSError as error:
            sock.close()
            self._failed(address, _reason(error))


def _reason(error: OSError) -> str:
    """Why a handshake failed, for an operator; nothing of it is the client's text."""
    if not isinstance(error, ssl.SSLError):
        slow = isinstance(error, TimeoutError | ConnectionAbortedError)
        return "no TLS handshake in time" if slow else "the client went away during the TLS handshake"
    name = error.reason or "unknown"
    if name in _NO_TLS:
        return f"it speaks no TLS, and this port is for TLS alone ({name})"
    if any(alert in name for alert in _NO_TRUST):
        return f"the client does not trust the hub's certificate; give it the CA file ({name})"
    return f"TLS handshake failed ({name})"
