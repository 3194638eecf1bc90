"""Starts TLS workers for a listener, takes their links, starts them again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker.native.counters import Counters
from broker.native.listening import bind
from broker.native.mux import MuxLink
from broker.native.worker import Order
from broker.options import BrokerOptions, Listener

_log = logging.getLogger(__name__)

# Before a worker that died is started again; doubled while it keeps dying, at most to the second value.
_RESTART_S = 0.5
_RESTART_MAX_S = 10.0
# A worker that takes longer than this to listen is started again.
_START_S = 20.0
_ROOT = Path(__file__).resolve().parents[2]


class TlsWorkers:
    """The workers of one TLS listener."""

    def __init__(
        self,
        options: BrokerOptions,
        listener: Listener,
        counters: Counters,
        make: Callable[[], asyncio.Protocol],
    ) -> None:
        self._options = options
        self._listener = listener
        self._counters = counters
        self._make = make
        self._token = secrets.token_hex(32)
        self._links: set[MuxLink] = set()
        self._reserved: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._stopping = False

    async def start(self) -> tuple[str, int]:
        """Start every worker and wait until all listen; where they do. Raises OSError when they can not."""
        loop = asyncio.get_running_loop()
        # Bound but not listening: the port is ours from here on, and gets no connections.
        self._reserved = bind(self._listener, reuse_port=True)
        host, port = self._reserved[0].getsockname()[:2]
        path, link_port = await self._listen_for_links(loop)
        assert self._listener.tls is not None
        tls = self._listener.tls
        order = Order(
            listener=self._listener.name,
            hosts=[sock.getsockname()[0] for sock in self._reserved],
            port=port,
            certificate=str(tls.certificate.resolve()),
            key=str(tls.key.resolve()),
            client_ca=str(tls.client_ca.resolve()) if tls.client_ca is not None else None,
            link=path,
            link_port=link_port,
            token=self._token,
            backlog=self._options.backlog,
            handshake_s=self._options.tls_handshake_s,
            max_unsent_bytes=self._options.max_unsent_bytes,
            max_connections=self._options.max_connections,
        )
        listening = [loop.create_future() for _ in range(self._options.tls_workers)]
        self._tasks = [
            asyncio.create_task(self._keep(order, first), name=f"TLS worker {number}")
            for number, first in enumerate(listening)
        ]
        try:
            await asyncio.wait_for(asyncio.gather(*listening), _START_S)
        except TimeoutError:
            await self.stop()
            raise OSError(f"listener {self._listener.name}: its TLS workers do not start") from None
        return str(host), int(port)

    async def stop(self) -> None:
        """End every worker."""
        self._stopping = True
        for link in list(self._links):
            link.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._server is not None:
            self._server.close()
        for sock in self._reserved:
            sock.close()
        if self._directory is not None:
            self._directory.cleanup()

    async def _listen_for_links(self, loop: asyncio.AbstractEventLoop) -> tuple[str, int]:
        def link() -> MuxLink:
            return MuxLink(
                loop, self._token.encode(), self._make, self._links.add, self._links.discard, self._handshake_failed
            )

        if hasattr(socket, "AF_UNIX") and sys.platform != "win32":
            # Only this user can enter the folder.
            self._directory = tempfile.TemporaryDirectory(prefix="wattdeck-")
            path = str(Path(self._directory.name) / "tls")
            self._server = await loop.create_unix_server(link, path)
            return path, 0
        self._server = await loop.create_server(link, "127.0.0.1", 0)
        return "127.0.0.1", self._server.sockets[0].getsockname()[1]

    def _handshake_failed(self, address: str, reason: str) -> None:
        self._counters.hit("tls_handshakes_failed", address, f"listener {self._listener.name}: {reason}")

    async def _keep(self, order: Order, first: asyncio.Future[None]) -> None:
        pause_s = _RESTART_S
        while not self._stopping:
            if await self._run(order, first):
                pause_s = _RESTART_S
            self._counters.add("tls_worker_restarts")
            _log.error("listener %s: a TLS worker ended; starting another in %.1f s", order.listener, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RESTART_MAX_S)

    async def _run(self, order: Order, first: asyncio.Future[None]) -> bool:
        """Run one worker to its end; whether it ever listened."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "broker.native.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # By its input, not by its arguments: those are seen by everybody on the machine.
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            listened = (await process.stdout.readline()).strip() == b"listening"
            if listened and not first.done():
                first.set_result(None)
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return listened
