"""Keeps the table of tokens in step with the registry: what is committed is in force before its caller is answered."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable, Iterable

from app.domain.people import ROLE_SCOPES, Principal
from app.services.people.tokens import Grant, TokenTable
from app.stores.registry.api_tokens import ApiTokenRecord, ApiTokens
from app.stores.registry.operators import OperatorRecord
from app.stores.registry.registry import Registry
from app.stores.registry.sessions import SessionRecord, Sessions

TOKEN_PREFIX = "token:"  # noqa: S105 - what goes before the name of one
# 256 random bits: SHA-256 without a salt or a slow hash is enough (docs/decisions/0005).
_TOKEN_BYTES = 32


class Grants:
    """Hold `changing` around a change of the registry and what follows here, so that no log-in comes between."""

    def __init__(self, registry: Registry, tokens: TokenTable, now_us: Callable[[], int]) -> None:
        self.changing = threading.RLock()
        self.sessions = Sessions(registry)
        self.api_tokens = ApiTokens(registry)
        self._tokens = tokens
        self._now_us = now_us

    def load(self) -> None:
        """Take over what the registry has; who was let in otherwise (the parent, a grant of the live feed) stays."""
        with self.changing:
            now_us = self._now_us()
            grants = {
                one.token_sha256: Grant(_principal_of_session(one), one.expires_us)
                for one in self.sessions.valid(now_us)
            }
            for digest, token in self.api_tokens.valid(now_us):
                grants[digest] = Grant(_principal_of_token(token), token.expires_us)
            self._tokens.exchange(_is_of_registry, grants)

    def add_session(self, session: SessionRecord) -> Principal:
        """Let a new session in."""
        principal = _principal_of_session(session)
        self._tokens.put(session.token_sha256, principal, session.expires_us)
        return principal

    def add_token(self, digest: bytes, token: ApiTokenRecord) -> None:
        """Let a new API token in."""
        self._tokens.put(digest, _principal_of_token(token), token.expires_us)

    def remove(self, digests: Iterable[bytes]) -> None:
        """Refuse some tokens."""
        for digest in digests:
            self._tokens.remove(digest)

    def end_session(self, session_id: int) -> None:
        """Refuse one session."""
        self._tokens.remove_where(lambda one: one.session_id == session_id)

    def end_sessions(self, operator_id: int, *, keep_session: int | None = None) -> int:
        """Refuse the sessions of an operator, but one; how many."""
        return self._tokens.remove_where(
            lambda one: _is_session_of(one, operator_id) and one.session_id != keep_session
        )

    def take_over(self, operator: OperatorRecord) -> None:
        """Put what an operator may do now behind their sessions."""
        if operator.disabled_us is not None:
            self.end_sessions(operator.id)
            return
        self._tokens.change_where(
            lambda one: _is_session_of(one, operator.id),
            lambda one: dataclasses.replace(
                one,
                role=operator.role,
                scopes=ROLE_SCOPES[operator.role],
                must_change_password=operator.must_change_password,
            ),
        )

    def tidy(self) -> None:
        """Write down when tokens were used last, and drop sessions whose time is over; call it now and then."""
        used = self._tokens.take_used()
        self._tokens.drop_expired()
        self.sessions.tidy(used, self._now_us())
        self.api_tokens.note_used(used)


def new_token() -> str:
    """A session's or third party's token: 43 characters that need no escaping anywhere."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def _principal_of_session(session: SessionRecord) -> Principal:
    operator = session.operator
    return Principal(
        operator.name,
        ROLE_SCOPES[operator.role],
        operator_id=operator.id,
        role=operator.role,
        session_id=session.id,
        must_change_password=operator.must_change_password,
    )


def _principal_of_token(token: ApiTokenRecord) -> Principal:
    return Principal(TOKEN_PREFIX + token.name, token.scopes)


def _is_session_of(principal: Principal, operator_id: int) -> bool:
    return principal.session_id is not None and principal.operator_id == operator_id


def _is_of_registry(principal: Principal) -> bool:
    return principal.session_id is not None or principal.name.startswith(TOKEN_PREFIX)
