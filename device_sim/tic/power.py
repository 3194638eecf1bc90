"""Where a simulated meter's power comes from: a home, or the small profile here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_DAY_S = 86_400
# French legal time is an hour or two ahead; a profile need not know which.
_LOCAL_S = 3_600


class PowerSource(Protocol):
    """A home as its meter sees it."""

    def phases_w(self, at_s: float) -> Sequence[float]:
        """Net active power of each phase at a UTC time in seconds: + drawn, - injected."""
        ...


class ConstantPower:
    """The same power always, in equal parts."""

    def __init__(self, total_w: float, phases: int) -> None:
        self._phases_w = (total_w / phases,) * phases

    def phases_w(self, at_s: float) -> Sequence[float]:  # noqa: ARG002 - it is always the same
        """See PowerSource."""
        return self._phases_w


class HouseholdProfile:
    """A plain household: base load, more in the morning and the evening, appliances of minutes, sun on the roof.

    A function of the seed and the time alone: what was, can be asked again.
    """

    def __init__(self, seed: int, phases: int, *, solar_w: float = 0.0) -> None:
        self._seed = seed
        self._phases = phases
        self._solar_w = solar_w
        self._base_w = 120.0 + float(np.random.default_rng([seed, 1]).uniform(0, 200))
        self._minute = -1
        self._minute_w: list[float] = []

    def phases_w(self, at_s: float) -> Sequence[float]:
        """See PowerSource."""
        minute = int(at_s // 60)
        if minute != self._minute:
            self._minute, self._minute_w = minute, self._of_minute(minute)
        # A slow ripple, so that no two frames need to be the same.
        ripple_w = 8.0 * math.sin(at_s / 7.0)
        return [power_w + ripple_w / self._phases for power_w in self._minute_w]

    def _of_minute(self, minute: int) -> list[float]:
        random = np.random.default_rng([self._seed, minute])
        hour = ((minute * 60 + _LOCAL_S) % _DAY_S) / 3600
        busy = math.exp(-(((hour - 7.5) / 1.2) ** 2)) + 1.6 * math.exp(-(((hour - 19.5) / 2.0) ** 2))
        phases_w = [self._base_w / self._phases + random.uniform(0, 15) for _ in range(self._phases)]
        phases_w[0] += 600.0 * busy
        # Kettle, oven, iron: some minutes of the busy hours on one phase.
        if random.random() < 0.05 + 0.3 * min(busy, 1.0):
            phases_w[int(random.integers(self._phases))] += random.uniform(400, 2200)
        sun = max(0.0, math.sin((hour - 7.0) / 11.0 * math.pi)) if 7.0 < hour < 18.0 else 0.0
        clouds = random.uniform(0.6, 1.0)
        return [float(power_w - self._solar_w * sun * clouds / self._phases) for power_w in phases_w]
