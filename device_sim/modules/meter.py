"""A meter behind a module: index, registers, frames; and what can be wrong with it."""

from __future__ import annotations

import dataclasses

from device_sim.modules.chance import seeded
from device_sim.modules.power import PowerSource

# A frame of a Linky in standard mode lasts about so long at 9600 baud.
FRAME_MS = 1000
SUPPLY_V = 230.0
_US_PER_WH = 3.6e9
# Power is taken at least so often, so that a long pause between two readings is still counted.
_STEP_US = 60_000_000
_MOST_STEPS = 240
_OFF_PEAK = (22, 6)


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What the meter said last."""

    at_us: int
    power_va: float
    drawn_wh: int
    register: int
    registers_wh: dict[int, int]


class Meter:
    """A single-phase Linky: VA, no W; two registers. Pure in time but for its faults."""

    def __init__(self, seed: object, source: PowerSource, at_us: int) -> None:
        self._chance = seeded("meter", seed)
        self.source = source
        self.serial = f"{self._chance.randrange(10**12):012d}"
        self._registers = {1: self._chance.uniform(1e6, 3e7), 2: self._chance.uniform(1e6, 3e7)}
        self._counted_us = at_us
        self._last: Frame | None = None
        self._gap_ms = FRAME_MS
        # The line says nothing more.
        self.frozen = False
        # The line goes on and the numbers stand still.
        self.stuck = False
        # No current in the house.
        self.powered = True
        self.jitter_ms = 25.0
        self.frames_good = 0
        self.frames_bad = 0

    def read(self, at_us: int) -> Frame | None:
        """The newest frame, None before the first one."""
        self._count(at_us)
        if self.frozen or not self.powered:
            return self._last
        self.frames_good += 1
        self._gap_ms = max(1, round(FRAME_MS + abs(self._chance.gauss(0, self.jitter_ms))))
        if self.stuck and self._last is not None:
            self._last = dataclasses.replace(self._last, at_us=at_us)
            return self._last
        registers = {number: int(value) for number, value in self._registers.items()}
        power_va = round(abs(self.source.power_w(at_us)), 0)
        self._last = Frame(at_us, power_va, sum(registers.values()), _register(at_us), registers)
        return self._last

    def frame_gap_ms(self, at_us: int) -> int:
        """Time between the two last good frames; while none comes, how long that already is."""
        if self._last is None:
            return self._gap_ms
        age_ms = max(0, (at_us - self._last.at_us) // 1000)
        return max(self._gap_ms, age_ms)

    def frame_age_ms(self, at_us: int) -> int:
        """How old the last good frame is."""
        return 0 if self._last is None else max(0, (at_us - self._last.at_us) // 1000)

    def exchange(self, at_us: int) -> None:
        """A new meter: another serial, an index that begins anew."""
        self._count(at_us)
        self.serial = f"{self._chance.randrange(10**12):012d}"
        self._registers = dict.fromkeys(self._registers, 0.0)
        self._last = None

    def jump_back(self, by_wh: int) -> None:
        """The index falls, as after a fault of the meter."""
        self._registers[1] = max(0.0, self._registers[1] - by_wh)

    def _count(self, at_us: int) -> None:
        span = at_us - self._counted_us
        if span <= 0:
            return
        if self.powered:
            steps = min(_MOST_STEPS, max(1, span // _STEP_US))
            for step in range(steps):
                moment = self._counted_us + span * (2 * step + 1) // (2 * steps)
                drawn = max(0.0, self.source.power_w(moment)) * span / steps / _US_PER_WH
                self._registers[_register(moment)] += drawn
        self._counted_us = at_us


def _register(at_us: int) -> int:
    hour = at_us // 3_600_000_000 % 24
    return 2 if hour >= _OFF_PEAK[0] or hour < _OFF_PEAK[1] else 1
