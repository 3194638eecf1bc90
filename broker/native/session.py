"""What the broker remembers of a client between its packets, and for a persistent session between connections."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.engine import ClientInfo
    from broker.native.connection import Connection
    from broker.native.message import Message
    from broker.native.subscriptions import Granted, Group


class Outgoing:
    """One QoS 1 or 2 message on its way to one session.

    `packet_id` is 0 until it was sent once; `released` is true when PUBREC has come (PUBREL is to be answered).
    `number` orders the messages of all sessions and survives restarts. `group`: it came by this shared subscription.
    """

    __slots__ = ("group", "message", "number", "numbers", "packet_id", "qos", "released", "retain", "stored")

    def __init__(
        self,
        number: int,
        message: Message,
        qos: int,
        *,
        retain: bool = False,
        numbers: tuple[int, ...] = (),
        group: Group | None = None,
    ) -> None:
        self.number = number
        self.message = message
        self.qos = qos
        self.retain = retain
        self.numbers = numbers
        self.group = group
        self.packet_id = 0
        self.released = False
        # Whether the store may have it.
        self.stored = False


class PendingWill:
    """A will that waits, and who left it."""

    __slots__ = ("info", "message")

    def __init__(self, message: Message, info: ClientInfo) -> None:
        self.message = message
        self.info = info


class Session:
    """A client's session. Containers are made when first needed: most modules need none.

    `expiry_s` is how long it outlives its connection (0: not at all). `received` holds the packet ids of QoS 2 messages
    that came and were not released yet; the value is true once PUBREC may be sent. `wheel_tick` belongs to the wheel.
    """

    __slots__ = (
        "client_id",
        "connection",
        "expires_tick",
        "expiry_s",
        "inflight",
        "next_id",
        "queue",
        "queued_bytes",
        "received",
        "subject",
        "subscriptions",
        "wheel_tick",
        "will",
        "will_tick",
    )

    def __init__(self, client_id: str, subject: str) -> None:
        self.client_id = client_id
        self.subject = subject
        self.connection: Connection | None = None
        self.expiry_s = 0
        self.expires_tick = 0
        self.subscriptions: dict[str, Granted] | None = None
        self.inflight: dict[int, Outgoing] | None = None
        self.queue: deque[Outgoing] | None = None
        self.queued_bytes = 0
        self.next_id = 0
        self.received: dict[int, bool] | None = None
        # A will that waits for the client's return, and the tick at which it is published.
        self.will: PendingWill | None = None
        self.will_tick = 0
        self.wheel_tick = 0

    @property
    def persistent(self) -> bool:
        """Whether it outlives its connection."""
        return self.expiry_s > 0

    @property
    def window_full(self) -> bool:
        """Whether a further QoS 1 or 2 message would have to wait."""
        connection = self.connection
        if self.queue:
            return True
        return connection is None or (self.inflight is not None and len(self.inflight) >= connection.send_window)

    def held(self, topic: str) -> list[bytes]:
        """Payloads of the messages of a topic that were not answered yet."""
        waiting = (*(self.inflight or {}).values(), *(self.queue or ()))
        return [out.message.payload for out in waiting if out.message.topic == topic]

    def take_id(self) -> int:
        """A packet id that is not in use."""
        inflight = self.inflight or {}
        while True:
            self.next_id = self.next_id % 65_535 + 1
            if self.next_id not in inflight:
                return self.next_id
