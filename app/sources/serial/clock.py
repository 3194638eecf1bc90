"""The time a serial source reads, so that tests can give their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, steady time for gaps and limits."""

    def now_us(self) -> int:
        """UTC microseconds since 1970."""
        ...

    def steady_us(self) -> int:
        """Microseconds of a clock that never jumps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """UTC microseconds since 1970."""
        return time.time_ns() // 1000

    def steady_us(self) -> int:
        """Microseconds since some moment."""
        return time.monotonic_ns() // 1000
