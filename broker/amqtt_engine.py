"""The amqtt engine: an independent broker behind the same interface, for comparison.

What amqtt 0.12 can not do for us is `LIMITS`; the engine says it when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from amqtt.broker import Broker, BrokerContext
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import BrokerError
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import ApplicationMessage, Session

from broker.engine import Access, Authenticator, ClientInfo, Engine, Sink
from broker.options import Listener
from broker.packets.topics import covers, matches

log = logging.getLogger(__name__)

LIMITS = (
    "MQTT 3.1.1 only",
    "QoS 1 and 2 are acknowledged when they are received, not after the commit: a crash may lose acknowledged readings",
    "no limits on packets, rates, half-open connections, subscriptions or queues",
    "sessions and retained messages do not survive a restart",
    "one address per listener, TLS in this process",
    "at most about 10,000 messages/s",
    "a module gets commands once it has subscribed in its present connection",
)

# amqtt hands over one message at a time; a batch is what came within this time. Far below the commit interval.
_BATCH_S = 0.005
_BATCH_MESSAGES = 512
# Where our facts about a session are kept in amqtt's session.
_ATTRIBUTE = "wattdeck.client"
_ANY_HOSTS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
_STOP_S = 10.0
_PROTOCOL_VERSION = 4


@dataclasses.dataclass(slots=True)
class _Batch:
    """Messages received together; amqtt has acknowledged them already."""

    arrival_us: int
    handles: Sequence[object]
    payloads: Sequence[bytes]
    guaranteed: Sequence[bool]
    retained: Sequence[bool] = ()

    def acknowledge(self) -> None:
        """Nothing is left to do."""


@dataclasses.dataclass(slots=True)
class _Client:
    """What is remembered of a session."""

    info: ClientInfo
    handles: dict[str, object | None] = dataclasses.field(default_factory=dict)
    guarantees: bool = False
    """It has sent QoS 1 or 2."""
    patterns: set[str] = dataclasses.field(default_factory=set)
    """What it has subscribed to in this connection."""


class GatePlugin(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]
    """amqtt's side of the engine: asks it for every connection, topic and message."""

    @dataclasses.dataclass
    class Config:
        """Given in place by the engine."""

        engine: Any = None

    def __init__(self, context: BrokerContext) -> None:
        super().__init__(context)
        self._engine: AmqttEngine = context.config.engine

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this CONNECT is accepted."""
        return self._engine.admit(session)

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Whether a session may publish to, subscribe to or receive from a topic."""
        return session is not None and topic is not None and self._engine.permit(session, topic, action)

    async def on_broker_message_broadcast(self, *, client_id: str, message: ApplicationMessage) -> None:
        """A message that was permitted."""
        self._engine.receive(client_id, message)

    async def on_broker_client_connected(self, *, client_id: str, client_session: Session) -> None:
        """A client was accepted."""
        self._engine.connected(client_id, client_session)

    async def on_broker_client_subscribed(self, *, client_id: str, topic: str, qos: int) -> None:  # noqa: ARG002 - amqtt's signature
        """A client has subscribed."""
        self._engine.subscribed(client_id, topic)

    async def on_broker_client_disconnected(self, *, client_id: str, client_session: Session) -> None:
        """A client has gone."""
        self._engine.disconnected(client_id, client_session)


