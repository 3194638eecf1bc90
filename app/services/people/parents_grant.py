"""How the program that started this hub gets its session: its token is exchanged once, soon, and is gone."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable

from app.domain.credentials import hash_secret
from app.domain.errors import NotLoggedIn
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.services.people.tokens import TokenTable

# A console asks as soon as its hub is ready.
LASTS_S = 60.0
_TOKEN_BYTES = 32


class ParentsGrant:
    """On the loop."""

    def __init__(
        self, tokens: TokenTable, *, lasts_s: float = LASTS_S, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._lasts_s = lasts_s
        self._monotonic_s = monotonic_s
        self._digest: bytes | None = None
        self._until_s = 0.0

    def offer(self, token: str) -> None:
        """Take the parent's token; from now on it may be exchanged."""
        self._digest = hash_secret(token)
        self._until_s = self._monotonic_s() + self._lasts_s

    def exchange(self, token: str) -> str:
        """A session's token for the parent's, as administrator while the hub runs. Raises NotLoggedIn."""
        if self._monotonic_s() >= self._until_s:
            self._digest = None
        # Digests of one length, compared in constant time: an answer's delay says nothing of the token.
        if self._digest is None or not hmac.compare_digest(hash_secret(token), self._digest):
            raise NotLoggedIn("there is no such one-time token, or it was used, or its minute is over; log in")
        self._digest = None
        session = secrets.token_urlsafe(_TOKEN_BYTES)
        principal = Principal("embedded", ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN)
        self._tokens.put(hash_secret(session), principal, None)
        return session
