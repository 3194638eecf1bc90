"""Two clocks: the world's, which may run faster than ours, and a module's, which is set or not and drifts."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Literal

ClockState = Literal["never_set", "synchronised", "holdover"]
# A cheap crystal loses or gains so much.
USUAL_DRIFT_PPM = 20.0
# Without a word of the time server for so long a clock says that it runs on its own.
HOLDOVER_AFTER_US = 86_400_000_000


def real_us() -> int:
    """UTC microseconds of this machine."""
    return time.time_ns() // 1000


@dataclasses.dataclass(frozen=True, slots=True)
class WorldClock:
    """Time in the story: it was ours at `origin_us` and runs `scale` times as fast since. A demo hub counts alike."""

    scale: float = 1.0
    origin_us: int = dataclasses.field(default_factory=real_us)
    real: Callable[[], int] = real_us

    def now_us(self) -> int:
        """UTC microseconds in the story."""
        return self.origin_us + round((self.real() - self.origin_us) * self.scale)

    async def sleep(self, seconds: float) -> None:
        """Sleep for so long in the story."""
        await asyncio.sleep(max(0.0, seconds) / self.scale)

    def real_s(self, seconds: float) -> float:
        """How long so much of the story lasts here, for timers of the loop."""
        return seconds / self.scale


class ModuleClock:
    """A module's clock: nothing until it is set, then off by what it drifted and by what a fault adds."""

    def __init__(self, world: WorldClock, *, drift_ppm: float = USUAL_DRIFT_PPM, can_be_set: bool = True) -> None:
        self._world = world
        self._drift_ppm = drift_ppm
        self._set_at_us: int | None = None
        self._booted_us = world.now_us()
        self.can_be_set = can_be_set
        self.skew_ms = 0
        # What the last synchronisation found, the module's time less the server's.
        self.last_offset_ms: int | None = None

    def boot(self, *, keeps_time: bool) -> None:
        """Start anew; only a warm start keeps the time."""
        self._booted_us = self._world.now_us()
        if not keeps_time:
            self._set_at_us = None
            self.last_offset_ms = None

    def synchronise(self) -> bool:
        """Ask the time server; False when it does not answer."""
        if not self.can_be_set:
            return False
        self.last_offset_ms = None if self._set_at_us is None else self._offset_ms()
        self._set_at_us = self._world.now_us()
        return True

    @property
    def state(self) -> ClockState:
        """As a birth says it."""
        if self._set_at_us is None:
            return "never_set"
        return "synchronised" if self._world.now_us() - self._set_at_us < HOLDOVER_AFTER_US else "holdover"

    def now_ms(self) -> int | None:
        """UTC milliseconds as the module believes; None while its clock was never set."""
        return None if self._set_at_us is None else self._world.now_us() // 1000 + self._offset_ms()

    def uptime_ms(self) -> int:
        """Since the boot."""
        return max(0, (self._world.now_us() - self._booted_us) // 1000)

    def _offset_ms(self) -> int:
        assert self._set_at_us is not None
        drifted = (self._world.now_us() - self._set_at_us) * self._drift_ppm / 1e9
        return round(drifted) + self.skew_ms
