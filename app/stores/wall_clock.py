"""What time it is for this hub: the machine's clock, or in a demonstration one that runs faster."""

from __future__ import annotations

import dataclasses
import time

FASTEST = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """It was the machine's time at `origin_us`, and runs `scale` times as fast since."""

    scale: float
    origin_us: int

    def at(self, machine_us: int) -> int:
        """This pace's time at a time of the machine's clock."""
        return self.origin_us + round((machine_us - self.origin_us) * self.scale)


# One process, one clock: chosen before anything runs that asks for the time, and never in a hub with real data.
_pace: Pace | None = None


def follow(pace: Pace | None) -> None:
    """Take another pace, None for the machine's own."""
    global _pace  # noqa: PLW0603 - see above
    _pace = pace


def now_us() -> int:
    """UTC microseconds since 1970."""
    machine_us = time.time_ns() // 1000
    return machine_us if _pace is None else _pace.at(machine_us)


def now_s() -> float:
    """UTC seconds since 1970."""
    return time.time() if _pace is None else now_us() / 1e6


def steady_us() -> int:
    """A clock that nobody sets, at the same pace; only differences mean anything."""
    monotonic_us = time.monotonic_ns() // 1000
    return monotonic_us if _pace is None else round(monotonic_us * _pace.scale)
