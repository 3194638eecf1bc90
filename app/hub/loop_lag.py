"""Measures how late the hub's loop runs its timers: nothing may hold it for more than 5 ms."""

from __future__ import annotations

import asyncio

import numpy as np

_PERIOD_S = 0.02
_KEPT = 3000  # one minute


class LoopLag:
    """Samples the loop every 20 ms; the last minute is kept."""

    def __init__(self) -> None:
        self._samples = np.zeros(_KEPT, np.float32)
        self._count = 0

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PERIOD_S
            await asyncio.sleep(_PERIOD_S)
            self._samples[self._count % _KEPT] = max(0.0, loop.time() - due) * 1000
            self._count += 1

    def clear(self) -> None:
        """Forget what was measured so far."""
        self._count = 0

    def percentile_ms(self, percentile: float) -> float:
        """Lag over the last minute, milliseconds; 0 before the first sample."""
        samples = self._samples[: min(self._count, _KEPT)]
        return float(np.percentile(samples, percentile)) if len(samples) else 0.0
