"""Keeps what strangers cause from flooding the log: few lines in a while, and a count of the others."""

from __future__ import annotations

from collections.abc import Callable

# One line for the same kind and client in this time; a fleet that hits a limit every second must not fill the disk.
_QUIET_S = 60.0
# Lines of one kind in that time, whatever the clients.
_LINES = 10
# Of a client's name, a topic or a filter: strangers choose theirs freely.
_SHOWN_CHARACTERS = 80


def shown(text: str) -> str:
    """What a stranger sent, as it may stand in a log line: quoted, control characters escaped, cut."""
    return ascii(text[:_SHOWN_CHARACTERS]) + ("..." if len(text) > _SHOWN_CHARACTERS else "")


class LogLimit:
    """Says which lines may be written. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: set[tuple[str, str]] = set()
        self._lines: dict[str, int] = {}
        self._not_logged: dict[str, int] = {}
        self._window_ends = 0.0

    def ending(self, kind: str, client: str) -> str | None:
        """None when nothing is to be logged now; else what the line ends with: how many of its kind were left out."""
        now = self._monotonic()
        if now >= self._window_ends:
            self._window_ends = now + _QUIET_S
            self._lines.clear()
            self._said.clear()
        lines = self._lines.get(kind, 0)
        if lines >= _LINES or (kind, client) in self._said:
            self._not_logged[kind] = self._not_logged.get(kind, 0) + 1
            return None
        self._lines[kind] = lines + 1
        self._said.add((kind, client))
        missed = self._not_logged.pop(kind, 0)
        return f" (and {missed} more that were not logged)" if missed else ""
