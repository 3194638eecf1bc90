"""Who may listen to the live feed now: grants of some minutes for exactly one topic each, in memory only."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import threading
from collections.abc import Callable, Collection
from typing import NamedTuple

from app.domain.credentials import hash_secret, new_secret
from app.domain.errors import NotAllowed, OperatorInputError, TooManyAttempts, WattdeckError
from app.domain.people import Principal, Scope
from app.protocol.live import LiveScope, topic_of
from broker.engine import Access, ClientInfo

GRANT_KIND = "grant"
# A colon can not be part of a serial, and the rest is random: no credential of the registry is called so by chance.
USERNAME_PREFIX = "live:"
# A page needs a handful; a client that asks without end must not fill the memory.
MOST_GRANTS = 2_000
MOST_OF_ONE = 32
# A client that reconnects may be there twice for a moment.
MOST_CONNECTIONS = 4
_MINUTE_US = 60_000_000
# Beside Scope.LIVE, which the route asks for.
_SCOPES = {
    LiveScope.STATS: Scope.HUB_READ,
    LiveScope.EVENTS: Scope.FLEET_READ,
    LiveScope.STATES: Scope.FLEET_READ,
    LiveScope.FLEET: Scope.READINGS_READ,
    LiveScope.MODULE: Scope.READINGS_READ,
}


class TooManyGrants(TooManyAttempts):
    """There are too many grants at once; end some, or wait for their end."""

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s
        WattdeckError.__init__(self, f"too many live grants at once; end some, or try again in {wait_s} s")


class Granted(NamedTuple):
    """A grant as its holder is told of it, once."""

    username: str
    token: str
    topic: str
    expires_us: int


@dataclasses.dataclass(slots=True)
class _Grant:
    owner: str
    session_id: int | None
    scope: LiveScope
    serial: str | None
    access: Access
    token_sha256: bytes
    expires_us: int
    connections: int = 0


class LiveGrants:
    """Any thread may make and end grants; connections are closed on the loop, through `close_sessions`."""

    def __init__(self, now_us: Callable[[], int], minutes: Callable[[], int]) -> None:
        # Closes the connections of some user names; on the loop.
        self.close_sessions: Callable[[Collection[str], str], object] = lambda _usernames, _cause: None
        self._now_us = now_us
        self._minutes = minutes
        self._lock = threading.Lock()
        self._grants: dict[str, _Grant] = {}
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._grants)

    def check(self, principal: Principal, scope: LiveScope, serial: str | None) -> str:
        """The topic of a grant that somebody may have. Raises NotAllowed, OperatorInputError."""
        if not principal.may(_SCOPES[scope]):
            raise NotAllowed(f"a live grant for {scope} needs the right {_SCOPES[scope]}, which you do not have")
        try:
            return topic_of(scope, serial)
        except ValueError as error:
            raise OperatorInputError(str(error)) from None

    def give(self, principal: Principal, scope: LiveScope, serial: str | None = None, *, renews: str = "") -> Granted:
        """A new grant; or a new token and more time for the one that it `renews`, whose connection stays.

        Raises NotAllowed, OperatorInputError, TooManyGrants.
        """
        topic = self.check(principal, scope, serial)
        token = new_secret()
        now_us = self._now_us()
        expires_us = now_us + self._minutes() * _MINUTE_US
        with self._lock:
            before = self._grants.get(renews)
            if before is not None and self._is_same(before, principal, scope, serial) and before.expires_us > now_us:
                before.token_sha256 = hash_secret(token)
                before.expires_us = expires_us
                return Granted(renews, token, topic, expires_us)
            self._check_room(principal, now_us)
            username = USERNAME_PREFIX + secrets.token_hex(12)
            access = Access(username, GRANT_KIND, (), (topic,))
            self._grants[username] = _Grant(
                principal.name, principal.session_id, scope, serial, access, hash_secret(token), expires_us
            )
        return Granted(username, token, topic, expires_us)

    def find(self, username: str) -> tuple[bytes, Access] | None:
        """Token digest and access of a grant that holds and has room for a connection; for the authenticator."""
        grant = self._grants.get(username)
        if grant is None or grant.expires_us <= self._now_us() or grant.connections >= MOST_CONNECTIONS:
            return None
        return grant.token_sha256, grant.access

    def opened(self, client: ClientInfo) -> None:
        """A client was accepted; on the loop."""
        if client.access.kind == GRANT_KIND and (grant := self._grants.get(client.access.subject)) is not None:
            grant.connections += 1

    def closed(self, client: ClientInfo, _cause: str) -> None:
        """A client's connection ended; on the loop."""
        if client.access.kind == GRANT_KIND and (grant := self._grants.get(client.access.subject)) is not None:
            grant.connections -= 1

    def modules(self) -> set[str]:
        """The modules whose own readings are granted to somebody."""
        with self._lock:
            return {grant.serial for grant in self._grants.values() if grant.serial is not None}

    def end_due(self) -> int:
        """End what has had its time, and close its connections; how many. On the loop."""
        now_us = self._now_us()
        gone = self._take(lambda grant: grant.expires_us <= now_us)
        self._close(gone)
        return len(gone)

    def end(self, username: str, principal: Principal) -> bool:
        """End a grant of somebody's own; whether there was one."""
        with self._lock:
            grant = self._grants.get(username)
            if grant is None or grant.owner != principal.name:
                return False
            del self._grants[username]
        self._close_soon([username])
        return True

    def end_grants_of(self, principal_name: str, session_id: int | None = None) -> int:
        """End somebody's grants, all or those of one session: they logged out, were disabled or may less; how many."""
        gone = self._take(
            lambda grant: grant.owner == principal_name and (session_id is None or grant.session_id == session_id)
        )
        self._close_soon(gone)
        return len(gone)

    def _take(self, unwanted: Callable[[_Grant], bool]) -> list[str]:
        with self._lock:
            gone = [username for username, grant in self._grants.items() if unwanted(grant)]
            for username in gone:
                del self._grants[username]
        return gone

    def _close_soon(self, usernames: Collection[str]) -> None:
        if usernames:
            self._loop.call_soon_threadsafe(self._close, usernames)

    def _close(self, usernames: Collection[str]) -> None:
        if usernames:
            self.close_sessions(frozenset(usernames), "grant ended")

    def _check_room(self, principal: Principal, now_us: int) -> None:
        own = [grant.expires_us for grant in self._grants.values() if grant.owner == principal.name]
        if len(own) >= MOST_OF_ONE:
            first_us = min(own)
        elif len(self._grants) >= MOST_GRANTS:
            first_us = min(grant.expires_us for grant in self._grants.values())
        else:
            return
        raise TooManyGrants(max(1, (first_us - now_us) // 1_000_000 + 1))

    @staticmethod
    def _is_same(grant: _Grant, principal: Principal, scope: LiveScope, serial: str | None) -> bool:
        return (grant.owner, grant.session_id, grant.scope, grant.serial) == (
            principal.name,
            principal.session_id,
            scope,
            serial,
        )
