"""One client's connection: bytes in, bytes out. The hot path of the whole hub is `Connection.data_received`."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from broker.engine import ClientInfo
from broker.native.client_writer import ClientWriter
from broker.native.inbox import BATCH_MESSAGES
from broker.native.message import Message
from broker.native.subscriptions import NOBODY
from broker.native.topic_entry import TopicEntry
from broker.options import Listener
from broker.packets import ProtocolError, Reason, kinds
from broker.packets.acks import Ack, write_ack
from broker.packets.connect import Will
from broker.packets.control import Disconnect, write_disconnect
from broker.packets.properties import NO_PROPERTIES, Properties
from broker.packets.stream import decode, read_header

if TYPE_CHECKING:
    from broker.native.core import Core
    from broker.native.session import Session

# States. NEW: no CONNECT yet. WAITING: CONNECT is in the storm queue. OPEN: accepted. CLOSED: ended by either side.
NEW: Final = 0
WAITING: Final = 1
OPEN: Final = 2
CLOSED: Final = 3

# Reasons not to read on.
HELD: Final = 1  # the sink takes no more guaranteed messages
WINDOW: Final = 2  # too many messages of this client wait for their answer
ADMISSION: Final = 4  # the CONNECT waits

# First bytes of PUBLISH packets that the fast path takes.
_QOS_0: Final = kinds.PUBLISH << 4
_QOS_1: Final = (_QOS_0 | 2, _QOS_0 | 2 | 8)
_PUBACK: Final = bytes((kinds.PUBACK << 4, 2))
_NO_ID: Final = b"\0\0"


class _Discard(asyncio.Protocol):
    """Reads what an ended client still sends, for nobody."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


