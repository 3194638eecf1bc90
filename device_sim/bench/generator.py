"""The load generator: thousands of connections on raw sockets in one thread, driven by a schedule."""

from __future__ import annotations

import collections
import dataclasses
import errno
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable

from device_sim.bench import wire
from device_sim.bench.connection import Connection, Due, State, Unacknowledged, refuse
from device_sim.bench.histogram import Histogram
from device_sim.bench.payload import Template
from device_sim.bench.plan import Plan

_WOULD_BLOCK = (BlockingIOError, *wire.TLS_WOULD_BLOCK)
_RECEIVE = 65536
# A connection that catches up sends this many readings at once: about half of a small socket buffer.
_CATCH_UP = 32
# While the hub is down (refuses), one probe per this time is enough; more would take its CPU while it starts.
_REFUSED_PAUSE_S = 0.25
# A connection attempt without answer for so long is given up and begun again: an overflown backlog drops SYNs.
_ATTEMPT_S = 15.0
# From one address the kernel needs 150 us to find a free port once 10,000 are taken; modules have one each anyway.
_PER_SOURCE = 500
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python has no name for it
_PUBACK = 0x4002
_OPENING = (State.TCP, State.TLS)
# CONNACK codes that trying again will not change: bad user name or password, not authorized.
_FINAL_REFUSALS = (4, 5)


@dataclasses.dataclass(slots=True)
class Tally:
    """Counters of everything since the start of the process."""

    acked: int = 0
    disconnected: int = 0
    reconnects: int = 0
    retries: int = 0
    resent: int = 0
    acks_out_of_order: int = 0
    refused: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)


