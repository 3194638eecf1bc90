"""One sink of events for several."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.events import Event, EventSink


class EventFan:
    """An EventSink that hands each event to all of its sinks."""

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self._sinks = tuple(sinks)

    def note(self, event: Event) -> None:
        """Any thread may call."""
        for sink in self._sinks:
            sink.note(event)
