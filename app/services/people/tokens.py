"""Which token is whose, in memory: asked on the loop for every request, so never a database away."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from app.domain.credentials import hash_secret
from app.domain.people import Principal

# Ours have 43 characters; nobody shall make us hash a megabyte.
_LONGEST = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """Whose a token is, and until when (UTC microseconds; None: for good)."""

    principal: Principal
    expires_us: int | None


class TokenTable:
    """Tokens by their SHA-256. Any thread may call; nothing here takes longer than a look at a few thousand tokens."""

    def __init__(self, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._now_us = now_us
        self._grants: dict[bytes, Grant] = {}
        self._used_us: dict[bytes, int] = {}
        self._lock = threading.Lock()
        # Told of each principal that one of its tokens lost or changed, in whatever thread did it; must not raise.
        self.on_lost: list[Callable[[Principal], None]] = []

    def __len__(self) -> int:
        return len(self._grants)

    def put(self, token_sha256: bytes, principal: Principal, expires_us: int | None) -> None:
        """Let a token in, until a UTC time in microseconds (None: for good); or change whose it is."""
        with self._lock:
            self._grants[token_sha256] = Grant(principal, expires_us)

    def remove(self, token_sha256: bytes) -> None:
        """Refuse a token from now on; one that is unknown already is passed over."""
        with self._lock:
            gone = self._grants.pop(token_sha256, None)
        if gone is not None:
            self._tell_lost([gone])

    def remove_where(self, unwanted: Callable[[Principal], bool]) -> int:
        """Refuse the tokens of some principals; how many there were."""
        with self._lock:
            gone = {digest: grant for digest, grant in self._grants.items() if unwanted(grant.principal)}
            for digest in gone:
                del self._grants[digest]
        self._tell_lost(gone.values())
        return len(gone)

    def change_where(self, wanted: Callable[[Principal], bool], change: Callable[[Principal], Principal]) -> None:
        """Put another principal behind the tokens of some: their role has changed, say."""
        with self._lock:
            before = {digest: grant for digest, grant in self._grants.items() if wanted(grant.principal)}
            for digest, grant in before.items():
                self._grants[digest] = Grant(change(grant.principal), grant.expires_us)
        self._tell_lost(before.values())

    def exchange(self, ours: Callable[[Principal], bool], grants: Mapping[bytes, Grant]) -> None:
        """These instead of the tokens of some principals, at once."""
        with self._lock:
            before = self._grants
            kept = {digest: grant for digest, grant in before.items() if not ours(grant.principal)}
            self._grants = kept | dict(grants)
            lost = [grant for digest, grant in before.items() if self._grants.get(digest) != grant]
        self._tell_lost(lost)

    def principal_of(self, token: str) -> Principal | None:
        """Whose a token is; None when it is unknown or its time is over."""
        if not token or len(token) > _LONGEST:
            return None
        digest = hash_secret(token.encode("utf-8", "surrogatepass"))
        now_us = self._now_us()
        with self._lock:
            grant = self._grants.get(digest)
            if grant is None:
                return None
            if grant.expires_us is not None and now_us >= grant.expires_us:
                return None  # `drop_expired` forgets it
            self._used_us[digest] = now_us
        return grant.principal

    def drop_expired(self) -> None:
        """Forget tokens whose time is over and that nobody asks with any more."""
        now_us = self._now_us()
        with self._lock:
            before = self._grants
            self._grants = {
                digest: grant
                for digest, grant in before.items()
                if grant.expires_us is None or now_us < grant.expires_us
            }
            lost = [grant for digest, grant in before.items() if digest not in self._grants]
        self._tell_lost(lost)

    def take_used(self) -> dict[bytes, int]:
        """When each token was used last, of those that were used since the call before."""
        with self._lock:
            used, self._used_us = self._used_us, {}
        return used

    def _tell_lost(self, grants: Iterable[Grant]) -> None:
        for principal in {grant.principal for grant in grants}:
            for tell in self.on_lost:
                tell(principal)
