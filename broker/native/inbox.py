"""Gathers received messages of all connections into batches for the sink, and lets their senders know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from broker.engine import Sink
from broker.native.counters import Counters

if TYPE_CHECKING:
    from broker.native.connection import Connection
    from broker.native.session import Session

_log = logging.getLogger(__name__)

# A batch goes out when it has this many messages,
BATCH_MESSAGES = 1024
# or after this time. At 48,000 messages/s of 16,000 connections a loop iteration brings five: to hand them over one
# iteration at a time would cost more than the messages. Nothing beside the commit each 250 ms.
_GATHER_S = 0.004


class ReceivedBatch:
    """Messages received together (`broker.engine.Batch`)."""

    __slots__ = ("_inbox", "_promises", "_receipts", "arrival_us", "guaranteed", "handles", "payloads", "retained")

    def __init__(
        self,
        inbox: Inbox,
        handles: list[object],
        payloads: list[bytes],
        marks: list[int],
        promises: list[tuple[Connection, bytes, int]],
        receipts: list[tuple[Session, int]],
    ) -> None:
        self._inbox = inbox
        self.arrival_us = inbox.arrival_us
        self.handles: Sequence[object] = handles
        self.payloads: Sequence[bytes] = payloads
        guaranteed = [False] * len(handles)
        for index in marks:
            guaranteed[index] = True
        self.guaranteed: Sequence[bool] = guaranteed
        # The hub subscribes to nothing here: every message is news.
        self.retained: Sequence[bool] = ()
        self._promises = promises
        self._receipts = receipts

    def acknowledge(self) -> None:
        """Answer every guaranteed message. A second call does nothing."""
        promises, self._promises = self._promises, []
        receipts, self._receipts = self._receipts, []
        if promises or receipts:
            self._inbox.answer(self, promises, receipts)

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for its acknowledgement."""
        return bool(self._promises or self._receipts)

    def also(self, connection: Connection, data: bytes) -> None:
        """Send this PUBACK with those of the batch."""
        self._promises.append((connection, data, 1))


class Inbox:
    """The open batch. Connections append to its lists directly: this is the hot path.

    `marks` are the indexes of guaranteed messages; `promises` the PUBACKs that wait for the batch (connection, bytes,
    how many); `receipts` the QoS 2 messages whose PUBREC waits for it. `generations` is `Subscriptions.generations`.
    """

    __slots__ = (
        "_counters",
        "_last",
        "_loop",
        "_now",
        "_sink",
        "arrival_us",
        "generations",
        "handles",
        "marks",
        "payloads",
        "promises",
        "receipts",
        "scheduled",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sink: Sink,
        counters: Counters,
        now: Callable[[], float],
        generations: list[int],
    ) -> None:
        self._loop = loop
        self._sink = sink
        self._counters = counters
        self._now = now
        self.generations = generations
        # The newest batch that somebody waits for.
        self._last: ReceivedBatch | None = None
        self.arrival_us = 0
        self.scheduled = False
        self.handles: list[object] = []
        self.payloads: list[bytes] = []
        self.marks: list[int] = []
        self.promises: list[tuple[Connection, bytes, int]] = []
        self.receipts: list[tuple[Session, int]] = []

    def schedule(self) -> None:
        """Send the batch in a moment; its time of arrival is now."""
        self.scheduled = True
        self.arrival_us = int(self._now() * 1e6)
        self._loop.call_later(_GATHER_S, self._on_gathered)

    def _on_gathered(self) -> None:
        self.scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hand the open batch to the sink."""
        handles = self.handles
        if not handles:
            return
        batch = ReceivedBatch(self, handles, self.payloads, self.marks, self.promises, self.receipts)
        values = self._counters.values
        values["batches"] += 1
        values["messages_to_sink"] += len(handles)
        values["messages_received"] += len(handles)
        if batch.waiting:
            self._last = batch
        self.handles = []
        self.payloads = []
        self.marks = []
        self.promises = []
        self.receipts = []
        if self.scheduled:
            self.arrival_us = int(self._now() * 1e6)
        try:
            self._sink.accept(batch)
        except Exception:  # noqa: BLE001 - a foreign sink must not end the connection whose bytes were read last
            # The sink promised not to raise. Without an acknowledgement the senders send again: nothing is lost
            # silently.
            _log.exception("the sink raised; %d messages were not taken", len(batch.handles))

    def answer_in_turn(self, connection: Connection, data: bytes) -> bool:
        """Queue a PUBACK behind those the connection waits for (MQTT-4.6.0-2); False: nothing to queue it behind."""
        if self.handles:
            self.promises.append((connection, data, 1))
            return True
        if self._last is not None:
            self._last.also(connection, data)
            return True
        return False

    def answer(
        self, batch: ReceivedBatch, promises: list[tuple[Connection, bytes, int]], receipts: list[tuple[Session, int]]
    ) -> None:
        """Send the PUBACKs and PUBRECs of a batch."""
        if batch is self._last:
            self._last = None
        total = len(receipts)
        for connection, data, count in promises:
            total += count
            connection.acknowledge(data, count)
        for session, packet_id in receipts:
            received = session.received
            if received is not None and packet_id in received:
                received[packet_id] = True
                if session.connection is not None:
                    session.connection.receipt(packet_id)
        self._counters.values["acknowledged"] += total
