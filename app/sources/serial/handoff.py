"""Hands readings from a reader's thread to another one, through a bounded queue."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from app.sources.serial.line import MeterReading

# Ten minutes of a meter; the hub takes readings at each turn of its loop.
MOST_PENDING = 600


class Handoff:
    """A queue of readings. When it is full the oldest reading is shed and counted in `shed`.

    `wake` is called on the thread that puts, when the queue stops being empty: it gets `take` called on the other one
    (`lambda: loop.call_soon_threadsafe(drain)`). It is not called again before that.
    """

    def __init__(self, wake: Callable[[], None], most_pending: int = MOST_PENDING) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._pending: collections.deque[MeterReading] = collections.deque(maxlen=most_pending)
        self.shed = 0

    def put(self, reading: MeterReading) -> None:
        """Add a reading; call it on the reader's thread."""
        with self._lock:
            first = not self._pending
            self.shed += len(self._pending) == self._pending.maxlen
            self._pending.append(reading)
        if first:
            self._wake()

    def take(self) -> list[MeterReading]:
        """All that wait, oldest first."""
        with self._lock:
            taken = list(self._pending)
            self._pending.clear()
        return taken
