"""Serves the HTTP application inside the hub's loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from litestar import Litestar

from app.domain.errors import EnvironmentFault


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
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="api")
        address: tuple[str, int] = self._socket.getsockname()[:2]
        return address

    async def stop(self) -> None:
        """Finish the requests in progress, at most two seconds, and close."""
        if self._task is None:
            return
        self._server.should_exit = True
        try:
            await asyncio.wait_for(self._task, 2.0)
        except TimeoutError:
            self._server.force_exit = True


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the hub decides when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
