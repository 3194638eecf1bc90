"""All sessions: begun, taken over, left behind by their connection, expired; and the wills that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine import ClientInfo
from broker.native.connection import Connection
from broker.native.keepalive import Wheel, ticks
from broker.native.message import Message, forwarded
from broker.native.session import PendingWill, Session
from broker.packets.connect import Will

if TYPE_CHECKING:
    from broker.native.core import Core

# "For ever" in a 5.0 CONNECT.
NEVER_EXPIRES = 0xFFFFFFFF


class Sessions:
    """Sessions by client id."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._wheel = Wheel()
        self.by_id: dict[str, Session] = {}

    def begin(self, client_id: str, subject: str) -> Session:
        """A new session; there must be none of this id."""
        session = self.by_id[client_id] = Session(client_id, subject)
        self._count()
        return session

    def restore(self, session: Session, expires_in_s: float) -> None:
        """Put back what a store held."""
        self.by_id[session.client_id] = session
        session.expires_tick = self._core.tick + ticks(max(0.0, expires_in_s))
        self._wheel.put(session, session.expires_tick)
        self._count()

    def attach(self, session: Session, connection: Connection, expiry_s: int) -> None:
        """A connection takes the session on; its waiting will is void."""
        was_persistent = session.persistent
        if session.wheel_tick:
            self._wheel.remove(session)
        session.will = None
        session.connection = connection
        self.set_expiry(session, expiry_s)
        if was_persistent and not session.persistent:
            self._core.store.session_gone(session)

    def set_expiry(self, session: Session, expiry_s: int) -> None:
        """How long the session outlives its connection."""
        session.expiry_s = min(expiry_s, self._core.options.session_expiry_max_s)
        if session.persistent:
            self._core.store.session_changed(session)

    def detach(self, session: Session, will: Will | None, info: ClientInfo) -> None:
        """The connection is gone: publish its will or let it wait; keep the session or end it."""
        core = self._core
        session.connection = None
        delay_s = 0
        if will is not None:
            delay_s = min(will.properties.will_delay_s or 0, session.expiry_s, core.options.max_will_delay_s)
            message = self._will_message(will, info)
            if delay_s:
                session.will = PendingWill(message, info)
                # One more: the present tick has begun already.
                session.will_tick = core.tick + ticks(delay_s) + 1
            else:
                core.receiving.publish_will(message, info)
        if not session.persistent:
            self.end(session)
            return
        session.expires_tick = core.tick + ticks(session.expiry_s) + 1
        self._wheel.put(session, min(session.will_tick, session.expires_tick) if delay_s else session.expires_tick)
        core.store.session_changed(session)
        core.outbound.hand_over(session, ended=False)

    def end(self, session: Session) -> None:
        """The session is over: its subscriptions, its messages and its place."""
        core = self._core
        if session.wheel_tick:
            self._wheel.remove(session)
        if self.by_id.get(session.client_id) is session:
            del self.by_id[session.client_id]
        self._count()
        for granted in (session.subscriptions or {}).values():
            core.subscriptions.remove(session, granted)
        session.subscriptions = None
        core.counters.values["subscriptions"] = core.subscriptions.count
        core.outbound.hand_over(session, ended=True)
        if session.persistent:
            core.store.session_gone(session)
            session.expiry_s = 0
        session.inflight = session.queue = session.received = None
        pending, session.will = session.will, None
        if pending is not None:
            core.receiving.publish_will(pending.message, pending.info)

    def on_tick(self, tick: int) -> None:
        """Publish wills and end sessions whose time has come."""
        for timed in self._wheel.due(tick):
            assert isinstance(timed, Session)
            pending = timed.will
            if pending is not None and tick >= timed.will_tick:
                timed.will = None
                self._core.receiving.publish_will(pending.message, pending.info)
            if tick >= timed.expires_tick:
                self._core.counters.add("sessions_expired")
                self.end(timed)
            else:
                self._wheel.put(timed, timed.expires_tick)

    def _will_message(self, will: Will, info: ClientInfo) -> Message:
        expiry_s = will.properties.message_expiry_s
        message = Message(
            will.topic,
            will.payload,
            qos=will.qos,
            retain=will.retain,
            properties=forwarded(will.properties),
            origin=info.client_id,
        )
        if expiry_s is not None:
            message.expires_at = self._core.now() + expiry_s
        return message

    def _count(self) -> None:
        self._core.counters.values["sessions"] = len(self.by_id)