class Generator:
    """Owns the connections. `turn` does what is to do on the sockets; the phases (`phases.py`) call it."""

    def __init__(self, plan: Plan, selector: selectors.BaseSelector) -> None:
        self.plan = plan
        self.template = Template.of_json(plan.payload.encode())
        self.connections = [Connection(number, plan) for number in range(len(plan.credentials))]
        self.selector = selector
        self.online = 0
        self.tally = Tally()
        self.latency = Histogram()
        self.qos = 0
        self.heads: list[bytes] = []
        self.sends: list[Callable[[bytes], int]] = [refuse] * len(self.connections)
        """How each connection sends now; `refuse` while it is blocked or down, so that the fast path asks nothing."""
        self.finishing = False
        """From now on only connections that still owe something are opened again."""
        self.given_up = 0
        """Connections whose credential the hub refuses."""
        self._to_open: collections.deque[Connection] = collections.deque()
        self._opening: collections.OrderedDict[Connection, float] = collections.OrderedDict()
        """Connections under way, oldest first, and since when; a plain dict finds its oldest only past all deleted."""
        self._open_after = 0.0
        self._turn_to_open = 0.0
        """When the next connection may begin by `Plan.connect_rate`."""
        self._tls: ssl.SSLContext | None = None
        if plan.ca_file:
            self._tls = ssl.create_default_context(cafile=plan.ca_file)
            # The CA is the hub's own, given by file; modules know it by that, not by a host name.
            self._tls.check_hostname = False
        # Linux answers on all of 127.0.0.0/8.
        self._many_sources = sys.platform == "linux" and plan.host.startswith("127.")
        self._family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
        self.set_qos(0)

    # -- what the phases ask for

    def set_qos(self, qos: int) -> None:
        """Prepare everything before the payload for each connection. Nothing may be owed or in flight."""
        self.qos = qos
        size = self.template.size
        self.heads = [wire.publish_head(connection.topic, size, qos) for connection in self.connections]

    def open_later(self, connection: Connection) -> None:
        """Queue a connection to be opened as `Plan.concurrency` allows."""
        self._to_open.append(connection)

    def turn(self, timeout_s: float) -> None:
        """Open what is queued, then wait at most so long for sockets, and serve them."""
        if self._to_open or self._opening:
            self._open_queued()
        for key, events in self.selector.select(max(0.0, timeout_s)):
            connection = key.data
            if not isinstance(connection, Connection):
                key.data()
            elif connection.state in _OPENING:
                self._go_on_opening(connection)
            else:
                if events & selectors.EVENT_READ:
                    self._read(connection)
                if events & selectors.EVENT_WRITE and connection.sock is not None:
                    self._writable(connection)

    def hold(self, connection: Connection, due: list[Due], *, open_loop: bool) -> None:
        """Readings that could not be sent at once: drop them, or owe them."""
        if open_loop:
            for reading in due:
                connection.drop(reading)
        else:
            connection.owed.extend(due)

    def push(self, connection: Connection) -> None:
        """Send what a connection owes, as far as its window and socket let it."""
        owed = connection.owed
        while owed and not connection.pending and connection.state is State.ONLINE and not connection.reopen:
            room = min(len(owed), _CATCH_UP)
            if self.qos:
                room = min(room, self.plan.window - len(connection.inflight))
            if room <= 0:
                return
            fill = self.template.fill
            batch = [owed[index] for index in range(room)]
            bodies = [fill(due.time_ms, due.seq) for due in batch]
            for _ in batch:
                owed.popleft()
            self.tally.resent += sum(due.seq <= connection.highest_sent for due in batch)
            if self.qos:
                self.send_guaranteed(connection, batch, bodies)
            else:
                connection.highest_sent = max(connection.highest_sent, batch[-1].seq)
                head = self.heads[connection.number]
                self.write(connection, head + head.join(bodies))

    def send_guaranteed(self, connection: Connection, batch: list[Due], bodies: list[bytes]) -> None:
        """Send QoS 1 readings, which the window must allow; each is in flight from now on."""
        head = self.heads[connection.number]
        now = time.perf_counter()
        data = b""
        for due, body in zip(batch, bodies, strict=True):
            packet_id = connection.take_packet_id()
            data += head + packet_id.to_bytes(2, "big") + body
            connection.inflight.append(Unacknowledged(packet_id, due, now))
        connection.highest_sent = max(connection.highest_sent, batch[-1].seq)
        self.write(connection, data)

    def write(self, connection: Connection, data: bytes) -> None:
        """Send bytes; what the socket does not take waits in `pending`, and the connection with it."""
        assert connection.sock is not None
        try:
            taken = connection.sock.send(data)
        except _WOULD_BLOCK:
            taken = 0
        except OSError:
            self.lost(connection)
            return
        if taken < len(data):
            self.block(connection, data[taken:])

    def block(self, connection: Connection, rest: bytes) -> None:
        """The socket is full: go on when it says so."""
        assert connection.sock is not None
        connection.pending = rest
        self.sends[connection.number] = refuse
        self.selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def close(self, connection: Connection) -> None:
        """Disconnect in good order: nothing is pending; the end of stream from the other side completes it."""
        assert connection.sock is not None
        self.sends[connection.number] = refuse
        connection.state = State.CLOSING
        self.online -= 1
        try:
            connection.sock.send(wire.DISCONNECT)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.lost(connection)

    def close_and_reopen(self, connection: Connection) -> None:
        """Close in good order once nothing is in flight, send nothing new until then, and open again."""
        connection.reopen = True
        self.sends[connection.number] = refuse
        if not connection.inflight:
            self.close(connection)

    def lost(self, connection: Connection) -> None:
        """A connection ended: in good order, or because the other side ended it."""
        if connection.state is State.OFFLINE:
            return
        state = connection.state
        self.sends[connection.number] = refuse
        self._opening.pop(connection, None)
        if connection.sock is not None:
            self.selector.unregister(connection.sock)
            connection.sock.close()
            connection.sock = None
        connection.state = State.OFFLINE
        if state is State.ONLINE:
            self.online -= 1
            self.tally.disconnected += 1
        if connection.inflight:
            connection.recall()
        connection.pending = connection.received = b""
        if state not in (State.ONLINE, State.CLOSING):
            # A failed attempt is made again; `Connect` has a deadline.
            self.tally.retries += 1
            self.open_later(connection)
        elif connection.reopen or (state is State.ONLINE and self.plan.reconnect):
            connection.reopen = False
            self.open_later(connection)

    def restore(self, connection: Connection) -> None:
        """Let the fast path send on this connection again, when nothing stands before it."""
        if connection.state is State.ONLINE and not (connection.pending or connection.owed or connection.reopen):
            assert connection.sock is not None
            self.sends[connection.number] = connection.sock.send

    # -- opening

    def _open_queued(self) -> None:
        now = time.perf_counter()
        while self._opening:
            connection, since = next(iter(self._opening.items()))
            if now - since < _ATTEMPT_S:
                break
            self.lost(connection)
        while self._to_open and len(self._opening) < self.plan.concurrency and now >= self._open_after:
            if self.plan.connect_rate:
                # What a busy moment has missed is made good within a tenth of a second, and no more than that.
                self._turn_to_open = max(self._turn_to_open, now - 0.1)
                if now < self._turn_to_open:
                    break
                self._turn_to_open += 1 / self.plan.connect_rate
            connection = self._to_open.popleft()
            if not self.finishing or connection.owed:
                self._open(connection, now)

    def _open(self, connection: Connection, now: float) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.plan.send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.plan.send_buffer)
        if self._many_sources:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.1.{1 + connection.number // _PER_SOURCE % 250}", 0))
        connection.sock = sock
        connection.state = State.TCP
        code = sock.connect_ex((self.plan.host, self.plan.port))
        self._opening[connection] = now
        self.selector.register(sock, selectors.EVENT_WRITE, connection)
        if code not in (0, errno.EINPROGRESS):
            self._refused(connection)

    def _refused(self, connection: Connection) -> None:
        self._open_after = time.perf_counter() + _REFUSED_PAUSE_S
        self.lost(connection)

    def _go_on_opening(self, connection: Connection) -> None:
        sock = connection.sock
        assert sock is not None
        if connection.state is State.TCP:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._refused(connection)
                return
            if self._tls is None:
                self._send_connect(connection)
                return
            self.selector.unregister(sock)
            connection.sock = self._tls.wrap_socket(sock, do_handshake_on_connect=False)
            connection.state = State.TLS
            self.selector.register(connection.sock, selectors.EVENT_WRITE, connection)
            sock = connection.sock
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self.selector.modify(sock, selectors.EVENT_READ, connection)
        except ssl.SSLWantWriteError:
            self.selector.modify(sock, selectors.EVENT_WRITE, connection)
        except OSError:
            self.lost(connection)
        else:
            self._send_connect(connection)

    def _send_connect(self, connection: Connection) -> None:
        assert connection.sock is not None
        connection.state = State.CONNECT
        self.selector.modify(connection.sock, selectors.EVENT_READ, connection)
        username = connection.client_id if connection.password else ""
        packet = wire.connect(connection.client_id, username, connection.password, self.plan.keep_alive_s)
        self.write(connection, packet)

    def _connack(self, connection: Connection, code: int) -> None:
        if code:
            self.tally.refused[code] += 1
            self._refused(connection)
            if code in _FINAL_REFUSALS:
                self._to_open.remove(connection)
                self.given_up += 1
            return
        del self._opening[connection]
        self.tally.reconnects += connection.connected_before
        connection.connected_before = True
        connection.state = State.ONLINE
        self.online += 1
        self.push(connection)
        self.restore(connection)

    # -- traffic

    def _read(self, connection: Connection) -> None:
        sock = connection.sock
        assert sock is not None
        while True:
            try:
                data = sock.recv(_RECEIVE)
            except _WOULD_BLOCK:
                return
            except OSError:
                data = b""
            if not data:
                self.lost(connection)
                return
            # Once closing, only the end of the stream matters; a TLS socket shut down for writing gives raw records.
            if connection.state is not State.CLOSING:
                self._received(connection, data)
            # A TLS socket may hold decrypted bytes that no selector reports.
            if self._tls is None or connection.sock is None:
                return

    def _received(self, connection: Connection, data: bytes) -> None:
        if not connection.received and data[0] == wire.PUBACK_TYPE and len(data) % 4 == 0:
            # Nearly always: nothing but acknowledgements, which a commit lets go together.
            packets = list(struct.iter_unpack(">HH", data))
            if all(kind == _PUBACK for kind, _ in packets):
                self._pubacks(connection, [packet_id for _, packet_id in packets])
                return
        packets_, connection.received = wire.split(connection.received + data)
        for first, body in packets_:
            if first == wire.CONNACK_TYPE and connection.state is State.CONNECT:
                self._connack(connection, body[1])
            elif first == wire.PUBACK_TYPE:
                self._pubacks(connection, [int.from_bytes(body[:2], "big")])

    def _pubacks(self, connection: Connection, identifiers: list[int]) -> None:
        now = time.perf_counter()
        for packet_id in identifiers:
            in_order = bool(connection.inflight) and connection.inflight[0].packet_id == packet_id
            message = connection.acknowledge(packet_id)
            if message is None:
                continue
            self.tally.acked += 1
            self.tally.acks_out_of_order += not in_order
            self.latency.add((now - message.sent_at) * 1000)
        if connection.reopen and not connection.inflight and connection.state is State.ONLINE:
            self.close(connection)
        elif connection.owed:
            self.push(connection)

    def _writable(self, connection: Connection) -> None:
        assert connection.sock is not None
        rest, connection.pending = connection.pending, b""
        self.selector.modify(connection.sock, selectors.EVENT_READ, connection)
        if rest:
            self.write(connection, rest)
        if not connection.pending and connection.state is State.ONLINE:
            self.push(connection)
            self.restore(connection)