class AmqttEngine:
    """`broker.engine.Engine` on amqtt. Listeners: at most one plain and one with TLS.

    `beside` is another engine for other listeners (the operators', which is always native): started, stopped, published
    to and asked together with this one. Each has its own subscribers and retained messages. Topics that begin with
    `private` are never taken from a client here; what is sent there comes from the engine beside alone.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        authenticator: Authenticator,
        sink: Sink,
        *,
        beside: Engine | None = None,
        private: str = "",
    ) -> None:
        self._beside = beside
        self._private = private
        self._listeners = sorted(listeners, key=lambda listener: listener.tls is not None)
        self._authenticator = authenticator
        self._sink = sink
        self._broker: Broker | None = None
        self._clients: dict[str, _Client] = {}
        self._received: list[tuple[object, bytes, bool]] = []
        self._arrival_us = 0
        self._held = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._counters = dict.fromkeys(
            (
                "connects_accepted",
                "connects_refused",
                "disconnects",
                "messages_received",
                "messages_to_sink",
                "batches",
                "publish_denied",
                "subscribe_denied",
                "reads_held",
            ),
            0,
        )

    @property
    def beside(self) -> Engine | None:
        """The engine of the other listeners."""
        return self._beside

    # -- broker.engine.Engine

    async def start(self) -> None:
        """Listen. Raises OSError when a port is taken."""
        # A line for each connection and each state it takes, at INFO, is too much of 16,000.
        for noisy in ("amqtt", "transitions"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        # amqtt wants one listener to be called so; the names of the others only appear in its log.
        configured = {
            "default" if number == 0 else listener.name: _configuration(listener)
            for number, listener in enumerate(self._listeners)
        }
        plugin = f"{GatePlugin.__module__}.{GatePlugin.__qualname__}"
        self._broker = Broker(BrokerConfig(listeners=configured, plugins={plugin: {"engine": self}}))
        if self._beside is not None:
            await self._beside.start()
        try:
            await self._broker.start()
        except BrokerError as error:
            if self._beside is not None:
                await self._beside.stop()
            self._broker = None
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from error
            raise
        log.warning("amqtt engine: %s", "; ".join(LIMITS))

    async def stop(self) -> None:
        """Hand over what was received, close every connection."""
        if self._broker is None:
            return
        if self._beside is not None:
            await self._beside.stop()
        broker, self._broker = self._broker, None
        # amqtt waits for connections that do not end by themselves.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), _STOP_S)
        self._flush()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        on_taken: Callable[[], None] | None = None,
    ) -> None:
        """Publish from inside the hub; access rules do not apply. amqtt tells of no answer: taken when it is sent."""
        if self._beside is not None:
            self._beside.publish(topic, payload, qos=qos, retain=retain, on_taken=on_taken)
        if on_taken is not None and self.receivers(topic):
            on_taken()
        if self._broker is not None:
            self._start_task(self._publish(self._broker, topic, payload, qos, retain=retain))

    def receivers(self, topic: str) -> int:
        """How many connected clients would get a message now, as far as they subscribed in their connection."""
        own = sum(any(matches(pattern, topic) for pattern in client.patterns) for client in self._clients.values())
        return own + (self._beside.receivers(topic) if self._beside is not None else 0)

    def hold_guaranteed(self, hold: bool) -> None:
        """Stop reading sockets of clients that have sent QoS 1 or 2; what amqtt holds already it acknowledges still."""
        if self._beside is not None:
            self._beside.hold_guaranteed(hold)
        if hold != self._held:
            self._held = hold
            for client_id, client in self._clients.items():
                if client.guarantees:
                    self._pause(client_id, pause=hold)

    def forget_topics(self) -> None:
        """Look up every connection's credential and topics again; close those that have lost their credential."""
        if self._beside is not None:
            self._beside.forget_topics()
        if self._broker is None:
            return
        for client_id, client in list(self._clients.items()):
            session, _ = self._broker.sessions.get(client_id, (None, None))
            access = self._access(session, client.info.listener) if session is not None else None
            if access is None:
                self._start_task(self._close(client_id))
            else:
                client.info = dataclasses.replace(client.info, access=access)
                client.handles.clear()

    def disconnect(self, subject: str, cause: str) -> int:
        """Close the connections of one credential; how many there were."""
        found = [client_id for client_id, client in self._clients.items() if client.info.access.subject == subject]
        for client_id in found:
            log.info("closing a connection of %s: %s", subject, cause)
            self._start_task(self._close(client_id))
        return len(found) + (self._beside.disconnect(subject, cause) if self._beside is not None else 0)

    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where each listener really listens."""
        if self._broker is None:
            return {}
        # amqtt has no public way to learn the port that the system chose.
        servers = list(self._broker._servers.values())  # noqa: SLF001
        own = {
            listener.name: server.instance.sockets[0].getsockname()[:2]
            for listener, server in zip(self._listeners, servers, strict=True)
        }
        return {**own, **(self._beside.addresses() if self._beside is not None else {})}

    def counters(self) -> Mapping[str, int]:
        """Counters since the start, by the names that the native engine uses for the same; both engines' together."""
        total = {**self._counters, "connections": len(self._clients)}
        for name, value in (self._beside.counters() if self._beside is not None else {}).items():
            total[name] = total.get(name, 0) + value
        return total

    # -- what the plugin asks

    def admit(self, session: Session) -> bool:
        """Whether a CONNECT has a good credential; its access is kept with the session."""
        listener = self._listener_of(session)
        access = self._access(session, listener)
        if access is None:
            self._counters["connects_refused"] += 1
            return False
        session.attributes[_ATTRIBUTE] = _Client(
            ClientInfo(session.client_id, access, f"{session.remote_address}", listener, _PROTOCOL_VERSION)
        )
        return True

    def permit(self, session: Session, topic: str, action: Action | None) -> bool:
        """Whether the session's access covers this topic (or filter)."""
        client = session.attributes.get(_ATTRIBUTE)
        if client is None:
            return False
        access = client.info.access
        if action is Action.PUBLISH:
            if topic in client.handles:
                return True
            if (self._private and topic.startswith(self._private)) or not any(
                matches(pattern, topic) for pattern in access.publish
            ):
                self._counters["publish_denied"] += 1
                return False
            client.handles[topic] = self._sink.open_topic(client.info, topic)
            return True
        if action is Action.SUBSCRIBE:
            allowed = any(covers(pattern, topic) for pattern in access.subscribe)
            self._counters["subscribe_denied"] += not allowed
            return allowed
        return any(matches(pattern, topic) for pattern in access.subscribe)

    def receive(self, client_id: str, message: ApplicationMessage) -> None:
        """A message that `permit` has let pass; it becomes part of the open batch."""
        self._counters["messages_received"] += 1
        client = self._clients.get(client_id)
        if client is None:
            return
        handle = client.handles.get(message.topic)
        if handle is None:
            return
        if message.qos and not client.guarantees:
            client.guarantees = True
            if self._held:
                self._pause(client_id, pause=True)
        if not self._received:
            self._arrival_us = time.time_ns() // 1000
            asyncio.get_running_loop().call_later(_BATCH_S, self._flush)
        self._received.append((handle, bytes(message.data), bool(message.qos)))
        if len(self._received) >= _BATCH_MESSAGES:
            self._flush()

    def connected(self, client_id: str, session: Session) -> None:
        """Tell the sink."""
        client: _Client = session.attributes[_ATTRIBUTE]
        self._clients[client_id] = client
        self._counters["connects_accepted"] += 1
        self._sink.client_connected(client.info)

    def subscribed(self, client_id: str, pattern: str) -> None:
        """Tell the sink."""
        client = self._clients.get(client_id)
        if client is not None:
            client.patterns.add(pattern)
            self._sink.client_subscribed(client.info, pattern, ())

    def disconnected(self, client_id: str, session: Session) -> None:
        """Tell the sink, after everything the client had sent."""
        client: _Client | None = session.attributes.get(_ATTRIBUTE)
        if client is None:
            return
        if self._clients.get(client_id) is client:
            del self._clients[client_id]
        self._counters["disconnects"] += 1
        self._flush()
        self._sink.client_disconnected(client.info, "closed")

    # -- helpers

    def _access(self, session: Session, listener: str) -> Access | None:
        password = session.password
        encoded = password.encode() if isinstance(password, str) else password
        return self._authenticator.authenticate(listener, session.client_id or "", session.username, encoded)

    def _listener_of(self, session: Session) -> str:
        """The listener's name; amqtt does not tell a session which it came by, only whether it speaks TLS."""
        tls = session.ssl_object is not None
        return next(listener.name for listener in self._listeners if (listener.tls is not None) == tls)

    def _flush(self) -> None:
        received, self._received = self._received, []
        if received:
            self._counters["batches"] += 1
            self._counters["messages_to_sink"] += len(received)
            self._sink.accept(_Batch(self._arrival_us, *zip(*received, strict=True)))

    def _pause(self, client_id: str, *, pause: bool) -> None:
        """Stop or go on reading a client's socket: amqtt has no public way to its transport."""
        if self._broker is None:
            return
        _, handler = self._broker.sessions.get(client_id, (None, None))
        writer = getattr(getattr(handler, "writer", None), "_writer", None)
        if writer is None or writer.transport.is_closing():
            return
        if pause and writer.transport.is_reading():
            writer.transport.pause_reading()
            self._counters["reads_held"] += 1
        elif not pause and not writer.transport.is_reading():
            writer.transport.resume_reading()

    async def _publish(self, broker: Broker, topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        await broker.internal_message_broadcast(topic, payload, qos)
        if retain:
            await broker.retain_message(None, topic, payload, qos)

    async def _close(self, client_id: str) -> None:
        if self._broker is None:
            return
        _, handler = self._broker.sessions.get(client_id, (None, None))
        if handler is not None:
            await handler.handle_connection_closed()
            await handler.stop()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="amqtt engine")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("amqtt engine: a task failed", exc_info=task.exception())


def _configuration(listener: Listener) -> ListenerConfig:
    """As amqtt wants it. Both families at once only on a fixed port: it would choose a port for each."""
    if listener.port and set(listener.hosts) == _ANY_HOSTS:
        bind = str(listener.port)
    else:
        host = listener.hosts[0]
        bind = f"[{host}]:{listener.port}" if ":" in host else f"{host}:{listener.port}"
    configuration = ListenerConfig(type=ListenerType.TCP, bind=bind, max_connections=-1)
    if listener.tls is not None:
        configuration.ssl = True
        configuration.certfile = listener.tls.certificate
        configuration.keyfile = listener.tls.key
        configuration.cafile = listener.tls.client_ca
    return configuration
