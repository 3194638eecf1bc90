"""How far a backup, a verification or a restore is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# (what is done now, bytes done, bytes in all or 0 when nobody knows)
Report = Callable[[str, int, int], None]

_EACH_S = 1.0


def silent(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know."""


class Progress:
    """Counts bytes from any thread and tells once a second, never for what takes less."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._what = ""
        self._done = 0
        self._total = 0
        self._told_at = time.monotonic()

    def begin(self, what: str, total: int = 0) -> None:
        """The next piece of work."""
        with self._lock:
            self._what, self._done, self._total = what, 0, total

    def add(self, size_bytes: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._done += size_bytes
            now = time.monotonic()
            if now - self._told_at < _EACH_S:
                return
            self._told_at = now
            said = self._what, self._done, self._total
        self._report(*said)
