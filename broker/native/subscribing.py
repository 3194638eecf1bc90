"""SUBSCRIBE and UNSUBSCRIBE, and the retained messages that follow a new subscription."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.log_limit import shown
from broker.native.access import may_subscribe
from broker.native.connection import Connection
from broker.native.message import Message
from broker.native.subscriptions import Granted
from broker.packets import Reason, Suback, Subscribe, Subscription, Unsuback, Unsubscribe, encode, kinds
from broker.packets.topics import split_share

if TYPE_CHECKING:
    from broker.native.core import Core
    from broker.native.session import Session

# Retained messages sent in one go: about a millisecond. A console may ask for those of 48,000 modules.
_SLICE = 200
# When every receiver is busy, how long until the next try.
_WAIT_S = 0.02
# A QoS 1 or 2 receiver with so many messages waiting gets its retained messages later.
_QUEUE_ROOM = 50


class _Feed:
    """Retained messages on their way to one connection."""

    __slots__ = ("connection", "granted", "messages")

    def __init__(self, connection: Connection, granted: Granted, messages: Iterator[Message]) -> None:
        self.connection = connection
        self.granted = granted
        self.messages = messages

    @property
    def busy(self) -> bool:
        session = self.connection.session
        waiting = len(session.queue) if session is not None and session.queue else 0
        return self.connection.choked or (self.granted.qos > 0 and waiting >= _QUEUE_ROOM)


class Subscribing:
    """Grants and ends subscriptions."""

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self._loop = loop
        self._feeds: deque[_Feed] = deque()
        self._timer: asyncio.Handle | None = None

    def on_subscribe(self, connection: Connection, packet: Subscribe) -> None:
        """Grant what may be granted, answer, send retained messages."""
        session = connection.session
        assert session is not None
        numbers = packet.properties.subscription_ids
        reasons = bytearray()
        feeds: list[_Feed] = []
        patterns: list[str] = []
        for asked in packet.subscriptions:
            found = self._judge(connection, session, asked, numbers[0] if numbers else 0)
            if isinstance(found, Reason):
                reasons.append(found if connection.version == kinds.V5 else Reason.UNSPECIFIED_ERROR)
                continue
            reasons.append(found.qos)
            patterns.append(found.pattern)
            is_new = self._grant(session, asked.pattern, found)
            if found.group is None and (found.retain_handling == 0 or (found.retain_handling == 1 and is_new)):
                feeds.append(_Feed(connection, found, self._core.retainer.match(found.pattern)))
        if session.persistent:
            self._core.store.session_changed(session)
        connection.send(encode(Suback(packet_id=packet.packet_id, reasons=bytes(reasons)), connection.version))
        for pattern in patterns:
            if connection.info is not None and not connection.closed:
                self._core.sink.client_subscribed(connection.info, pattern, session.held(pattern))
        for feed in feeds:
            self._send(feed)

    def on_unsubscribe(self, connection: Connection, packet: Unsubscribe) -> None:
        """End subscriptions."""
        session = connection.session
        assert session is not None
        reasons = bytearray()
        for pattern in packet.patterns:
            granted = (session.subscriptions or {}).pop(pattern, None)
            if granted is None:
                reasons.append(Reason.NO_SUBSCRIPTION_EXISTED)
                continue
            self._core.subscriptions.remove(session, granted)
            reasons.append(Reason.SUCCESS)
        self._count()
        if session.persistent:
            self._core.store.session_changed(session)
        connection.send(encode(Unsuback(packet_id=packet.packet_id, reasons=bytes(reasons)), connection.version))

    def restore(self, session: Session, written: str, granted: Granted) -> None:
        """Put back what a store held."""
        self._grant(session, written, granted)

    def close(self) -> None:
        """Stop sending retained messages."""
        if self._timer is not None:
            self._timer.cancel()
        self._feeds.clear()

    def _judge(self, connection: Connection, session: Session, asked: Subscription, number: int) -> Granted | Reason:
        core = self._core
        assert connection.info is not None
        split = split_share(asked.pattern)
        if split is None:
            return Reason.TOPIC_FILTER_INVALID
        group, pattern = split
        if asked.pattern in core.options.refuse_subscribe:
            core.counters.add("subscribe_refused")
            return Reason.UNSPECIFIED_ERROR
        if pattern.count("/") >= core.options.max_topic_levels:
            core.counters.hit(
                "limit_topic_levels", connection.name, f"filter {shown(asked.pattern)} has too many levels"
            )
            return Reason.TOPIC_FILTER_INVALID
        if not may_subscribe(connection.info.access, pattern, core.private):
            core.counters.hit("subscribe_denied", connection.name, f"may not subscribe to {shown(asked.pattern)}")
            return Reason.NOT_AUTHORIZED
        has = session.subscriptions or {}
        if asked.pattern not in has and len(has) >= core.options.max_subscriptions:
            core.counters.hit("limit_subscriptions", connection.name, "has too many subscriptions")
            return Reason.QUOTA_EXCEEDED
        return Granted(
            pattern,
            asked.qos,
            asked.no_local,
            asked.retain_as_published,
            asked.retain_handling,
            number,
            group,
        )

    def _grant(self, session: Session, written: str, granted: Granted) -> bool:
        """Whether the session did not have it before."""
        if session.subscriptions is None:
            session.subscriptions = {}
        is_new = written not in session.subscriptions
        session.subscriptions[written] = granted
        self._core.subscriptions.add(session, granted)
        self._count()
        return is_new

    def _count(self) -> None:
        self._core.counters.values["subscriptions"] = self._core.subscriptions.count

    def _send(self, feed: _Feed) -> None:
        """Send a slice; the rest, if any, later."""
        if self._advance(feed):
            self._feeds.append(feed)
            if self._timer is None:
                self._timer = self._loop.call_later(0, self._on_turn)

    def _advance(self, feed: _Feed) -> bool:
        """Whether there may be more."""
        session = feed.connection.session
        granted = feed.granted
        if session is None or feed.connection.closed:
            return False
        numbers = (granted.number,) if granted.number else ()
        for _ in range(_SLICE):
            if feed.busy:
                return True
            message = next(feed.messages, None)
            if message is None:
                return False
            if granted.no_local and message.origin == session.client_id:
                continue
            qos = min(message.qos, granted.qos)
            self._core.outbound.deliver(session, message, qos, retain=True, numbers=numbers)
        return True

    def _on_turn(self) -> None:
        self._timer = None
        waits = True
        for _ in range(len(self._feeds)):
            feed = self._feeds.popleft()
            busy = feed.busy
            if self._advance(feed):
                self._feeds.append(feed)
            if not busy:
                waits = False
                break
        if self._feeds:
            self._timer = self._loop.call_later(_WAIT_S if waits else 0, self._on_turn)
