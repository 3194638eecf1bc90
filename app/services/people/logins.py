"""Logging in and out, and one's own password."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from app.domain.credentials import hash_secret
from app.domain.errors import AccessError, NotAllowed, NotLoggedIn, WattdeckError
from app.domain.passwords import check_new_password, is_operator_name
from app.domain.people import Principal
from app.services.people.attempts import AddressThrottle, LockOuts
from app.services.people.grants import Grants, new_token
from app.services.people.passwords import Passwords
from app.stores.registry.faults import RefusedChangeError
from app.stores.registry.operators import OperatorRecord, Operators
from app.stores.registry.sessions import NewSession

log = logging.getLogger(__name__)

_LONGEST_AGENT = 200
_NO_SESSION = "this is no session of an operator; an API token is revoked instead of logged out, and has no password"


class LogInRefused(NotLoggedIn):
    """The name or the password is wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Where a log-in comes from: an address, and how the program there names itself."""

    address: str
    agent: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedIn:
    """A session; its token is told this once."""

    token: str
    expires_us: int
    principal: Principal
    full_name: str


@dataclasses.dataclass(slots=True)
class LoginCounters:
    """Since the start."""

    logins: int = 0
    refused_logins: int = 0
    locked_names: int = 0


class Logins:
    """The async methods belong on the loop, the others block on the database. A session ends a fixed time after its
    log-in, used or not.
    """

    def __init__(
        self,
        operators: Operators,
        grants: Grants,
        passwords: Passwords,
        lock_outs: LockOuts,
        *,
        session_us: Callable[[], int],
        now_us: Callable[[], int],
    ) -> None:
        self.counters = LoginCounters()
        self._operators = operators
        self._grants = grants
        self._passwords = passwords
        self._lock_outs = lock_outs
        self._throttle = AddressThrottle(now_us)
        self._session_us = session_us
        self._now_us = now_us

    async def log_in(self, name: str, password: str, caller: Caller) -> LoggedIn:
        """Begin a session. Raises LogInRefused, TooManyAttempts.

        An unknown name, a wrong password and a disabled operator get the same answer after the same work.
        """
        try:
            self._throttle.check(caller.address)
            return await self._passwords.in_turn(lambda: self._log_in(name, password, caller))
        except AccessError as error:
            self.counters.refused_logins += 1
            # An unknown name is not repeated: people type passwords into the wrong field.
            log.warning("a log-in from %s was refused: %s", caller.address, error.text())
            raise

    async def change_password(self, principal: Principal, old: str, new: str) -> None:
        """One's own password; ends one's other sessions, and the time of a one-time password.

        Raises NotAllowed for a wrong old one, RefusedChangeError for who has none, OperatorInputError for a new one
        that can be none, TooManyAttempts.
        """
        if principal.session_id is None:
            raise RefusedChangeError(_NO_SESSION)
        check_new_password(new, principal.name)
        await self._passwords.in_turn(lambda: self._change_password(principal, old, new))

    def log_out(self, principal: Principal) -> None:
        """End this session."""
        if principal.session_id is None:
            raise RefusedChangeError(_NO_SESSION)
        with self._grants.changing:
            self._grants.sessions.end(principal.session_id)
            self._grants.end_session(principal.session_id)

    def log_out_everywhere(self, principal: Principal) -> None:
        """End every session of one's own, this one too."""
        if principal.session_id is None:
            raise RefusedChangeError(_NO_SESSION)
        operator = self._operators.get(principal.name)
        with self._grants.changing:
            self._grants.sessions.end_all(operator, actor=principal.name, at_us=self._now_us())
            self._grants.end_sessions(operator.id)

    def _log_in(self, name: str, password: str, caller: Caller) -> LoggedIn:
        self._lock_outs.check(name)
        found = self._operators.with_password(name) if is_operator_name(name) else None
        operator, seen_hash = found or (None, None)
        # First of all the check, so that each way to a refusal has taken its time.
        right = self._passwords.is_right(seen_hash, password)
        if operator is None or seen_hash is None or not right or operator.disabled_us is not None:
            self._failed(name, operator, caller.address)
            raise LogInRefused
        better = self._passwords.better_hash(seen_hash, password)
        with self._grants.changing:
            # Others may have failed with this name while we were hashing.
            self._lock_outs.check(name)
            token = new_token()
            now_us = self._now_us()
            session = NewSession(
                hash_secret(token), now_us, now_us + self._session_us(), _plain(caller.agent)[:_LONGEST_AGENT]
            )
            begun = self._grants.sessions.begin(operator, session, seen_hash=seen_hash, better_hash=better)
            if begun is None:
                raise LogInRefused
            record, ended = begun
            self._grants.remove(ended)
            principal = self._grants.add_session(record)
        self._lock_outs.forget(name)
        self.counters.logins += 1
        log.info("%s logged in from %s", operator.name, caller.address)
        return LoggedIn(token, record.expires_us, principal, record.operator.full_name)

    def _change_password(self, principal: Principal, old: str, new: str) -> None:
        self._lock_outs.check(principal.name)
        found = self._operators.with_password(principal.name)
        operator, seen_hash = found or (None, None)
        if not self._passwords.is_right(seen_hash, old):
            self._failed(principal.name, operator, None)
            log.warning("%s did not know their old password", principal.name)
            raise NotAllowed("the old password is wrong")
        if old == new:
            raise NotAllowed("the new password is the old one")
        new_hash = self._passwords.hash(new)
        with self._grants.changing:
            changed = self._operators.set_password(
                principal.name,
                new_hash,
                one_time=False,
                keep_session=principal.session_id,
                seen_hash=seen_hash,
                actor=principal.name,
                at_us=self._now_us(),
            )
            self._grants.end_sessions(changed.id, keep_session=principal.session_id)
            self._grants.take_over(changed)
        self._lock_outs.forget(principal.name)

    def _failed(self, name: str, operator: OperatorRecord | None, address: str | None) -> None:
        if address is not None:
            self._throttle.failed(address)
        failed, until_us = self._lock_outs.failed(name, is_known=operator is not None)
        if until_us is not None:
            self.counters.locked_names += 1
            log.warning("%s is locked after %d failures", operator.name if operator else "an unknown name", failed)
        if operator is not None:
            known = operator.name
            # After the answer: it would tell by its time that there is such a name.
            self._passwords.afterwards(lambda: self._write_attempts(known, failed, until_us))

    def _write_attempts(self, name: str, failed: int, until_us: int | None) -> None:
        try:
            self._operators.note_attempts(name, failed, until_us)
        except WattdeckError as error:
            log.error("failed log-ins of %s could not be written: %s", name, error)


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())
