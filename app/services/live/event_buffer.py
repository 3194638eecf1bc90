"""Events on their way to the live feed: kept for a second at most, and only while somebody listens."""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence

import msgspec

from app.domain.events import Event
from app.protocol.live import LiveEvent

# What a list on a screen can follow; a storm of a whole fleet is read from the store.
MOST_PER_SECOND = 2_000
_encode = msgspec.json.Encoder(enc_hook=str).encode


class EventBuffer:
    """An EventSink. Overflow rule: above MOST_PER_SECOND the oldest are shed and counted; they are in the store."""

    def __init__(self) -> None:
        self.shed = 0
        self._lock = threading.Lock()
        self._wanted = False
        self._events: collections.deque[Event] = collections.deque()

    def note(self, event: Event) -> None:
        """Take an event; any thread may call."""
        if not self._wanted:
            return
        with self._lock:
            self._events.append(event)
            if len(self._events) > MOST_PER_SECOND:
                self._events.popleft()
                self.shed += 1

    def want(self, *, wanted: bool) -> None:
        """Keep events from now on, or no more."""
        self._wanted = wanted
        if not wanted:
            self._events.clear()

    def take(self) -> list[Event]:
        """What came since the last time."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events


def encode_events(events: Sequence[Event]) -> bytes:
    """A JSON array; not on the loop."""
    return _encode([LiveEvent(one.module, one.time_us, one.kind.value, dict(one.details)) for one in events])
