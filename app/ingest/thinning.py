"""Obeys the collection level: what a customer has not agreed to is not written."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import numpy.typing as npt

from app.domain.keys import CollectionLevel
from app.ingest.directory import grown

_TEN_MINUTES_US = 600_000_000
_DAY_US = 86_400_000_000


class Thinning:
    """Keeps of a module at a coarser level the first reading of each 10 minutes or civil day.

    Its index differences remain at that level.

    What was kept last is remembered in memory only: after a restart one more reading of the running period is kept.
    """

    def __init__(self, time_zone: str) -> None:
        self._zone = zoneinfo.ZoneInfo(time_zone)
        self._last_period = np.full(0, -1, np.int64)

    def kept(
        self, slots: npt.NDArray[np.intp], time_us: npt.NDArray[np.int64], levels: npt.NDArray[np.int8]
    ) -> npt.NDArray[np.bool_]:
        """Which readings may be written; all of a home at 1 s, none of one without consent."""
        kept: npt.NDArray[np.bool_] = levels == CollectionLevel.SECOND
        coarse = np.flatnonzero((levels == CollectionLevel.TEN_MINUTES) | (levels == CollectionLevel.DAILY))
        if len(coarse):
            self._grow(int(slots.max()) + 1)
            for row in coarse:
                period = self._period(int(time_us[row]), int(levels[row]))
                if period > self._last_period[slots[row]]:
                    self._last_period[slots[row]] = period
                    kept[row] = True
        return kept

    def _period(self, time_us: int, level: int) -> int:
        if level == CollectionLevel.TEN_MINUTES:
            return time_us // _TEN_MINUTES_US
        local = dt.datetime.fromtimestamp(time_us / 1e6, self._zone)
        return local.toordinal() * (_DAY_US // _TEN_MINUTES_US)

    def _grow(self, size: int) -> None:
        if size > len(self._last_period):
            self._last_period = grown(self._last_period, max(1024, 2 * size), -1)
