"""CONNECT: who it is, what it may, which session it gets, what it is told."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from broker.engine import Access, ClientInfo
from broker.native.access import ANONYMOUS
from broker.native.connection import ADMISSION, CLOSED, NEW, Connection
from broker.native.keepalive import ticks
from broker.native.sessions import NEVER_EXPIRES
from broker.packets import Connack, Connect, Properties, ProtocolError, Reason, kinds
from broker.packets.connect import return_code, write_connack

if TYPE_CHECKING:
    from broker.native.core import Core
    from broker.native.session import Session

# A client is given up after this many keepalives without a byte (MQTT-3.1.2-22).
_PATIENCE = 1.5
# Aliases the broker sets towards a client, whatever more the client would take: they are remembered for it.
_ALIASES_OUT = 64


class Connecting:
    """Accepts or refuses clients."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_connect(self, connection: Connection, packet: Connect) -> None:
        """A CONNECT came: handled now, or by the storm queue later. Raises ProtocolError for a second one."""
        if connection.state != NEW:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "a second CONNECT")
        connection.version = packet.version
        core = self._core
        if core.admission.offer(connection, packet):
            self._accept(connection, packet)
            return
        # Whoever waits here did send its CONNECT: it is not half open any more.
        core.wheel.remove(connection)
        connection.wait_for_admission()

    def admit(self, connection: Connection, packet: Connect) -> None:
        """The storm queue lets a CONNECT through."""
        connection.state = NEW
        self._accept(connection, packet)
        connection.resume(ADMISSION)
        connection.go_on()

    def _accept(self, connection: Connection, packet: Connect) -> None:
        core = self._core
        if packet.properties.authentication_method is not None:
            self.refuse(connection, Reason.BAD_AUTHENTICATION_METHOD)
            return
        client_id = packet.client_id
        if not client_id:
            if packet.version != kinds.V5 and not packet.clean_start:
                self.refuse(connection, Reason.CLIENT_ID_NOT_VALID)
                return
            client_id = f"auto-{secrets.token_hex(12)}"
        access = self._access(connection, client_id, packet)
        if access is None:
            known = packet.username is not None or packet.password is not None
            self.refuse(
                connection,
                Reason.BAD_CREDENTIALS if known else Reason.NOT_AUTHORIZED,
                client_id,
                # Only the authenticator knows why; it has logged it.
                logged=core.authenticator is not None,
            )
            return
        session = self._resumed(connection, client_id, access, packet)
        if connection.closed:
            return
        present = session is not None
        if session is None:
            session = core.sessions.begin(client_id, access.subject)
        info = ClientInfo(client_id, access, connection.address, connection.listener.name, packet.version)
        connection.opened(info, session)
        core.sessions.attach(session, connection, self._expiry(packet))
        connection.will = packet.will
        properties = self._limits(connection, packet)
        if not packet.client_id:
            properties["assigned_client_id"] = client_id
        self._answer(connection, packet, session, properties, present=present)

    def refuse(self, connection: Connection, reason: Reason, client_id: str = "", *, logged: bool = False) -> None:
        """Say no and close."""
        core = self._core
        if logged:
            core.counters.add("connects_refused")
        else:
            name = client_id or connection.address
            core.counters.hit("connects_refused", name, f"refused: {reason.name.lower().replace('_', ' ')}")
        code = int(reason) if connection.version == kinds.V5 else return_code(reason)
        connection.send(write_connack(Connack(reason=code), connection.version))
        connection.end("refused")

    def _access(self, connection: Connection, client_id: str, packet: Connect) -> Access | None:
        core = self._core
        listener = connection.listener
        access = None
        if core.authenticator is not None:
            access = core.authenticator.authenticate(listener.name, client_id, packet.username, packet.password)
        if access is None and core.options.allow_anonymous and listener.anonymous:
            return ANONYMOUS
        return access

    def _resumed(self, connection: Connection, client_id: str, access: Access, packet: Connect) -> Session | None:
        """The client's session that goes on, or None: a new one begins, unless the connection was refused here."""
        core = self._core
        old = core.sessions.by_id.get(client_id)
        if old is not None and old.subject != access.subject:
            if old.connection is not None:
                # Nobody takes over another credential's connection.
                self.refuse(connection, Reason.NOT_AUTHORIZED, client_id)
                return None
            core.sessions.end(old)
            old = None
        if old is not None and old.connection is not None:
            core.counters.add("takeovers")
            old.connection.end("takeover", Reason.SESSION_TAKEN_OVER)
            # A session that was not to outlive its connection has ended with it.
            old = core.sessions.by_id.get(client_id)
        if old is not None and packet.clean_start:
            core.sessions.end(old)
            old = None
        if old is None and self._expiry(packet) and len(core.sessions.by_id) >= core.options.max_sessions:
            core.counters.hit("limit_sessions", client_id, "the broker keeps no further session")
            self.refuse(connection, Reason.QUOTA_EXCEEDED, client_id)
        return old

    def _expiry(self, packet: Connect) -> int:
        maximum = self._core.options.session_expiry_max_s
        if packet.version != kinds.V5:
            return 0 if packet.clean_start else maximum
        return min(packet.properties.session_expiry_s or 0, maximum)

    def _limits(self, connection: Connection, packet: Connect) -> dict[str, int | str]:
        """Take the client's limits over and tell it the broker's."""
        core, options = self._core, self._core.options
        told: dict[str, int | str] = {}
        keep_alive_s = packet.keep_alive_s
        if packet.version == kinds.V5:
            asked = packet.properties
            connection.send_window = min(options.max_inflight, asked.receive_maximum or 65_535)
            connection.send_maximum = asked.maximum_packet_size or connection.send_maximum
            connection.alias_maximum = min(asked.topic_alias_maximum or 0, _ALIASES_OUT)
            connection.problem_information = asked.request_problem_information != 0
            if options.max_keep_alive_s and not 0 < keep_alive_s <= options.max_keep_alive_s:
                keep_alive_s = told["server_keep_alive_s"] = options.max_keep_alive_s
            expiry_s = asked.session_expiry_s or 0
            if expiry_s > options.session_expiry_max_s or expiry_s == NEVER_EXPIRES:
                told["session_expiry_s"] = options.session_expiry_max_s
            told["receive_maximum"] = options.receive_maximum
            told["maximum_packet_size"] = options.max_packet_size
            told["topic_alias_maximum"] = options.topic_alias_maximum
            if asked.request_response_information:
                told["response_information"] = f"response/{connection.name}"
        core.wheel.remove(connection)
        if keep_alive_s:
            connection.keep_ticks = ticks(keep_alive_s * _PATIENCE) + 1
            core.wheel.put(connection, core.tick + connection.keep_ticks)
        else:
            connection.socket_keepalive()
        connection.limit_unsent(options.max_unsent_bytes)
        return told

    def _answer(
        self,
        connection: Connection,
        packet: Connect,
        session: Session,
        told: dict[str, int | str],
        *,
        present: bool,
    ) -> None:
        core = self._core
        core.counters.values["connects_accepted"] += 1
        connack = Connack(session_present=present, properties=Properties(**told))  # type: ignore[arg-type]
        connection.send(write_connack(connack, packet.version))
        assert connection.info is not None
        core.sink.client_connected(connection.info)
        for granted in (session.subscriptions or {}).values():
            if connection.state != CLOSED:
                core.sink.client_subscribed(connection.info, granted.pattern, session.held(granted.pattern))
        if connection.state != CLOSED:
            core.outbound.resume(session)
