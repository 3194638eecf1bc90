"""Which token is whose, in memory: asked on the loop for every request, so never a database away."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from app.domain.credentials import hash_secret
from app.domain.people import Principal

# Ours have 43 characters; nobody shall make us hash a megabyte.
_LONGEST = 256


@dataclasses.dataclass(slots=True)
class _Grant:
    principal: Principal
    expires_us: int | None
    used_us: int


class TokenTable:
    """Tokens by their SHA-256. Called on the loop, but for `used`, which any thread may ask."""

    def __init__(self, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._now_us = now_us
        self._grants: dict[bytes, _Grant] = {}

    def put(self, token_sha256: bytes, principal: Principal, expires_us: int | None) -> None:
        """Let a token in, until a UTC time in microseconds (None: for good); or change whose it is."""
        self._grants[token_sha256] = _Grant(principal, expires_us, self._now_us())

    def remove(self, token_sha256: bytes) -> None:
        """Refuse a token from now on; one that is unknown already is passed over."""
        self._grants.pop(token_sha256, None)

    def remove_where(self, unwanted: Callable[[Principal], bool]) -> int:
        """Refuse the tokens of some principals; how many there were."""
        gone = [digest for digest, grant in self._grants.items() if unwanted(grant.principal)]
        for digest in gone:
            del self._grants[digest]
        return len(gone)

    def principal_of(self, token: str) -> Principal | None:
        """Whose a token is; None when it is unknown or its time is over."""
        if not token or len(token) > _LONGEST:
            return None
        digest = hash_secret(token)
        grant = self._grants.get(digest)
        if grant is None:
            return None
        now_us = self._now_us()
        if grant.expires_us is not None and now_us >= grant.expires_us:
            del self._grants[digest]
            return None
        grant.used_us = now_us
        return grant.principal

    def used(self) -> dict[bytes, int]:
        """When each token was used last."""
        return {digest: grant.used_us for digest, grant in list(self._grants.items())}
