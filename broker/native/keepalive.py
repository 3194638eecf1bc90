"""A timing wheel: one timer for the deadlines of all connections."""

from __future__ import annotations

import math
from typing import Protocol

# Deadlines are kept this exactly. Half a second is little beside the shortest keepalive that makes sense.
TICK_S = 0.5


def ticks(seconds: float) -> int:
    """How many ticks cover this time."""
    return max(1, math.ceil(seconds / TICK_S))


class Timed(Protocol):
    """What the wheel can hold; `wheel_tick` is the wheel's own mark (0: not in the wheel)."""

    wheel_tick: int


class Wheel:
    """Connections by the tick at which they are looked at next. A connection is in one slot at most."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Timed]] = {}
        self._done = 0

    def put(self, timed: Timed, tick: int) -> None:
        """Look at it at this tick (again); moves it when it is already in the wheel."""
        if timed.wheel_tick:
            self.remove(timed)
        tick = max(tick, self._done + 1)
        timed.wheel_tick = tick
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = {timed}
        else:
            slot.add(timed)

    def remove(self, timed: Timed) -> None:
        """Forget it."""
        slot = self._slots.get(timed.wheel_tick)
        if slot is not None:
            slot.discard(timed)
        timed.wheel_tick = 0

    def due(self, tick: int) -> list[Timed]:
        """Everything whose tick has come, taken out of the wheel."""
        found: list[Timed] = []
        while self._done < tick:
            self._done += 1
            for timed in self._slots.pop(self._done, ()):
                timed.wheel_tick = 0
                found.append(timed)
        return found

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))
