"""Serves the HTTP application inside the hub's loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from litestar import Litestar

from app.domain.errors import EnvironmentFault

log = logging.getLogger(__name__)


class ApiServer:
    """One listening socket, served by uvicorn; signals stay the hub's."""

    def __init__(self, app: Litestar, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; where. Raises EnvironmentFault when the port is taken."""
        try:
            self._socket = socket.create_server(
                (self._host, self._port), family=socket.AF_INET6 if ":" in self._host else socket.AF_INET
            )
        except OSError as error:
            raise EnvironmentFault(
                f"the API can not listen on {self._host} port {self._port}: {error.strerror}; choose with --api-port"
            ) from error
        # Accepted sockets inherit it. asyncio leaves it unset for a socket without a protocol number, as this one: then
        # a small answer, written as head and body, waits 40 ms for the client's acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="api")
        self._task.add_done_callback(_tell_failure)
        address: tuple[str, int] = self._socket.getsockname()[:2]
        return address

    async def stop(self) -> None:
        """Finish the requests in progress, at most two seconds, and close."""
        if self._task is None:
            return
        self._server.should_exit = True
        done, _running = await asyncio.wait([self._task], timeout=2.0)
        if not done:
            self._server.force_exit = True
            self._task.cancel()
            await asyncio.wait([self._task])


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the API ended, it is back with the next start", exc_info=error)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the hub decides when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
