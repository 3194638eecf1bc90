"""Counters of the broker, and one log line (not a flood) for each limit that is hit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)

# One line for the same limit and client in this time; a fleet that hits a limit every second must not fill the disk.
_QUIET_S = 60.0
# Lines for one limit in that time, whatever the clients.
_LINES = 10
# Of a client's name: strangers choose theirs freely.
_NAME_LENGTH = 80

NAMES = (
    "connections",
    "connects_accepted",
    "connects_refused",
    "connects_queued",
    "connects_waiting",
    "disconnects",
    "keepalive_timeouts",
    "half_open_timeouts",
    "protocol_errors",
    "takeovers",
    "messages_received",
    "messages_sent",
    "messages_to_sink",
    "acknowledged",
    "batches",
    "publish_denied",
    "subscribe_denied",
    "subscribe_refused",
    "dropped_slow",
    "dropped_queue_full",
    "dropped_expired",
    "dropped_too_large",
    "dropped_shared_without_member",
    "retained_messages",
    "retained_bytes",
    "limit_connections",
    "limit_packet_size",
    "limit_partial_bytes",
    "limit_receive_maximum",
    "limit_subscriptions",
    "limit_topic_levels",
    "limit_sessions",
    "limit_retained",
    "limit_inflight",
    "reads_held",
    "sessions",
    "sessions_expired",
    "subscriptions",
    "wills_published",
    "tls_worker_restarts",
    "persistence_errors",
)


class Counters:
    """Numbers by name; a name not in `NAMES` is a KeyError."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.values = dict.fromkeys(NAMES, 0)
        self._monotonic = monotonic
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._lines: dict[str, int] = {}
        self._window_ends = 0.0

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        self.values[name] += amount

    def hit(self, name: str, client: str, text: str) -> None:
        """Count a limit that was hit and, if nothing was said of it lately, log one line that names the client."""
        self.values[name] += 1
        now = self._monotonic()
        if now >= self._window_ends:
            self._window_ends = now + _QUIET_S
            self._lines.clear()
            self._quiet_until.clear()
        lines = self._lines.get(name, 0)
        if lines >= _LINES or self._quiet_until.get((name, client), 0.0) > now:
            return
        self._lines[name] = lines + 1
        self._quiet_until[name, client] = now + _QUIET_S
        _log.warning("%s: client %r: %s", name, client[:_NAME_LENGTH], text)

    def snapshot(self) -> Mapping[str, int]:
        """A copy."""
        return dict(self.values)
