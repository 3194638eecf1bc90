"""PUBLISH and PUBREL from clients: everything the fast path of a connection does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine import ClientInfo
from broker.log_limit import shown
from broker.native.access import may_publish
from broker.native.connection import Connection
from broker.native.message import Message, forwarded
from broker.native.subscriptions import bucket_of
from broker.native.topic_entry import TopicEntry
from broker.packets import Ack, ProtocolError, Publish, Reason, kinds
from broker.packets.acks import write_ack

if TYPE_CHECKING:
    from broker.native.core import Core
    from broker.native.session import Session

# Topics a connection may have ready. A gateway has hundreds; a client with ever new topics starts again from none.
_KEPT_TOPICS = 4096


class Receiving:
    """Takes messages in: access, aliases, retaining, routing, the sink, acknowledgements."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_publish(self, connection: Connection, packet: Publish) -> None:
        """A PUBLISH of any kind. Raises ProtocolError."""
        core = self._core
        session = connection.session
        assert session is not None
        topic = self._resolve_alias(connection, packet)
        if packet.qos == 2 and self._is_repeated(connection, session, packet.packet_id):
            return
        entry = self._entry(connection, topic)
        if entry is None:
            self._refuse(connection, session, packet)
            return
        if packet.retain or entry.match.targets or entry.match.groups:
            message = self._message(connection, topic, packet)
            if packet.retain:
                core.retainer.keep(message, connection.name)
            core.outbound.route(message, entry.match)
        if entry.handle is not None:
            self._to_sink(connection, session, entry.handle, packet)
            return
        core.counters.values["messages_received"] += 1
        if packet.qos == 1:
            data = write_ack(Ack(kind=kinds.PUBACK, packet_id=packet.packet_id), connection.version)
            if connection.unanswered and core.inbox.answer_in_turn(connection, data):
                connection.took_guaranteed(1)
            else:
                connection.send(data)
        elif packet.qos == 2:
            self._remember(session, packet.packet_id, safe=True)
            connection.send(write_ack(Ack(kind=kinds.PUBREC, packet_id=packet.packet_id), connection.version))
            if connection.version == kinds.V5:
                connection.took_guaranteed(1)

    def on_pubrel(self, connection: Connection, packet: Ack) -> None:
        """The end of a QoS 2 message."""
        session = connection.session
        assert session is not None
        received = session.received
        reason = Reason.SUCCESS
        if received is None or packet.packet_id not in received:
            reason = Reason.PACKET_ID_NOT_FOUND
        else:
            del received[packet.packet_id]
            if not received:
                session.received = None
            if session.persistent:
                self._core.store.session_changed(session)
            if connection.version == kinds.V5:
                connection.answered(1)
        connection.send(
            write_ack(Ack(kind=kinds.PUBCOMP, packet_id=packet.packet_id, reason=reason), connection.version)
        )

    def publish_will(self, message: Message, info: ClientInfo) -> None:
        """A will's time has come: it goes the way of any message of its client, if the client may publish it."""
        core = self._core
        if not may_publish(info.access, message.topic, core.private):
            core.counters.hit("publish_denied", info.client_id, f"may not publish its will to {shown(message.topic)}")
            return
        core.counters.add("wills_published")
        handle = core.sink.open_topic(info, message.topic)
        if message.retain:
            core.retainer.keep(message, info.client_id)
        core.outbound.route(message, core.subscriptions.match(message.topic))
        if handle is not None:
            inbox = core.inbox
            if message.qos:
                inbox.marks.append(len(inbox.handles))
            inbox.handles.append(handle)
            inbox.payloads.append(message.payload)
            if not inbox.scheduled:
                inbox.schedule()

    def refresh(self, entry: TopicEntry) -> None:
        """Look up who subscribes to a topic again."""
        subscriptions = self._core.subscriptions
        entry.match = subscriptions.match(entry.topic)
        entry.generation = subscriptions.generations[entry.bucket]

    def _resolve_alias(self, connection: Connection, packet: Publish) -> str:
        alias = packet.properties.topic_alias
        if alias is None:
            return packet.topic
        if alias > self._core.options.topic_alias_maximum:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "topic alias is above the maximum")
        aliases = connection.aliases_in
        if aliases is None:
            aliases = connection.aliases_in = {}
        if packet.topic:
            aliases[alias] = packet.topic
            return packet.topic
        topic = aliases.get(alias)
        if topic is None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "topic alias is not known")
        return topic

    def _is_repeated(self, connection: Connection, session: Session, packet_id: int) -> bool:
        received = session.received
        if received is None or packet_id not in received:
            return False
        # Not safe yet: its PUBREC comes with the batch it is in.
        if received[packet_id]:
            connection.send(write_ack(Ack(kind=kinds.PUBREC, packet_id=packet_id), connection.version))
        return True

    def _entry(self, connection: Connection, topic: str) -> TopicEntry | None:
        """What the connection knows of a topic, asked for the first time if need be; None when it may not publish."""
        core = self._core
        key = topic.encode()
        entry = connection.topics.get(key)
        if entry is not None:
            if entry.generation != core.subscriptions.generations[entry.bucket]:
                self.refresh(entry)
            return entry
        assert connection.info is not None
        if topic.count("/") >= core.options.max_topic_levels:
            core.counters.hit("limit_topic_levels", connection.name, f"topic {shown(topic)} has too many levels")
            return None
        if not may_publish(connection.info.access, topic, core.private):
            core.counters.hit("publish_denied", connection.name, f"may not publish to {shown(topic)}")
            return None
        handle = core.sink.open_topic(connection.info, topic)
        entry = TopicEntry(topic, handle, bucket_of(topic))
        self.refresh(entry)
        if len(connection.topics) >= _KEPT_TOPICS:
            connection.topics = {}
        connection.topics[key] = entry
        return entry

    def _refuse(self, connection: Connection, session: Session, packet: Publish) -> None:
        """5.0 is told; MQTT 3.1.1 has no way to say it: acknowledged and dropped, as Mosquitto does."""
        if packet.qos == 0:
            return
        reason = Reason.NOT_AUTHORIZED if connection.version == kinds.V5 else Reason.SUCCESS
        kind = kinds.PUBACK if packet.qos == 1 else kinds.PUBREC
        if packet.qos == 2 and reason == Reason.SUCCESS:
            self._remember(session, packet.packet_id, safe=True)
        connection.send(write_ack(Ack(kind=kind, packet_id=packet.packet_id, reason=reason), connection.version))

    def _to_sink(self, connection: Connection, session: Session, handle: object, packet: Publish) -> None:
        inbox = self._core.inbox
        if packet.qos == 1:
            data = write_ack(Ack(kind=kinds.PUBACK, packet_id=packet.packet_id), connection.version)
            inbox.promises.append((connection, data, 1))
        elif packet.qos == 2:
            self._remember(session, packet.packet_id, safe=False)
            inbox.receipts.append((session, packet.packet_id))
        if packet.qos:
            inbox.marks.append(len(inbox.handles))
        inbox.handles.append(handle)
        inbox.payloads.append(packet.payload)
        if not inbox.scheduled:
            inbox.schedule()
        if packet.qos:
            connection.took_guaranteed(1)

    def _remember(self, session: Session, packet_id: int, *, safe: bool) -> None:
        if session.received is None:
            session.received = {}
        session.received[packet_id] = safe
        if session.persistent:
            self._core.store.session_changed(session)
        # 5.0 clients have their receive maximum; a 3.1.1 client that never sends PUBREL is stopped here.
        if len(session.received) > 2 * self._core.options.receive_maximum:
            self._core.counters.hit("limit_inflight", session.client_id, "leaves its QoS 2 messages unfinished")
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "too many unfinished QoS 2 messages")

    def _message(self, connection: Connection, topic: str, packet: Publish) -> Message:
        message = Message(
            topic,
            packet.payload,
            qos=packet.qos,
            retain=packet.retain,
            properties=forwarded(packet.properties),
            origin=connection.name,
        )
        expiry_s = packet.properties.message_expiry_s
        if expiry_s is not None:
            message.expires_at = self._core.now() + expiry_s
        return message
