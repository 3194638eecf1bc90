"""Hashes of passwords: slow on purpose, so never on the loop and never many at once."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from app.domain.errors import TooManyAttempts
from app.domain.passwords import normal_password

T = TypeVar("T")

# Each takes a core for a tenth of a second and 46 MB: more at once would slow the readings down.
AT_ONCE = 2
# With two at once the last of so many waits for three seconds; later ones are told to come again.
MOST_WAITING = 60
_COME_AGAIN_S = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Parameters of argon2id; these take 90 ms on the machine of docs/performance.md (OWASP asks for 46 MiB and 1)."""

    passes: int = 2
    memory_kib: int = 47_104
    lanes: int = 1


class Passwords:
    """Work with passwords in turn, in two threads of its own."""

    def __init__(self, cost: Cost | None = None, *, most_waiting: int = MOST_WAITING) -> None:
        cost = cost or Cost()
        self._hasher = argon2.PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes)
        # The hash of nobody's password: to check against it is as much work as to check against anybody's.
        salt, digest = secrets.token_bytes(self._hasher.salt_len), secrets.token_bytes(self._hasher.hash_len)
        costs = f"m={cost.memory_kib},t={cost.passes},p={cost.lanes}"
        self._nobodys = f"$argon2id$v=19${costs}${_base64(salt)}${_base64(digest)}"
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
        # One thread: what is written later stays the later.
        self._after = ThreadPoolExecutor(1, thread_name_prefix="after log-ins")
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lock = threading.Lock()

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Run work that hashes or checks, beside the loop. Raises TooManyAttempts when too much waits already."""
        return await asyncio.wrap_future(self._submit(work))

    def hashed(self, password: str) -> str:
        """The hash of a password, with its parameters and salt. Blocks until it is its turn: not from such work."""
        return self._submit(lambda: self.hash(password)).result()

    def afterwards(self, work: Callable[[], None]) -> None:
        """Run something that nobody waits for, beside the answer; one after the other, in this order."""
        self._after.submit(work)

    def hash(self, password: str) -> str:
        """For work that runs in turn."""
        return self._hasher.hash(normal_password(password))

    def is_right(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; as much work for nobody's (None). For work that runs in turn."""
        try:
            self._hasher.verify(self._nobodys if password_hash is None else password_hash, normal_password(password))
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    def better_hash(self, password_hash: str, password: str) -> str | None:
        """A hash with the parameters of today for one that was made with others. For work that runs in turn."""
        return self.hash(password) if self._hasher.check_needs_rehash(password_hash) else None

    def close(self) -> None:
        """Finish what runs and what waits, some seconds at most: a count of failures must not be given up."""
        self._pool.shutdown()
        self._after.shutdown()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._waiting >= self._most_waiting:
                raise TooManyAttempts(_COME_AGAIN_S)
            self._waiting += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._on_done)
        return future

    def _on_done(self, _future: Future[T]) -> None:
        with self._lock:
            self._waiting -= 1


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
