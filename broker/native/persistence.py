"""What outlives the process: retained messages, persistent sessions and their messages."""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from broker.native.message import Message
from broker.native.session import Outgoing, Session
from broker.native.subscriptions import Granted


class StoredMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message on disk; `expires_at` is wall-clock seconds, None is never."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    expires_at: float | None
    origin: str


class StoredSubscription(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A subscription on disk, `Granted` with the filter as the client wrote it."""

    written: str
    pattern: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int
    number: int
    group: str | None


class StoredSession(msgspec.Struct, frozen=True, array_like=True):
    """A session on disk; `expires_at` is None while it is connected. `received` are QoS 2 ids and whether answered."""

    client_id: str
    subject: str
    expiry_s: int
    expires_at: float | None
    next_id: int
    subscriptions: list[StoredSubscription]
    received: dict[int, bool]


class StoredOutgoing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message for a session on disk."""

    client_id: str
    number: int
    message: StoredMessage
    qos: int
    retain: bool
    numbers: tuple[int, ...]
    packet_id: int
    released: bool


class Stored(msgspec.Struct):
    """Everything a store held."""

    retained: list[StoredMessage] = []
    sessions: list[StoredSession] = []
    outgoing: list[StoredOutgoing] = []


class Store(Protocol):
    """Where changes go. Calls return at once; the writing happens later, batched."""

    def retained_changed(self, topic: str, message: Message | None) -> None:
        """A topic's retained message is another one, or gone."""
        ...

    def session_changed(self, session: Session) -> None:
        """A persistent session is new or different."""
        ...

    def session_gone(self, session: Session) -> None:
        """A persistent session ended, with its messages."""
        ...

    def outgoing_changed(self, session: Session, out: Outgoing) -> None:
        """A message for a persistent session is new or further on its way."""
        ...

    def outgoing_gone(self, session: Session, out: Outgoing) -> None:
        """A message for a persistent session has arrived or was dropped."""
        ...

    def load(self) -> Stored:
        """Everything, before the first change. Blocks; called in a thread."""
        ...

    async def close(self) -> None:
        """Write what is not written."""
        ...


class NoStore:
    """Keeps nothing: a broker without a data directory."""

    def retained_changed(self, topic: str, message: Message | None) -> None:
        """Nothing."""

    def session_changed(self, session: Session) -> None:
        """Nothing."""

    def session_gone(self, session: Session) -> None:
        """Nothing."""

    def outgoing_changed(self, session: Session, out: Outgoing) -> None:
        """Nothing."""

    def outgoing_gone(self, session: Session, out: Outgoing) -> None:
        """Nothing."""

    def load(self) -> Stored:
        """Nothing was stored."""
        return Stored()

    async def close(self) -> None:
        """Nothing to write."""


def pack_message(message: Message) -> StoredMessage:
    """The form on disk."""
    return StoredMessage(
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.properties,
        None if message.expires_at == math.inf else message.expires_at,
        message.origin,
    )


def unpack_message(stored: StoredMessage) -> Message:
    """The message of its form on disk."""
    return Message(
        stored.topic,
        stored.payload,
        qos=stored.qos,
        retain=stored.retain,
        properties=stored.properties,
        expires_at=math.inf if stored.expires_at is None else stored.expires_at,
        origin=stored.origin,
    )


def pack_session(session: Session, now: float) -> StoredSession:
    """The form on disk; a session without connection began to expire at `now` at the latest."""
    return StoredSession(
        session.client_id,
        session.subject,
        session.expiry_s,
        None if session.connection is not None else now + session.expiry_s,
        session.next_id,
        [
            StoredSubscription(
                written,
                granted.pattern,
                granted.qos,
                granted.no_local,
                granted.retain_as_published,
                granted.retain_handling,
                granted.number,
                granted.group,
            )
            for written, granted in (session.subscriptions or {}).items()
        ],
        dict(session.received or {}),
    )


def unpack_subscription(stored: StoredSubscription) -> Granted:
    """The subscription of its form on disk."""
    return Granted(
        stored.pattern,
        stored.qos,
        stored.no_local,
        stored.retain_as_published,
        stored.retain_handling,
        stored.number,
        stored.group,
    )


def pack_outgoing(session: Session, out: Outgoing) -> StoredOutgoing:
    """The form on disk. The shared subscription is left out: after a restart the message stays with its session."""
    return StoredOutgoing(
        session.client_id,
        out.number,
        pack_message(out.message),
        out.qos,
        out.retain,
        out.numbers,
        out.packet_id,
        out.released,
    )
