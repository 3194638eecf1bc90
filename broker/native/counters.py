"""Counters of the broker, and one log line (not a flood) for each limit that is hit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from broker.log_limit import LogLimit, shown

_log = logging.getLogger(__name__)

NAMES = (
    "connections",
    "connects_accepted",
    "connects_refused",
    "connects_queued",
    "connects_waiting",
    "disconnects",
    "keepalive_timeouts",
    "half_open_timeouts",
    "tls_handshakes_failed",
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
        self._limit = LogLimit(monotonic)

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        self.values[name] += amount

    def hit(self, name: str, client: str, text: str) -> None:
        """Count a limit that was hit and, if nothing was said of it lately, log one line that names the client.

        A line tells how many of the same limit, of any client, were not logged before it.
        """
        self.values[name] += 1
        ending = self._limit.ending(name, client)
        if ending is not None:
            _log.warning("%s: client %s: %s%s", name, shown(client), text, ending)

    def snapshot(self) -> Mapping[str, int]:
        """A copy."""
        return dict(self.values)
