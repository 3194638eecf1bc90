"""Latencies in logarithmic buckets, so that processes can add theirs up."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Buckets 5 % wide: a quantile is off by at most that, and a minute's range fits in 360 buckets.
_GROWTH = math.log(1.05)
_SMALLEST_MS = 0.001


class Histogram:
    """Counts of milliseconds; a quantile is the upper edge of its bucket, never too low by more than a bucket."""

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self._buckets: dict[int, int] = dict(buckets or {})

    def add(self, milliseconds: float, count: int = 1) -> None:
        """Count a latency; what is below a microsecond counts as one."""
        bucket = int(math.log(milliseconds / _SMALLEST_MS) / _GROWTH) if milliseconds > _SMALLEST_MS else 0
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def merge(self, other: Histogram) -> None:
        """Add another's counts."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def quantile_ms(self, q: float) -> float | None:
        """The latency that the share `q` (0 to 1) does not exceed; None when nothing was counted."""
        wanted = max(1, math.ceil(q * len(self)))
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return float(f"{_SMALLEST_MS * math.exp((bucket + 1) * _GROWTH):.4g}")
        return None

    def buckets(self) -> dict[int, int]:
        """A copy of the counts by bucket, for the wire."""
        return dict(self._buckets)

    def __len__(self) -> int:
        return sum(self._buckets.values())
