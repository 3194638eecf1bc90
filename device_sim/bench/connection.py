"""One simulated module's connection: what it still owes, what awaits an acknowledgement, what was never sent."""

from __future__ import annotations

import collections
import enum
import socket
from typing import NamedTuple, NoReturn

from device_sim.bench.plan import Plan
from device_sim.bench.ranges import Ranges


class State(enum.Enum):
    """How far a connection is."""

    OFFLINE = enum.auto()
    TCP = enum.auto()
    """The SYN is out."""
    TLS = enum.auto()
    """In the TLS handshake."""
    CONNECT = enum.auto()
    """CONNECT is out, CONNACK is not here."""
    ONLINE = enum.auto()
    CLOSING = enum.auto()
    """DISCONNECT is out; the end of the stream is not here."""


class Due(NamedTuple):
    """A reading that waits to be sent."""

    seq: int
    time_ms: int


class Unacknowledged(NamedTuple):
    """A QoS 1 reading on its way."""

    packet_id: int
    due: Due
    sent_at: float


def refuse(_data: bytes) -> NoReturn:
    """Stand in for `send` of a connection that can not send now."""
    raise BlockingIOError


class Connection:
    """State of one connection; the generator moves it, this only keeps the books."""

    __slots__ = (
        "acked",
        "client_id",
        "connected_before",
        "highest_sent",
        "inflight",
        "next_packet_id",
        "number",
        "owed",
        "password",
        "pending",
        "received",
        "reopen",
        "sock",
        "state",
        "topic",
        "unsent",
        "unsent_count",
    )

    def __init__(self, number: int, plan: Plan) -> None:
        serial, secret = plan.credentials[number]
        self.number = number
        self.client_id = serial
        self.password = secret
        self.topic = plan.topic.format(serial=serial)
        self.sock: socket.socket | None = None
        self.state = State.OFFLINE
        self.received = b""
        self.pending = b""
        """The rest of a send that the socket took only in part."""
        self.owed: collections.deque[Due] = collections.deque()
        self.inflight: collections.deque[Unacknowledged] = collections.deque()
        self.next_packet_id = 1
        self.highest_sent = -1
        """Sequence number; what is sent again is not above it."""
        self.unsent = Ranges()
        self.unsent_count = 0
        self.acked = Ranges()
        self.connected_before = False
        self.reopen = False
        """Open it again when it has closed (churn)."""

    def drop(self, due: Due) -> None:
        """A reading that will never be sent."""
        self.unsent.add(due.seq)
        self.unsent_count += 1

    def take_packet_id(self) -> int:
        """The next packet identifier, 1 to 65535 and round again: far more than any window."""
        taken = self.next_packet_id
        self.next_packet_id = taken % 0xFFFF + 1
        return taken

    def acknowledge(self, packet_id: int) -> Unacknowledged | None:
        """Settle a QoS 1 message; None when it is not (or no longer) in flight."""
        inflight = self.inflight
        if inflight and inflight[0].packet_id == packet_id:
            message = inflight.popleft()
        else:
            found = next((message for message in inflight if message.packet_id == packet_id), None)
            if found is None:
                return None
            inflight.remove(found)
            message = found
        self.acked.add(message.due.seq)
        return message

    def recall(self) -> int:
        """After a lost connection: owe again what was not acknowledged, oldest first. How many there are."""
        count = len(self.inflight)
        self.owed.extendleft(message.due for message in reversed(self.inflight))
        self.inflight.clear()
        self.pending = b""
        self.received = b""
        return count
