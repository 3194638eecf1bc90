"""Decides in memory who may connect where, from the registry's credentials."""

from __future__ import annotations

import collections
import dataclasses
import enum
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from app.domain.credentials import CredentialKind, hash_secret, is_serial, secret_matches
from app.protocol import topics
from app.stores.registry.records import CredentialRow
from broker.engine import Access
from broker.log_limit import LogLimit, shown

_log = logging.getLogger(__name__)


class Audience(enum.Enum):
    """Whom a listener is for."""

    MODULES = frozenset({CredentialKind.MODULE, CredentialKind.SOURCE, CredentialKind.SERVICE})
    OPERATORS = frozenset({CredentialKind.OPERATOR, CredentialKind.SERVICE})


# The hub's listeners by name. A listener that is not here lets nobody in.
LISTENERS: Mapping[str, Audience] = MappingProxyType(
    {
        "mqtt": Audience.MODULES,
        "mqtts": Audience.MODULES,
        "operators": Audience.OPERATORS,
    }
)

# Follows the serial in a client id of a module that keeps several sessions. It can not be part of a serial, so that one
# module's client id is never another's.
CLIENT_ID_SEPARATOR = "/"

ANONYMOUS = Access("anonymous", "anonymous", ("#",), ("#",))

# A client that names no id of its own gets one that begins so from the broker.
_ASSIGNED_ID = "auto-"

Refusal = Literal["listener", "unknown", "blocked", "secret", "kind", "client_id"]

# Compared with when a name is unknown, so that the time of an answer does not tell which serials exist.
_NOBODY = hash_secret("")


@dataclasses.dataclass(frozen=True, slots=True)
class _Account:
    secret_sha256: bytes
    access: Access
    kind: CredentialKind


class CredentialTable:
    """Credentials by user name; built in any thread, then handed to the authenticator.

    A fleet of modules is one dictionary of digests (about 0.2 kB each): their access follows from their serial.
    """

    def __init__(self, rows: Iterable[CredentialRow] = ()) -> None:
        self._modules: dict[str, bytes] = {}
        self._accounts: dict[str, _Account] = {}
        self._blocked: set[str] = set()
        for row in rows:
            self._put(row)

    def __len__(self) -> int:
        return len(self._modules) + len(self._accounts)

    def __contains__(self, username: str) -> bool:
        return username in self._modules or username in self._accounts

    def replace(self, usernames: Collection[str], rows: Iterable[CredentialRow]) -> list[str]:
        """Put the rows in place of whatever was there for these names; the names whose sessions must end."""
        before = {username: self._state(username) for username in usernames if username in self}
        for username in usernames:
            self._modules.pop(username, None)
            self._accounts.pop(username, None)
            self._blocked.discard(username)
        for row in rows:
            self._put(row)
        return [username for username, state in before.items() if self._state(username) != state]

    def usernames(self) -> frozenset[str]:
        """Every user name."""
        return frozenset(self._modules) | frozenset(self._accounts)

    def revoked_by(self, later: CredentialTable) -> list[str]:
        """The names whose sessions must end when `later` takes over from this table. Any thread may ask."""
        # Copied in one step each: the loop may replace a few entries meanwhile.
        names = [*self._modules.copy(), *self._accounts.copy()]
        return [username for username in names if self._state(username) != later._state(username)]

    def changes_of_modules(self, later: CredentialTable) -> Iterator[tuple[str, str]]:
        """What `later` has otherwise of modules: serial, and given, removed, re-keyed, blocked or unblocked."""
        before, after = self._modules.copy(), later._modules.copy()
        yield from ((serial, "given") for serial in after.keys() - before.keys())
        yield from ((serial, "removed") for serial in before.keys() - after.keys())
        yield from ((serial, "re-keyed") for serial in before.keys() & after.keys() if before[serial] != after[serial])
        changed = self._blocked ^ later._blocked
        yield from ((serial, "blocked") for serial in changed & later._blocked if serial in after)
        yield from ((serial, "unblocked") for serial in changed & self._blocked if serial in before and serial in after)

    def is_module(self, username: str) -> bool:
        """Whether this is the credential of a module."""
        return username in self._modules

    def is_blocked(self, username: str) -> bool:
        """Whether this credential is refused."""
        return username in self._blocked

    def secret_sha256(self, username: str) -> bytes | None:
        """The digest of a credential's secret."""
        module = self._modules.get(username)
        if module is not None:
            return module
        account = self._accounts.get(username)
        return None if account is None else account.secret_sha256

    def access(self, username: str) -> tuple[CredentialKind, Access]:
        """Kind and rights of a credential. Raises KeyError when there is none."""
        if username in self._modules:
            return CredentialKind.MODULE, module_access(username)
        account = self._accounts[username]
        return account.kind, account.access

    def _put(self, row: CredentialRow) -> None:
        if row.kind is CredentialKind.MODULE:
            self._modules[row.username] = row.secret_sha256
        else:
            access = Access(row.username, row.kind.value, row.publish, row.subscribe)
            self._accounts[row.username] = _Account(row.secret_sha256, access, row.kind)
        if row.blocked:
            self._blocked.add(row.username)

    def _state(self, username: str) -> object:
        return (username in self._blocked, self._modules.get(username), self._accounts.get(username))


