"""Where a home's power comes from: a small interface, and a simple profile until something better is handed in."""

from __future__ import annotations

import math
from typing import Protocol

from device_sim.modules.chance import seeded

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_CYCLE_US = 1_500_000_000


class PowerSource(Protocol):
    """A home's power at any moment."""

    def power_w(self, at_us: int) -> float:
        """Watts drawn (+) or injected (-) at a moment, UTC microseconds. The same moment gives the same answer."""
        ...


class SimpleHome:
    """Base load, a fridge, an evening: enough to look like a home. Pure in time and seed."""

    def __init__(self, seed: object, *, hour_shift: float = 0.0) -> None:
        chance = seeded("home", seed)
        self._base_w = chance.uniform(60, 180)
        self._fridge_w = chance.uniform(60, 120)
        self._phase_us = chance.randrange(_CYCLE_US)
        self._evening_w = chance.uniform(300, 1500)
        self._peak_h = chance.uniform(18.5, 21.0)
        self._seed = seed
        # A story may begin at another hour than the machine it is played on.
        self._shift_us = round(hour_shift * _HOUR_US)

    def power_w(self, at_us: int) -> float:
        """See PowerSource."""
        local_us = at_us + self._shift_us
        hour = local_us % _DAY_US / _HOUR_US
        away = min(abs(hour - self._peak_h), 24 - abs(hour - self._peak_h))
        evening = self._evening_w * math.exp(-(away**2) / 4)
        fridge = self._fridge_w if (local_us + self._phase_us) % _CYCLE_US < _CYCLE_US * 0.4 else 0.0
        flutter = seeded(self._seed, local_us // 1_000_000).uniform(-8, 8)
        return self._base_w + fridge + evening + flutter


class EmptyHome:
    """Nobody lives here: what stays plugged in."""

    def __init__(self, standby_w: float = 4.0) -> None:
        self._standby_w = standby_w

    def power_w(self, at_us: int) -> float:
        """See PowerSource."""
        del at_us
        return self._standby_w
