"""What the API counts of itself."""

from __future__ import annotations

import dataclasses

import numpy as np

# A busy minute of a few consoles.
_LATENCIES_KEPT = 4096
_CLASSES = ("2xx", "3xx", "4xx", "5xx")


@dataclasses.dataclass(slots=True)
class _Events:
    # Requests that ended without a whole answer: by a fault of ours, or since the hub ended.
    requests_unanswered: int = 0
    # Answers 503 since there were too many connections.
    refused_busy: int = 0
    # Connections that were closed at once, far above the bound.
    refused_connections: int = 0
    # Requests for a host that we are not.
    refused_host: int = 0
    # Bytes that are no HTTP.
    refused_invalid: int = 0
    # Connections closed for sending or reading too slowly.
    closed_slow: int = 0


class ApiCounters:
    """On the loop only."""

    def __init__(self) -> None:
        self.events = _Events()
        # Connections open now.
        self.connections = 0
        self._by_class = dict.fromkeys(_CLASSES, 0)
        self._latencies_ms = np.zeros(_LATENCIES_KEPT, np.float32)
        self._measured = 0

    def answered(self, status: int, took_s: float) -> None:
        """Count an answer."""
        name = f"{status // 100}xx"
        if name in self._by_class:
            self._by_class[name] += 1
        self._latencies_ms[self._measured % _LATENCIES_KEPT] = took_s * 1000
        self._measured += 1

    def now(self) -> dict[str, float]:
        """Counters since the start; the latency of the newest 4,096 requests, 0 before the first."""
        kept = self._latencies_ms[: min(self._measured, _LATENCIES_KEPT)]
        median, p99 = np.percentile(kept, (50, 99)) if len(kept) else (0.0, 0.0)
        return {
            **{f"requests_{name}": count for name, count in self._by_class.items()},
            **dataclasses.asdict(self.events),
            "connections": self.connections,
            "latency_p50_ms": float(median),
            "latency_p99_ms": float(p99),
        }