def module_access(serial: str) -> Access:
    """What a module may do: publish under its own prefix, all but `cmd`, and read its own commands."""
    return Access(
        serial, CredentialKind.MODULE.value, topics.publish_patterns(serial), topics.subscribe_patterns(serial)
    )


class RegistryAuthenticator:
    """The hub's `broker.engine.Authenticator`.

    A module's user name is its serial, and its client id is the serial, or the serial, `/` and anything. Nobody else
    may use such a client id: it would take the module's session over. With `allow_anonymous`, whoever comes to a
    modules' listener without a user name, or with one that is not registered, may do everything there (never on an
    operators' listener); a registered user name still needs its secret.

    Why somebody was refused is in `refused` and, once a minute for a user name, in the log; the client is never told.
    """

    def __init__(
        self,
        table: CredentialTable,
        *,
        allow_anonymous: bool = False,
        listeners: Mapping[str, Audience] = LISTENERS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._allow_anonymous = allow_anonymous
        self._listeners = listeners
        self._used: set[str] = set()
        self._log_limit = LogLimit(monotonic)
        # Token digest and access of a grant of the live feed; they are no credentials, and hold for operators' ports.
        self.find_grant: Callable[[str], tuple[bytes, Access] | None] = lambda _username: None
        # Refused connects by reason.
        self.refused: collections.Counter[Refusal] = collections.Counter()

    def authenticate(
        self, listener: str, client_id: str, username: str | None, password: bytes | None
    ) -> Access | None:
        """The access of this credential, or None when it is unknown, wrong, blocked or not for this listener."""
        found = self._decide(listener, client_id, username, password)
        if isinstance(found, Access):
            return found
        self.refused[found] += 1
        self._say_refused(found, listener, client_id, username)
        return None

    @property
    def table(self) -> CredentialTable:
        """The table in use."""
        return self._table

    def use(self, table: CredentialTable) -> None:
        """Decide by another table from now on. Call on the loop.

        For a change of thousands: build the table and ask `revoked_by` in a thread, so that the loop is not held up.
        """
        self._table = table

    def replace(self, usernames: Collection[str], rows: Iterable[CredentialRow]) -> list[str]:
        """Take over a change of a few credentials; the subjects whose connections must be closed. Call on the loop."""
        return self._table.replace(usernames, rows)

    def usernames(self) -> frozenset[str]:
        """Every user name that is known."""
        return self._table.usernames()

    def take_used(self) -> frozenset[str]:
        """The user names that connected since the last call, for the registry's `note_used`."""
        used = frozenset(self._used)
        self._used.clear()
        return used

    def _say_refused(self, reason: Refusal, listener: str, client_id: str, username: str | None) -> None:
        if reason == "listener":
            if self.refused[reason] == 1:
                _log.error("listener %s has no audience, all its clients are refused", listener)
            return
        ending = self._log_limit.ending(reason, client_id if username is None else username)
        if ending is not None:
            _log.warning("refused on listener %s: %s%s", listener, self._why(reason, client_id, username), ending)

    def _why(self, reason: Refusal, client_id: str, username: str | None) -> str:
        """The reason for an operator, without secrets; names are quoted and cut."""
        if username is None:
            return f"client {shown(client_id)} gave no user name"
        user = shown(username)
        match reason:
            case "client_id":
                return (
                    f"client id {shown(client_id)} is not the user name {user}; a module's client id must be its serial"
                )
            case "unknown":
                hint = f"; register it with ./run provision {username}" if is_serial(username) else ""
                return f"unknown user {user}{hint}"
            case "blocked":
                return f"{user} is blocked"
            case "kind" if self._table.is_module(username):
                return f"{user} is a module, and a module may not use the operators' port"
            case "kind":
                return f"{user} may not use the port of this listener"
            case _:
                return f"wrong secret for {user}"

    def _decide(self, listener: str, client_id: str, username: str | None, password: bytes | None) -> Access | Refusal:
        audience = self._listeners.get(listener)
        if audience is None:
            return "listener"
        owner = client_id.partition(CLIENT_ID_SEPARATOR)[0]
        if self._table.is_module(owner) and owner != username:
            return "client_id"
        digest = None if username is None else self._table.secret_sha256(username)
        if username is not None and digest is None and audience is Audience.OPERATORS:
            grant = self.find_grant(username)
            if grant is not None:
                return self._decide_grant(grant, client_id, username, password)
        if username is None or digest is None:
            if self._allow_anonymous and audience is Audience.MODULES:
                return ANONYMOUS
            secret_matches(password or b"", _NOBODY)
            return "unknown"
        if not secret_matches(password or b"", digest):
            return "secret"
        if self._table.is_blocked(username):
            return "blocked"
        kind, access = self._table.access(username)
        if kind not in audience.value:
            return "kind"
        if kind is CredentialKind.MODULE and owner != username:
            return "client_id"
        self._used.add(username)
        return access

    @staticmethod
    def _decide_grant(
        grant: tuple[bytes, Access], client_id: str, username: str, password: bytes | None
    ) -> Access | Refusal:
        digest, access = grant
        if not secret_matches(password or b"", digest):
            return "secret"
        # Under another id it would end whatever session another client has left there.
        if client_id.partition(CLIENT_ID_SEPARATOR)[0] != username and not client_id.startswith(_ASSIGNED_ID):
            return "client_id"
        return access
