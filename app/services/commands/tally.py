"""What became of commands since the start, counted from any thread."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping

NAMES = (
    "queued",
    "sent",
    "sent_again",
    "acknowledged",
    "failed",
    "expired",
    "cancelled",
    "answers_unknown",
    "answers_late",
    "answers_repeated",
)


class CommandTally:
    """Counters by name; docs/operating.md says what each is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = collections.Counter(dict.fromkeys(NAMES, 0))

    def add(self, name: str, count: int = 1) -> None:
        """So many more."""
        with self._lock:
            self._counts[name] += count

    def now(self) -> Mapping[str, int]:
        """Every counter; a copy."""
        with self._lock:
            return dict(self._counts)
