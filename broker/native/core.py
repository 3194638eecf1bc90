"""What every connection shares: the parts of the broker, its tick, the beginning and end of connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from broker.engine import Authenticator, Sink
from broker.native.admission import Admission
from broker.native.client_writer import ClientWriter
from broker.native.connecting import Connecting
from broker.native.connection import CLOSED, HELD, NEW, OPEN, Connection
from broker.native.counters import Counters
from broker.native.inbox import Inbox
from broker.native.keepalive import TICK_S, Wheel, ticks
from broker.native.outbound import Outbound
from broker.native.persistence import Store
from broker.native.receiving import Receiving
from broker.native.retainer import Retainer
from broker.native.sessions import Sessions
from broker.native.subscribing import Subscribing
from broker.native.subscriptions import Subscriptions
from broker.native.topic_entry import TopicEntry
from broker.options import BrokerOptions
from broker.packets import (
    PINGRESP_BYTES,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Ping,
    ProtocolError,
    Publish,
    Reason,
    Subscribe,
    Unsubscribe,
    kinds,
)
from broker.packets.connect import return_code, write_connack

_log = logging.getLogger(__name__)

# A closed connection that does not take its last bytes is cut after this.
_LINGER_S = 5.0
# After a pause of the loop this long, silent clients get another moment: their bytes wait in the sockets.
_STALL_TICKS = ticks(2.0)
# How often addresses without recent connects are forgotten.
_FORGET_TICKS = ticks(30.0)


class Core:
    """The parts of one broker, built once; `tick` counts half seconds of the monotonic clock."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: BrokerOptions,
        authenticator: Authenticator | None,
        sink: Sink,
        store: Store,
        counters: Counters,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        private: str = "",
    ) -> None:
        self._loop = loop
        self._monotonic = monotonic
        self._begin = monotonic()
        self._flush_scheduled = False
        self._to_flush: list[ClientWriter] = []
        self._timer: asyncio.TimerHandle | None = None
        self._gone: asyncio.Event | None = None
        self.options = options
        self.authenticator = authenticator
        self.sink = sink
        self.store = store
        # Topics that begin so are the hub's own; empty: there are none.
        self.private = private
        self.now = now
        self.tick = 1
        self.held = False
        self.partial_bytes = 0
        # Shared by every connection that has published nothing yet; stays empty.
        self.no_topics: dict[bytes, TopicEntry] = {}
        self.connections: set[Connection] = set()
        self.counters = counters
        self.subscriptions = Subscriptions()
        self.retainer = Retainer(options, self.counters, store, now)
        self.inbox = Inbox(loop, sink, self.counters, now, self.subscriptions.generations)
        self.outbound = Outbound(options, self.counters, store, now)
        self.wheel = Wheel()
        self.sessions = Sessions(self)
        self.receiving = Receiving(self)
        self.refresh = self.receiving.refresh
        self.subscribing = Subscribing(self, loop)
        self.connecting = Connecting(self)
        self.admission = Admission(loop, options, self.counters, monotonic, self.connecting.admit)

    def begin(self) -> None:
        """Start the tick."""
        self._timer = self._loop.call_later(TICK_S, self._on_tick)

    async def all_gone(self, within_s: float) -> None:
        """Wait until no connection is left, at most so long."""
        self._gone = asyncio.Event()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), within_s)

    def finish(self) -> None:
        """Stop everything that runs by itself."""
        if self._timer is not None:
            self._timer.cancel()
        self.admission.close()
        self.subscribing.close()

    # Called by connections.

    def opened(self, connection: Connection) -> None:
        """A connection was made; whether it is one too many shows here."""
        if len(self.connections) >= self.options.max_connections:
            self.counters.hit("limit_connections", connection.address, "the broker has too many connections")
            connection.state = CLOSED
            connection.abort()
            return
        self.connections.add(connection)
        self.counters.values["connections"] = len(self.connections)
        self.wheel.put(connection, self.tick + ticks(self.options.half_open_s) + 1)

    def handle(self, connection: Connection, packet: Packet) -> None:
        """Any packet of a client. Raises ProtocolError."""
        if isinstance(packet, Connect):
            self.connecting.on_connect(connection, packet)
            return
        session = connection.session
        if connection.state != OPEN or session is None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")
        match packet:
            case Publish():
                self.receiving.on_publish(connection, packet)
            case Ack(kind=kinds.PUBREL):
                self.receiving.on_pubrel(connection, packet)
            case Ack():
                self.outbound.on_ack(session, connection, packet)
            case Ping(answer=False):
                connection.send(PINGRESP_BYTES)
            case Subscribe():
                self.subscribing.on_subscribe(connection, packet)
            case Unsubscribe():
                self.subscribing.on_unsubscribe(connection, packet)
            case Disconnect():
                self._on_disconnect(connection, packet)
            case _:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "a client does not send this packet")

    def refused(self, connection: Connection, error: ProtocolError) -> None:
        """A client broke the rules: tell it and close."""
        cause = "protocol"
        if error.reason == Reason.PACKET_TOO_LARGE:
            cause = "limit"
            self.counters.hit("limit_packet_size", connection.name, str(error))
        else:
            self.counters.hit("protocol_errors", connection.name, str(error))
        if connection.state == NEW and error.reason == Reason.UNSUPPORTED_VERSION:
            connection.send(write_connack(Connack(reason=return_code(error.reason)), kinds.V311))
        connection.end(cause, error.reason, str(error))

    def flush_later(self, connection: ClientWriter) -> None:
        """Write what this connection was sent at the end of the loop iteration."""
        self._to_flush.append(connection)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def ended(self, connection: Connection, cause: str) -> None:
        """A connection was closed: its session goes its own way."""
        self.wheel.put(connection, self.tick + ticks(_LINGER_S))
        session, connection.session = connection.session, None
        if session is None or connection.info is None:
            return
        will, connection.will = connection.will, None
        self.counters.add("disconnects")
        self.sessions.detach(session, will if cause != "stop" else None, connection.info)
        self.sink.client_disconnected(connection.info, cause)

    def lost(self, connection: Connection) -> None:
        """The transport of a connection is gone."""
        if connection.state != CLOSED:
            connection.state = CLOSED
            self.ended(connection, "lost")
        self.wheel.remove(connection)
        self.connections.discard(connection)
        self.counters.values["connections"] = len(self.connections)
        if self._gone is not None and not self.connections:
            self._gone.set()

    # Called by the engine.

    def hold(self, *, held: bool) -> None:
        """Read no further, or again, from clients that send QoS 1 or 2."""
        if held == self.held:
            return
        self.held = held
        count = 0
        for connection in self.connections:
            if connection.guaranteed and connection.state == OPEN:
                count += 1
                if held:
                    connection.pause(HELD)
                else:
                    connection.resume(HELD)
        if held:
            self.counters.add("reads_held")
        _log.info("reading of %d clients with guaranteed messages: %s", count, "held" if held else "resumed")

    def _on_disconnect(self, connection: Connection, packet: Disconnect) -> None:
        session = connection.session
        expiry_s = packet.properties.session_expiry_s
        if expiry_s is not None and session is not None:
            if expiry_s and not session.persistent:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "a session that was to end can not be kept")
            if not expiry_s and session.persistent:
                self.store.session_gone(session)
            self.sessions.set_expiry(session, expiry_s)
        if packet.reason != Reason.DISCONNECT_WITH_WILL:
            connection.will = None
        connection.end("client")

    def _flush(self) -> None:
        self._flush_scheduled = False
        connections, self._to_flush = self._to_flush, []
        for connection in connections:
            connection.flush()

    def _on_tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._on_tick)
        self.on_time()

    def on_time(self) -> None:
        """Look at the clock and do what is due. Runs by itself every half second."""
        before = self.tick
        self.tick = tick = int((self._monotonic() - self._begin) / TICK_S) + 1
        stalled = tick - before > _STALL_TICKS
        for timed in self.wheel.due(tick):
            assert isinstance(timed, Connection)
            self._on_due(timed, tick, stalled=stalled)
        self.sessions.on_tick(tick)
        if tick // _FORGET_TICKS != before // _FORGET_TICKS:
            self.admission.forget_idle()

    def _on_due(self, connection: Connection, tick: int, *, stalled: bool) -> None:
        if connection.state == CLOSED:
            connection.abort()
        elif stalled:
            self.wheel.put(connection, tick + _STALL_TICKS)
        elif connection.state == NEW:
            self.counters.hit("half_open_timeouts", connection.name, "sent no CONNECT")
            connection.end("half_open")
        else:
            if connection.paused:
                connection.last_seen = tick
            deadline = connection.last_seen + connection.keep_ticks
            if deadline > tick:
                self.wheel.put(connection, deadline)
                return
            self.counters.hit("keepalive_timeouts", connection.name, "was silent for 1.5 times its keepalive")
            connection.end("keepalive", Reason.KEEP_ALIVE_TIMEOUT)
