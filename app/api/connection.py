"""One HTTP connection: uvicorn's, with deadlines for clients that send or read too slowly."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from app.api.counters import ApiCounters


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a client may take, and how many connections there are at once."""

    # Above it requests are answered with 503; at twice as many a connection is closed at once.
    most_connections: Callable[[], int] = lambda: 500
    # From the connection, or the first byte of a later request, to the end of its head.
    head_s: float = 10.0
    # Between two pieces of a body, and for all of it: 16 MB at 64 kB/s.
    body_pause_s: float = 20.0
    body_s: float = 250.0
    # An answer that is not taken.
    unread_s: float = 60.0
    # A TLS handshake; its connection is counted only afterwards.
    handshake_s: float = 5.0
    # Between two requests; consoles ask every few seconds.
    keep_alive_s: int = 30


class Connection(H11Protocol):
    """HTTP/1.1 over one socket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: ConnectionLimits,
        counters: ApiCounters,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._limits = limits
        self._counters = counters
        # What the client owes us: the rest of a head, the next piece of a body, all of a body.
        self._owed: asyncio.TimerHandle | None = None
        self._whole_body: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._counters.connections = len(self.connections)
        if self._counters.connections > 2 * self._limits.most_connections():
            self._counters.events.refused_connections += 1
            transport.abort()
            return
        self._owe(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._counters.connections = len(self.connections)
        # Uvicorn leaves this one when the connection ended by an error.
        self._unset_keepalive_if_required()
        self._settle()
        self._stop_unread()

    def data_received(self, data: bytes) -> None:
        if self._owed is None:
            self._owe(self._limits.head_s)
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_unread()
        self._unread = self.loop.call_later(self._limits.unread_s, self._too_slow)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread()

    def send_400_response(self, msg: str) -> None:
        self._counters.events.refused_invalid += 1
        super().send_400_response(msg)

    def _watch(self) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._owe(self._limits.body_pause_s)
            if self._whole_body is None:
                self._whole_body = self.loop.call_later(self._limits.body_s, self._too_slow)
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            # The next one has begun.
            if self._owed is None:
                self._owe(self._limits.head_s)
        else:
            # The request is whole, and between two the time of keeping alive runs.
            self._settle()

    def _owe(self, within_s: float) -> None:
        if self._owed is not None:
            self._owed.cancel()
        self._owed = self.loop.call_later(within_s, self._too_slow)

    def _settle(self) -> None:
        for timer in (self._owed, self._whole_body):
            if timer is not None:
                timer.cancel()
        self._owed = self._whole_body = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._counters.events.closed_slow += 1
        self.transport.abort()