class Connection(ClientWriter, asyncio.Protocol):
    """The protocol object of one connection.

    Small on purpose: 16,000 of them are idle most of the time. `last_seen` is the tick of the last byte received,
    `unanswered` the QoS 1 and 2 messages that count against the client's window.
    """

    __slots__ = (
        "_inbox",
        "_maximum",
        "_need",
        "_partial",
        "_paused",
        "address",
        "aliases_in",
        "guaranteed",
        "info",
        "keep_ticks",
        "last_seen",
        "listener",
        "problem_information",
        "state",
        "topics",
        "unanswered",
        "version",
        "wheel_tick",
        "will",
    )

    def __init__(self, core: Core, listener: Listener) -> None:
        super().__init__(core)
        self._inbox = core.inbox
        self.listener = listener
        self.state = NEW
        self.version = kinds.V311
        self.address = ""
        self.info: ClientInfo | None = None
        self.topics: dict[bytes, TopicEntry] = core.no_topics
        self.last_seen = core.tick
        self.keep_ticks = 0
        self.wheel_tick = 0
        self._partial: bytearray | None = None
        self._need = 0
        self._maximum = core.options.max_connect_size
        self._paused = 0
        self.unanswered = 0
        self.guaranteed = False
        self.will: Will | None = None
        self.aliases_in: dict[int, str] | None = None
        self.problem_information = True

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a broker that is full says so by closing."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._core.opened(self)

    def data_received(self, data: bytes) -> None:
        """Take every whole packet of what came. Repeated QoS 0 and 1 PUBLISH packets are handled right here."""
        self.last_seen = self._core.tick
        if self._partial is not None:
            joined = self._join(data)
            if joined is None:
                return
            data = joined
        inbox = self._inbox
        handles = inbox.handles
        payloads = inbox.payloads
        generations = inbox.generations
        topics = self.topics
        five = self.version == 5
        maximum = self._maximum
        acks: list[bytes] | None = None
        pos = 0
        size = len(data)
        while size - pos > 1:
            first = data[pos]
            length = data[pos + 1]
            start = pos + 2
            if length > 127:
                if start < size and 0 < data[start] < 128:
                    length += (data[start] << 7) - 128
                    start += 1
                else:
                    length = size
            end = start + length
            if end > size or length > maximum:
                try:
                    found = read_header(data, pos, size, maximum)
                except ProtocolError as error:
                    self._core.refused(self, error)
                    pos = size
                    break
                if isinstance(found, int):
                    self._need = found
                    break
                start, end = found
                length = end - start
            if first == _QOS_0 and length > 2:
                body = start + 2 + (data[start] << 8) + data[start + 1]
                entry = topics.get(data[start + 2 : body])
                if entry is not None and body < end and not (five and data[body]):
                    if five:
                        body += 1
                    payload = data[body:end]
                    if entry.generation != generations[entry.bucket]:
                        self._core.refresh(entry)
                    if entry.match is not NOBODY:
                        self._route(entry, payload, 0)
                    if entry.handle is not None:
                        handles.append(entry.handle)
                        payloads.append(payload)
                    else:
                        self._core.counters.values["messages_received"] += 1
                    pos = end
                    continue
            elif first in _QOS_1 and length > 4:
                body = start + 2 + (data[start] << 8) + data[start + 1]
                entry = topics.get(data[start + 2 : body])
                body += 2
                if entry is not None and entry.handle is not None and body < end and not (five and data[body]):
                    packet_id = data[body - 2 : body]
                    if packet_id != _NO_ID:
                        if five:
                            body += 1
                        payload = data[body:end]
                        if entry.generation != generations[entry.bucket]:
                            self._core.refresh(entry)
                        if entry.match is not NOBODY:
                            self._route(entry, payload, 1)
                        inbox.marks.append(len(handles))
                        handles.append(entry.handle)
                        payloads.append(payload)
                        if acks is None:
                            acks = []
                        acks.append(_PUBACK)
                        acks.append(packet_id)
                        pos = end
                        continue
            if acks is not None:
                self._promise(acks)
                acks = None
            if not self._slow(first, data, start, end):
                # Closed: the rest is nobody's. Waiting: it comes after the CONNECT.
                pos = size if self.state == CLOSED else end
                self._need = 0
                break
            # Anything may have happened: a batch may be closed, the topics forgotten, the version known.
            handles = inbox.handles
            payloads = inbox.payloads
            topics = self.topics
            five = self.version == 5
            maximum = self._maximum
            pos = end
        if acks is not None:
            self._promise(acks)
        if pos < size:
            self._keep(data, pos)
        if handles:
            if not inbox.scheduled:
                inbox.schedule()
            elif len(handles) >= BATCH_MESSAGES:
                inbox.flush()

    def eof_received(self) -> None:
        """The client will send no more: close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, from either side."""
        del exc
        self._drop_partial()
        self._core.lost(self)
        self._transport = None
        self._out = None

    # What the broker calls.

    @property
    def name(self) -> str:
        """How logs name this client: its id once known, its address before."""
        return self.info.client_id if self.info is not None else self.address

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.state == CLOSED

    def opened(self, info: ClientInfo, session: Session) -> None:
        """The client was accepted. Called before CONNACK is sent."""
        self.info = info
        self.session = session
        self.topics = {}
        self._maximum = self._core.options.max_packet_size
        self.state = OPEN

    def end(self, cause: str, reason: Reason | None = None, text: str = "") -> None:
        """Close, with a DISCONNECT where the client understands one; `cause` is what the sink hears."""
        if self.state == CLOSED:
            return
        if reason is not None and self.state == OPEN and self.version == kinds.V5:
            properties = NO_PROPERTIES
            if text and self.problem_information:
                properties = Properties(reason_string=text)
            self.send(write_disconnect(Disconnect(reason=reason, properties=properties), self.version))
        self.state = CLOSED
        self.flush()
        self._drop_partial()
        self._core.ended(self, cause)
        transport = self._transport
        if transport is None:
            return
        if (reason is None and cause != "refused") or cause == "stop" or not transport.can_write_eof():
            transport.close()
            return
        # To close while the client still sends would cut off what it was just told: the system answers with a reset.
        # So only this direction ends; the rest is thrown away until the client closes, or `abort` comes.
        transport.set_protocol(_Discard(self))
        if self._paused:
            transport.resume_reading()
        transport.write_eof()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self, why: int) -> None:
        """Read no further until `resume` was called for each reason."""
        if not self._paused and self._transport is not None and self.state != CLOSED:
            self._transport.pause_reading()
        self._paused |= why

    def resume(self, why: int) -> None:
        """This reason not to read is gone."""
        if not self._paused & why:
            return
        self._paused &= ~why
        if not self._paused and self._transport is not None and self.state != CLOSED:
            # Silence while nobody listened does not count.
            self.last_seen = self._core.tick
            self._transport.resume_reading()

    @property
    def paused(self) -> bool:
        """Whether reading is paused."""
        return self._paused != 0

    def go_on(self) -> None:
        """Handle what came after a CONNECT that waited."""
        if self._partial is not None and self.state == OPEN:
            self._need = 0
            self.data_received(b"")

    def wait_for_admission(self) -> None:
        """The CONNECT is in the storm queue."""
        self.state = WAITING
        self._partial = bytearray()
        self.pause(ADMISSION)

    def acknowledge(self, data: bytes, count: int) -> None:
        """PUBACKs whose messages are safe now."""
        if self.state != OPEN:
            return
        self.send(data)
        self.answered(count)

    def receipt(self, packet_id: int) -> None:
        """The PUBREC of a message that is safe now."""
        if self.state != OPEN:
            return
        self.send(write_ack(Ack(kind=kinds.PUBREC, packet_id=packet_id), self.version))
        # In 5.0 the message counts until PUBCOMP. In 3.1.1 only what waits for us may stop the reading: the PUBREL that
        # ends it has to come in.
        if self.version != kinds.V5:
            self.answered(1)

    def answered(self, count: int) -> None:
        """So many messages less wait for their answer."""
        self.unanswered = max(0, self.unanswered - count)
        if self._paused & WINDOW and self.unanswered <= self._core.options.receive_maximum // 2:
            self.resume(WINDOW)

    def took_guaranteed(self, count: int) -> None:
        """So many QoS 1 or 2 messages came. Raises ProtocolError over the window of a 5.0 client."""
        self.unanswered += count
        if not self.guaranteed:
            self.guaranteed = True
            if self._core.held:
                self.pause(HELD)
        if self.unanswered > self._core.options.receive_maximum:
            if self.version == kinds.V5:
                self._core.counters.add("limit_receive_maximum")
                raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "receive maximum exceeded")
            if not self._paused & WINDOW:
                self._core.counters.hit("limit_receive_maximum", self.name, "has to wait for its acknowledgements")
                self.pause(WINDOW)

    def socket_keepalive(self) -> None:
        """Let the system look after a client that announced no keepalive."""
        sock: Any = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    # Helpers of data_received.

    def _route(self, entry: TopicEntry, payload: bytes, qos: int) -> None:
        assert self.info is not None
        message = Message(entry.topic, payload, qos=qos, origin=self.info.client_id)
        self._core.outbound.route(message, entry.match)

    def _promise(self, acks: list[bytes]) -> None:
        self._inbox.promises.append((self, b"".join(acks), len(acks) // 2))
        try:
            self.took_guaranteed(len(acks) // 2)
        except ProtocolError as error:
            self._core.refused(self, error)

    def _slow(self, first: int, data: bytes, start: int, end: int) -> bool:
        """Handle any packet; whether to go on with the next."""
        if self.state == CLOSED:
            return False
        try:
            packet = decode(first, data, start, end, self.version)
            self._core.handle(self, packet)
        except ProtocolError as error:
            self._core.refused(self, error)
            return False
        return self.state == OPEN

    def _join(self, data: bytes) -> bytes | None:
        partial = self._partial
        if partial is None or self.state == CLOSED:
            return None
        if self.state == WAITING or len(partial) + len(data) < self._need:
            partial += data
            self._account(len(data))
            return None
        self._partial = None
        self._account(-len(partial))
        return b"".join((partial, data))

    def _keep(self, data: bytes, pos: int) -> None:
        self._partial = bytearray(data[pos:])
        self._account(len(self._partial))
        if not self._need:
            self._need = 2

    def _account(self, size: int) -> None:
        core = self._core
        core.partial_bytes += size
        if size > 0 and core.partial_bytes > core.options.max_partial_bytes:
            core.counters.hit("limit_partial_bytes", self.name, "incomplete packets take too much memory")
            self.end("limit", Reason.QUOTA_EXCEEDED)

    def _drop_partial(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            self._core.partial_bytes -= len(partial)
