"""Sends messages to sessions: inflight windows, queues, aliases, redelivery, hand-over of shared messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.native.counters import Counters
from broker.native.message import Message
from broker.native.session import Outgoing, Session
from broker.native.subscriptions import Group, Match
from broker.options import BrokerOptions
from broker.packets import Reason, kinds
from broker.packets.acks import Ack, write_ack

if TYPE_CHECKING:
    from broker.native.connection import Connection
    from broker.native.persistence import Store


class Outbound:
    """The way from a message to its receivers. Everything happens on the loop; nothing waits."""

    def __init__(self, options: BrokerOptions, counters: Counters, store: Store, now: Callable[[], float]) -> None:
        self._options = options
        self._counters = counters
        self._store = store
        self._now = now
        self._number = 0

    def restore(self, session: Session, out: Outgoing) -> None:
        """Put back what a store held, in the order of the numbers."""
        self._number = max(self._number, out.number)
        if out.packet_id:
            if session.inflight is None:
                session.inflight = {}
            session.inflight[out.packet_id] = out
            return
        if session.queue is None:
            session.queue = deque()
        session.queue.append(out)
        session.queued_bytes += out.message.size

    def route(self, message: Message, match: Match) -> None:
        """Send a message to everybody a match names."""
        for target in match.targets:
            if target.no_local and target.session.client_id == message.origin:
                continue
            self.deliver(
                target.session,
                message,
                min(message.qos, target.qos),
                retain=message.retain and target.retain_as_published,
                numbers=target.numbers,
            )
        for group in match.groups:
            self._deliver_shared(group, message)

    def _deliver_shared(self, group: Group, message: Message, qos: int | None = None) -> None:
        picked = group.pick()
        if picked is None:
            self._counters.add("dropped_shared_without_member")
            return
        session, granted = picked
        self.deliver(
            session,
            message,
            min(message.qos if qos is None else qos, granted.qos),
            retain=message.retain and granted.retain_as_published,
            numbers=(granted.number,) if granted.number else (),
            group=group,
        )

    def deliver(
        self,
        session: Session,
        message: Message,
        qos: int,
        *,
        retain: bool = False,
        numbers: tuple[int, ...] = (),
        group: Group | None = None,
    ) -> None:
        """Send to one session now, or queue what may wait, or drop and count."""
        connection = session.connection
        if qos == 0:
            if connection is None:
                return
            if message.on_taken is not None:
                # Without an answer, that it is written is all there is to know.
                message.on_taken()
            if connection.choked:
                self._counters.hit("dropped_slow", session.client_id, "does not take its messages fast enough")
                return
            if retain or numbers or message.expires or connection.alias_maximum:
                self._write(connection, message, 0, 0, retain=retain, numbers=numbers)
                return
            data = message.plain(connection.version)
            if len(data) > connection.send_maximum:
                self._too_large(session)
                return
            self._counters.values["messages_sent"] += 1
            connection.send(data)
            return
        if connection is None and not session.persistent:
            return
        self._number += 1
        out = Outgoing(self._number, message, qos, retain=retain, numbers=numbers, group=group)
        if connection is not None and not connection.choked and not session.window_full:
            kept = self._send(session, connection, out)
        else:
            kept = self._enqueue(session, out)
        if kept and session.persistent:
            self._store.outgoing_changed(session, out)

    def _enqueue(self, session: Session, out: Outgoing) -> bool:
        queue = session.queue
        if queue is None:
            queue = session.queue = deque()
        size = out.message.size
        if (
            len(queue) >= self._options.max_queued_messages
            or session.queued_bytes + size > self._options.max_queued_bytes
        ):
            self._counters.hit("dropped_queue_full", session.client_id, "its queue is full")
            return False
        queue.append(out)
        session.queued_bytes += size
        return True

    def _send(self, session: Session, connection: Connection, out: Outgoing) -> bool:
        """Whether it is on its way; if not, it is forgotten."""
        if session.inflight is None:
            session.inflight = {}
        dup = out.packet_id != 0
        if not dup:
            out.packet_id = session.take_id()
        session.inflight[out.packet_id] = out
        if out.released:
            connection.send(write_ack(Ack(kind=kinds.PUBREL, packet_id=out.packet_id), connection.version))
            return True
        sent = self._write(
            connection, out.message, out.qos, out.packet_id, retain=out.retain, numbers=out.numbers, dup=dup
        )
        if not sent:
            # The client can not take it at any time: forgotten as if it had been delivered (MQTT-3.1.2-25).
            del session.inflight[out.packet_id]
            self._gone(session, out)
        return sent

    def _write(
        self,
        connection: Connection,
        message: Message,
        qos: int,
        packet_id: int,
        *,
        retain: bool,
        numbers: tuple[int, ...],
        dup: bool = False,
    ) -> bool:
        alias, known = 0, False
        if connection.alias_maximum:
            alias, known = connection.alias_for(message.topic)
        data = message.encode(
            connection.version,
            qos,
            packet_id,
            retain=retain,
            dup=dup,
            subscription_ids=numbers,
            alias=alias,
            alias_known=known,
            now=self._now(),
        )
        if len(data) > connection.send_maximum:
            if alias and not known:
                connection.alias_lost(message.topic)
            if connection.session is not None:
                self._too_large(connection.session)
            return False
        self._counters.values["messages_sent"] += 1
        connection.send(data)
        return True

    def _too_large(self, session: Session) -> None:
        self._counters.hit("dropped_too_large", session.client_id, "a message is larger than the client takes")

    def _gone(self, session: Session, out: Outgoing) -> None:
        if session.persistent:
            self._store.outgoing_gone(session, out)

    def pump(self, session: Session) -> None:
        """Send what waits, as far as the client's window and its network allow."""
        connection, queue = session.connection, session.queue
        if connection is None or not queue:
            return
        now = self._now()
        while queue and not connection.choked:
            if session.inflight is not None and len(session.inflight) >= connection.send_window:
                return
            out = queue.popleft()
            session.queued_bytes -= out.message.size
            if out.packet_id == 0 and out.message.expired(now):
                self._counters.add("dropped_expired")
                self._gone(session, out)
                continue
            if self._send(session, connection, out) and session.persistent:
                self._store.outgoing_changed(session, out)
        if not queue:
            session.queue = None

    def resume(self, session: Session) -> None:
        """A client is back: send what was on its way again, in order, then what waited."""
        if session.inflight:
            again = deque(session.inflight.values())
            session.inflight = None
            session.queued_bytes += sum(out.message.size for out in again)
            again.extend(session.queue or ())
            session.queue = again
        self.pump(session)

    def on_ack(self, session: Session, connection: Connection, ack: Ack) -> None:
        """PUBACK, PUBREC or PUBCOMP came from a client."""
        inflight = session.inflight
        out = inflight.get(ack.packet_id) if inflight else None
        if ack.kind == kinds.PUBREC:
            self._on_pubrec(session, connection, ack, out)
            return
        if out is None or inflight is None or out.qos != (1 if ack.kind == kinds.PUBACK else 2):
            return
        if ack.kind == kinds.PUBCOMP and not out.released:
            return
        del inflight[ack.packet_id]
        self._gone(session, out)
        if out.message.on_taken is not None:
            out.message.on_taken()
        if session.queue:
            self.pump(session)

    def _on_pubrec(self, session: Session, connection: Connection, ack: Ack, out: Outgoing | None) -> None:
        if out is None or out.qos != 2:
            reason = Reason.PACKET_ID_NOT_FOUND
            if ack.reason < Reason.UNSPECIFIED_ERROR:
                release = Ack(kind=kinds.PUBREL, packet_id=ack.packet_id, reason=reason)
                connection.send(write_ack(release, connection.version))
            return
        if ack.reason >= Reason.UNSPECIFIED_ERROR:
            assert session.inflight is not None
            del session.inflight[ack.packet_id]
            self._gone(session, out)
            self.pump(session)
            return
        out.released = True
        if session.persistent:
            self._store.outgoing_changed(session, out)
        connection.send(write_ack(Ack(kind=kinds.PUBREL, packet_id=ack.packet_id), connection.version))

    def hand_over(self, session: Session, *, ended: bool) -> None:
        """Give shared messages of a session that is away to other members of their groups.

        Of a session that only lost its connection: what was never sent, if another member is there. Of one that ended:
        also QoS 1 messages without an answer (MQTT-4.8.2-4, -5; QoS 2 may be sent to nobody else).
        """
        moved: list[Outgoing] = []
        if ended:
            moved += [out for out in (session.inflight or {}).values() if out.group is not None and out.qos == 1]
        kept: deque[Outgoing] = deque()
        for out in session.queue or ():
            group = out.group
            if group is not None and out.packet_id == 0 and (ended or _has_other(group, session)):
                moved.append(out)
            else:
                kept.append(out)
        if not moved:
            return
        session.queue = kept or None
        session.queued_bytes = sum(out.message.size for out in kept)
        for out in moved:
            self._gone(session, out)
            if out.group is not None:
                self._deliver_shared(out.group, out.message, out.qos)


def _has_other(group: Group, session: Session) -> bool:
    return any(other is not session and other.connection is not None for other in group.members)
