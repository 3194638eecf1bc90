"""The native broker as an engine: start, stop, publish, counters."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from broker.engine import Authenticator, Sink
from broker.native.access import may_receive_private
from broker.native.connection import Connection
from broker.native.core import Core
from broker.native.counters import Counters
from broker.native.forgetting import KeptOf, forget_below, kept_below
from broker.native.listening import bind, server_context
from broker.native.message import Message
from broker.native.open_files import allow_connections
from broker.native.persistence import NoStore, Store, Stored, unpack_message, unpack_subscription
from broker.native.session import Outgoing, Session
from broker.native.sqlite_store import SqliteStore
from broker.native.tls_server import TlsServer
from broker.native.tls_workers import TlsWorkers
from broker.options import BrokerOptions, Listener
from broker.packets import ProtocolError, Reason
from broker.packets.topics import is_topic

_log = logging.getLogger(__name__)

# Clients get this long to take their DISCONNECT when the broker stops.
_STOP_S = 2.0
# Several processes on one port, each with a share of the connections: Linux and the BSDs.
_CAN_SHARE_PORTS = hasattr(socket, "SO_REUSEPORT") and sys.platform != "darwin"


class NativeBroker:
    """Our own MQTT 3.1.1 and 5.0 broker (`broker.engine.Engine`).

    Causes the sink hears when a client goes: `client` (it said goodbye), `lost` (its network did), `keepalive`,
    `takeover` (the same client connected anew), `protocol` (it broke the rules), `limit`, `stop` (this broker stops),
    or what `disconnect` was given.

    Topics that begin with `private` are the hub's own, as `$` topics are a broker's: no client may publish there,
    whatever its access says, and only a client whose access has a pattern that begins so receives what
    `publish_private` sends. `#` in an access or a filter does not reach them.
    """

    def __init__(
        self,
        options: BrokerOptions,
        listeners: Sequence[Listener],
        authenticator: Authenticator | None,
        sink: Sink,
        *,
        data_dir: Path | None = None,
        private: str = "",
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._listeners = tuple(listeners)
        self._authenticator = authenticator
        self._sink = sink
        self._data_dir = data_dir
        self._private = private
        self._now = now
        self._monotonic = monotonic
        self._core: Core | None = None
        self._servers: list[asyncio.Server | TlsServer] = []
        self._workers: list[TlsWorkers] = []
        self._addresses: dict[str, tuple[str, int]] = {}

    async def start(self) -> None:
        """Load what was kept, then listen. Raises OSError when a port is taken or a TLS file does not fit."""
        loop = asyncio.get_running_loop()
        allow_connections(self._options.max_connections)
        counters = Counters(self._monotonic)
        store: Store = NoStore()
        if self._data_dir is not None:
            store = SqliteStore(self._data_dir, counters, self._now)
        stored = await asyncio.to_thread(store.load)
        core = Core(
            loop,
            self._options,
            self._authenticator,
            self._sink,
            store,
            counters,
            now=self._now,
            monotonic=self._monotonic,
            private=self._private,
        )
        self._core = core
        self._restore(core, stored)
        core.begin()
        try:
            for listener in self._listeners:
                await self._listen(loop, core, listener)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, say goodbye to every client, save sessions."""
        core = self._core
        if core is None:
            return
        for server in self._servers:
            server.close()
        core.inbox.flush()
        for connection in list(core.connections):
            if connection.closed:
                connection.abort()
            else:
                connection.end("stop", Reason.SERVER_SHUTTING_DOWN)
        await core.all_gone(_STOP_S)
        for connection in list(core.connections):
            connection.abort()
        for workers in self._workers:
            await workers.stop()
        core.finish()
        await core.store.close()
        self._servers = []
        self._workers = []
        self._core = None

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        on_taken: Callable[[], None] | None = None,
    ) -> None:
        """Publish from inside the hub; access rules do not apply, and the sink does not hear of it."""
        core = self._running()
        if not is_topic(topic):
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, f"not a topic name: {topic!r}")
        if self._private and topic.startswith(self._private):
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, f"a private topic, see publish_private: {topic!r}")
        message = Message(topic, payload, qos=qos, retain=retain, on_taken=on_taken)
        if retain:
            core.retainer.keep(message, "")
        core.outbound.route(message, core.subscriptions.match(topic))

    def receivers(self, topic: str) -> int:
        """How many connected clients would get a message of this topic name now; shared subscriptions are left out."""
        return sum(
            target.session.connection is not None for target in self._running().subscriptions.match(topic).targets
        )

    def publish_private(self, topic: str, payload: bytes) -> int:
        """Send to those who may receive a private topic, QoS 0 and nothing kept; how many there were.

        A client that does not take its messages fast enough misses this one (`dropped_slow`).
        """
        core = self._running()
        message = Message(topic, payload)
        receivers = self._private_receivers(core, topic)
        for session in receivers:
            core.outbound.deliver(session, message, 0)
        return len(receivers)

    def has_private_receiver(self, topic: str) -> bool:
        """Whether `publish_private` would reach anybody."""
        return self._core is not None and bool(self._private_receivers(self._core, topic))

    def _private_receivers(self, core: Core, topic: str) -> list[Session]:
        # Not by shared subscriptions: what goes round in turn is no picture of anything.
        found = []
        for target in core.subscriptions.match(topic).targets:
            connection = target.session.connection
            info = connection.info if connection is not None else None
            if info is not None and may_receive_private(info.access, topic, self._private):
                found.append(target.session)
        return found

    def end_sessions(self, subjects: Collection[str], cause: str) -> int:
        """Close the connections of these credentials and forget their sessions, in one pass; how many there were."""
        core = self._running()
        found = [session for session in core.sessions.by_id.values() if session.subject in subjects]
        for session in found:
            if session.connection is not None:
                session.connection.end(cause, Reason.ADMINISTRATIVE_ACTION)
            if core.sessions.by_id.get(session.client_id) is session:
                core.sessions.end(session)
        return len(found)

    def hold_guaranteed(self, hold: bool) -> None:
        """While held, connections that send QoS 1 or 2 are not read any further."""
        self._running().hold(held=hold)

    def forget_topics(self, subject: str | None = None) -> None:
        """Ask `open_topic` and the access rules again, for every connection or for those of one credential."""
        for connection in self._running().connections:
            info = connection.info
            if info is not None and (subject is None or info.access.subject == subject):
                connection.topics = {}

    def disconnect(self, subject: str, cause: str) -> int:
        """Close the connections of one credential; how many there were."""
        found = [
            connection
            for connection in self._running().connections
            if not connection.closed and connection.info is not None and connection.info.access.subject == subject
        ]
        for connection in found:
            connection.end(cause, Reason.ADMINISTRATIVE_ACTION)
        return len(found)

    async def kept_below(self, prefix: str) -> KeptOf:
        """What is retained or waits of topics that begin with a prefix (which ends in a /)."""
        return await kept_below(self._running(), prefix)

    async def forget_below(self, prefix: str) -> KeptOf:
        """Forget that; what there was."""
        return await forget_below(self._running(), prefix)

    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where each listener really listens: listener name -> (host, port)."""
        return dict(self._addresses)

    def counters(self) -> Mapping[str, int]:
        """Counters since the start, by name (`broker.native.counters.NAMES`)."""
        return self._core.counters.snapshot() if self._core is not None else {}

    def _running(self) -> Core:
        if self._core is None:
            raise RuntimeError("the broker is not running")
        return self._core

    async def _listen(self, loop: asyncio.AbstractEventLoop, core: Core, listener: Listener) -> None:
        if listener.tls is not None and self._options.tls_workers and _CAN_SHARE_PORTS:
            workers = TlsWorkers(self._options, listener, core.counters, lambda: Connection(core, listener))
            self._workers.append(workers)
            # Also proves here, not in a worker's log, that the files fit.
            await asyncio.to_thread(server_context, listener.tls)
            self._addresses[listener.name] = await workers.start()
            return
        context = None
        if listener.tls is not None:
            if self._options.tls_workers:
                _log.warning("this system can not share a port between processes: TLS is done in this one")
            context = await asyncio.to_thread(server_context, listener.tls)
        sockets = bind(listener)
        host, port = sockets[0].getsockname()[:2]
        self._addresses[listener.name] = (str(host), int(port))

        def failed(address: str, reason: str) -> None:
            core.counters.hit("tls_handshakes_failed", address, f"listener {listener.name}: {reason}")

        for sock in sockets:
            if context is not None:
                tls_server = TlsServer(
                    sock,
                    context,
                    lambda: Connection(core, listener),
                    failed,
                    backlog=self._options.backlog,
                    handshake_s=self._options.tls_handshake_s,
                )
                self._servers.append(tls_server)
                continue
            server = await loop.create_server(
                lambda: Connection(core, listener),
                sock=sock,
                backlog=self._options.backlog,
            )
            self._servers.append(server)
        _log.info("listener %s: port %d%s", listener.name, port, " (TLS)" if context is not None else "")

    def _restore(self, core: Core, stored: Stored) -> None:
        now = self._now()
        for kept in stored.retained:
            message = unpack_message(kept)
            if not message.expired(now):
                core.retainer.restore(message)
        for saved in stored.sessions:
            session = Session(saved.client_id, saved.subject)
            session.expiry_s = saved.expiry_s
            session.next_id = saved.next_id
            # What was received and not in the store's keeping then has been lost with its batch: let it come again.
            session.received = {number: True for number, safe in saved.received.items() if safe} or None
            for subscription in saved.subscriptions:
                core.subscribing.restore(session, subscription.written, unpack_subscription(subscription))
            expires_at = saved.expires_at if saved.expires_at is not None else now + saved.expiry_s
            core.sessions.restore(session, expires_at - now)
        for waiting in sorted(stored.outgoing, key=lambda item: item.number):
            owner = core.sessions.by_id.get(waiting.client_id)
            if owner is None:
                continue
            out = Outgoing(
                waiting.number,
                unpack_message(waiting.message),
                waiting.qos,
                retain=waiting.retain,
                numbers=waiting.numbers,
            )
            out.packet_id, out.released, out.stored = waiting.packet_id, waiting.released, True
            core.outbound.restore(owner, out)
