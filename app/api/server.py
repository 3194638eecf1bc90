"""Serves the HTTP application inside the hub's loop, over TLS wherever another machine could listen in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from litestar.types import ASGIApp

from app.api.connection import Connection, ConnectionLimits
from app.api.counters import ApiCounters
from app.api.front import Front
from app.domain.errors import EnvironmentFault, OperatorInputError
from app.domain.hosts import HostNames, is_loopback

log = logging.getLogger(__name__)

# Requests in progress may finish within this; together with what surrounds it the end takes less than two seconds.
_FINISH_S = 1
_END_S = 1.6
_ANY_IPV6 = "::"
# Where TLS is not closed by the other side.
_TLS_CLOSE_S = 1.0
_BACKLOG = 128


class ApiServer:
    """One listening socket, served by uvicorn; signals stay the hub's. Answers at most so many connections at once."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        names: HostNames | None = None,
        limits: ConnectionLimits | None = None,
        counters: ApiCounters | None = None,
    ) -> None:
        """Without `tls` only a loopback host is served."""
        self._host = host
        self._port = port
        self._tls = tls
        limits = limits or ConnectionLimits()
        counters = counters or ApiCounters()
        front = Front(app, counters, names or HostNames(), limits.most_connections)
        # Who asks is who is connected: X-Forwarded-For is anybody's to write.
        config = uvicorn.Config(
            front,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=_FINISH_S,
        )
        self._server = _Server(config, tls, limits, counters)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; where.

        Raises EnvironmentFault when the port is taken, OperatorInputError for plain HTTP on a network.
        """
        every = self._host == _ANY_IPV6 and socket.has_dualstack_ipv6()
        try:
            listening = socket.create_server(
                (self._host, self._port),
                family=socket.AF_INET6 if ":" in self._host else socket.AF_INET,
                backlog=_BACKLOG,
                dualstack_ipv6=every,
            )
        except OSError as error:
            raise EnvironmentFault(
                f"the API can not listen on {self._host} port {self._port}: {error.strerror}; choose with --api-port"
            ) from error
        address: tuple[str, int] = listening.getsockname()[:2]
        # Asked of the socket: what a name stands for is not ours to say.
        if self._tls is None and not is_loopback(address[0]):
            listening.close()
            raise OperatorInputError(
                f"the API is not served without TLS on {address[0]}, which other machines reach: "
                "set listen.api_host to 127.0.0.1, or listen.api_tls to always"
            )
        # Accepted sockets inherit it. asyncio leaves it unset for a socket without a protocol number, as this one: then
        # a small answer, written as head and body, waits 40 ms for the client's acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task = asyncio.create_task(self._server.serve([listening]), name="api")
        self._task.add_done_callback(_tell_failure)
        return address

    async def stop(self) -> None:
        """Finish the requests in progress, at most two seconds, and close."""
        if self._task is None:
            return
        self._server.should_exit = True
        done, _running = await asyncio.wait([self._task], timeout=_END_S)
        if not done:
            self._server.force_exit = True
            self._task.cancel()
        for connection in list(self._server.server_state.connections):
            assert isinstance(connection, Connection)
            connection.transport.abort()
        await asyncio.wait([self._task])


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the API ended, it is back with the next start", exc_info=error)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers (the hub decides when to end), with our connections and a TLS deadline."""

    def __init__(
        self, config: uvicorn.Config, tls: ssl.SSLContext | None, limits: ConnectionLimits, counters: ApiCounters
    ) -> None:
        super().__init__(config)
        self._tls = tls
        self._limits = limits
        self._counters = counters

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve the sockets. Uvicorn's own has no way to say how long a handshake may take."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        with_tls: dict[str, object] = {}
        if self._tls is not None:
            with_tls = {
                "ssl": self._tls,
                "ssl_handshake_timeout": self._limits.handshake_s,
                "ssl_shutdown_timeout": _TLS_CLOSE_S,
            }
        self.servers = [
            await loop.create_server(self._connection, sock=listening, backlog=_BACKLOG, **with_tls)  # type: ignore[call-overload]
            for listening in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _connection(self) -> Connection:
        return Connection(
            self.config, self.server_state, self.lifespan.state, limits=self._limits, counters=self._counters
        )
